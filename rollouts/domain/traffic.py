"""What is known of an endpoint's traffic before a rollout: how much there is, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rollouts.domain.gates.latency import timed_against
from rollouts.domain.gates.outlook import ASSUMED_BASE_RATES
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.record.intervals import Completions, LatencyCounts, Outcomes

ASSUMED_BASE_RATE = 0.01
ENDINGS = frozenset({"refused", "abandoned", "empty", "truncated"})


@dataclass(frozen=True, slots=True)
class Ratings:
    """What users said of the stable variant's answers in the last day.

    received    ratings, those that wait for the router's log too
    down        of the verified ones, thumbs down
    answers     that the stable variant served
    hours       in which it served them
    """

    received: int
    down: int
    answers: int
    hours: float

    @property
    def per_hour(self) -> float:
        return self.received / self.hours if self.hours else 0.0

    @property
    def rated_down(self) -> float | None:
        """The share of *all* answers that was rated down; None while nobody rated one down."""
        return min(1.0, self.down / self.answers) if self.down and self.answers else None


@dataclass(frozen=True, slots=True)
class MeasuredTraffic:
    """The endpoint's last hour; latency, outcomes and completions of the stable variant only, None: not counted."""

    per_second: float
    requests: int
    errors: int
    latency: Mapping[str, LatencyCounts]
    ratings: Ratings
    outcomes: Outcomes | None = None
    completions: Completions | None = None

    @property
    def answers_per_second(self) -> float:
        return self.per_second * (1 - self.errors / self.requests) if self.requests else 0.0

    def base_rate(self, gate: GateSpec) -> float:
        """How often the gate's event happens now; assumed where nothing was measured."""
        if gate.kind == "error_rate" and self.requests:
            return self.errors / self.requests
        if gate.kind == "feedback":
            return min(0.99, self.ratings.rated_down or ASSUMED_BASE_RATE)
        if gate.kind in ENDINGS:
            share = ended_share(gate, self.outcomes, self.completions)
            return ASSUMED_BASE_RATES[gate.kind] if share is None else min(0.99, share)
        counts = self.latency.get(gate.signal or "")
        timed = None if counts is None else timed_against(counts, gate.slo_seconds or 0.0)
        if gate.kind == "latency_slo" and timed is not None and timed.trials:
            return min(0.99, timed.over / timed.trials)
        return ASSUMED_BASE_RATE


def ended_share(gate: GateSpec, outcomes: Outcomes | None, completions: Completions | None) -> float | None:
    """The share for a gate on how requests or completions end; None for another gate, and where nothing was counted.

    Over a long stretch what ended is what arrived.
    """
    if outcomes is not None and outcomes.ended and gate.kind in ("refused", "abandoned"):
        return (outcomes.refused if gate.kind == "refused" else outcomes.abandoned) / outcomes.ended
    if completions is not None and completions.total and gate.kind in ("empty", "truncated"):
        return (completions.empty if gate.kind == "empty" else completions.truncated) / completions.total
    return None
