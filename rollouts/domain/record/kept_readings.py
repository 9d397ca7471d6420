"""A reading of counters as it is kept between two intervals, whichever worker made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollouts.domain.record.asked import AskedReading
from rollouts.domain.record.readings import (
    ROUTER,
    ArmReading,
    EngineReading,
    HistogramReading,
    SignalReading,
    TargetReading,
)


def reading_to_json(reading: SignalReading) -> dict[str, Any]:
    """Plain JSON of a reading, exact; of what gates asked for only what was read."""
    asked = {
        variant: {digest: one.to_json() for digest, one in found.items() if isinstance(one, AskedReading)}
        for variant, found in reading.asked.items()
    }
    return {
        "at": reading.at,
        "targets": {
            name: {
                "started_at": target.started_at,
                "arms": {arm: _arm_to_json(counted) for arm, counted in target.arms.items()},
                "other": target.other,
                "turned_away": target.turned_away,
            }
            for name, target in reading.targets.items()
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
        **({"asked": asked} if any(asked.values()) else {}),
    }


def reading_from_json(data: Mapping[str, Any]) -> SignalReading | None:
    """The reading that was kept; None for an empty object, and for one kept before outcomes were counted (the next
    interval then begins anew). One that was kept before targets were told apart has a single one."""
    if "targets" in data:
        targets = {name: _target_from_json(one, one["started_at"]) for name, one in data["targets"].items()}
    elif "other" in data:
        targets = {ROUTER: _target_from_json(data, data["router_started_at"])}
    else:
        return None
    return SignalReading(
        at=float(data["at"]),
        targets=targets,
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
        asked={
            variant: {digest: AskedReading.from_json(one) for digest, one in found.items()}
            for variant, found in data.get("asked", {}).items()
        },
    )


def _arm_to_json(arm: ArmReading) -> dict[str, Any]:
    return {
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


def _target_from_json(data: Mapping[str, Any], started_at: float) -> TargetReading:
    return TargetReading(
        started_at=float(started_at),
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
