"""What one interval says to one gate: counts, pairs, or why there is nothing to say."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controlplane.kernel.words import seconds_text
from rollouts.domain.gates import checks
from rollouts.domain.gates.fixed_limits import is_beyond
from rollouts.domain.gates.latency import Directions, Timed, directions_of, timed_against
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.record.asked import CounterPair
from rollouts.domain.record.intervals import BASELINE, DEPARTURES, ArmCounts, Interval, ProbePair

PASS_SHARE_BP = 2500
BOTH_WAYS = Directions(True, True)
SIGNAL_WORDS = {"ttft": "the time to first token", "duration": "the duration"}

# Sources that concern some gates only. A broken source of another name concerns every gate that has no data.
SOURCES_OF_PAIRS = frozenset({"prober", "probes", "pairs", "paired", "judge"})
SOURCES_OF_FEEDBACK = frozenset({"feedback", "ratings", "thumbs"})
SOURCES_OF_TRAFFIC = frozenset(
    {"router", "envoy", "engine", "vllm", "requests", "errors", "latency", "ttft", "duration"}
)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the other intervals say about this one.

    warming_up  the candidate has had too few requests to be timed
    outage      why the baseline was out of order; empty when it was not
    late        which evidence counts that come late may give
    """

    warming_up: bool = False
    outage: str = ""
    late: Directions = BOTH_WAYS


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of trials of both arms, which evidence they may give, the ratings behind feedback, and the requests that
    left before an SLO could be measured, where those are known. `usual`: False while the baseline is out of order, or
    is not what was asked for."""

    n_candidate: int
    events_candidate: int
    n_baseline: int
    events_baseline: int
    directions: Directions = BOTH_WAYS
    ratings_candidate: int = 0
    ratings_baseline: int = 0
    censored_candidate: int = 0
    censored_baseline: int = 0
    leavers_known: bool = False
    usual: bool = True


@dataclass(frozen=True, slots=True)
class Pairs:
    """Probe pairs; never empty. They may always speak against the candidate."""

    pairs: tuple[ProbePair, ...]
    directions: Directions = BOTH_WAYS


@dataclass(frozen=True, slots=True)
class Nothing:
    """No data for this gate in this interval. `broken`: the source itself failed (ERROR, not NO_DATA)."""

    reason: str
    broken: bool = False


@dataclass(frozen=True, slots=True)
class NumberSeen:
    """The candidate's number, when it was measured (the same moment: the same sample), and the baseline's if known."""

    value: float
    at: float
    baseline: float | None


GateReading = Counts | Pairs | Nothing


def read(spec: GateSpec, interval: Interval, candidate: str, circumstances: Circumstances) -> GateReading:
    """The reading of one gate. Raises InvalidInput for impossible counts, naming arm and field."""
    altered = _altered(spec, interval, candidate)
    if spec.kind == "paired":
        pairs = interval.pairs.get(candidate, ())
        if not pairs:
            return _nothing(spec, interval, candidate, "no probe pair finished")
        return Pairs(tuple(pairs), BOTH_WAYS if altered is None else altered)
    arm_c, arm_b = interval.arms.get(candidate), interval.arms.get(BASELINE)
    if arm_c is None or (arm_b is None and not spec.absolute):
        absent = "candidate" if arm_c is None else "baseline"
        return _nothing(spec, interval, candidate, f"the {absent} was not measured")
    reading = _counts(spec, interval, candidate, arm_c, arm_b, circumstances)
    if isinstance(reading, Counts) and circumstances.outage:
        out = Directions(True, False, f"the baseline is out of order: {circumstances.outage}")
        reading = _only_against(reading, out, usual=False)
    if isinstance(reading, Counts) and altered is not None:
        reading = _only_against(reading, altered, usual=BASELINE not in _altered_arms(spec, interval))
    return reading


def read_number(spec: GateSpec, interval: Interval, candidate: str) -> NumberSeen | Nothing:
    """The reading of a gate with a fixed limit. An arm of which something else ran may be seen beyond it, never within.
    Raises InvalidInput for a number that is none, naming arm and field."""
    arm = interval.arms.get(candidate)
    if arm is None:
        return _nothing(spec, interval, candidate, "the candidate was not measured")
    digest = "" if spec.number is None else spec.number.digest
    found = arm.numbers.get(digest)
    if found is None or found.why:
        return Nothing(f"candidate: {'its number was not asked for' if found is None else found.why}")
    value = checks.finite(found.value, field=f"arms.{candidate}.numbers.{digest}.value")
    altered = _altered(spec, interval, candidate)
    if altered is not None and not is_beyond(spec, value):
        return Nothing(altered.reason)
    arm_b = interval.arms.get(BASELINE)
    of_baseline = None if arm_b is None else arm_b.numbers.get(digest)
    known = of_baseline is not None and not of_baseline.why
    return NumberSeen(value, found.at, of_baseline.value if of_baseline is not None and known else None)


def _only_against(reading: Counts, ways: Directions, *, usual: bool) -> Counts | Nothing:
    """The counts of an interval that may at most speak against the candidate; nothing, where they may not even that."""
    directions = ways.also(reading.directions)
    if not directions.may_fail:
        return Nothing(f"{ways.reason}; {reading.directions.reason}")
    return replace(reading, directions=directions, usual=reading.usual and usual)


def _altered(spec: GateSpec, interval: Interval, candidate: str) -> Directions | None:
    """That something else ran than what was asked for, which proves nothing good of it; None when it did not.

    Leaving such an interval out of a PASS keeps its promise: what is left out follows from the cluster and not from
    what was counted. A FAIL keeps it: whatever answers users there, they are to be safe from it.
    """
    arms = _altered_arms(spec, interval)
    who = next((name for name in (candidate, BASELINE) if name in arms), None)
    if who is None or (who == BASELINE and spec.absolute):
        return None
    return Directions(True, False, f"what ran of the {_who(who)} was not what was asked for")


def _altered_arms(spec: GateSpec, interval: Interval) -> tuple[str, ...]:
    """Ratings are of earlier answers."""
    return interval.altered_answers if spec.kind == "feedback" else interval.altered


def _counts(
    spec: GateSpec,
    interval: Interval,
    candidate: str,
    arm_c: ArmCounts,
    arm_b: ArmCounts | None,
    circumstances: Circumstances,
) -> GateReading:
    if spec.kind == "latency_slo":
        return _latency(spec, interval, candidate, arm_c, arm_b, circumstances.warming_up)
    if spec.kind == "feedback":
        return _feedback(spec, interval, candidate, arm_c, arm_b)
    if spec.kind in ("empty", "truncated"):
        return _completions(spec, interval, candidate, arm_c, arm_b)
    if spec.counters is not None:
        return _asked(spec, spec.counters, interval, candidate, arm_c, arm_b)
    return _outcomes(spec, interval, candidate, arm_c, arm_b, circumstances)


def _outcomes(
    spec: GateSpec,
    interval: Interval,
    candidate: str,
    arm_c: ArmCounts,
    arm_b: ArmCounts | None,
    circumstances: Circumstances,
) -> GateReading:
    """Errors, refusals and departures, of the requests that arrived.

    By arrivals and not by ends: an arm whose answers take longer has in its first seconds nothing but quick ends, and
    those are mostly bad ones. What a baseline out of order failed it could neither refuse nor keep waiting, so there
    these are no trials of the other two: a candidate would be blamed for refusing what the baseline refuses when well.
    """
    if spec.kind == "abandoned" and DEPARTURES in interval.missing:
        return Nothing(interval.missing[DEPARTURES])
    late = circumstances.late
    found = [_ended_so(spec, candidate, arm_c), (0, 0) if arm_b is None else _ended_so(spec, BASELINE, arm_b)]
    if found[0] is None or found[1] is None:
        return _nothing(spec, interval, candidate, "it was not counted how requests ended")
    (n_c, events_c), (n_b, events_b) = found[0], found[1]
    if circumstances.outage and spec.kind != "error_rate" and arm_b is not None:
        n_b = max(n_b - checks.count(arm_b.errors, field=f"arms.{BASELINE}.errors"), events_b)
        if not n_b and not spec.absolute:
            return Nothing(f"the baseline is out of order: {circumstances.outage}")
    if not n_c or not (n_b or spec.absolute):
        old = spec.kind == "error_rate" and arm_c.outcomes is None
        idle = "candidate" if not n_c else "baseline"
        happened = f"of the {idle} ended" if old else f"reached the {idle}"
        return _nothing(spec, interval, candidate, f"no request {happened}")
    directions = BOTH_WAYS
    if spec.kind == "abandoned":  # who waits longer leaves, so load has its say as in latency
        directions = late
        if arm_b is not None and not spec.absolute:
            directions = directions_of(arm_c, arm_b).also(late)
        if not (directions.may_fail or directions.may_pass):
            return Nothing(directions.reason)
    return Counts(n_c, events_c, n_b, events_b, directions)


def _ended_so(spec: GateSpec, name: str, arm: ArmCounts) -> tuple[int, int] | None:
    """(requests, of those that ended as the gate counts); None when it was not counted then."""
    if arm.outcomes is None:  # evidence from before every arrival had an outcome
        return _events(name, arm, "errors", "requests") if spec.kind == "error_rate" else None
    events = {
        "error_rate": arm.errors,
        "refused": arm.outcomes.refused,
        "abandoned": arm.outcomes.abandoned,
    }[spec.kind]
    counted = checks.count(events, field=f"arms.{name}.outcomes.{spec.kind}")
    # What arrived an interval ago may end in this one, so a few more may end than arrived.
    return max(checks.count(arm.arrived, field=f"arms.{name}.arrived"), counted), counted


def _feedback(
    spec: GateSpec, interval: Interval, candidate: str, arm_c: ArmCounts, arm_b: ArmCounts | None
) -> GateReading:
    rated_c, _ = _events(candidate, arm_c, "ratings", "answers")[::-1]
    rated_b, _ = _events(BASELINE, arm_b, "ratings", "answers")[::-1]
    counts = Counts(
        *_events(candidate, arm_c, "thumbs_down", "answers"),
        *_events(BASELINE, arm_b, "thumbs_down", "answers"),
        ratings_candidate=rated_c,
        ratings_baseline=rated_b,
    )
    return _if_any(spec, interval, candidate, counts, "no answer of the {idle} could be rated")


def _completions(
    spec: GateSpec, interval: Interval, candidate: str, arm_c: ArmCounts, arm_b: ArmCounts | None
) -> GateReading:
    numbers: list[int] = []
    for name, arm in ((candidate, arm_c), (BASELINE, arm_b)):
        if arm is None:
            numbers += [0, 0]
            continue
        if arm.completions is None:
            return _nothing(
                spec, interval, candidate, f"the engine of the {_who(name)} does not say how completions end"
            )
        events, total = checks.events_of(
            getattr(arm.completions, spec.kind),
            arm.completions.total,
            events_field=f"arms.{name}.completions.{spec.kind}",
            trials_field=f"arms.{name}.completions.total",
        )
        numbers += [total, events]
    n_c, events_c, n_b, events_b = numbers
    return _if_any(
        spec,
        interval,
        candidate,
        Counts(n_c, events_c, n_b, events_b),
        "no completion of the {idle} was finished",
    )


def _asked(
    spec: GateSpec,
    pair: CounterPair,
    interval: Interval,
    candidate: str,
    arm_c: ArmCounts,
    arm_b: ArmCounts | None,
) -> GateReading:
    """What a Prometheus counts at the gate's own expressions. No other source can explain that it says nothing."""
    numbers: list[int] = []
    for name, arm in ((candidate, arm_c), (BASELINE, arm_b)):
        found = None if arm is None else arm.asked.get(pair.digest)
        if found is None or found.why:
            if name == BASELINE and spec.absolute:
                numbers += [0, 0]
                continue
            return Nothing(
                f"{_who(name)}: {'its counters were not asked for' if found is None else found.why}"
            )
        where = f"arms.{name}.asked.{pair.digest}"
        events, total = checks.events_of(
            found.bad, found.total, events_field=f"{where}.bad", trials_field=f"{where}.total"
        )
        numbers += [total, events]
    n_c, events_c, n_b, events_b = numbers
    counts = Counts(n_c, events_c, n_b, events_b)
    return _if_any(spec, interval, candidate, counts, "no event of the {idle} was counted")


def _if_any(spec: GateSpec, interval: Interval, candidate: str, counts: Counts, empty: str) -> GateReading:
    """The counts, or why there are none: `empty`, with `{idle}` for the arm that had nothing."""
    if counts.n_candidate and (counts.n_baseline or spec.absolute):
        return counts
    idle = "candidate" if not counts.n_candidate else "baseline"
    return _nothing(spec, interval, candidate, empty.format(idle=idle))


def _latency(
    spec: GateSpec,
    interval: Interval,
    candidate: str,
    arm_c: ArmCounts,
    arm_b: ArmCounts | None,
    warming_up: bool,
) -> GateReading:
    if warming_up:
        return _nothing(spec, interval, candidate, "the candidate is warming up")
    signal, slo = str(spec.signal), spec.slo_seconds or 0.0
    found: list[Timed] = []
    for name, arm in ((candidate, arm_c), (BASELINE, arm_b)):
        histogram = None if arm is None else arm.latency.get(signal)
        if histogram is None:
            if name == BASELINE and spec.absolute:
                found.append(Timed(0, 0, 0))
                continue
            return _nothing(
                spec, interval, candidate, f"{SIGNAL_WORDS[signal]} of the {_who(name)} was not measured"
            )
        timed = timed_against(histogram, slo)
        if timed is None:
            return _nothing(
                spec,
                interval,
                candidate,
                f"{seconds_text(slo)} is not an edge of the {_who(name)}'s histogram",
            )
        where = f"arms.{name}.latency.{signal}"
        checks.events_of(
            timed.over, timed.trials, events_field=f"{where}.over", trials_field=f"{where}.total"
        )
        checks.count(timed.censored, field=f"{where}.left")
        found.append(timed)
    timed_c, timed_b = found
    if not timed_c.trials or not (timed_b.trials or spec.absolute):
        idle = "baseline" if timed_c.trials else "candidate"
        return _nothing(spec, interval, candidate, f"no request of the {idle} was timed")
    directions = BOTH_WAYS if arm_b is None or spec.absolute else directions_of(arm_c, arm_b)
    if not (directions.may_fail or directions.may_pass):
        return Nothing(directions.reason)
    return Counts(
        timed_c.trials,
        timed_c.over,
        timed_b.trials,
        timed_b.over,
        directions,
        censored_candidate=timed_c.censored,
        censored_baseline=timed_b.censored,
        leavers_known=arm_c.outcomes is not None and arm_b is not None and arm_b.outcomes is not None,
    )


def _events(name: str, arm: ArmCounts | None, events: str, trials: str) -> tuple[int, int]:
    """(trials, events) of an arm; (0, 0) for an absent one."""
    if arm is None:
        return 0, 0
    part, whole = checks.events_of(
        getattr(arm, events),
        getattr(arm, trials),
        events_field=f"arms.{name}.{events}",
        trials_field=f"arms.{name}.{trials}",
    )
    return whole, part


def _who(name: str) -> str:
    return "baseline" if name == BASELINE else "candidate"


def _nothing(spec: GateSpec, interval: Interval, candidate: str, reason: str) -> Nothing:
    """The best reason known: a broken source, what the interval says is missing, else `reason`."""
    for source, error in sorted(interval.broken.items()):
        if _concerns(source, spec, candidate):
            return Nothing(f"{source}: {error}", broken=True)
    for name, why in sorted(interval.missing.items()):
        if _concerns(name, spec, candidate):
            return Nothing(f"{name}: {why}")
    return Nothing(reason)


def _concerns(source: str, spec: GateSpec, candidate: str) -> bool:
    """Whether a source, signal or arm of that name can explain that this gate has no data."""
    name = source.lower()
    if name in SOURCES_OF_PAIRS:
        return spec.kind == "paired"
    if name in SOURCES_OF_FEEDBACK:
        return spec.kind == "feedback"
    if name in ("ttft", "duration"):
        return spec.signal == name
    if name == DEPARTURES:
        return spec.kind == "abandoned"
    if name == "latency":
        return spec.kind == "latency_slo"
    if name == "errors":
        return spec.kind in ("error_rate", "refused", "abandoned")
    if name in SOURCES_OF_TRAFFIC or name in (BASELINE, candidate):
        return spec.kind != "paired"
    return True
