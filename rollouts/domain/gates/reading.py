"""What one interval says to one gate: counts, pairs, or why there is nothing to say."""

from __future__ import annotations

from dataclasses import dataclass

from rollouts.domain.gates import checks
from rollouts.domain.gates.latency import Directions, count_over, directions_of
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.gates.words import seconds_text
from rollouts.domain.intervals import BASELINE, ArmCounts, Interval, ProbePair

PASS_SHARE_BP = 2500
BOTH_WAYS = Directions(True, True)

# Sources that concern some gates only. A broken source of another name concerns every gate that has no data.
SOURCES_OF_PAIRS = frozenset({"prober", "probes", "pairs", "paired", "judge"})
SOURCES_OF_FEEDBACK = frozenset({"feedback", "ratings", "thumbs"})
SOURCES_OF_TRAFFIC = frozenset(
    {"router", "envoy", "engine", "vllm", "requests", "errors", "latency", "ttft", "duration"}
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of trials of both arms, which evidence they may give, and the ratings behind feedback."""

    n_candidate: int
    events_candidate: int
    n_baseline: int
    events_baseline: int
    directions: Directions = BOTH_WAYS
    ratings_candidate: int = 0
    ratings_baseline: int = 0


@dataclass(frozen=True, slots=True)
class Pairs:
    """Probe pairs; never empty."""

    pairs: tuple[ProbePair, ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """No data for this gate in this interval. `broken`: the source itself failed (ERROR, not NO_DATA)."""

    reason: str
    broken: bool = False


Reading = Counts | Pairs | Nothing


def read(spec: GateSpec, interval: Interval, candidate: str, *, warming_up: bool) -> Reading:
    """The reading of one gate. Raises InvalidInput for impossible counts, naming arm and field."""
    if spec.kind == "paired":
        pairs = interval.pairs.get(candidate, ())
        return Pairs(tuple(pairs)) if pairs else _nothing(spec, interval, candidate, "no probe pair finished")
    arm_c, arm_b = interval.arms.get(candidate), interval.arms.get(BASELINE)
    if arm_c is None or (arm_b is None and not spec.absolute):
        absent = "candidate" if arm_c is None else "baseline"
        return _nothing(spec, interval, candidate, f"the {absent} was not measured")
    if spec.kind == "latency_slo":
        return _latency(spec, interval, candidate, arm_c, arm_b, warming_up)
    if spec.kind == "error_rate":
        counts = Counts(
            *_events(candidate, arm_c, "errors", "requests"), *_events(BASELINE, arm_b, "errors", "requests")
        )
        empty = "no request ended"
    else:
        rated_c, _ = _events(candidate, arm_c, "ratings", "answers")[::-1]
        rated_b, _ = _events(BASELINE, arm_b, "ratings", "answers")[::-1]
        counts = Counts(
            *_events(candidate, arm_c, "thumbs_down", "answers"),
            *_events(BASELINE, arm_b, "thumbs_down", "answers"),
            ratings_candidate=rated_c,
            ratings_baseline=rated_b,
        )
        empty = "no answer could be rated"
    if counts.n_candidate and (counts.n_baseline or spec.absolute):
        return counts
    idle = "candidate" if not counts.n_candidate else "baseline"
    return _nothing(spec, interval, candidate, f"{empty} on the {idle}")


def _latency(
    spec: GateSpec,
    interval: Interval,
    candidate: str,
    arm_c: ArmCounts,
    arm_b: ArmCounts | None,
    warming_up: bool,
) -> Reading:
    if warming_up:
        return _nothing(spec, interval, candidate, "the candidate is warming up")
    signal, slo = str(spec.signal), spec.slo_seconds or 0.0
    numbers: list[int] = []
    for name, arm in ((candidate, arm_c), (BASELINE, arm_b)):
        histogram = None if arm is None else arm.latency.get(signal)
        if histogram is None:
            if name == BASELINE and spec.absolute:
                numbers += [0, 0]
                continue
            return _nothing(spec, interval, candidate, f"{signal} of the {_who(name)} was not measured")
        over = count_over(histogram, slo)
        if over is None:
            return _nothing(
                spec,
                interval,
                candidate,
                f"{seconds_text(slo)} is not an edge of the {_who(name)}'s histogram",
            )
        over, total = checks.events_of(
            over,
            histogram.total,
            events_field=f"arms.{name}.latency.{signal}.over",
            trials_field=f"arms.{name}.latency.{signal}.total",
        )
        numbers += [total, over]
    n_c, over_c, n_b, over_b = numbers
    if not n_c or not (n_b or spec.absolute):
        return _nothing(
            spec, interval, candidate, f"no request was timed on the {'baseline' if n_c else 'candidate'}"
        )
    directions = BOTH_WAYS if arm_b is None or spec.absolute else directions_of(arm_c, arm_b)
    if not (directions.may_fail or directions.may_pass):
        return Nothing(directions.reason)
    return Counts(n_c, over_c, n_b, over_b, directions)


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
    if name == "latency":
        return spec.kind == "latency_slo"
    if name == "errors":
        return spec.kind == "error_rate"
    if name in SOURCES_OF_TRAFFIC or name in (BASELINE, candidate):
        return spec.kind != "paired"
    return True
