"""Rewards for reports: inverse-probability weighting, so that weights that followed the rewards do not bias them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits.arithmetic import Array
from rollouts.domain.gates import checks

TUNED_FOR = 2_000.0  # answers of an arm at equal shares: where its interval is tightest for what was seen
TYPICAL_VARIANCE = 0.2  # of one reward
SUM_FIELDS = ("n1", "s1", "n2", "s2")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean reward and its always-valid interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class IpwSums:
    """Sums over the answers of each arm, of constant size; shape (..., K) each.

    n1, s1      of answers and rewards, weighted by 1/share; n2, s2 weighted by 1/share^2

    What is estimated is the mean reward that an arm would have had on *all* answers so far: every answer counts for
    1/share of them, with the share in force when it was assigned (self-normalised, so a share that is somewhat wrong
    only shifts which stretch of time counts how much).
    """

    n1: Array
    s1: Array
    n2: Array
    s2: Array

    @classmethod
    def empty(cls, arms: int, size: tuple[int, ...] = ()) -> Self:
        """Nothing seen yet, of `arms` arms, for rollouts counted by the axes `size`."""
        zero = np.zeros((*size, arms))
        return cls(zero, zero, zero, zero)

    def add(self, n: Array, s: Array, shares: Array | None = None) -> Self:
        """The sums after one interval of answers and their summed rewards, (..., K) each.

        shares      in force when they were assigned, (..., K); without them, or where an arm with answers had none,
                    the proportions of the answers themselves
        """
        total = n.sum(axis=-1, keepdims=True)
        force = n / np.where(total > 0, total, 1.0)
        if shares is not None:
            usable = (shares > 0) | (n == 0)
            force = np.where(usable.all(axis=-1, keepdims=True), shares, force)
        weight = np.where(n > 0, 1 / np.where(n > 0, force, 1.0), 0.0)
        return type(self)(
            self.n1 + weight * n,
            self.s1 + weight * s,
            self.n2 + weight**2 * n,
            self.s2 + weight**2 * s,
        )

    def intervals(self, alpha: float) -> tuple[Array, Array, Array]:
        """(mean, low, high), (..., K) each; NaN for arms without an answer.

        The interval is an asymptotic confidence sequence: with many answers it misses the mean *at any time*, the
        moment of the stop included, with probability about alpha at most. A reward is taken to be as spread as a
        yes-or-no reward of the same mean, the most it can be. Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
        Time-uniform central limit theory (arXiv 2103.06476).
        """
        seen = self.n1 > 0
        n1 = np.where(seen, self.n1, 1.0)
        mean = self.s1 / n1
        usual = (
            self.n2 / n1
        )  # the weight of a typical answer; two more of them, one good and one bad, for caution
        careful = (self.s1 + usual) / (n1 + 2 * usual)
        s2, n2 = self.s2 + usual**2, self.n2 + 2 * usual**2
        spread = s2 * (1 - 2 * careful) + careful**2 * n2  # sum of ((x - mean) / share)^2, as x^2 <= x
        far = boundary(np.maximum(spread, 0.0), alpha, TUNED_FOR * TYPICAL_VARIANCE * n1.shape[-1] ** 2) / n1
        low, high = np.maximum(mean - far, 0.0), np.minimum(mean + far, 1.0)
        blank = np.where(seen, 0.0, np.nan)
        return mean + blank, low + blank, high + blank

    def estimates(self, alpha: float) -> tuple[Estimate | None, ...]:
        """One an arm, of one rollout; None for an arm without an answer."""
        rows = zip(*(values.tolist() for values in self.intervals(alpha)), strict=True)
        return tuple(None if math.isnan(mean) else Estimate(mean, low, high) for mean, low, high in rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IpwSums):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in SUM_FIELDS)

    def __hash__(self) -> int:
        return hash(self.n1.tobytes() + self.s1.tobytes())

    def to_json(self) -> dict[str, Any]:
        """Of one rollout (no leading axis)."""
        return {name: getattr(self, name).tolist() for name in SUM_FIELDS}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], arms: int) -> Self:
        """Raises InvalidInput naming the field."""
        checks.mapping(data, field="ipw", allowed=SUM_FIELDS, needed=SUM_FIELDS)
        values = {}
        for name in SUM_FIELDS:
            row = [checks.finite(value, field=f"ipw.{name}") for value in data[name]]
            if len(row) != arms:
                raise InvalidInput(f"ipw.{name} must hold {arms} numbers.", field=f"ipw.{name}")
            values[name] = np.array(row)
        return cls(**values)


def boundary(variance: Array, alpha: float, tuned_for: float) -> Array:
    """How far a sum of centred terms of that total variance may ever go, with probability 1 - alpha (the normal
    mixture boundary), tightest when the variance is about `tuned_for`.
    """
    doubt = -2 * math.log(alpha)
    rate = (doubt + math.log(doubt + 1)) / tuned_for
    inside = variance * rate + 1
    return np.asarray(np.sqrt(2 * inside / rate * (0.5 * np.log(inside) - math.log(alpha))))
