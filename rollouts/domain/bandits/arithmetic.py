"""The arithmetic of the bandit on arrays: one rollout (no leading axis) and thousands at once alike.

Notation: K arms; interval t gives each arm n answers with the sum of rewards s (each reward in [0, 1]). What is
learned is theta_j, the arm's reward apart from a level mu_t that all arms of the interval share:

    y_jt = mu_t + theta_j + noise,    theta ~ N(0, I)

mu_t is taken out exactly (interval fixed effects), so drift that all arms share and changing weights do no harm.
Whether an arm leaves is decided by e-processes alone (`log_against`); the posterior only steers the traffic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates import checks
from rollouts.domain.gates.batch import ARRAYS
from rollouts.domain.gates.projection import SMALLEST, log_increments

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ELIMINATION_ODDS = (
    1.1,
    1.2,
    1.35,
    1.6,
    2.5,
)  # how much better the odds of a reward may be; mixed with equal parts
SMALLEST_VARIANCE = 0.02  # of one reward: keeps one lucky interval from weighing too much
WHOLE = 10_000  # basis points


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """What the learner remembers, of constant size. Leading axes (any number) count rollouts.

    scored, rewards     answers and their rewards so far, shape (..., K); not discounted
    level_n, level_s    the same, discounted: they anchor the level that rewards are shown at
    information         A of the fixed-effects model, (..., K, K): A <- discount A + diag(w) - w w' / sum(w)
    pull                B of it, (..., K): B <- discount B + w (y - ybar)
    logs                log of the wealth of "i beats j" per alternative, (..., K, K, alternatives); not discounted
    """

    scored: Array
    rewards: Array
    level_n: Array
    level_s: Array
    information: Array
    pull: Array
    logs: Array

    @classmethod
    def empty(cls, arms: int, size: tuple[int, ...] = ()) -> Self:
        """Nothing seen yet, of `arms` arms, for rollouts counted by the axes `size`."""
        one, two = np.zeros((*size, arms)), np.zeros((*size, arms, arms))
        return cls(one, one, one, one, two, one, np.zeros((*size, arms, arms, len(ELIMINATION_ODDS))))

    def add(self, n: Array, s: Array, *, discount: float = 1.0) -> Self:
        """The sums after one interval: n answers and their summed rewards per arm, both (..., K).

        An interval without answers changes nothing, and is not discounted for.
        """
        total = n.sum(axis=-1, keepdims=True)
        keep = np.where(total > 0, discount, 1.0)
        information, pull = fixed_effects(n, s)
        return type(self)(
            scored=self.scored + n,
            rewards=self.rewards + s,
            level_n=keep * self.level_n + n,
            level_s=keep * self.level_s + s,
            information=keep[..., None] * self.information + information,
            pull=keep * self.pull + pull,
            logs=self.logs + self._duels(n, s),
        )

    def _duels(self, n: Array, s: Array) -> Array:
        """The log factors of this interval for every "i beats j", (..., K, K, alternatives).

        Method A (`gates.projection`) with i as the candidate: H is p_i <= p_j in every interval. It is a product of
        binomial likelihood ratios, one factor (pa/a)^x ((1-pa)/(1-a))^(1-x) for each reward x. That factor is convex
        in x, so for x in [0, 1] it is at most x (pa/a) + (1-x) (1-pa)/(1-a), which is what a yes-or-no reward of the
        same mean is expected to give: the evidence is valid for graded rewards too.
        """
        rate = np.clip((self.rewards + 0.5) / (self.scored + 1), SMALLEST, 1 - SMALLEST)
        n_i, s_i = n[..., :, None], s[..., :, None]
        n_j, s_j = n[..., None, :], s[..., None, :]
        increments = log_increments(
            rate[..., None, :],
            n_i,
            s_i,
            n_j,
            s_j,
            ratio=1.0,
            delta=0.0,
            fail=True,
            multipliers=ELIMINATION_ODDS,
            maths=ARRAYS,
        )
        arms = n.shape[-1]
        both = (n_i > 0) & (n_j > 0) & ~np.eye(arms, dtype=bool)
        return np.where(both[..., None], np.stack(increments, axis=-1), 0.0)

    def of(self, rows: Mask) -> Self:
        """Of these rollouts only (a mask over the first axis)."""
        return type(self)(*(getattr(self, name)[rows] for name in SUM_FIELDS))

    def log_duels(self) -> Array:
        """log E[i beats j], (..., K, K): the mean over the alternatives. Minus infinity where i = j."""
        log_e = np.logaddexp.reduce(self.logs, axis=-1) - math.log(len(ELIMINATION_ODDS))
        return np.where(np.eye(self.scored.shape[-1], dtype=bool), -np.inf, log_e)

    def log_against(self, counts: Mask | bool = True) -> Array:
        """log of the evidence against each arm, (..., K): (1/(K-1)) sum_i E[i beats j].

        counts      (..., K), arms i whose evidence counts. K is the number of arms at the start, always.

        For the best arm every E[i beats it] is an e-process, so their mean is one too, also when some stop or are left
        out: the best arm ever reaches 1/alpha with probability at most alpha. A pair that gets no more answers keeps
        its last value.
        """
        duels = self.log_duels()
        if not isinstance(counts, bool):
            duels = np.where(counts[..., :, None], duels, -np.inf)
        arms = duels.shape[-1]
        with np.errstate(invalid="ignore"):
            return np.asarray(np.logaddexp.reduce(duels, axis=-2) - math.log(arms - 1))

    def _precision(self) -> tuple[Array, Array]:
        """(A + I + c 11', c). Adding c changes the belief about a level common to all arms only, of which nothing is
        known anyway (A 1 = 0), and keeps the matrix well-conditioned however many answers there are.
        """
        arms = self.scored.shape[-1]
        common = np.trace(self.information, axis1=-2, axis2=-1) / arms**2
        return self.information + np.eye(arms) + common[..., None, None], common

    def posterior(self) -> tuple[Array, Array]:
        """(means, covariance) of theta: cov = inv(A + I), means = cov B; shapes (..., K) and (..., K, K)."""
        precision, common = self._precision()
        arms = self.scored.shape[-1]
        known = np.linalg.inv(precision)
        means = np.matmul(known, self.pull[..., None])[..., 0]
        back = (1 - 1 / (1 + arms * common)) / arms
        return means, known + back[..., None, None]

    def draw(self, rng: np.random.Generator, draws: int) -> Array:
        """Draws of theta, (..., K, draws), up to a level that is common to all arms of a draw."""
        precision, _ = self._precision()
        means = np.linalg.solve(precision, self.pull[..., None])
        noise = rng.standard_normal((*self.pull.shape, draws))
        lower = np.linalg.cholesky(precision)
        return np.asarray(means + np.linalg.solve(np.swapaxes(lower, -1, -2), noise))

    def levels(self) -> tuple[Array, Array]:
        """(mean, standard deviation) of each arm's reward with the shared drift taken out, both (..., K).

        Anchored at the mean of all rewards seen: mean_j = S/N + theta_j - sum_k (N_k/N) theta_k, which is what arm j
        would have scored on all those answers. NaN for arms without an answer.
        """
        total = self.level_n.sum(axis=-1, keepdims=True)
        safe = np.where(total > 0, total, 1.0)
        mean = self.level_s.sum(axis=-1, keepdims=True) / safe
        precision, _ = self._precision()
        covariance = np.linalg.inv(precision)
        theta = np.matmul(covariance, self.pull[..., None])[..., 0]
        part = self.level_n / safe
        contrast = np.eye(part.shape[-1]) - part[..., None, :]  # row j: e_j - parts; sums to 0
        variance = np.einsum("...ja,...ab,...jb->...j", contrast, covariance, contrast)
        variance = variance + np.maximum(mean * (1 - mean), SMALLEST_VARIANCE) / safe
        level = mean + theta - (part * theta).sum(axis=-1, keepdims=True)
        seen = self.level_n > 0
        return np.where(seen, level, np.nan), np.where(seen, np.sqrt(variance), np.nan)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sums):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in SUM_FIELDS)

    def __hash__(self) -> int:
        return hash(self.scored.tobytes() + self.logs.tobytes())

    def to_json(self) -> dict[str, Any]:
        """Of one rollout (no leading axis)."""
        return {name: getattr(self, name).tolist() for name in SUM_FIELDS}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], arms: int) -> Self:
        """Raises InvalidInput naming the field when a sum is missing, of the wrong shape or not finite."""
        checks.mapping(data, field="sums", allowed=SUM_FIELDS, needed=SUM_FIELDS)
        empty = cls.empty(arms)
        values = {}
        for name in SUM_FIELDS:
            shape = getattr(empty, name).shape
            try:
                value = np.asarray(data[name], dtype=np.float64)
            except (TypeError, ValueError) as error:
                raise InvalidInput(f"sums.{name} is not numbers.", field=f"sums.{name}") from error
            if value.shape != shape or not np.isfinite(value).all():
                raise InvalidInput(
                    f"sums.{name} must hold finite numbers of shape {shape}.", field=f"sums.{name}"
                )
            values[name] = value
        return cls(**values)


SUM_FIELDS = ("scored", "rewards", "level_n", "level_s", "information", "pull", "logs")


def fixed_effects(n: Array, s: Array) -> tuple[Array, Array]:
    """What one interval adds to (A, B): diag(w) - w w'/sum(w) and w (y - ybar), with w = n / variance.

    n, s        answers and summed rewards, (..., K); arms without an answer add nothing
    """
    total = n.sum(axis=-1, keepdims=True)
    middle = (s.sum(axis=-1, keepdims=True) + 1) / (total + 2)
    weight = n / np.maximum(middle * (1 - middle), SMALLEST_VARIANCE)
    whole = weight.sum(axis=-1, keepdims=True)
    safe = np.where(whole > 0, whole, 1.0)
    mean = s / np.where(n > 0, n, 1.0)
    overall = (weight * mean).sum(axis=-1, keepdims=True) / safe
    information = np.eye(n.shape[-1]) * weight[..., None, :]
    information = information - weight[..., :, None] * weight[..., None, :] / safe[..., None]
    return information, weight * (mean - overall)


def best_of(theta: Array, racing: Mask) -> tuple[Array, Array]:
    """(P(best), expected loss) of each arm over draws of theta (..., K, draws); both (..., K).

    racing      (..., K): only they can be best. The loss of arm j is what choosing it costs on average against the
                best racing arm: E[max(theta_racing, theta_j) - theta_j].
    """
    live = np.where(racing[..., None], theta, -np.inf)
    top = live.max(axis=-2, keepdims=True)
    p_best = (live == top).mean(axis=-1) * racing
    loss = np.maximum(top - theta, 0.0).mean(axis=-1)
    return p_best, loss


def top_two(p_best: Array, beta: float) -> Array:
    """share_j = beta p_j + (1 - beta) sum over i != j of p_i p_j / (1 - p_i), over the last axis.

    Where p_i is 1 there is no runner-up to weigh: the arms other than i are alike, and i keeps the whole.
    """
    rest = 1 - p_best
    sure = rest <= 1e-12
    part = np.where(sure, 0.0, p_best / np.where(sure, 1.0, rest))
    second = p_best * (part.sum(axis=-1, keepdims=True) - part)
    shares = beta * p_best + (1 - beta) * second
    shares = np.where(sure.any(axis=-1, keepdims=True), p_best, shares)
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def raise_to_floors(shares: Array, floors: Array) -> Array:
    """Shares of sum 1 with each at least its floor: who is below is raised, the others give in proportion.

    floors      (..., K), of sum at most 1. An arm of share 0 gets its floor exactly.
    """
    held = np.zeros(shares.shape, dtype=bool)
    result = shares
    for _ in range(shares.shape[-1] + 1):
        free = np.where(held, 0.0, shares)
        left = 1 - np.where(held, floors, 0.0).sum(axis=-1, keepdims=True)
        whole = free.sum(axis=-1, keepdims=True)
        result = np.where(held, floors, free * left / np.where(whole > 0, whole, 1.0))
        below = ~held & (result < floors)
        if not below.any():
            break
        held = held | below
    return result


def race_shares(p_best: Array, racing: Mask, *, beta: float, floor: float, baseline_floor: float) -> Array:
    """The shares that the traffic should have, (..., K) of sum 1; the baseline is arm 0.

    p_best      (..., K); what is not racing counts as 0. All 0: the racing arms count as alike
    racing      (..., K). A baseline that left keeps its floor exactly; with no other arm left it gets everything
    """
    first = np.arange(racing.shape[-1]) == 0
    alone = ~(racing & ~first).any(axis=-1, keepdims=True)
    runs = np.where(alone, first, racing)
    kept = np.where(runs, p_best, 0.0)
    kept = np.where(kept.sum(axis=-1, keepdims=True) > 0, kept, runs)
    wanted = top_two(kept / kept.sum(axis=-1, keepdims=True), beta)
    return raise_to_floors(wanted, np.where(first, baseline_floor, np.where(runs, floor, 0.0)))


def bp_of_shares(shares: Array) -> npt.NDArray[np.int64]:
    """Shares of sum 1 as whole basis points of sum 10,000 (over the last axis), each less than one away: the largest
    remainders go up, earlier arms first.
    """
    exact = np.round(shares * WHOLE, 6)
    whole = np.floor(exact)
    missing = WHOLE - whole.sum(axis=-1, keepdims=True)
    order = np.argsort(whole - exact, axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    return np.asarray(whole + (rank < missing), dtype=np.int64)
