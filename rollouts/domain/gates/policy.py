"""What a rollout is tested on: gates with their limits, the false-alarm budget, and the fast kill.

A policy is plain data, immutable, and reads in JSON or YAML as a person would write it:

    name: support-default
    version: 7
    alpha: 0.05
    gates:
      - {key: errors, label: Error rate, kind: error_rate, delta: 0.01, weight: 0.4}
      - {key: ttft, label: Time to first token, kind: latency_slo, signal: ttft, slo_seconds: 0.5, ratio: 1.25,
         weight: 0.3}
      - {key: quality, label: Golden set, kind: paired, margin: 0.05, weight: 0.3}

What the numbers mean: `docs/statistics.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast, get_args

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.stored import as_stored
from controlplane.kernel.words import percent_of_share, points, ratio_text, seconds_text
from rollouts.domain.gates import checks
from rollouts.domain.gates.fast_kill_rules import FastKill
from rollouts.domain.gates.fixed_limits import USUAL, Direction, describe_fixed_limit, limit_words
from rollouts.domain.gates.gate_checks import check_by_kind
from rollouts.domain.gates.latency import require_edge
from rollouts.domain.record.asked import CounterPair
from rollouts.domain.record.intervals import LatencySignal
from rollouts.domain.record.numbers import NumberQuery

GateKind = Literal[
    "error_rate", "refused", "abandoned", "latency_slo", "paired", "feedback", "empty", "truncated",
    "counter_ratio", "metric_limit",
]  # fmt: skip
Mode = Literal["strict", "tolerant"]
Reaction = Literal["hold", "rollback"]

DEFAULT_MODE: Mapping[str, Mode] = {
    "error_rate": "strict",
    "refused": "strict",
    "abandoned": "tolerant",
    "latency_slo": "tolerant",
    "paired": "tolerant",
    "feedback": "tolerant",
    "empty": "tolerant",
    "truncated": "tolerant",
    "counter_ratio": "strict",
    "metric_limit": "tolerant",
}
# How long clients have to wait depends on the load, and so does their giving up.
BY_LOAD = frozenset({"latency_slo", "abandoned"})
# It comes in bursts, too. So does what others count: one request may count several events, all of them bad.
TEMPERED = BY_LOAD | {"counter_ratio"}
WEIGHT_SUM_TOLERANCE = 1e-9
# Of the baseline's requests failing: far above any error rate that a service lives with.
USUAL_OUTAGE_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSpec:
    """One gate: a signal, a limit, a mode.

    key, label      the name in data and the name for people
    kind            what is measured: `error_rate` (errors of requests), `refused` (4xx of the engine),
                    `abandoned` (the client gave up), `latency_slo` (requests over the SLO), `paired`
                    (golden-prompt scores in pairs), `feedback` (thumbs down of answers), `empty` and
                    `truncated` (completions without a word, and cut off at their length limit), `counter_ratio`
                    (bad events of all events that a Prometheus counts, asked for by two expressions),
                    `metric_limit` (a number that a Prometheus says, against a fixed limit: no test of chance)
    mode            `strict`: FAIL on any proven worsening, PASS when proven within the limit;
                    `tolerant`: FAIL when proven beyond the limit, PASS when proven within it
    ratio, delta    the limit of a proportion: candidate <= ratio * baseline + delta. ratio 0 is an absolute
                    limit.
    margin          the limit of `paired`: the mean score may drop by this much (scores are in [0, 1])
    weight          this gate's part of the false-alarm budget; the weights of a policy sum to 1. A fixed limit has 0
    required        its PASS is needed once before promotion
    slo_seconds     `latency_slo` only: must be an edge of the histogram that measures `signal`
    bad_query, all_query    `counter_ratio` only: PromQL of cumulative counters, with placeholders for the arm
                    (`rollouts/domain/gates/expressions.py`)
    query           `metric_limit` only, as all up to pass_readings: PromQL of one number of the arm
    limit, direction    the number must be `at_most` or `at_least` the limit
    fail_readings, pass_readings    readings in a row beyond the limit that fail, and within it that pass
    min_exposure    requests (answers, pairs, events) of each arm below which there is no verdict but FAIL
    """

    key: str
    label: str
    kind: GateKind
    mode: Mode
    weight: float
    ratio: float = 1.0
    delta: float = 0.0
    margin: float | None = None
    required: bool = True
    slo_seconds: float | None = None
    signal: LatencySignal | None = None
    bad_query: str | None = None
    all_query: str | None = None
    query: str | None = None
    limit: float | None = None
    direction: Direction | None = None
    fail_readings: int | None = None
    pass_readings: int | None = None
    min_exposure: int = 30

    def __post_init__(self) -> None:
        checks.text(self.key, field="key")
        checks.text(self.label, field="label")
        checks.one_of(self.kind, get_args(GateKind), field="kind")
        checks.one_of(self.mode, get_args(Mode), field="mode")
        for name in ("weight", "ratio", "delta", "margin", "slo_seconds", "limit"):
            if getattr(self, name) is not None:  # 1 and 1.0 must not make two digests of one policy
                object.__setattr__(self, name, checks.finite(getattr(self, name), field=name))
        checks.count(self.min_exposure, field="min_exposure")
        checks.flag(self.required, field="required")
        check_by_kind(self)

    @property
    def counters(self) -> CounterPair | None:
        """What it asks for by expressions of its own; None for a gate that reads what is counted anyway."""
        if self.bad_query is None or self.all_query is None:
            return None
        return CounterPair(self.bad_query, self.all_query)

    @property
    def number(self) -> NumberQuery | None:
        """The number that it compares with a fixed limit; None for a gate of another kind."""
        return None if self.query is None else NumberQuery(self.query)

    @property
    def asks(self) -> CounterPair | NumberQuery | None:
        """What is asked for it by expressions of its own."""
        return self.counters or self.number

    @property
    def fixed(self) -> bool:
        """A fixed limit: no test of chance, outside alpha and outside every sum of evidence."""
        return self.kind == "metric_limit"

    @property
    def absolute(self) -> bool:
        """A limit on the candidate alone, without the baseline."""
        return self.fixed or (self.kind != "paired" and self.ratio == 0)

    @property
    def fail_limit(self) -> tuple[float, float]:
        """(ratio, delta) that FAIL must prove exceeded; for `paired` (1, drop)."""
        if self.kind == "paired":
            return 1.0, 0.0 if self.mode == "strict" else cast(float, self.margin)
        return (1.0, 0.0) if self.mode == "strict" else (self.ratio, self.delta)

    @property
    def pass_limit(self) -> tuple[float, float]:
        """(ratio, delta) that PASS must prove kept; for `paired` (1, drop)."""
        if self.kind == "paired":
            return 1.0, cast(float, self.margin)
        return self.ratio, self.delta

    def limit_text(self) -> str:
        """The limit in words: `×1.25`, `+1.0 pp`, `at most 1%`, `−0.05`, `at least 0.9`."""
        if self.fixed:
            return limit_words(self)
        if self.kind == "paired":
            return f"−{self.margin:g}"
        if self.absolute:
            return f"at most {percent_of_share(self.delta)}"
        parts = [ratio_text(self.ratio)] if self.ratio != 1 else []
        parts += [points(self.delta)] if self.delta else []
        return " ".join(parts)

    def describe(self) -> str:
        """What the gate does, in two or three sentences for people."""
        if self.fixed:
            return describe_fixed_limit(self)
        counted = {
            "error_rate": "the share of requests that fail",
            "refused": "the share of requests that the engine refuses (4xx)",
            "abandoned": "the share of requests whose client gives up",
            "empty": "the share of completions without a word",
            "truncated": "the share of completions cut off at their length limit",
            "latency_slo": f"the share of requests over {seconds_text(self.slo_seconds or 0)}",
            "paired": "the mean score on golden prompts drawn at random and sent to both variants",
            "feedback": "the share of answers rated down",
            "counter_ratio": "the share of events that are bad, as its two queries count them",
        }[self.kind]
        if self.kind == "paired":
            limit = f"at most {self.margin:g} below the baseline"
        elif self.absolute:
            limit = self.limit_text()
        else:
            limit = f"at most {self.limit_text()} compared with the baseline"
        fails = "any worsening is proven" if self.mode == "strict" else "it is proven to be beyond that limit"
        need = f"Its PASS is {'' if self.required else 'not '}needed for promotion."
        return (
            f"{self.label}: {counted}, {limit}. FAIL when {fails}; "
            "PASS when it is proven to be within the limit. "
            f"{percent_of_share(self.weight)} of the accepted risk of a wrong rollback is this gate's. {need}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data without the fields that have no meaning for this kind."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if self.kind == "paired":
            del data["ratio"], data["delta"]
        if self.fixed:
            del data["ratio"], data["delta"], data["min_exposure"]
        return {name: value for name, value in data.items() if value is not None}

    @classmethod
    def from_json(cls, data: object, *, equal_weight: float | None = None) -> Self:
        """Reads what a person wrote; `mode` has a default by kind, `label` is the key when left out."""
        values = dict(
            checks.mapping(data, field="", allowed=list(cls.__dataclass_fields__), needed=("key", "kind"))
        )
        kind = checks.one_of(values["kind"], get_args(GateKind), field="kind")
        values.setdefault("label", values["key"])
        values.setdefault("mode", DEFAULT_MODE[kind])
        if kind == "metric_limit":
            values = {**USUAL, **values}
        if "weight" not in values:
            if equal_weight is None:
                raise InvalidInput(
                    "weight is missing.", field="weight", fix="Give every gate a weight, or none."
                )
            values["weight"] = equal_weight
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """A versioned set of gates and what their verdicts do. Raises InvalidInput naming the field.

    alpha                   probability that a rollout that changes nothing is ever rolled back by the gates
    beta                    probability that a candidate at or beyond a gate's limit ever passes that gate
    restart_every_seconds   of exposure: how often the search for a *late* regression starts anew
    warm_up_requests        the candidate's first requests, kept out of latency gates (cold caches); errors
                            count
    stale_after_seconds     without data for a gate before its verdict becomes NO_DATA
    baseline_outage_share   share of the baseline's requests that fail from which on it is out of order and
                            nothing counts for the candidate; None in policies from before there was this rule
    on_inconclusive, on_no_data, on_error   what then happens when the deadline is over: hold for a person, or roll back
    """

    name: str
    version: int
    gates: tuple[GateSpec, ...]
    alpha: float = 0.05
    beta: float = 0.05
    fast_kill: FastKill = field(default_factory=FastKill)
    restart_every_seconds: float = 30.0
    warm_up_requests: int = 0
    stale_after_seconds: float = 60.0
    baseline_outage_share: float | None = USUAL_OUTAGE_SHARE
    on_inconclusive: Reaction = "hold"
    on_no_data: Reaction = "hold"
    on_error: Reaction = "hold"

    def __post_init__(self) -> None:
        checks.text(self.name, field="name")
        if checks.count(self.version, field="version") == 0:
            raise InvalidInput("version is 0; versions count from 1.", field="version")
        for name in ("alpha", "beta"):
            checks.chance(getattr(self, name), field=name)
        checks.between(self.restart_every_seconds, 1, 86_400, field="restart_every_seconds")
        checks.between(self.stale_after_seconds, 1, 86_400, field="stale_after_seconds")
        checks.count(self.warm_up_requests, field="warm_up_requests")
        if self.baseline_outage_share is not None:
            share = checks.between(
                self.baseline_outage_share, 0, 1, field="baseline_outage_share", low_open=True
            )
            object.__setattr__(self, "baseline_outage_share", share)
        for name in ("on_inconclusive", "on_no_data", "on_error"):
            checks.one_of(getattr(self, name), get_args(Reaction), field=name)
        if not self.gates:
            raise InvalidInput("gates is empty: a policy needs at least one gate.", field="gates")
        seen: set[str] = set()
        for position, gate in enumerate(self.gates):
            if gate.key in seen:
                raise InvalidInput(f"Two gates are called {gate.key!r}.", field=f"gates[{position}].key")
            seen.add(gate.key)
        if all(gate.fixed for gate in self.gates):
            raise InvalidInput(
                "gates holds fixed limits only: nothing would compare the candidate with the baseline.",
                field="gates",
                fix="Add a gate that does, such as error_rate.",
            )
        total = math.fsum(gate.weight for gate in self.gates)
        if abs(total - 1) > WEIGHT_SUM_TOLERANCE:
            raise InvalidInput(
                f"The weights of the gates sum to {total:g}, not 1.",
                field="gates",
                fix="Change them so that they sum to 1, or leave all of them out for equal parts.",
            )

    @property
    def earlier(self) -> bool:
        """Whether it is from before outages of the baseline were known: what ran under it is judged, and judged again,
        by the rules of then."""
        return self.baseline_outage_share is None

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    def gate(self, key: str) -> GateSpec:
        """The gate of that key. Raises InvalidInput when there is none."""
        for gate in self.gates:
            if gate.key == key:
                return gate
        raise InvalidInput(f"The policy {self.reference} has no gate {key!r}.", field="key")

    def edge_problems(self, edges: Mapping[str, Sequence[float]] | None) -> dict[int, InvalidInput]:
        """The latency gates, by position, whose SLO is no edge of the histogram that will measure it.

        edges: per signal (`ttft`, `duration`) the edges in seconds; None: not known, so nothing is wrong. Each
        refusal names both neighbours.
        """
        found: dict[int, InvalidInput] = {}
        for position, gate in enumerate(self.gates):
            if edges is None or gate.slo_seconds is None or gate.signal is None:
                continue
            try:
                require_edge(
                    gate.slo_seconds, edges.get(gate.signal, ()), field=f"gates[{position}].slo_seconds"
                )
            except InvalidInput as error:
                found[position] = error
        return found

    def describe(self) -> tuple[str, ...]:
        """Each gate in words, then the fast kill."""
        return (*(gate.describe() for gate in self.gates), self.fast_kill.describe())

    def to_json(self) -> dict[str, Any]:
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["gates"] = [gate.to_json() for gate in self.gates]
        data["fast_kill"] = self.fast_kill.to_json()
        if self.baseline_outage_share is None:  # an old policy keeps its bytes
            del data["baseline_outage_share"]
        return data

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Reads what a client sent, completed by `as_written`. Raises InvalidInput with the field, for example
        `gates[1].slo_seconds`.
        """
        values = dict(
            checks.mapping(
                data, field="", allowed=list(cls.__dataclass_fields__), needed=("name", "version", "gates")
            )
        )
        values.setdefault("baseline_outage_share", None)
        written = values["gates"]
        if not isinstance(written, list | tuple):
            raise InvalidInput("gates must be a list.", field="gates")
        equal = equal_weight(written)
        gates: list[GateSpec] = []
        for position, gate in enumerate(written):
            try:
                gates.append(GateSpec.from_json(gate, equal_weight=equal))
            except InvalidInput as error:
                raise checks.at(f"gates[{position}]", error)
        values["gates"] = tuple(gates)
        if "fast_kill" in values:
            try:
                values["fast_kill"] = FastKill.from_json(values["fast_kill"])
            except InvalidInput as error:
                raise checks.at("fast_kill", error)
        return cls(**values)


def equal_weight(written: Sequence[object]) -> float | None:
    """The weight of each gate where none was written; None where one was. Fixed limits have none."""
    tests = [one for one in written if not (isinstance(one, Mapping) and one.get("kind") == "metric_limit")]
    weightless = all(isinstance(one, Mapping) and "weight" not in one for one in tests)
    return 1 / len(tests) if tests and weightless else None


def stored_policy(body: Mapping[str, Any]) -> GatePolicy:
    """A policy as `to_json` gave it, whatever a new one may hold today."""
    gates = tuple(as_stored(GateSpec, gate) for gate in body["gates"])
    fast_kill = as_stored(FastKill, body["fast_kill"])
    share = body.get("baseline_outage_share")
    return as_stored(
        GatePolicy, {**body, "gates": gates, "fast_kill": fast_kill, "baseline_outage_share": share}
    )


def as_written(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a person wrote, with the rules that no new policy goes without."""
    content = dict(body)
    if content.get("baseline_outage_share") is None:
        content["baseline_outage_share"] = USUAL_OUTAGE_SHARE
    return content
