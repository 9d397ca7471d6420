"""What the router in memory counts: of each process by itself, as a gateway with several replicas does."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from rollouts.adapters.routers.envoy_config import EDGES
from rollouts.domain.record.readings import ArmReading, HistogramReading, TargetReading


@dataclass(frozen=True, slots=True)
class MemoryResponse:
    """What the user saw.

    status      0: the user left before there was one, or still waits
    left        how the user left: "before" the first token, or "midway"; "" when the answer ended by itself
    broken      the stream ended in an error
    """

    request_id: str
    status: int
    assigned: str
    answered: str
    text: str = ""
    ttft_seconds: float = 0.0
    duration_seconds: float = 0.0
    broken: bool = False
    left: Literal["", "before", "midway"] = ""


def _no_times() -> dict[str, list[int]]:
    return {signal: [0] * (len(edges) + 1) for signal, edges in EDGES.items()}


@dataclass
class ArmCounters:
    """One arm's counters since the router started."""

    arrived: int = 0
    answered: int = 0
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failed: int = 0
    fallbacks: int = 0
    abandoned: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    statuses: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    latency: dict[str, list[int]] = field(default_factory=_no_times)
    left: dict[str, list[int]] = field(default_factory=_no_times)

    def end(self, response: MemoryResponse, waited: float) -> None:
        """Books a request that ended in its one class; the rules are those of `envoy_stats.ended_as`."""
        if response.status >= 500 or response.broken:
            self.failed += 1
        elif response.answered != response.assigned:
            self.fallbacks += 1
        elif response.left:
            self.abandoned[response.left] += 1
            self._time(self.left, "duration", waited)
            if response.left == "before":
                self._time(self.left, "ttft", waited)
            else:
                self._time(self.latency, "ttft", response.ttft_seconds)
            return
        elif response.status >= 300:
            self.refused["rate" if response.status == 429 else "request"] += 1
        else:
            self.answered += 1
            self._time(self.latency, "ttft", response.ttft_seconds)
            self._time(self.latency, "duration", response.duration_seconds)
        if response.status:
            self.statuses[f"{response.status // 100}xx"] += 1

    @staticmethod
    def _time(histograms: dict[str, list[int]], signal: str, seconds: float) -> None:
        histograms[signal][bisect_left(EDGES[signal], seconds)] += 1

    def reading(self) -> ArmReading:
        return ArmReading(
            arrived=self.arrived,
            answered=self.answered,
            refused=dict(self.refused),
            failed=self.failed,
            fallbacks=self.fallbacks,
            abandoned=dict(self.abandoned),
            statuses=dict(self.statuses),
            latency=_readings(self.latency),
            left=_readings(self.left),
        )


def _readings(histograms: dict[str, list[int]]) -> dict[str, HistogramReading]:
    return {
        signal: HistogramReading(EDGES[signal], tuple(accumulate(counts[:-1])), sum(counts))
        for signal, counts in histograms.items()
    }


@dataclass
class TargetCounters:
    """The counters of one process of the router since it started."""

    started_at: float
    arms: dict[tuple[str, str], ArmCounters] = field(default_factory=dict)  # by endpoint and variant
    other: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    turned_away: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def arm(self, endpoint: str, variant: str) -> ArmCounters:
        """The counters of an arm, to add to."""
        return self.arms.setdefault((endpoint, variant), ArmCounters())

    def reading(self, endpoint: str, variants: Collection[str]) -> TargetReading:
        """What it counted for the endpoint, with zeros for a variant without requests."""
        found = {variant: ArmCounters() for variant in variants}
        found |= {variant: arm for (name, variant), arm in self.arms.items() if name == endpoint}
        return TargetReading(
            started_at=self.started_at,
            arms={variant: arm.reading() for variant, arm in found.items()},
            other=self.other[endpoint],
            turned_away=self.turned_away[endpoint],
        )
