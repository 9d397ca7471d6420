"""From cumulative counters to the counts of one interval.

Counters belong to a process of the router (a target), known by its name and when it started. Each target's difference
is taken by itself, and these are added up. A target that restarted, or that only one of the two readings has (it is
new, has gone, or did not answer), voids its own part of the interval:

- Not counted is everything that it counted since the last reading: what the old process counted after that is lost with
  it, and what the new one has counted so far is left out with it.
- Counted is all that the other targets did. Which target takes a request does not depend on the arm, so theirs is what
  they would have counted anyway, and comparing arms within it is as good as within the whole.
- How much was not counted is said: the share of the targets, or of the arrivals as far as they are known, whichever is
  larger. Beyond UNSEEN_AT_MOST the whole interval is void: rates of the rest would still be true, but loads and counts
  would be those of another endpoint.

When a counter of an arm went down, that arm is missing with its reason: never negative and never zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rollouts.domain.record.asked import asked_between
from rollouts.domain.record.intervals import OUTCOME_CLASSES, ArmCounts, Completions, LatencyCounts, Outcomes
from rollouts.domain.record.readings import (
    ArmReading,
    EngineReading,
    HistogramReading,
    SignalReading,
    TargetReading,
    why_untold,
)

# One of two replicas may restart, as in a rolling update, also when it had a little over a half.
UNSEEN_AT_MOST = 0.6


@dataclass(frozen=True, slots=True)
class Difference:
    """One interval of an endpoint: counts by variant, and why something is missing.

    seconds         0 when nothing can be counted
    other           calls that are no inference; turned_away: calls that the router refused before it drew an arm
    unseen          targets whose part is not counted, and why
    unseen_share    of the traffic, about so much was not counted; 1 when nothing was
    unseen_seconds  the same in seconds of the whole traffic
    untold          of a variant: why nobody can say who left before the end. Those who left are counted all the same
    lost            requests, by variant, that targets whose part is not counted held at the reading before: they count
                    as arrived, and nobody will know how they ended
    """

    started_at: float
    seconds: float
    arms: Mapping[str, ArmCounts]
    fallbacks: Mapping[str, int]
    missing: Mapping[str, str]
    broken: Mapping[str, str]
    other: int = 0
    turned_away: int = 0
    unseen: Mapping[str, str] = field(default_factory=dict)
    unseen_share: float = 0.0
    unseen_seconds: float = 0.0
    lost: Mapping[str, int] = field(default_factory=dict)
    untold: Mapping[str, str] = field(default_factory=dict)


def counts_between(
    before: SignalReading | None, after: SignalReading, ready: Mapping[str, float]
) -> Difference:
    """What happened between two readings. `ready` is the ready replicas of each variant, as seen now."""
    if before is None:
        return _nothing(after, "the first reading: there is nothing to compare it with yet")
    seconds = after.at - before.at
    if seconds <= 0:
        return _nothing(after, "no time passed since the last reading")
    names = sorted({*before.targets, *after.targets})
    unseen = {name: why for name in names if (why := _why_unseen(before, after, name))}
    seen = [(before.targets[name], after.targets[name]) for name in names if name not in unseen]
    found, missing = _arms(seen)
    share = _unseen_share(before, after, unseen, sum(one.counts.arrived for one in found.values()))
    other, turned_away = _calls(before, after, unseen)
    lost = _lost(before.targets[name] for name in unseen if name in before.targets)
    if not seen or share > UNSEEN_AT_MOST:
        void = _nothing(after, _void_words(names, unseen))
        return replace(
            void,
            other=other,
            turned_away=turned_away,
            unseen=unseen,
            unseen_share=1.0,
            unseen_seconds=seconds,
            lost=lost,
        )
    arms = {
        name: replace(
            one.counts,
            ready=ready.get(name, 0.0),
            completions=completions_between(before.engines.get(name), after.engines.get(name)),
            asked=asked_between(before.asked.get(name, {}), after.asked.get(name, {})),
            numbers=after.numbers.get(name, {}),
        )
        for name, one in found.items()
    }
    return Difference(
        before.at,
        seconds,
        arms,
        {name: one.fallbacks for name, one in found.items()},
        missing,
        dict(after.broken),
        other=other,
        turned_away=turned_away,
        unseen=unseen,
        unseen_share=share,
        unseen_seconds=share * seconds,
        lost=lost,
        untold={name: why for name, one in found.items() if (why := _why_untold(one))},
    )


_ZERO = ArmReading()
# Finish reasons by which an engine says that it held an answer back.
FILTERED = frozenset({"content_filter", "refusal", "safety"})


def _nothing(after: SignalReading, why: str) -> Difference:
    return Difference(after.at, 0.0, {}, {}, {"router": why}, dict(after.broken))


# --- which targets count ----------------------------------------------------------------------------------------------


def _why_unseen(before: SignalReading, after: SignalReading, name: str) -> str:
    """Why this target's part cannot be counted; empty when it can."""
    then, now = before.targets.get(name), after.targets.get(name)
    if then is None:
        return "was not read before: what it had counted by then is not known"
    if now is None:
        return "was not read: it does not answer, or has gone"
    return "" if then.started_at == now.started_at else "restarted: its counters began again"


def _unseen_share(
    before: SignalReading, after: SignalReading, unseen: Collection[str], counted: int
) -> float:
    """About which share of the traffic was not counted: that of the targets or, where it is larger, that of the
    arrivals which those targets are known to have had.

    A process that is replaced by one with another name is one of those before and one of those after, not two. One that
    is read again after a gap has counted for longer than this interval: so much of that belongs to it as of its time.
    """
    of_targets = max(_share(unseen, before.targets), _share(unseen, after.targets))
    known = 0.0
    for target in (after.targets[name] for name in unseen if name in after.targets):
        arrived = sum(max(0, arm.arrived) for arm in target.arms.values())
        lived = after.at - target.started_at
        known += arrived * min(1.0, (after.at - before.at) / lived) if lived > 0 else arrived
    return max(of_targets, known / (known + counted) if known else 0.0)


def _share(some: Collection[str], targets: Collection[str]) -> float:
    return sum(name in some for name in targets) / len(targets) if targets else 0.0


def _lost(targets: Iterable[TargetReading]) -> dict[str, int]:
    held: Counter[str] = Counter()
    for target in targets:
        held.update({name: max(0, arm.running) for name, arm in target.arms.items()})
    return {name: number for name, number in sorted(held.items()) if number}


def _void_words(names: Sequence[str], unseen: Mapping[str, str]) -> str:
    if not names:
        return "the router reports no process that counts"
    if len(names) == 1:
        return f"the router {unseen[names[0]]}"
    told = "; ".join(f"{name} {why}" for name, why in sorted(unseen.items()))
    return f"{len(unseen)} of {len(names)} processes of the router were not counted: {told}"


def _calls(before: SignalReading, after: SignalReading, unseen: Mapping[str, str]) -> tuple[int, int]:
    """(other, turned away). They are in no arm, and for people alone: all that a process counted which started since
    the last reading belongs to this interval."""
    other = turned_away = 0
    for name, now in after.targets.items():
        then = before.targets.get(name)
        if name in unseen:
            if then is None and now.started_at < before.at:
                continue
            then = None
        other += max(0, now.other - (then.other if then else 0))
        turned_away += max(0, now.turned_away - (then.turned_away if then else 0))
    return other, turned_away


# --- arms, added up over targets ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """One arm at some targets. A signal whose histograms cannot be compared is None. `unheld` as in `ArmReading`."""

    counts: ArmCounts
    fallbacks: int
    unheld: int
    latency: Mapping[str, LatencyCounts | None]

    def plus(self, other: _Part) -> _Part:
        one, two = self.counts, other.counts
        assert one.outcomes is not None
        assert two.outcomes is not None
        running = one.outcomes.running + two.outcomes.running
        latency = {
            signal: _together(self.latency, other.latency, signal)
            for signal in {*self.latency, *other.latency}
        }
        return _Part(
            ArmCounts(
                requests=one.requests + two.requests,
                errors=one.errors + two.errors,
                arrived=one.arrived + two.arrived,
                ready=0.0,
                outcomes=replace(one.outcomes.plus(two.outcomes), running=running),
            ),
            self.fallbacks + other.fallbacks,
            self.unheld + other.unheld,
            latency,
        )


def _together(
    one: Mapping[str, LatencyCounts | None], two: Mapping[str, LatencyCounts | None], signal: str
) -> LatencyCounts | None:
    """A target that does not have the signal has measured none yet. Histograms with other edges cannot be added up."""
    if signal not in one or signal not in two:
        return one[signal] if signal in one else two[signal]
    left, right = one[signal], two[signal]
    if left is None or right is None or set(left.over) != set(right.over):
        return None
    return left.plus(right)


def _arms(seen: Sequence[tuple[TargetReading, TargetReading]]) -> tuple[dict[str, _Part], dict[str, str]]:
    """The arms that could be counted at every one of these targets, and why others could not."""
    found: dict[str, _Part] = {}
    missing: dict[str, str] = {}
    for before, after in seen:
        for name, now in after.arms.items():
            part = _part(before.arms.get(name, _ZERO), now)
            if part is None:
                missing[name] = "a counter of the router went down: the interval is left out"
            else:
                found[name] = found[name].plus(part) if name in found else part
        for name in before.arms:
            if name not in after.arms:
                missing[name] = "the router no longer reports this variant"
    whole = {name: part for name, part in found.items() if name not in missing}
    return {name: _with_latency(part) for name, part in whole.items()}, missing


def _with_latency(part: _Part) -> _Part:
    measured = {signal: counts for signal, counts in part.latency.items() if counts is not None}
    return replace(part, counts=replace(part.counts, latency=measured))


def _part(then: ArmReading, now: ArmReading) -> _Part | None:
    """One arm at one target; None when a counter went down."""
    before, after = _classes(then), _classes(now)
    ended = {name: after[name] - before[name] for name in OUTCOME_CLASSES}
    arrived = now.arrived - then.arrived
    if min(arrived, *ended.values()) < 0:
        return None
    outcomes = Outcomes(**ended, running=max(0, now.running))
    latency: dict[str, LatencyCounts | None] = {}
    for signal, histogram in now.latency.items():
        counts = _latency(then.latency.get(signal), histogram)
        if signal in now.left:
            left = _latency(then.left.get(signal), now.left[signal])
            # Without those who left, the others would look quicker than the arm was.
            if counts is None or left is None:
                counts = None
            else:
                counts = replace(counts, left=left.total, left_over=left.over)
        latency[signal] = counts
    counts_of_arm = ArmCounts(
        requests=outcomes.ended - outcomes.abandoned,
        errors=outcomes.failed + outcomes.fallback,
        arrived=arrived,
        ready=0.0,
        outcomes=outcomes,
    )
    return _Part(counts_of_arm, now.fallbacks - then.fallbacks, _unheld(then, now), latency)


def _unheld(then: ArmReading, now: ArmReading) -> int:
    """Of how many answers at most that ended in between, or began, it was not held back what ends them.

    An answer is among them from its first byte on: what still ran at the last reading may be one that began unheld. A
    difference below 0 is what ended while the counters were written down.
    """
    return max(0, now.unheld - then.unheld) + min(max(0, then.running), then.unheld)


def _why_untold(part: _Part) -> str:
    assert part.counts.outcomes is not None
    return why_untold(part.unheld, part.counts.outcomes.answered + part.counts.outcomes.abandoned)


def _classes(reading: ArmReading) -> dict[str, int]:
    """The reading by the names of `Outcomes`."""
    return {
        "answered": reading.answered,
        "refused_request": reading.refused.get("request", 0),
        "refused_rate": reading.refused.get("rate", 0),
        "refused_gateway": reading.refused.get("gateway", 0),
        "failed": reading.failed,
        "fallback": reading.fallbacks,
        "abandoned_before": reading.abandoned.get("before", 0),
        "abandoned_midway": reading.abandoned.get("midway", 0),
    }


def _latency(then: HistogramReading | None, now: HistogramReading) -> LatencyCounts | None:
    """What was timed between the two; None when that cannot be told: a count went down, or the edges are others."""
    if then is not None and then.edges != now.edges and then.total:
        return None
    before = then.at_or_below if then is not None and then.edges == now.edges else (0,) * len(now.edges)
    total = now.total - (then.total if then is not None else 0)
    over = {
        edge: total - (count - earlier)
        for edge, count, earlier in zip(now.edges, now.at_or_below, before, strict=True)
    }
    if total < 0 or any(not 0 <= count <= total for count in over.values()):
        return None
    return LatencyCounts(total=total, over=over)


def completions_between(then: EngineReading | None, now: EngineReading | None) -> Completions | None:
    """What an engine finished between two readings; None when it started in between, or does not say all of it: what
    is not said must not look like zero."""
    if then is None or now is None or not now.endings or then.started_at != now.started_at:
        return None
    if then.empty is None or now.empty is None:
        return None
    ended = {reason: count - then.endings.get(reason, 0) for reason, count in now.endings.items()}
    empty = now.empty - then.empty
    tokens = now.generated_tokens - then.generated_tokens
    if min(empty, tokens, *ended.values()) < 0:
        return None
    total = sum(count for reason, count in ended.items() if reason not in ("abort", "error"))
    return Completions(
        total=total,
        empty=min(empty, total),
        truncated=min(ended.get("length", 0), total),
        filtered=min(sum(ended.get(reason, 0) for reason in FILTERED), total),
        tokens=tokens,
    )
