"""Over-dispersion: how much more the arms differ from minute to minute than independent requests would.

Latencies come in bursts, so counts over an SLO vary more than binomial ones, and an untempered test would
take that for a regression. The factor phi estimates the excess from the differences of *successive*
standardised block scores (a lasting difference between the arms, which is what the gate looks for, cancels);
the gate multiplies its log increments by 1 / phi. Exact if requests are independent (phi is then only
conservative), approximate if not.

What a gate divides by is not the estimate itself but a 90 % upper bound of it: in the first minutes little is known,
and requests that queue depend on each other far more than one would assume beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.stored import as_stored
from rollouts.domain.gates import checks
from rollouts.domain.gates.projection import Number

LOWER_DECILE = 1.2816  # standard deviations below the mean of a normal variable
LARGEST_Z = 1e6  # no real block comes near; keeps the square finite


def half_square(z: Number, last_z: Number) -> Number:
    """What one difference of successive block scores adds; 1 on average without over-dispersion."""
    return (z - last_z) ** 2 / 2


def excess(half_squares: Number, differences: Number, phi0: Number, n0: float) -> Number:
    """phi before it is kept at 1 or more."""
    return (half_squares + n0 * phi0) / (differences + n0)


def upper_excess(half_squares: Number, differences: Number, phi0: Number, n0: float) -> Number:
    """A 90 % upper bound of phi: as if the half squares were those of a chi-square variable, whose lower decile is
    taken by the Wilson-Hilferty approximation."""
    known = differences + n0
    spread = 2 / (9 * known)
    return excess(half_squares, differences, phi0, n0) / (1 - spread - LOWER_DECILE * spread**0.5) ** 3


@dataclass(frozen=True, slots=True)
class Dispersion:
    """phi = max(1, (sum (z_k - z_{k-1})^2 / 2 + n0 * phi0) / (K + n0)) over the K differences of past blocks.

    phi0    what is assumed before anything is seen; n0 how many blocks that assumption is worth
    """

    phi0: float = 1.5
    n0: float = 5
    differences: int = 0
    half_squares: float = 0.0
    last_z: float | None = None

    def __post_init__(self) -> None:
        checks.between(self.phi0, 1, 1e6, field="phi0")
        checks.between(self.n0, 0, 1e6, field="n0", low_open=True)
        checks.count(self.differences, field="differences")
        checks.between(self.half_squares, 0, math.inf, field="half_squares")
        if self.last_z is not None:
            checks.finite(self.last_z, field="last_z")

    def update(self, score: float, variance: float) -> Self:
        """The state after one finished block.

        score       e_c - n_c * e / n summed over the block's intervals
        variance    of that score if the arms were alike; 0 (nothing happened, or one arm only) leaves the
                    state as is
        """
        score = checks.finite(score, field="score")
        variance = checks.between(variance, 0, 1e300, field="variance")
        if variance == 0:
            return self
        z = max(-LARGEST_Z, min(LARGEST_Z, score / math.sqrt(variance)))
        if self.last_z is None:
            return type(self)(self.phi0, self.n0, self.differences, self.half_squares, z)
        added = half_square(z, self.last_z)
        return type(self)(self.phi0, self.n0, self.differences + 1, self.half_squares + added, z)

    @property
    def factor(self) -> float:
        """phi, at least 1, from finished blocks only: it may temper what comes next, never what it was made
        of.
        """
        return max(1.0, float(excess(self.half_squares, self.differences, self.phi0, self.n0)))

    def to_json(self) -> dict[str, Any]:
        return {
            "phi0": self.phi0,
            "n0": self.n0,
            "differences": self.differences,
            "half_squares": self.half_squares,
            "last_z": self.last_z,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` gave. Raises KeyError for what is no such thing."""
        return as_stored(cls, data)
