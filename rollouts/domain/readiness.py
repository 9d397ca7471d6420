"""Whether what a policy's gates read is counted at all for the variant that serves, before a rollout starts.

A gate without data never fails and never passes: a rollout would hold and go back after a while. So a dry run looks at
one reading of the variant's counters, and names what is not in it with the query that asks for it. Of a candidate the
loop says the same in each interval ("no fresh series of"), once it has traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.kernel.errors import HeadgateError
from controlplane.kernel.words import duration_of_seconds
from rollouts.domain.gates.fixed_limits import is_beyond, number_text
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.record.asked import CounterAnswer, CounterPair
from rollouts.domain.record.numbers import NumberQuery
from rollouts.domain.record.readings import ArmReading, CountedKind, SignalReading, why_untold
from rollouts.domain.strategies.dry_run import Check

KIND_OF_GATE: Mapping[str, CountedKind] = {
    "error_rate": CountedKind.REQUESTS,
    "refused": CountedKind.REQUESTS,
    "abandoned": CountedKind.DEPARTURES,
    "empty": CountedKind.COMPLETIONS,
    "truncated": CountedKind.COMPLETIONS,
}
ASK = "Ask the query by hand, and see whether what it names is scraped and labelled as it says."
HOLD_BACK = (
    "Have the gateway hold the last line of a stream back until its end: deploy/kubernetes/whole-answers.yaml. Then"
    " restart its pods once: what they counted before that stays in their counters."
)
UNREADABLE, NOT_COUNTED = "signals-unreadable", "signals-missing"
BEYOND_LIMIT = "beyond-limit"


@dataclass(frozen=True, slots=True)
class CountedVariant:
    """One reading of a variant's counters.

    at          when it was looked at, in seconds since the epoch
    per_minute  requests of its endpoint in the last hour; 0: none came, or none was counted
    """

    variant: str
    reading: SignalReading
    at: float
    per_minute: float


def kinds_read(policy: GatePolicy) -> dict[CountedKind, tuple[str, ...]]:
    """The kinds of counters that the policy's gates read, each with the labels of those gates. Golden prompts and
    ratings are no counters."""
    found: dict[CountedKind, tuple[str, ...]] = {}
    for gate in policy.gates:
        kind = _kind_of(gate)
        if kind is not None:
            found[kind] = (*found.get(kind, ()), gate.label)
    return found


def kinds_missing(policy: GatePolicy, seen: CountedVariant) -> dict[CountedKind, str]:
    """Of the kinds that are read those that the reading does not have of the variant, each with why."""
    arms = [
        target.arms[seen.variant] for target in seen.reading.targets.values() if seen.variant in target.arms
    ]
    found = {kind: _why_missing(kind, seen, arms) for kind in kinds_read(policy)}
    return {kind: why for kind, why in found.items() if why}


def readiness_checks(
    policy: GatePolicy,
    seen: CountedVariant,
    missing: Mapping[CountedKind, str],
    queries: Mapping[CountedKind, str],
) -> tuple[Check, ...]:
    """What a dry run says: a warning for each reason why some gates cannot judge, else that all of them can.

    missing  as `kinds_missing` says
    queries  for these kinds; one that is not in it is not counted by this source
    """
    read = kinds_read(policy)
    if not read:
        return ()
    if not missing:
        return (_counted(read, seen),)
    labels: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for kind, why in missing.items():
        # An arm that is not there at all lacks every kind: one reason, and the query for its requests shows it.
        shown = CountedKind.REQUESTS if why == _no_series(seen) else kind
        reason = why, queries.get(shown, ""), HOLD_BACK if shown is CountedKind.DEPARTURES else ASK
        labels[reason] = (*labels.get(reason, ()), *read[kind])
    return tuple(_cannot_judge(seen, *reason, names) for reason, names in labels.items())


def counter_checks(
    policy: GatePolicy,
    variant: str,
    answers: Mapping[CounterPair | NumberQuery, CounterAnswer],
    *,
    at: float,
) -> tuple[Check, ...]:
    """What a dry run says of gates that ask by expressions of their own: one check a gate.

    answers  of the variant that serves, by what was asked for
    at       when that was, in seconds since the epoch
    """
    return tuple(
        _own_number(gate, variant, answers[gate.asks])
        if gate.fixed
        else _own_counters(gate, variant, answers[gate.asks], at)
        for gate in policy.gates
        if gate.asks is not None and gate.asks in answers
    )


def counters_unreadable(policy: GatePolicy, error: HeadgateError) -> tuple[Check, ...]:
    """The same when nothing could be asked."""
    return tuple(
        _cannot_judge_own(gate, error.message.rstrip("."), gate.asks.expressions)
        for gate in policy.gates
        if gate.asks is not None
    )


def unreadable(policy: GatePolicy, error: HeadgateError) -> tuple[Check, ...]:
    """What a dry run says when nothing could be read."""
    read = kinds_read(policy)
    if not read:
        return ()
    names = ", ".join(label for labels in read.values() for label in labels)
    return (
        Check(
            "warning",
            "The counters of the endpoint cannot be read now",
            f"{error.message} Without them these gates cannot judge: {names}.",
            error.fix,
            code=UNREADABLE,
        ),
    )


def _kind_of(gate: GateSpec) -> CountedKind | None:
    if gate.kind == "latency_slo" and gate.signal is not None:
        return CountedKind(gate.signal)
    return KIND_OF_GATE.get(gate.kind)


def _why_missing(kind: CountedKind, seen: CountedVariant, arms: list[ArmReading]) -> str:
    """Why the reading says nothing of this kind; empty where it does, and where there is nothing to be said yet."""
    if kind is CountedKind.COMPLETIONS:
        return _why_no_completions(seen)
    if not arms:
        return _no_series(seen)
    if kind is CountedKind.DEPARTURES:
        return why_untold(sum(arm.unheld for arm in arms), sum(arm.answered + arm.aborted for arm in arms))
    if kind is CountedKind.REQUESTS or any(kind.value in arm.latency for arm in arms):
        return ""
    answered = sum(arm.answered for arm in arms)
    return (
        f"{answered:,} answers of {seen.variant} were counted, and none of them was timed" if answered else ""
    )


def _why_no_completions(seen: CountedVariant) -> str:
    if seen.variant in seen.reading.broken:
        return seen.reading.broken[seen.variant].rstrip(".")
    engine = seen.reading.engines.get(seen.variant)
    if engine is None:
        return f"no engine of {seen.variant} was read"
    silent = engine.empty is None or (engine.generated_tokens > 0 and not engine.endings)
    return f"the engine of {seen.variant} does not say how its answers end" if silent else ""


def _no_series(seen: CountedVariant) -> str:
    return f"no fresh series of {seen.variant}"


def _counted(read: Mapping[CountedKind, tuple[str, ...]], seen: CountedVariant) -> Check:
    rate = f"{_rate(seen.per_minute)} requests a minute" if seen.per_minute else "no request in the last hour"
    names = ", ".join(label for labels in read.values() for label in labels)
    age = duration_of_seconds(max(0.0, seen.at - seen.reading.at))
    return Check("ok", f"{seen.variant} is counted: {rate}", f"counters {age} old; read by {names}")


def _cannot_judge(seen: CountedVariant, why: str, query: str, fix: str, labels: tuple[str, ...]) -> Check:
    if seen.per_minute:
        traffic = f"{_rate(seen.per_minute)} requests a minute were counted in the last hour."
    else:
        traffic = "No request came in the last hour, so that its counters may only begin with the first one."
    asked = f"Query: {query}" if query else "This source does not count it."
    return Check(
        "warning",
        f"Cannot judge {', '.join(labels)}: {why}",
        f"{traffic} {asked}",
        fix if query else "",
        code=NOT_COUNTED,
    )


def _own_counters(gate: GateSpec, variant: str, answer: CounterAnswer, at: float) -> Check:
    reading = answer.reading
    if reading is None:
        return _cannot_judge_own(gate, answer.why, answer.queries)
    if reading.why_unusable or not reading.all:
        why = reading.why_unusable or "none of its events was counted yet"
        return _cannot_judge_own(gate, why, answer.queries)
    age = duration_of_seconds(max(0.0, at - reading.at))
    since = "its process" if len(reading.processes) == 1 else f"its {len(reading.processes)} processes"
    return Check(
        "ok",
        f"{variant} is counted for {gate.label}",
        f"{reading.bad:,} of {reading.all:,} events were bad since {since} started; counters {age} old",
    )


def _own_number(gate: GateSpec, variant: str, answer: CounterAnswer) -> Check:
    """Of a fixed limit. The variant that serves may itself be beyond it: then a candidate like it is rolled back."""
    if answer.number is None:
        return _cannot_judge_own(gate, answer.why, answer.queries)
    value = number_text(answer.number.value)
    if is_beyond(gate, answer.number.value):
        return Check(
            "warning",
            f"{variant} itself is beyond the limit of {gate.label}: {value}, and it must be {gate.limit_text()}",
            "A candidate that is no better is rolled back.",
            "See whether the limit is meant so.",
            code=BEYOND_LIMIT,
        )
    return Check("ok", f"{variant} is read for {gate.label}", f"{value} now; it must be {gate.limit_text()}")


def _cannot_judge_own(gate: GateSpec, why: str, queries: tuple[str, ...]) -> Check:
    names = ("query",) if gate.fixed else ("bad_query", "all_query")
    asked = "; ".join(f"{name}: {query}" for name, query in zip(names, queries, strict=False))
    fix = (
        "Ask it by hand, and see whether what it names is scraped and labelled as it says."
        if gate.fixed
        else "Ask both by hand, and see whether what they name is scraped and labelled as they say."
    )
    return Check(
        "warning",
        f"Cannot judge {gate.label}: {why}",
        asked or "This source is not asked for it.",
        fix if queries else "",
        code=NOT_COUNTED,
    )


def _rate(per_minute: float) -> str:
    return f"{per_minute:,.0f}" if per_minute >= 10 else f"{per_minute:.2g}"
