"""Paired scores (golden prompts, judges): testing by betting.

A gambler bets on "worse" against the null hypothesis "not worse by more than the margin"; the wealth is a
product over the pairs and cannot be expected to grow while the null is true, whatever the distribution of
the scores in [0, 1]. Prompts must be drawn at random with replacement. Source: Waudby-Smith & Ramdas,
"Estimating means of bounded random variables by betting".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates import checks
from rollouts.domain.gates.evidence import Starts, Wealth
from rollouts.domain.gates.projection import Number
from rollouts.domain.gates.proportion import DECISIONS, STARTS, Proof

LARGEST_BET = 0.98  # of what could be lost
PASS_BET = 0.97  # PASS bets a little less: its pay-off is bounded by the margin
FIRST_PAIRED_WEIGHT = 0.9  # of the first start: a version's answers seldom change while it runs


@lru_cache(maxsize=256)
def bets_of(decision: Proof, margin: float, grid: int) -> tuple[float, ...]:
    """The bets lambda_j: 1 + lambda_j * Y stays positive for every possible pair."""
    if decision == "fail":
        return tuple(LARGEST_BET * (j + 0.5) / grid / (1 + margin) for j in range(grid))
    return tuple(PASS_BET * LARGEST_BET * (j + 0.5) / grid / (1 - margin) for j in range(grid))


def gain_of(decision: Proof, margin: float, drop: Number) -> Number:
    """Y: what a bet of 1 gains from a pair whose baseline scored `drop` more; a number or an array."""
    return drop - margin if decision == "fail" else margin - drop


@dataclass(frozen=True, slots=True, init=False)
class PairedProcess:
    """Evidence against one null hypothesis on the mean difference of paired scores in [0, 1].

    decision "fail" tests H: mean(baseline - candidate) <= margin; its rejection proves a worse candidate.
    decision "pass" tests H: mean(baseline - candidate) >= margin; its rejection proves the drop is below the
    margin. `grid` bets are mixed. Reject when log_e >= log(1/alpha), whenever you look. With one start the
    order of the pairs does not matter.
    """

    margin: float
    decision: Proof
    pairs: int
    evidence: Wealth

    def __init__(
        self, *, margin: float = 0.0, decision: Proof = "fail", grid: int = 40, starts: Starts = "single"
    ) -> None:
        checks.one_of(decision, DECISIONS, field="decision")
        checks.one_of(starts, STARTS, field="starts")
        bets = checks.count(grid, field="grid")
        if not 1 <= bets <= 1000:
            raise InvalidInput(f"grid is {bets}; it must be 1 to 1000.", field="grid")
        allowed = checks.between(margin, -1, 1, field="margin", low_open=True, high_open=True)
        self._set(allowed, decision, 0, Wealth.empty(bets, starts, FIRST_PAIRED_WEIGHT))

    def _set(self, margin: float, decision: Proof, pairs: int, evidence: Wealth) -> None:
        put = object.__setattr__
        put(self, "margin", margin)
        put(self, "decision", decision)
        put(self, "pairs", pairs)
        put(self, "evidence", evidence)

    def _with(self, pairs: int, evidence: Wealth) -> Self:
        new = object.__new__(type(self))
        new._set(self.margin, self.decision, pairs, evidence)
        return new

    @property
    def grid(self) -> int:
        return len(self.evidence.logs)

    def update(self, score_baseline: float, score_candidate: float) -> Self:
        """The state after one pair of scores in [0, 1]. Raises InvalidInput naming the argument."""
        baseline = checks.between(score_baseline, 0, 1, field="score_baseline")
        candidate = checks.between(score_candidate, 0, 1, field="score_candidate")
        gain = gain_of(self.decision, self.margin, baseline - candidate)
        bets = bets_of(self.decision, self.margin, self.grid)
        return self._with(self.pairs + 1, self.evidence.multiply([math.log1p(bet * gain) for bet in bets]))

    def start_again(self) -> Self:
        """One more start (spread only); see `ProportionProcess.start_again`."""
        if not self.evidence.spread:
            raise InvalidInput('start_again needs starts="spread".', field="starts")
        return self._with(self.pairs, self.evidence.start())

    @property
    def log_e(self) -> float:
        """log of the evidence against the null hypothesis; 0 is none."""
        return self.evidence.log_e

    def to_json(self) -> dict[str, Any]:
        return {
            "margin": self.margin,
            "decision": self.decision,
            "pairs": self.pairs,
            "evidence": self.evidence.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` gave. Raises InvalidInput naming the field for what is no such thing."""
        checks.exactly(data, NAMES, field="")
        decision: Proof = data["decision"]
        checks.one_of(decision, DECISIONS, field="decision")
        process = object.__new__(cls)
        process._set(
            checks.finite(data["margin"], field="margin"),
            decision,
            checks.count(data["pairs"], field="pairs"),
            Wealth.from_json(data["evidence"]),
        )
        return process


NAMES = tuple(PairedProcess.__dataclass_fields__)
