"""What a policy will do, in numbers, before anything runs under it.

Forecasts are those of `plan_forecast.py`: expected values along the mean path. The promises are bounds and hold
whatever the traffic is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.kernel.words import cases_of, odds, percent_of_share, seconds_text, significant
from rollouts.domain.gates.plan_forecast import PlanForecast, plan_forecast
from rollouts.domain.gates.policy import BY_LOAD, GatePolicy, GateSpec

ASSUMED_REQUESTS_PER_SECOND = 10.0
ASSUMED_BASE_RATES: Mapping[str, float] = {
    "error_rate": 0.01,
    "refused": 0.01,
    "abandoned": 0.02,
    "latency_slo": 0.05,
    "feedback": 0.05,
    "empty": 0.01,
    "truncated": 0.1,
    "counter_ratio": 0.01,
}
ASSUMED_PAIRS_PER_MINUTE = 60.0
ASSUMED_SCORE_SPREAD = 0.4  # standard deviation of the difference of a pair, between right/wrong and graded
USUAL_STEPS = ((500, 600.0), (2_500, 600.0), (5_000, 600.0))
EXPOSURES = (1_000, 10_000, 100_000)
TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedTraffic:
    """What is known of the traffic that a policy will see. What was not measured is assumed, and said so.

    source                  where the measured numbers are from, for people ("triage, the last 24 h")
    requests_per_second     of all arms together; None when not measured
    base_rates              gate key -> the baseline's rate of events; only measured ones
    """

    source: str = ""
    requests_per_second: float | None = None
    base_rates: Mapping[str, float] = field(default_factory=dict)

    def rate_of(self, gate: GateSpec) -> tuple[float, bool]:
        """(base rate, whether it was measured); for a paired gate and a fixed limit (0, False): it does not matter."""
        if gate.key in self.base_rates and not _without_rate(gate):
            return self.base_rates[gate.key], True
        return ASSUMED_BASE_RATES.get(gate.kind, 0.0), False

    @property
    def per_second(self) -> float:
        return self.requests_per_second or ASSUMED_REQUESTS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutlook:
    """One gate. `forecast` is that of the plan; `by_exposure` the smallest worsening found after so many requests
    of the candidate (pairs) at a share of 50%, None where none is, however large.

    does            what the gate does, in sentences
    base_rate       the baseline's rate of events behind the numbers; None for a paired gate and a fixed limit
    measured        whether that rate was measured; else it is assumed
    odds_alone      the odds at which this gate rolls back by itself: 1 / (alpha x weight); None for a fixed limit
    """

    key: str
    label: str
    does: str
    base_rate: float | None
    measured: bool
    odds_alone: float | None
    forecast: PlanForecast
    by_exposure: tuple[tuple[int, float | None], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "label": self.label,
            "does": self.does,
            "base_rate": self.base_rate,
            "base_rate_measured": self.measured,
            "odds_alone": self.odds_alone,
            "detectable": self.forecast.detectable,
            "detectable_rate": self.forecast.detectable_rate,
            "requests_to_pass": self.forecast.requests_to_pass,
            "minutes_to_pass": self.forecast.minutes_to_pass,
            "passes_in_plan": self.forecast.passes_in_plan,
            "sentence": self.forecast.sentence,
            "by_exposure": [
                {"requests": requests, "detectable": detectable} for requests, detectable in self.by_exposure
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOutlook:
    """A policy explained. `promises` hold always, `notes` say what to think about, `basis` what the numbers rest on.

    false_alarms    of 100 rollouts that change nothing, at most so many are rolled back by the gates
    steps           (share of the candidate in basis points, seconds) of the plan that was assumed
    """

    gates: tuple[GateOutlook, ...]
    promises: tuple[str, ...]
    notes: tuple[str, ...]
    basis: tuple[str, ...]
    false_alarms: float
    steps: tuple[tuple[int, float], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "gates": [gate.to_json() for gate in self.gates],
            "promises": list(self.promises),
            "notes": list(self.notes),
            "basis": list(self.basis),
            "false_alarms_per_100": self.false_alarms,
            "steps": [{"share_bp": share, "seconds": seconds} for share, seconds in self.steps],
        }


def explain_policy(
    policy: GatePolicy,
    *,
    traffic: ExpectedTraffic,
    steps: Sequence[tuple[int, float]] = USUAL_STEPS,
    exposures: Sequence[int] = EXPOSURES,
) -> PolicyOutlook:
    """Each gate in words and numbers, then what the whole policy promises. Pure; some 5 ms a gate and exposure.

    steps       (share of the candidate in basis points, seconds) in order; not empty
    exposures   of `GateOutlook.by_exposure`; empty where it is not shown
    """
    gates = tuple(_gate(policy, gate, traffic, steps, exposures) for gate in policy.gates)
    return PolicyOutlook(
        gates=gates,
        promises=promises_of(policy),
        notes=_notes(policy, gates),
        basis=_basis(policy, traffic, steps),
        false_alarms=100 * policy.alpha,
        steps=tuple((share, float(seconds)) for share, seconds in steps),
    )


def promises_of(policy: GatePolicy) -> tuple[str, ...]:
    """What holds for every rollout under this policy, whatever its traffic."""
    tries = min(1.0, TRIES * policy.alpha)
    late = seconds_text(policy.restart_every_seconds)
    sentences = [
        "A version that is no worse in what the gates measure is rolled back by them by mistake in at most "
        f"{cases_of(policy.alpha)} rollouts, however long a rollout runs and however often anybody looks.",
        f"Each new try of the same version carries that risk again: of {TRIES} tries, one or more is rolled back by "
        f"mistake in at most {cases_of(tries)} cases.",
        "A version at or beyond a gate's limit passes that gate by mistake in at most "
        f"{cases_of(policy.beta)} rollouts.",
        f"After every {late} of measured traffic the gates also begin a new search, for a problem that starts only "
        "then.",
    ]
    fixed = [gate.label for gate in policy.gates if gate.fixed]
    if fixed:
        sentences.append(
            f"Fixed limits are no test of chance: rollbacks by {', '.join(fixed)} come on top of the "
            f"{cases_of(policy.alpha)}, and their passes prove nothing."
        )
    if policy.warm_up_requests:
        sentences.append(
            f"The latency gates leave out the candidate's first {policy.warm_up_requests:,} requests."
        )
    sentences.append(_reactions(policy))
    fast = policy.fast_kill.describe()
    extra = f" Such rollbacks come on top of the {cases_of(policy.alpha)}."
    sentences.append(fast + extra if policy.fast_kill.enabled else fast)
    return tuple(sentences)


def _reactions(policy: GatePolicy) -> str:
    cases = (
        ("when the gates are undecided", policy.on_inconclusive),
        ("when data is missing", policy.on_no_data),
        ("when a source of measurements is broken", policy.on_error),
    )
    parts = [f"{'rolled back' if what == 'rollback' else 'held'} {case}" for case, what in cases]
    outside = any(what == "rollback" for _, what in cases)
    tail = f" Such rollbacks, too, come on top of the {cases_of(policy.alpha)}." if outside else ""
    blind = (
        "While a source of measurements cannot be read, nothing moves forward"
        if policy.on_error == "hold"
        else "A source of measurements that cannot be read for as long as the plan allows rolls back, too"
    )
    return f"At the plan's deadline a rollout is {', '.join(parts[:-1])} and {parts[-1]}. {blind}.{tail}"


def _gate(
    policy: GatePolicy,
    gate: GateSpec,
    traffic: ExpectedTraffic,
    steps: Sequence[tuple[int, float]],
    exposures: Sequence[int],
) -> GateOutlook:
    base, measured = traffic.rate_of(gate)
    forecast = _forecast(policy, gate, traffic.per_second, base, steps)
    by_exposure = tuple(
        (requests, _forecast(policy, gate, 2.0, base, ((5_000, float(requests)),)).detectable)
        for requests in exposures  # 2 requests/s at 50%, and 60 pairs a minute: one a second
    )
    return GateOutlook(
        key=gate.key,
        label=gate.label,
        does=gate.describe(),
        base_rate=None if _without_rate(gate) else base,
        measured=measured,
        odds_alone=None if gate.fixed else 1 / (policy.alpha * gate.weight),
        forecast=forecast,
        by_exposure=by_exposure,
    )


def _forecast(
    policy: GatePolicy, gate: GateSpec, per_second: float, base: float, steps: Sequence[tuple[int, float]]
) -> PlanForecast:
    return plan_forecast(
        policy=policy,
        gate=gate,
        requests_per_second=per_second,
        base_rate=min(base, 0.99),
        steps=steps,
        pairs_per_minute=ASSUMED_PAIRS_PER_MINUTE,
        score_spread=ASSUMED_SCORE_SPREAD,
    )


def _notes(policy: GatePolicy, gates: Sequence[GateOutlook]) -> tuple[str, ...]:
    notes = []
    for spec, gate in zip(policy.gates, gates, strict=True):
        forecast = gate.forecast
        if spec.required and not forecast.passes_in_plan:
            when = (
                "it cannot pass with this plan and traffic"
                if forecast.requests_to_pass is None
                else "its PASS takes longer than the plan: the last step waits for it"
            )
            notes.append(f"{spec.label} is required, and {when}.")
        if forecast.detectable is None and not spec.fixed:
            notes.append(
                f"{spec.label} is not expected to roll back anything with this plan, however bad the candidate is: "
                "there is too little to compare."
            )
        if spec.absolute and gate.measured and gate.base_rate is not None and gate.base_rate >= spec.delta:
            notes.append(
                f"{spec.label}: the baseline itself has {percent_of_share(gate.base_rate)}, over the limit of "
                f"{percent_of_share(spec.delta)}. A candidate that is no better cannot pass."
            )
        if gate.odds_alone is not None and spec.weight < 0.05:
            notes.append(
                f"Only {percent_of_share(spec.weight)} of the accepted risk of a wrong rollback is that of "
                f"{spec.label}: alone it rolls back only when the odds are {odds(gate.odds_alone)} to 1 that a "
                "worsening is no accident."
            )
    if not any(spec.required for spec in policy.gates):
        notes.append(
            "No gate is required: a candidate that fails no gate is promoted when its steps are over."
        )
    return tuple(notes)


def _without_rate(gate: GateSpec) -> bool:
    return gate.kind == "paired" or gate.fixed


def _basis(
    policy: GatePolicy, traffic: ExpectedTraffic, steps: Sequence[tuple[int, float]]
) -> tuple[str, ...]:
    plan = ", ".join(
        f"{percent_of_share(share / 10_000)} for {seconds_text(seconds)}" for share, seconds in steps
    )
    lines = [f"Plan: {plan}."]
    measured = [f"{significant(traffic.per_second, 3)} requests/s"] if traffic.requests_per_second else []
    assumed = [] if traffic.requests_per_second else [f"{significant(traffic.per_second, 3)} requests/s"]
    for gate in policy.gates:
        if _without_rate(gate):
            continue
        base, known = traffic.rate_of(gate)
        (measured if known else assumed).append(f"{percent_of_share(base)} for {gate.label}")
        if gate.counters is not None:
            assumed.append(f"one event a request for {gate.label}")
    if any(gate.kind in BY_LOAD and not gate.absolute for gate in policy.gates):
        assumed.append("as many replicas of the candidate as of the baseline")
    if any(gate.kind == "paired" for gate in policy.gates):
        assumed.append(f"{ASSUMED_PAIRS_PER_MINUTE:g} probe pairs a minute")
        assumed.append(f"scores of a pair that differ by {ASSUMED_SCORE_SPREAD:g} (standard deviation)")
    if measured:
        lines.append(f"Measured ({traffic.source}): {', '.join(measured)}.")
    if assumed:
        lines.append(f"Assumed: {', '.join(assumed)}.")
    return tuple(lines)
