"""How fast a gate's evidence grows on the mean path of independent requests: which part of it counts at all, and what
it is divided by as time goes on.

Both are what the gate itself does (`latency.load_ways`, `LatencyBlocks`, `projection`), as expected values. Two
things make a forecast that leaves them out too small: with few requests an interval the loads of two equal arms often
differ by chance, and then the interval may not speak; and where nothing happens nobody can tell how much the arms
differ, so evidence stays divided by what was assumed before anything was seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self

from rollouts.domain.gates.dispersion import Dispersion
from rollouts.domain.gates.latency import (
    BLOCK_SECONDS,
    QUICK_SECONDS,
    factors,
    load_ways,
)

Way = Literal["fail", "pass"]

USUAL_INTERVAL_SECONDS = 5.0
POINTS = 40  # of a Poisson variable that are looked at
WIDE = 4.5  # standard deviations that they reach to both sides
UNFINISHED = 1.5  # blocks that are no differences: the first, and on average half of one that is under way
FIRST_STRETCH = 5.0  # seconds; each stretch of the integral is longer than the one before by GROWTH
GROWTH = 1.3
NODES = ((0.5 - math.sqrt(0.15), 5 / 18), (0.5, 8 / 18), (0.5 + math.sqrt(0.15), 5 / 18))  # Gauss, on [0, 1]
START = Dispersion()


@dataclass(frozen=True, slots=True)
class Flow:
    """What both arms get, and how often the gate's event happens there.

    candidate, baseline         requests a second
    p_candidate, p_baseline     chance of an event
    ready                       replicas of candidate and baseline where the gate follows the load rule, else None
    """

    candidate: float
    baseline: float
    p_candidate: float
    p_baseline: float
    interval_seconds: float = USUAL_INTERVAL_SECONDS
    ready: tuple[float, float] | None = None

    def counted(self, way: Way) -> float:
        """The part of the evidence that counts this way, in [0, 1]: an interval says nothing unless both arms had
        requests, nothing against its load, and less the more unevenly they fell.
        """
        means = self.candidate * self.interval_seconds, self.baseline * self.interval_seconds
        return _counted(*means, self.ready, way)

    def told(self, seconds: float) -> float:
        """The chance that a block of that length says how much the arms differ: in some interval with requests of both
        the event happened, and not to all of them.
        """
        candidate, baseline = self.candidate * self.interval_seconds, self.baseline * self.interval_seconds
        telling = _some(candidate) * _some(baseline)
        for p_c, p_b in (
            (self.p_candidate, self.p_baseline),
            (1 - self.p_candidate, 1 - self.p_baseline),
        ):
            none = math.exp(-candidate * p_c - baseline * p_b)
            telling -= none * _some(candidate * (1 - p_c)) * _some(baseline * (1 - p_b))
        telling = min(max(telling, 0.0), 1 - 1e-12)
        return -math.expm1(max(1.0, seconds / self.interval_seconds) * math.log1p(-telling))

    @property
    def varies(self) -> float:
        """How much the difference between the arms varies, by how much it would if they were alike: 1 if they are; more
        where the smaller arm has more events.
        """
        part = self.candidate / (self.candidate + self.baseline)
        pooled = part * self.p_candidate + (1 - part) * self.p_baseline
        if not 0 < pooled < 1:
            return 1.0
        own = (1 - part) * self.p_candidate * (1 - self.p_candidate) + part * self.p_baseline * (
            1 - self.p_baseline
        )
        return own / (pooled * (1 - pooled))


def _some(mean: float) -> float:
    """The chance that a Poisson variable of this mean is above 0."""
    return -math.expm1(-mean)


@lru_cache(maxsize=1024)
def _counted(candidate: float, baseline: float, ready: tuple[float, float] | None, way: Way) -> float:
    """Of n_c n_b / (n_c + n_b), which is what an interval of these counts can tell, the mean over Poisson counts of
    the intervals that may speak this way, by its value at the means.
    """
    if candidate <= 0 or baseline <= 0:
        return 0.0
    sum_of = 0.0
    for n_c, chance_c in _poisson(candidate):
        for n_b, chance_b in _poisson(baseline):
            if not n_c or not n_b:
                continue
            if ready is not None:
                may_fail, may_pass = load_ways(n_c / ready[0], n_b / ready[1])
                if not (may_fail if way == "fail" else may_pass):
                    continue
            sum_of += chance_c * chance_b * n_c * n_b / (n_c + n_b)
    return min(1.0, sum_of * (candidate + baseline) / (candidate * baseline))


def _poisson(mean: float) -> list[tuple[int, float]]:
    """(count, chance) over evenly spaced counts that hold nearly all of it; the chances sum to 1."""
    wide = WIDE * math.sqrt(mean) + WIDE
    lowest = max(0, math.floor(mean - wide))
    step = max(1, math.ceil((mean + wide - lowest) / POINTS))
    counts = range(lowest, math.ceil(mean + wide) + 1, step)
    chances = [math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in counts]
    total = sum(chances)
    return [(n, chance / total) for n, chance in zip(counts, chances, strict=True)]


@dataclass(frozen=True, slots=True)
class Caution:
    """What a gate that is tempered divides its evidence by (`LatencyBlocks`) while requests are independent.

    quick, minutes                  differences of short blocks and of minutes; below 0 while the first are under way
    quick_squares, minute_squares   the sums of their half squares
    """

    quick: float = -UNFINISHED
    minutes: float = -UNFINISHED
    quick_squares: float = 0.0
    minute_squares: float = 0.0

    def after(self, flow: Flow, seconds: float) -> Self:
        """After so many seconds of this flow."""
        return self.later(seconds, (flow.told(QUICK_SECONDS), flow.told(BLOCK_SECONDS)), flow.varies)

    def later(self, seconds: float, told: tuple[float, float], varies: float) -> Self:
        """The same where it is known how many of the short blocks and of the minutes can tell anything."""
        quick = self.quick + seconds / QUICK_SECONDS * told[0]
        minutes = self.minutes + seconds / BLOCK_SECONDS * told[1]
        return type(self)(
            quick,
            minutes,
            self.quick_squares + varies * (max(0.0, quick) - max(0.0, self.quick)),
            self.minute_squares + varies * (max(0.0, minutes) - max(0.0, self.minutes)),
        )

    @property
    def factor(self) -> float:
        """At least 1; 4.7 while nothing is seen."""
        quick, minutes = max(0.0, self.quick), max(0.0, self.minutes)
        found = factors(self.quick_squares, quick, self.minute_squares, minutes, START.phi0, START.n0)
        return float(max(1.0, *found))


@dataclass(frozen=True, slots=True)
class EvidencePace:
    """How time turns into evidence under one flow: what seconds are worth, each divided by what the gate divides by
    then.

    caution     what it divides by at the beginning; None: by nothing
    """

    flow: Flow
    caution: Caution | None = None

    def worth(self, seconds: float) -> float:
        """What so many seconds are worth, in seconds that are divided by nothing."""
        if self.caution is None:
            return seconds
        return sum(worth for _, _, worth in self._stretches(self.caution, seconds))

    def seconds_for(self, worth: float, most: float) -> float | None:
        """How long it takes until the seconds are worth that much; None when longer than `most`."""
        if self.caution is None:
            return worth if worth <= most else None
        for begin, length, gained in self._stretches(self.caution, most):
            if gained >= worth:
                # Within one stretch the factor hardly changes: straight on is near enough.
                return begin + length * worth / gained
            worth -= gained
        return None

    def _stretches(self, caution: Caution, seconds: float) -> Iterator[tuple[float, float, float]]:
        """(begin, length, worth) of stretches that make up the seconds."""
        told, varies = (self.flow.told(QUICK_SECONDS), self.flow.told(BLOCK_SECONDS)), self.flow.varies
        begin, length = 0.0, FIRST_STRETCH
        while begin < seconds:
            here = min(length, seconds - begin)
            worth = sum(
                weight / caution.later(begin + at * here, told, varies).factor for at, weight in NODES
            )
            yield begin, here, here * worth
            begin, length = begin + here, length * GROWTH
