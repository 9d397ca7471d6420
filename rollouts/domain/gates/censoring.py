"""Requests that left before they could be timed: neither fast nor slow, and not to be forgotten.

If one arm loses more of its requests that way than the other, the requests that stayed are not the same kind in both
arms, and what they took says little: such a gate may not PASS. This withholds a PASS and proves nothing, so a plain
standardised score does, with a bound wide enough that equal arms hardly ever reach it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from rollouts.domain.gates.latency import difference_score
from rollouts.domain.gates.reading import Counts

CLEARLY_OTHER = 3.0  # standard errors


@dataclass(frozen=True, slots=True)
class Censoring:
    """Sums over the intervals: requests of both arms, those censored, and the stratified score of the difference."""

    n_candidate: int = 0
    censored_candidate: int = 0
    n_baseline: int = 0
    censored_baseline: int = 0
    score: float = 0.0
    variance: float = 0.0

    def add(self, counts: Counts) -> Self:
        """After one more interval."""
        n_c = counts.n_candidate + counts.censored_candidate
        n_b = counts.n_baseline + counts.censored_baseline
        score = variance = 0.0
        if n_c and n_b:
            score, variance = difference_score(n_c, counts.censored_candidate, n_b, counts.censored_baseline)
        return type(self)(
            self.n_candidate + n_c,
            self.censored_candidate + counts.censored_candidate,
            self.n_baseline + n_b,
            self.censored_baseline + counts.censored_baseline,
            self.score + score,
            self.variance + variance,
        )

    @property
    def known(self) -> bool:
        return bool(self.n_candidate or self.n_baseline)

    def differs(self, dispersion: float) -> bool:
        """Whether the arms clearly lose other shares. `dispersion`: how much more counts vary than by chance."""
        return self.variance > 0 and abs(self.score) > CLEARLY_OTHER * math.sqrt(self.variance * dispersion)

    @property
    def shares(self) -> tuple[float, float]:
        """(candidate, baseline): the share that left before it could be timed."""
        return (
            self.censored_candidate / self.n_candidate if self.n_candidate else 0.0,
            self.censored_baseline / self.n_baseline if self.n_baseline else 0.0,
        )

    def to_json(self) -> list[float]:
        return [getattr(self, name) for name in self.__dataclass_fields__]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Self:
        if not data:
            return cls()
        n_c, censored_c, n_b, censored_b, score, variance = data
        return cls(int(n_c), int(censored_c), int(n_b), int(censored_b), float(score), float(variance))
