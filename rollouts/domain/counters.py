"""From cumulative counters to the counts of one interval.

Counters belong to a process, known by when it started. When that changed, or a counter went down, the interval is
missing with its reason: never negative and never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rollouts.domain.intervals import ArmCounts, LatencyCounts
from rollouts.ports import ArmReading, EngineReading, HistogramReading, SignalReading


@dataclass(frozen=True, slots=True)
class Difference:
    """One interval of an endpoint: counts by variant, and why something is missing."""

    started_at: float
    seconds: float
    arms: Mapping[str, ArmCounts]
    fallbacks: Mapping[str, int]
    missing: Mapping[str, str]
    broken: Mapping[str, str]


def difference(before: SignalReading | None, after: SignalReading, ready: Mapping[str, float]) -> Difference:
    """What happened between two readings. `ready` is the ready replicas of each variant, mean over the interval."""
    if before is None:
        return _nothing(after, "the first reading: there is nothing to compare it with yet")
    if before.router_started_at != after.router_started_at:
        return _nothing(after, "the router restarted: its counters began again")
    seconds = after.at - before.at
    if seconds <= 0:
        return _nothing(after, "no time passed since the last reading")
    arms: dict[str, ArmCounts] = {}
    fallbacks: dict[str, int] = {}
    missing: dict[str, str] = {}
    for name, now in after.arms.items():
        then = before.arms.get(name, _ZERO)
        counts = _arm(then, now, ready.get(name, 0.0))
        if counts is None:
            missing[name] = "a counter of the router went down: the interval is left out"
        else:
            arms[name] = counts
            fallbacks[name] = now.fallbacks - then.fallbacks
    for name in before.arms:
        if name not in after.arms:
            missing[name] = "the router no longer reports this variant"
    return Difference(before.at, seconds, arms, fallbacks, missing, dict(after.broken))


_ZERO = ArmReading(ended=0, errors=0, fallbacks=0, aborted=0, arrived=0)


def _nothing(after: SignalReading, why: str) -> Difference:
    return Difference(after.at, 0.0, {}, {}, {"router": why}, dict(after.broken))


def _arm(then: ArmReading, now: ArmReading, ready: float) -> ArmCounts | None:
    requests, errors = now.ended - then.ended, now.errors - then.errors
    arrived, fallbacks = now.arrived - then.arrived, now.fallbacks - then.fallbacks
    if min(requests, errors, arrived, fallbacks) < 0:
        return None
    latency: dict[str, LatencyCounts] = {}
    for signal, histogram in now.latency.items():
        counts = _latency(then.latency.get(signal), histogram)
        if counts is not None:
            latency[signal] = counts
    return ArmCounts(
        requests=requests, errors=min(errors, requests), arrived=arrived, ready=ready, latency=latency
    )


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


# --- a reading is kept between two ticks, whichever worker made it ---------------------------------------------


def reading_to_json(reading: SignalReading) -> dict[str, Any]:
    """Plain JSON of a reading, exact."""
    return {
        "at": reading.at,
        "router_started_at": reading.router_started_at,
        "arms": {
            name: {
                "ended": arm.ended,
                "errors": arm.errors,
                "fallbacks": arm.fallbacks,
                "aborted": arm.aborted,
                "arrived": arm.arrived,
                "statuses": dict(arm.statuses),
                "latency": {
                    signal: {"edges": list(h.edges), "at_or_below": list(h.at_or_below), "total": h.total}
                    for signal, h in arm.latency.items()
                },
            }
            for name, arm in reading.arms.items()
        },
        "engines": {name: engine.generated_tokens for name, engine in reading.engines.items()},
    }


def reading_from_json(data: Mapping[str, Any]) -> SignalReading | None:
    """The reading that was kept; None for an empty object."""
    if not data:
        return None
    return SignalReading(
        at=float(data["at"]),
        router_started_at=float(data["router_started_at"]),
        arms={
            name: ArmReading(
                ended=int(arm["ended"]),
                errors=int(arm["errors"]),
                fallbacks=int(arm["fallbacks"]),
                aborted=int(arm["aborted"]),
                arrived=int(arm["arrived"]),
                statuses=dict(arm["statuses"]),
                latency={
                    signal: HistogramReading(
                        tuple(float(e) for e in h["edges"]),
                        tuple(int(n) for n in h["at_or_below"]),
                        int(h["total"]),
                    )
                    for signal, h in arm["latency"].items()
                },
            )
            for name, arm in data["arms"].items()
        },
        engines={
            name: EngineReading(running=0.0, waiting=0.0, kv_cache_share=0.0, generated_tokens=int(tokens))
            for name, tokens in data.get("engines", {}).items()
        },
    )
