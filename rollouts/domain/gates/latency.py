"""Latency: which SLOs can be measured, and which intervals may speak for or against the candidate.

A latency gate counts requests above its SLO, so the SLO must be an edge of the histogram: between two edges
the count is unknown, and rounding silently would test something else. Load moves latency, so evidence is
directional: a candidate under more load than the baseline may not be blamed for being slow, one under less
load may not be praised for being fast. That assumes only that more load never makes an engine faster.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import seconds_text
from rollouts.domain.gates import checks
from rollouts.domain.gates.dispersion import Dispersion, excess, upper_excess
from rollouts.domain.gates.projection import Number
from rollouts.domain.record.intervals import ArmCounts, LatencyCounts

# vLLM's own histograms, in seconds (vllm/v1/metrics/loggers.py). The router's edges are configurable and the
# ones the gates use by default; these are here for sources that have nothing else.
VLLM_TTFT_EDGES = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
VLLM_DURATION_EDGES = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)  # fmt: skip

LOAD_TOLERANCE = 1.2
BLOCK_SECONDS = 60.0
QUICK_SECONDS = 10.0
MINUTES_ASSUMED = 10.0  # how many minutes the guess from the short blocks is worth


def require_edge(slo_seconds: float, edges: Sequence[float], *, field: str = "slo_seconds") -> float:
    """The edge (in seconds) that equals the SLO.

    Raises InvalidInput when there is none, with both neighbours in the message and in `extra` as `below` and
    `above` (None where the SLO lies outside all edges).
    """
    slo = checks.between(slo_seconds, 0, 86_400, field=field, low_open=True)
    ordered = sorted(float(edge) for edge in edges)
    for edge in ordered:
        if math.isclose(edge, slo, rel_tol=1e-9):
            return edge
    position = bisect.bisect_left(ordered, slo)
    below = ordered[position - 1] if position > 0 else None
    above = ordered[position] if position < len(ordered) else None
    neighbours = " and ".join(seconds_text(edge) for edge in (below, above) if edge is not None)
    if below is not None and above is not None:
        fix = f"The neighbouring edges are {neighbours}: choose one of them."
    elif neighbours:
        fix = f"The nearest edge is {neighbours}: choose it or another edge."
    else:
        fix = "This signal has no histogram; choose another signal."
    raise InvalidInput(
        f"{field}: {seconds_text(slo)} is not an edge of the histogram, so it cannot be counted exactly.",
        field=field,
        fix=fix,
        code="slo-not-an-edge",
        extra={"below": below, "above": above},
    )


@dataclass(frozen=True, slots=True)
class Timed:
    """What an SLO makes of the requests of one arm.

    trials, over    requests whose side of the SLO is known, and those over it: who left after having waited longer than
                    the SLO is over it
    censored        who left earlier: neither
    """

    trials: int
    over: int
    censored: int


def timed_against(counts: LatencyCounts, slo_seconds: float) -> Timed | None:
    """The requests against the SLO; None when this histogram has no such edge."""
    for edge, over in counts.over.items():
        if math.isclose(edge, slo_seconds, rel_tol=1e-9):
            left_over = next(
                (n for at, n in counts.left_over.items() if math.isclose(at, slo_seconds, rel_tol=1e-9)), 0
            )
            return Timed(counts.total + left_over, over + left_over, counts.left - left_over)
    return None


@dataclass(frozen=True, slots=True)
class Directions:
    """Which evidence an interval may give: `may_fail`, `may_pass`; `reason` says why not, empty when both
    may.
    """

    may_fail: bool
    may_pass: bool
    reason: str = ""

    def also(self, other: Directions) -> Directions:
        """What both allow, with the reason of whichever forbids something."""
        said = self.reason if not (self.may_fail and self.may_pass) else other.reason
        return Directions(
            self.may_fail and other.may_fail, self.may_pass and other.may_pass, said or other.reason
        )


def load_ways(load_candidate: float, load_baseline: float) -> tuple[bool, bool]:
    """(may fail, may pass) under these loads."""
    return load_candidate <= LOAD_TOLERANCE * load_baseline, load_candidate * LOAD_TOLERANCE >= load_baseline


def load_directions(load_candidate: float | None, load_baseline: float | None) -> Directions:
    """The directional load rule. Load is requests arrived per ready replica; None when no replica was
    ready.
    """
    if load_candidate is None or load_baseline is None:
        who = "candidate" if load_candidate is None else "baseline"
        return Directions(False, False, f"no replica of the {who} was ready")
    may_fail, may_pass = load_ways(load_candidate, load_baseline)
    if may_fail and may_pass:
        return Directions(True, True)
    factor = load_candidate / load_baseline if load_baseline > 0 else math.inf
    if not may_fail:
        if not math.isfinite(factor):
            return Directions(False, True, "the loads differ: only the candidate's replicas had requests")
        return Directions(False, True, _loads_differ(factor))
    return Directions(True, False, _loads_differ(factor))


def _loads_differ(factor: float) -> str:
    return f"the loads differ: a replica of the candidate carried {factor:.2g} times the load of one of the baseline"


def directions_of(candidate: ArmCounts, baseline: ArmCounts) -> Directions:
    """The load rule on one interval of both arms."""
    return load_directions(_load(candidate, baseline), _load(baseline, candidate))


def _load(arm: ArmCounts, other: ArmCounts) -> float | None:
    """Requests per ready replica that the arm's engine was given: its own, without those that went elsewhere because it
    was dead, and with those that came from the other arm because that one was. (Of a bandit's further arms it is not
    known whose requests they carried.)"""
    if arm.ready <= 0:
        return None
    if arm.outcomes is None or other.outcomes is None:
        return arm.arrived / arm.ready
    carried = arm.arrived - arm.outcomes.fallback + other.outcomes.fallback
    return max(0, carried) / arm.ready


def step_directions(share_bp: int, ready_candidate: float, ready_baseline: float) -> Directions:
    """Which latency evidence a planned step can give, from its share and the ready replicas of both arms."""
    checks.between(share_bp, 0, 10_000, field="share_bp")
    candidate = share_bp / ready_candidate if ready_candidate > 0 else None
    baseline = (10_000 - share_bp) / ready_baseline if ready_baseline > 0 else None
    return load_directions(candidate, baseline)


@dataclass(frozen=True, slots=True)
class LatencyBlocks:
    """Blocks of the standardised difference between the arms, and the over-dispersion they show.

    Within a block scores and variances of the intervals add up (stratified); at its end the block goes to its
    `Dispersion`, which tempers only what comes after. Short blocks tell soon that requests depend on each other,
    minutes tell how much in the end; until enough minutes are seen they are taken to be as the short blocks.

    cautious    False under a policy of an earlier version: minutes alone, and their estimate instead of a bound of it
    """

    dispersion: Dispersion = field(default_factory=Dispersion)
    seconds: float = 0.0
    score: float = 0.0
    variance: float = 0.0
    quick: Dispersion = field(default_factory=Dispersion)
    quick_seconds: float = 0.0
    quick_score: float = 0.0
    quick_variance: float = 0.0
    cautious: bool = True

    @property
    def factor(self) -> float:
        """How much more the arms differ than independent requests would, with caution; at least 1."""
        if not self.cautious:
            return self.dispersion.factor
        quick, slow = self.quick, self.dispersion
        found = factors(
            quick.half_squares, quick.differences, slow.half_squares, slow.differences, quick.phi0, quick.n0
        )
        return float(max(1.0, *found))

    @property
    def temper(self) -> float:
        """What to multiply the log increments of the next interval by: 1 / factor."""
        return 1 / self.factor

    def update(
        self, seconds: float, n_candidate: int, over_candidate: int, n_baseline: int, over_baseline: int
    ) -> Self:
        """The state after an interval of these counts."""
        more = more_variance = 0.0
        if n_candidate and n_baseline:
            more, more_variance = difference_score(n_candidate, over_candidate, n_baseline, over_baseline)
        minutes = _ended(
            self.dispersion,
            self.seconds + seconds,
            self.score + more,
            self.variance + more_variance,
            BLOCK_SECONDS,
        )
        if not self.cautious:
            return type(self)(*minutes, cautious=False)
        quick = _ended(
            self.quick,
            self.quick_seconds + seconds,
            self.quick_score + more,
            self.quick_variance + more_variance,
            QUICK_SECONDS,
        )
        return type(self)(*minutes, *quick)

    def to_json(self) -> dict[str, Any]:
        minutes = {
            "dispersion": self.dispersion.to_json(),
            "seconds": self.seconds,
            "score": self.score,
            "variance": self.variance,
        }
        if not self.cautious:
            return minutes
        return minutes | {
            "quick": self.quick.to_json(),
            "quick_seconds": self.quick_seconds,
            "quick_score": self.quick_score,
            "quick_variance": self.quick_variance,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A state of an earlier version has no short blocks, and goes on without."""
        minutes = (
            Dispersion.from_json(data["dispersion"]),
            float(data["seconds"]),
            float(data["score"]),
            float(data["variance"]),
        )
        if "quick" not in data:
            return cls(*minutes, cautious=False)
        return cls(
            *minutes,
            Dispersion.from_json(data["quick"]),
            float(data["quick_seconds"]),
            float(data["quick_score"]),
            float(data["quick_variance"]),
        )


def factors(
    quick_squares: Number,
    quick_differences: Number,
    squares: Number,
    differences: Number,
    phi0: float,
    n0: float,
) -> tuple[Number, Number]:
    """Upper bounds of the excess, of short blocks and of minutes, whose first guess is what the short ones showed.
    Numbers or arrays; each may be below 1.
    """
    shown = excess(quick_squares, quick_differences, phi0, n0)
    return (
        upper_excess(quick_squares, quick_differences, phi0, n0),
        upper_excess(squares, differences, shown, MINUTES_ASSUMED),
    )


def _ended(
    dispersion: Dispersion, seconds: float, score: float, variance: float, length: float
) -> tuple[Dispersion, float, float, float]:
    """The block, or a new one when it is as long as it should be."""
    if seconds < length:
        return dispersion, seconds, score, variance
    return dispersion.update(score, variance), 0.0, 0.0, 0.0


def difference_score(
    n_candidate: Number, over_candidate: Number, n_baseline: Number, over_baseline: Number
) -> tuple[Number, Number]:
    """(score, variance): how many more of the candidate's requests were over than its part of all requests,
    and how much that varies by chance if the arms are alike. Numbers or arrays, both arms at least 1.
    """
    total, over = n_candidate + n_baseline, over_candidate + over_baseline
    score = over_candidate - n_candidate * over / total
    return score, n_candidate * n_baseline * over * (total - over) / (total * total * (total - 1))
