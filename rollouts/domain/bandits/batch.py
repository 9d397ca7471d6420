"""Many bandits at once, for simulations and evidence: `BanditState` without its gates, on numpy arrays.

The formulas are not repeated here: `arithmetic` serves one rollout and thousands alike, this module only brings the
clock, the burn-in and the eliminations for a whole batch. A test holds both forms against each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rollouts.domain.bandits.arithmetic import Array, Mask, Sums, best_of, bp_of_shares, race_shares
from rollouts.domain.bandits.ipw import IpwSums
from rollouts.domain.bandits.learner import DRAWS
from rollouts.domain.bandits.spec import BanditSpec


@dataclass(slots=True)
class BanditBatch:
    """`size` independent bandits of the same arms; `update` changes it in place. Shapes: (size, arms).

    wanted      whole basis points
    racing      arms in the race; `out`: arms that left for another reason than evidence
    p_best      as of the last reweight that was due
    draws       for P(best)
    """

    size: int
    arms: int
    spec: BanditSpec
    draws: int = DRAWS
    sums: Sums = field(init=False)
    ipw: IpwSums = field(init=False)
    racing: Mask = field(init=False)
    out: Mask = field(init=False)
    burning: Mask = field(init=False)
    since: Array = field(init=False)
    fresh: Array = field(init=False)
    p_best: Array = field(init=False)
    wanted: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.spec.check_arms(self.arms)
        shape = (self.size, self.arms)
        self.sums = Sums.empty(self.arms, (self.size,))
        self.ipw = IpwSums.empty(self.arms, (self.size,))
        self.racing, self.out = np.ones(shape, bool), np.zeros(shape, bool)
        self.burning = np.full(self.size, self.spec.burn_in > 0)
        self.since, self.fresh = np.zeros(self.size), np.zeros(self.size)
        self.p_best = np.full(shape, 1 / self.arms)
        self.wanted = self._shares(np.zeros(shape), self.racing, 1.0)

    def _shares(self, p_best: Array, racing: Mask, beta: float) -> npt.NDArray[np.int64]:
        floor, baseline = self.spec.floor_bp / 10_000, self.spec.baseline_bp / 10_000
        return bp_of_shares(race_shares(p_best, racing, beta=beta, floor=floor, baseline_floor=baseline))

    def update(
        self,
        n: Array,
        s: Array,
        seconds: float,
        rng: np.random.Generator,
        *,
        dropped: Mask | None = None,
        shares: Array | None = None,
    ) -> None:
        """One interval: answers and their summed rewards, (size, arms).

        dropped     arms that leave now because of a guardrail
        shares      in force when the answers were assigned, for the IPW sums (else the answers' own proportions)
        """
        before = self.racing
        if dropped is not None:
            self.out = self.out | (dropped & self.racing)
            self.racing = self.racing & ~dropped
        self.sums = self.sums.add(n, s, discount=self.spec.discount)
        self.ipw = self.ipw.add(n, s, shares)
        self._eliminate()
        self.since = self.since + seconds
        self.fresh = self.fresh + n.sum(axis=1)
        self._reweigh((before != self.racing).any(axis=1), rng)

    def _eliminate(self) -> None:
        threshold = math.log(1 / self.spec.alpha)
        rows = np.arange(self.size)
        against = self.sums.log_against(~self.out)
        for _ in range(self.arms - 1):
            live = np.where(self.racing, against, -np.inf)
            worst = live.argmax(axis=1)
            goes = (live[rows, worst] >= threshold) & (self.racing.sum(axis=1) > 1)
            if not goes.any():
                break
            self.racing = self.racing.copy()
            self.racing[rows[goes], worst[goes]] = False

    def _reweigh(self, left: Mask, rng: np.random.Generator) -> None:
        short = (np.where(self.racing, self.sums.scored, np.inf) < self.spec.burn_in).any(axis=1)
        burning = self.burning & short
        ended = self.burning & ~burning
        due = left | ended | (~burning & (self.since >= self.spec.reweight_seconds))
        due &= left | (self.racing.sum(axis=1) > 1)
        if not due.any():
            return
        theta = self.sums.of(due).draw(rng, self.draws)
        racing, still = self.racing[due], burning[due, None]
        p_best, _ = best_of(theta, racing)
        wanted = np.where(
            still,
            self._shares(np.zeros(p_best.shape), racing, 1.0),
            self._shares(p_best, racing, self.spec.beta),
        )
        change = np.abs(wanted - self.wanted[due]).max(axis=1)
        moves = left[due] | ((self.fresh[due] > 0) & (change >= self.spec.min_change_bp))
        self.p_best[due] = p_best
        self.wanted[due] = np.where(moves[:, None], wanted, self.wanted[due])
        self.burning[due] = burning[due]
        self.since[due], self.fresh[due] = 0.0, 0.0

    @property
    def decided(self) -> Mask:
        """One arm is left, (size,)."""
        return np.asarray(self.racing.sum(axis=1) <= 1)
