"""From cumulative counters to the counts of one interval.

Counters belong to a process, known by when it started. When that changed, or a counter went down, the interval is
missing with its reason: never negative and never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rollouts.domain.record.intervals import OUTCOME_CLASSES, ArmCounts, Completions, LatencyCounts, Outcomes
from rollouts.domain.record.readings import ArmReading, EngineReading, HistogramReading, SignalReading


@dataclass(frozen=True, slots=True)
class Difference:
    """One interval of an endpoint: counts by variant, and why something is missing.

    other           calls that are no inference; turned_away: calls that the router refused before it drew an arm
    """

    started_at: float
    seconds: float
    arms: Mapping[str, ArmCounts]
    fallbacks: Mapping[str, int]
    missing: Mapping[str, str]
    broken: Mapping[str, str]
    other: int = 0
    turned_away: int = 0


def difference(before: SignalReading | None, after: SignalReading, ready: Mapping[str, float]) -> Difference:
    """What happened between two readings. `ready` is the ready replicas of each variant, mean over the interval."""
    if before is None:
        return _nothing(after, "the first reading: there is nothing to compare it with yet")
    if before.router_started_at != after.router_started_at:
        # What belongs to no arm is for people alone: all that the new process counted happened since then.
        fresh = _nothing(after, "the router restarted: its counters began again")
        return replace(fresh, other=after.other, turned_away=after.turned_away)
    seconds = after.at - before.at
    if seconds <= 0:
        return _nothing(after, "no time passed since the last reading")
    arms: dict[str, ArmCounts] = {}
    fallbacks: dict[str, int] = {}
    missing: dict[str, str] = {}
    for name, now in after.arms.items():
        then = before.arms.get(name, _ZERO)
        completions = completions_between(before.engines.get(name), after.engines.get(name))
        counts = _arm(then, now, ready.get(name, 0.0), completions)
        if counts is None:
            missing[name] = "a counter of the router went down: the interval is left out"
        else:
            arms[name] = counts
            fallbacks[name] = now.fallbacks - then.fallbacks
    for name in before.arms:
        if name not in after.arms:
            missing[name] = "the router no longer reports this variant"
    return Difference(
        before.at,
        seconds,
        arms,
        fallbacks,
        missing,
        dict(after.broken),
        other=max(0, after.other - before.other),
        turned_away=max(0, after.turned_away - before.turned_away),
    )


_ZERO = ArmReading()
# Finish reasons by which an engine says that it held an answer back.
FILTERED = frozenset({"content_filter", "refusal", "safety"})


def _nothing(after: SignalReading, why: str) -> Difference:
    return Difference(after.at, 0.0, {}, {}, {"router": why}, dict(after.broken))


def _arm(
    then: ArmReading, now: ArmReading, ready: float, completions: Completions | None
) -> ArmCounts | None:
    before, after = _classes(then), _classes(now)
    ended = {name: after[name] - before[name] for name in OUTCOME_CLASSES}
    arrived = now.arrived - then.arrived
    if min(arrived, *ended.values()) < 0:
        return None
    outcomes = Outcomes(**ended, running=max(0, now.running))
    latency: dict[str, LatencyCounts] = {}
    for signal, histogram in now.latency.items():
        counts = _latency(then.latency.get(signal), histogram)
        left = _latency(then.left.get(signal), now.left[signal]) if signal in now.left else None
        if counts is not None and left is not None:
            counts = replace(counts, left=left.total, left_over=left.over)
        if counts is not None:
            latency[signal] = counts
    return ArmCounts(
        requests=outcomes.ended - outcomes.abandoned,
        errors=outcomes.failed + outcomes.fallback,
        arrived=arrived,
        ready=ready,
        latency=latency,
        outcomes=outcomes,
        completions=completions,
    )


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


# --- a reading is kept between two ticks, whichever worker made it ---------------------------------------------


def reading_to_json(reading: SignalReading) -> dict[str, Any]:
    """Plain JSON of a reading, exact."""
    return {
        "at": reading.at,
        "router_started_at": reading.router_started_at,
        "arms": {
            name: {
                "arrived": arm.arrived,
                "answered": arm.answered,
                "refused": dict(arm.refused),
                "failed": arm.failed,
                "fallbacks": arm.fallbacks,
                "abandoned": dict(arm.abandoned),
                "statuses": dict(arm.statuses),
                "latency": {signal: _histogram_to_json(h) for signal, h in arm.latency.items()},
                "left": {signal: _histogram_to_json(h) for signal, h in arm.left.items()},
            }
            for name, arm in reading.arms.items()
        },
        "engines": {
            name: {
                "tokens": engine.generated_tokens,
                "started_at": engine.started_at,
                "endings": dict(engine.endings),
                "empty": engine.empty,
            }
            for name, engine in reading.engines.items()
        },
        "other": reading.other,
        "turned_away": reading.turned_away,
    }


def reading_from_json(data: Mapping[str, Any]) -> SignalReading | None:
    """The reading that was kept; None for an empty object, and for one kept before outcomes were counted (the next
    interval then begins anew)."""
    if "other" not in data:
        return None
    return SignalReading(
        at=float(data["at"]),
        router_started_at=float(data["router_started_at"]),
        arms={
            name: ArmReading(
                arrived=int(arm["arrived"]),
                answered=int(arm["answered"]),
                refused={kind: int(n) for kind, n in arm["refused"].items()},
                failed=int(arm["failed"]),
                fallbacks=int(arm["fallbacks"]),
                abandoned={when: int(n) for when, n in arm["abandoned"].items()},
                statuses=dict(arm["statuses"]),
                latency={signal: _histogram_from_json(h) for signal, h in arm["latency"].items()},
                left={signal: _histogram_from_json(h) for signal, h in arm["left"].items()},
            )
            for name, arm in data["arms"].items()
        },
        engines={
            name: EngineReading(
                running=0.0,
                waiting=0.0,
                kv_cache_share=0.0,
                generated_tokens=int(engine["tokens"]),
                started_at=engine["started_at"],
                endings={reason: int(n) for reason, n in engine["endings"].items()},
                empty=engine["empty"],
            )
            for name, engine in data["engines"].items()
        },
        other=int(data["other"]),
        turned_away=int(data["turned_away"]),
    )


def _histogram_to_json(histogram: HistogramReading) -> dict[str, Any]:
    return {
        "edges": list(histogram.edges),
        "at_or_below": list(histogram.at_or_below),
        "total": histogram.total,
    }


def _histogram_from_json(data: Mapping[str, Any]) -> HistogramReading:
    return HistogramReading(
        tuple(float(edge) for edge in data["edges"]),
        tuple(int(n) for n in data["at_or_below"]),
        int(data["total"]),
    )
