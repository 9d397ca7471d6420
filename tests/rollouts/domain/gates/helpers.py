"""Builders of policies and intervals for the tests of the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.record.intervals import (
    ArmCounts,
    Completions,
    Interval,
    LatencyCounts,
    Outcomes,
    ProbePair,
)

ERRORS = {"key": "errors", "label": "Error rate", "kind": "error_rate", "delta": 0.01, "weight": 1.0}
LATENCY = {
    "key": "ttft",
    "label": "Time to first token",
    "kind": "latency_slo",
    "signal": "ttft",
    "slo_seconds": 0.5,
    "ratio": 1.25,
    "weight": 1.0,
}
QUALITY = {"key": "quality", "label": "Golden set", "kind": "paired", "margin": 0.05, "weight": 1.0}
THUMBS = {"key": "thumbs", "label": "Thumbs down", "kind": "feedback", "delta": 0.03, "weight": 1.0}

REFUSED = {"key": "refused", "label": "Refused", "kind": "refused", "delta": 0.01, "weight": 1.0}
ABANDONED = {"key": "abandoned", "label": "Abandoned", "kind": "abandoned", "delta": 0.02, "weight": 1.0}
TRUNCATED = {"key": "cut", "label": "Cut off", "kind": "truncated", "delta": 0.05, "weight": 1.0}


def policy(*gates: Mapping[str, Any], **other: Any) -> GatePolicy:
    """A policy of these gates with equal weights."""
    shared = [{**gate, "weight": 1 / len(gates)} for gate in gates]
    return GatePolicy.from_json({"name": "test", "version": 1, "gates": shared, **other})


def arm(
    requests: int = 0,
    errors: int = 0,
    *,
    over: int = 0,
    arrived: int | None = None,
    ready: float = 1.0,
    timed: bool = True,
    answers: int = 0,
    thumbs_down: int = 0,
    ratings: int = 0,
) -> ArmCounts:
    latency = {"ttft": LatencyCounts(requests, {0.25: requests, 0.5: over})} if timed else {}
    return ArmCounts(
        requests,
        errors,
        requests if arrived is None else arrived,
        ready,
        latency,
        answers,
        thumbs_down,
        ratings,
    )


def counted(
    arrived: int,
    *,
    refused: int = 0,
    rate: int = 0,
    gateway: int = 0,
    failed: int = 0,
    fallback: int = 0,
    abandoned: int = 0,
    running: int = 0,
    ready: float = 1.0,
    over: int = 0,
    left: int = 0,
    left_over: int = 0,
    completions: Completions | None = None,
) -> ArmCounts:
    """An arm whose every arrival has an outcome; what is not named was answered. `left`: of the abandoned, who left
    before the first token; `left_over` of those after more than 500 ms."""
    bad = refused + rate + gateway + failed + fallback + abandoned + running
    outcomes = Outcomes(
        answered=max(0, arrived - bad),
        refused_request=refused,
        refused_rate=rate,
        refused_gateway=gateway,
        failed=failed,
        fallback=fallback,
        abandoned_before=left,
        abandoned_midway=abandoned - left,
        running=running,
    )
    timed = LatencyCounts(
        outcomes.answered, {0.25: outcomes.answered, 0.5: over}, left, {0.25: left, 0.5: left_over}
    )
    return ArmCounts(
        requests=outcomes.ended - abandoned,
        errors=failed + fallback,
        arrived=arrived,
        ready=ready,
        latency={"ttft": timed},
        outcomes=outcomes,
        completions=completions,
    )


def interval(
    index: int,
    *,
    baseline: ArmCounts | None = None,
    candidate: ArmCounts | None = None,
    share_bp: int = 5000,
    seconds: float = 10.0,
    pairs: Sequence[tuple[float, float]] = (),
    missing: Mapping[str, str] | None = None,
    broken: Mapping[str, str] | None = None,
) -> Interval:
    arms = {name: counts for name, counts in (("baseline", baseline), ("candidate", candidate)) if counts}
    probes = {"candidate": tuple(ProbePair("p", b, c) for b, c in pairs)} if pairs else {}
    return Interval(index, index * seconds, seconds, share_bp, arms, probes, missing or {}, broken or {})


def feed(state: GatesState, times: int, **what: Any) -> GatesState:
    """The state after the same interval `times` times."""
    for _ in range(times):
        state = state.update(interval(state.last_index + 1, **what))
    return state
