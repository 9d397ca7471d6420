"""Evidence as a mixture over alternatives and over start times, kept in logarithms.

An e-process is a wealth that is expected not to grow while its null hypothesis is true, so it exceeds
1/alpha, ever, with probability at most alpha (Ville's inequality). A mean of e-processes is one too: over
alternatives (we do not know how large a regression will be) and, with `spread`, over start times (we do not
know when it will come).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from rollouts.domain.gates import checks

Starts = Literal["single", "spread"]
MAX_LOG = 690.0  # exp of it still is a finite float, for showing evidence as a number

FIRST_WEIGHT = 0.5  # of the first start: regressions mostly come with the release itself
HALF_SPENT = 60  # later starts (half an hour at the default policy) after which half of the rest is spent


def log_sum_exp(values: Sequence[float]) -> float:
    """log(sum(exp(v))) without overflow."""
    top = max(values)
    if top == -math.inf:
        return top
    exp = math.exp
    return top + math.log(sum([exp(value - top) for value in values]))


def as_number(log_evidence: float) -> float:
    """exp, cut at about 1e299 so that it stays a finite number for JSON and people."""
    return math.exp(min(log_evidence, MAX_LOG))


def start_weight(k: int, first: float = FIRST_WEIGHT) -> float:
    """The weight of start k (1, 2 ...): `first`, then (1 - first) s / ((k - 2 + s)(k - 1 + s)) with s =
    `HALF_SPENT`.

    For s starts the later weights are nearly even, then they fall as 1/k^2: late regressions keep a part of
    the stake that shrinks slowly, however old the rollout.
    """
    if k == 1:
        return first
    return (1 - first) * HALF_SPENT / ((k - 2 + HALF_SPENT) * (k - 1 + HALF_SPENT))


def unspent_weight(starts: int, first: float = FIRST_WEIGHT) -> float:
    """1 - the sum of the first `starts` weights, exactly: it telescopes to (1 - first) s / (starts - 1 + s)."""
    return (1 - first) * HALF_SPENT / (starts - 1 + HALF_SPENT) if starts else 1.0


@dataclass(frozen=True, slots=True)
class Wealth:
    """The wealth of one gate in one direction.

    logs        per alternative g: log S_g. Single start: the log of the product of its factors. Spread
                starts: the log of the weighted sum over starts, S_g <- S_g * L_g each interval and S_g <-
                S_g + w_k at start k.
    starts      how many starts were made; `start_weight` and `unspent_weight` say what they hold
    spread      whether starts are spread; a single start has all the weight
    first       the first start's weight when they are spread
    """

    logs: tuple[float, ...]
    starts: int
    spread: bool
    first: float = FIRST_WEIGHT
    _known_log_e: float | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def empty(cls, alternatives: int, starts: Starts, first: float = FIRST_WEIGHT) -> Self:
        """No evidence. With spread starts the first start is made by `start` or by the first `multiply`."""
        spread = starts == "spread"
        return cls((0.0,) * alternatives, 0 if spread else 1, spread, first)

    def start(self) -> Self:
        """One more start (spread only), of weight `start_weight`."""
        k = self.starts + 1
        log_weight = math.log(start_weight(k, self.first))
        if k == 1:
            return type(self)((log_weight,) * len(self.logs), 1, True, self.first)
        return type(self)(tuple(log_sum_exp((value, log_weight)) for value in self.logs), k, True, self.first)

    def multiply(self, increments: Sequence[float]) -> Self:
        """All S_g times exp(increment_g)."""
        begun = self if self.starts else self.start()
        return type(self)(
            tuple(value + increment for value, increment in zip(begun.logs, increments, strict=True)),
            begun.starts,
            begun.spread,
            begun.first,
        )

    @property
    def log_e(self) -> float:
        """log E: the mean over the alternatives, plus the weight not yet spent on starts."""
        if self._known_log_e is None:  # a verdict asks for it again and again
            object.__setattr__(self, "_known_log_e", self._log_e())
        return self._known_log_e  # type: ignore[return-value]

    def _log_e(self) -> float:
        if not self.starts:
            return 0.0
        mean = log_sum_exp(self.logs) - math.log(len(self.logs))
        if not self.spread:
            return mean
        return log_sum_exp((mean, math.log(unspent_weight(self.starts, self.first))))

    def to_json(self) -> dict[str, Any]:
        return {"logs": list(self.logs), "starts": self.starts, "spread": self.spread, "first": self.first}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        if "first" in data:
            checks.exactly(data, NAMES, field="evidence")
        else:
            checks.exactly(data, NAMES_OF_OLD, field="evidence")
        starts = checks.count(data["starts"], field="evidence.starts")
        first = data["first"] if "first" in data else _first_of_old(starts)
        return cls(
            checks.all_finite(data["logs"], field="evidence.logs"),
            starts,
            checks.flag(data["spread"], field="evidence.spread"),
            checks.between(first, 0, 1, field="evidence.first", low_open=True, high_open=True),
        )


NAMES = ("logs", "starts", "spread", "first")
NAMES_OF_OLD = NAMES[:3]


def _first_of_old(starts: int) -> float:
    """For a state of 0.1.0, whose start k held 1/(k(k+1)) and left 1/(starts + 1): the first weight that
    leaves as much, so that a rollout under way goes on with exactly what it has.
    """
    return 1 - 1 / ((starts + 1) * unspent_weight(starts, 0.0)) if starts else FIRST_WEIGHT
