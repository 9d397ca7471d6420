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
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from rollouts.domain.gates import checks
from rollouts.domain.gates.crossing import first_on_grid
from rollouts.domain.gates.evidence import log_sum_exp

ChangeMeasure = Literal["difference", "ratio", "share", "score"]

RISING_BETS = (0.02, 0.08, 0.3, 1.0, 3.0)
FALLING_BETS = (0.02, 0.08, 0.3, 0.9)
SCORE_BETS = (0.06, 0.2, 0.6)
RATIO_NODES = (0.25, 0.5, 0.8, 1.0, 1.25, 1.6, 2.5, 5.0, 20.0)
SCORE_NODES = (-0.6, -0.35, -0.2, -0.1, -0.04, 0.0, 0.04, 0.1, 0.2, 0.35, 0.6)
LARGEST_LOSS = 0.9  # a bet never risks more than this part of the wealth on one event
BISECTIONS = 24  # to a ten-millionth of a node's distance
FINEST = 0.5**BISECTIONS


@dataclass(frozen=True, slots=True)
class Side:
    """One side: `nodes` ascend in a coordinate along which the evidence falls; `logs[bet][node]`."""

    nodes: tuple[float, ...]
    logs: tuple[tuple[float, ...], ...]

    @classmethod
    def empty(cls, nodes: Sequence[float], bets: int) -> Self:
        return cls(tuple(nodes), ((0.0,) * len(nodes),) * bets)

    def add(self, gains: Sequence[Sequence[float]], temper: float = 1.0) -> Self:
        """gains[bet][node] is the log factor of this interval."""
        return type(self)(
            self.nodes,
            tuple(
                [
                    tuple([value + temper * gain for value, gain in pairs])
                    for pairs in map(zip, self.logs, gains)
                ]
            ),
        )

    def reach(self, log_level: float) -> float | None:
        """The largest coordinate whose hypothesis is rejected at that level; None when none is."""
        last = len(self.nodes) - 1
        # A mean is at most its largest part, and at least that divided by their number: mostly that is enough.
        tops = [max(values) for values in zip(*self.logs, strict=True)]
        never, surely = log_level - 1.0, log_level + math.log(len(self.logs)) + 1.0
        position = None
        for i in range(last, -1, -1):
            if tops[i] >= surely or (tops[i] >= never and self._wealth(i, 0.0) >= log_level):
                position = i
                break
        if position is None or position == last:
            return None if position is None else self.nodes[last]
        part = self._last_part(position, log_level)
        return self.nodes[position] + part * (self.nodes[position + 1] - self.nodes[position])

    def _last_part(self, position: int, log_level: float) -> float:
        """How far towards the next node the level is reached, by bisection of this stretch."""
        here, there = [row[position] for row in self.logs], [row[position + 1] for row in self.logs]
        # Seen from the next node the wealth rises; the last part that reaches the level is the first one then.
        found = first_on_grid(there, list(map(operator.sub, here, there)), log_level, FINEST, end=1.0)
        if found is not None:
            return 1.0 - found * FINEST
        low, high = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            if self._wealth(position, middle) >= log_level:
                low = middle
            else:
                high = middle
        return low

    def _wealth(self, position: int, part: float) -> float:
        """log wealth at `part` of the way from one node to the next, at most the true one (concavity)."""
        if part == 0.0:
            values = [row[position] for row in self.logs]
        else:
            rest, after = 1 - part, position + 1
            values = [rest * row[position] + part * row[after] for row in self.logs]
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
        counted = (events_candidate, events_baseline, part_c, part_b, weight)
        new_lower, new_upper = self.lower, self.upper
        if lower:
            rising = _gains(self.measure, self.lower.nodes, RISING_BETS, *counted, rising=True)
            new_lower = self.lower.add(rising, temper)
        if upper:
            falling = _gains(self.measure, self.upper.nodes, FALLING_BETS, *counted, rising=False)
            new_upper = self.upper.add(falling, temper)
        return type(self)(self.measure, new_lower, new_upper)

    def update_score(self, difference: float, *, lower: bool = True) -> Self:
        """The bounds after one pair; difference = score of the candidate minus score of the baseline. `lower`: whether
        that side may learn, which is the one that speaks for the candidate."""
        log1p = math.log1p
        return type(self)(
            self.measure,
            self.lower.add(
                [[log1p(bet * (difference - node)) for node in self.lower.nodes] for bet in SCORE_BETS]
            )
            if lower
            else self.lower,
            self.upper.add(
                [[log1p(-bet * (difference + node)) for node in self.upper.nodes] for bet in SCORE_BETS]
            ),
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
        checks.exactly(data, NAMES, field="bounds")
        checks.one_of(data["measure"], ("difference", "ratio", "share", "score"), field="bounds.measure")
        empty = _EMPTY[data["measure"]]
        return cls(
            empty.measure,
            Side(empty.lower.nodes, tuple([tuple(map(float, row)) for row in data["lower"]])),
            Side(empty.upper.nodes, tuple([tuple(map(float, row)) for row in data["upper"]])),
        )


NAMES = ("measure", "lower", "upper")
_EMPTY: dict[str, ChangeBounds] = {
    measure: ChangeBounds.empty(measure) for measure in get_args(ChangeMeasure)
}


def _gains(
    measure: ChangeMeasure,
    nodes: Sequence[float],
    bets: Sequence[float],
    events_c: int,
    events_b: int,
    part_c: float,
    part_b: float,
    weight: float,
    *,
    rising: bool,
) -> Sequence[Sequence[float]]:
    """The log factors of one interval, by bet and node, of the lower (rising) or the upper side."""
    log1p = math.log1p
    losing_part = part_c if rising else part_b  # the arm whose events cost wealth
    sized = [min(bet, LARGEST_LOSS / losing_part) if losing_part else bet for bet in bets]
    if measure == "ratio":
        one, other = (events_b, events_c) if rising else (events_c, events_b)
        one_part, other_part = (part_c, part_b) if rising else (part_b, part_c)
        fixed = [one * log1p(-x * one_part) for x in sized]
        if not other:
            return [[value] * len(nodes) for value in fixed]
        return [
            [value + other * log1p(-x * node * other_part) for node in nodes]
            for x, value in zip(sized, fixed, strict=True)
        ]
    sign = 1.0 if rising else -1.0
    fixed = [
        events_c * log1p(sign * x * part_b) + (events_b * log1p(-sign * x * part_c) if part_c else 0.0)
        for x in sized
    ]
    # the upper side's node is minus the hypothetical change, so both signs cancel
    if len(nodes) == 2:  # nearly always
        first, last = nodes
        return [
            (value - first * x * weight, value - last * x * weight)
            for x, value in zip(sized, fixed, strict=True)
        ]
    return [[value - node * x * weight for node in nodes] for x, value in zip(sized, fixed, strict=True)]
