"""The always-valid interval of a change, for people: confidence sequences in bounded state.

For every hypothetical change t an e-process is kept that tests "the change is at most t" (lower side) and
one that tests "at least t" (upper side); what they reject at level alpha/2 each is left out of the interval,
at whatever time one looks. Every interval of the rollout is its own stratum, so shared drift cancels, and
what is covered is the average change over the intervals, weighted by n_c n_b / (n_c + n_b) (the
Mantel-Haenszel weights).

Proportions use that a sum of independent Bernoulli variables is sub-Poisson, E exp(s X) <= exp(mean (e^s -
1)): with s chosen for both arms so that the unknown baseline rate drops out, the product is an e-process
exactly, at any count. For a bet x > 0 and weight w = n_c n_b / n, the log factors of one interval are

    difference <= t    e_c log(1 + x n_b/n) + e_b log(1 - x n_c/n) - t x w
    ratio <= 1/u       e_c log(1 + x u n_b/n) + e_b log(1 - x n_c/n)
    ratio >= t         e_c log(1 - x n_b/n) + e_b log(1 + x t n_c/n)

(and the mirror image of the first). It is wide where rates are near 1; the decisions do not use it. All of
them are concave in t (or u), so keeping them at a few nodes and interpolating linearly in between gives a
lower bound of the true log wealth: the interval becomes slightly wider, never wrong. Scores use bets log(1 +
x (D - t)) in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from rollouts.domain.gates import checks
from rollouts.domain.gates.evidence import log_sum_exp

ChangeMeasure = Literal["difference", "ratio", "share", "score"]

RISING_BETS = (0.02, 0.08, 0.3, 1.0, 3.0)
FALLING_BETS = (0.02, 0.08, 0.3, 0.9)
SCORE_BETS = (0.06, 0.2, 0.6)
RATIO_NODES = (0.25, 0.5, 0.8, 1.0, 1.25, 1.6, 2.5, 5.0, 20.0)
SCORE_NODES = (-0.6, -0.35, -0.2, -0.1, -0.04, 0.0, 0.04, 0.1, 0.2, 0.35, 0.6)
LARGEST_LOSS = 0.9  # a bet never risks more than this part of the wealth on one event
BISECTIONS = 24  # to a ten-millionth of a node's distance


@dataclass(frozen=True, slots=True)
class Side:
    """One side: `nodes` ascend in a coordinate along which the evidence falls; `logs[bet][node]`."""

    nodes: tuple[float, ...]
    logs: tuple[tuple[float, ...], ...]

    @classmethod
    def empty(cls, nodes: Sequence[float], bets: int) -> Self:
        return cls(tuple(nodes), ((0.0,) * len(nodes),) * bets)

    def add(self, gain: Callable[[int, float], float], temper: float = 1.0) -> Self:
        """gain(bet index, node) is the log factor of this interval."""
        return type(self)(
            self.nodes,
            tuple(
                tuple(value + temper * gain(bet, node) for value, node in zip(row, self.nodes, strict=True))
                for bet, row in enumerate(self.logs)
            ),
        )

    def reach(self, log_level: float) -> float | None:
        """The largest coordinate whose hypothesis is rejected at that level; None when none is."""
        last = len(self.nodes) - 1
        found = [i for i in range(last + 1) if self._wealth(i, 0.0) >= log_level]
        if not found:
            return None
        position = found[-1]
        if position == last:
            return self.nodes[last]
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self._wealth(position, middle) >= log_level:
                low = middle
            else:
                high = middle
        return self.nodes[position] + low * (self.nodes[position + 1] - self.nodes[position])

    def _wealth(self, position: int, part: float) -> float:
        """log wealth at `part` of the way from one node to the next, at most the true one (concavity)."""
        if part == 0.0:
            values = [row[position] for row in self.logs]
        else:
            values = [(1 - part) * row[position] + part * row[position + 1] for row in self.logs]
        return log_sum_exp(values) - math.log(len(values))


@dataclass(frozen=True, slots=True)
class ChangeBounds:
    """Both sides of the interval of one gate's change.

    measure     "difference" of shares, "ratio" of shares, "share" of the candidate alone, "score" difference
    """

    measure: ChangeMeasure
    lower: Side
    upper: Side

    @classmethod
    def empty(cls, measure: ChangeMeasure) -> Self:
        """Nothing known. The upper side's coordinate is the negative of the change, the lower ratio's is
        -1/ratio.
        """
        if measure == "score":
            sides = Side.empty(SCORE_NODES, len(SCORE_BETS))
            return cls(measure, sides, sides)
        if measure == "ratio":
            lower = Side.empty([-1 / node for node in RATIO_NODES], len(RISING_BETS))
            return cls(
                measure, lower, Side.empty([-node for node in reversed(RATIO_NODES)], len(FALLING_BETS))
            )
        ends = (0.0, 1.0) if measure == "share" else (-1.0, 1.0)
        return cls(
            measure,
            Side.empty(ends, len(RISING_BETS)),
            Side.empty((-ends[1], -ends[0]), len(FALLING_BETS)),
        )

    def update(
        self,
        n_candidate: int,
        events_candidate: int,
        n_baseline: int,
        events_baseline: int,
        *,
        temper: float = 1.0,
        lower: bool = True,
        upper: bool = True,
    ) -> Self:
        """The bounds after one interval of counts (checked by the caller); `lower`, `upper`: which side may
        learn.
        """
        if self.measure == "share":
            n_baseline, events_baseline = 0, 0
            weight, part_c, part_b = float(n_candidate), 0.0, 1.0
        else:
            total = n_candidate + n_baseline
            if not (n_candidate and n_baseline):
                return self
            part_c, part_b = n_candidate / total, n_baseline / total
            weight = n_candidate * part_b
        rising = _gains(
            self.measure, RISING_BETS, events_candidate, events_baseline, part_c, part_b, weight, True
        )
        falling = _gains(
            self.measure, FALLING_BETS, events_candidate, events_baseline, part_c, part_b, weight, False
        )
        return type(self)(
            self.measure,
            self.lower.add(rising, temper) if lower else self.lower,
            self.upper.add(falling, temper) if upper else self.upper,
        )

    def update_score(self, difference: float) -> Self:
        """The bounds after one pair; difference = score of the candidate minus score of the baseline."""
        return type(self)(
            self.measure,
            self.lower.add(lambda bet, node: math.log1p(SCORE_BETS[bet] * (difference - node))),
            self.upper.add(lambda bet, node: math.log1p(-SCORE_BETS[bet] * (difference + node))),
        )

    def interval(self, alpha: float) -> tuple[float | None, float | None]:
        """(low, high) of the change at confidence 1 - alpha over all times; None where it is open."""
        level = math.log(2 / alpha)
        low, high = self.lower.reach(level), self.upper.reach(level)
        if self.measure == "ratio" and low is not None:
            low = -1 / low
        return low, None if high is None else -high

    def to_json(self) -> dict[str, Any]:
        """The nodes follow from the measure, so only the logs are kept."""
        return {
            "measure": self.measure,
            "lower": [list(row) for row in self.lower.logs],
            "upper": [list(row) for row in self.upper.logs],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        checks.mapping(
            data, field="bounds", allowed=("measure", "lower", "upper"), needed=("measure", "lower", "upper")
        )
        checks.one_of(data["measure"], ("difference", "ratio", "share", "score"), field="bounds.measure")
        empty = cls.empty(data["measure"])
        return cls(
            empty.measure,
            Side(empty.lower.nodes, tuple(tuple(float(v) for v in row) for row in data["lower"])),
            Side(empty.upper.nodes, tuple(tuple(float(v) for v in row) for row in data["upper"])),
        )


def _gains(
    measure: ChangeMeasure,
    bets: Sequence[float],
    events_c: int,
    events_b: int,
    part_c: float,
    part_b: float,
    weight: float,
    rising: bool,
) -> Callable[[int, float], float]:
    """The log factor of one interval as a function of (bet index, node), for the lower (rising) or upper
    side.
    """
    losing_part = part_c if rising else part_b  # the arm whose events cost wealth
    sized = [min(bet, LARGEST_LOSS / losing_part) if losing_part else bet for bet in bets]
    if measure == "ratio":
        if rising:
            fixed = [events_b * math.log1p(-x * part_c) for x in sized]
            return lambda bet, node: fixed[bet] + events_c * math.log1p(-sized[bet] * node * part_b)
        fixed = [events_c * math.log1p(-x * part_b) for x in sized]
        return lambda bet, node: fixed[bet] + events_b * math.log1p(-sized[bet] * node * part_c)
    sign = 1.0 if rising else -1.0
    fixed = [
        events_c * math.log1p(sign * x * part_b)
        + (events_b * math.log1p(-sign * x * part_c) if part_c else 0.0)
        for x in sized
    ]
    # the upper side's node is minus the hypothetical change, so both signs cancel
    return lambda bet, node: fixed[bet] - node * sized[bet] * weight
