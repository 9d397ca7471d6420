"""The learner: where the traffic should go, and which arms are proven not to be the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

import numpy as np

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits.arithmetic import (
    Array,
    Mask,
    Sums,
    best_of,
    bp_of_shares,
    race_shares,
    top_two,
)
from rollouts.domain.gates import checks
from rollouts.domain.gates.evidence import as_number

Cause = Literal["evidence", "guardrail", "fast-kill", "workload", "person"]
DRAWS = 4_000  # P(best) then has a standard error of at most 0.8 percentage points (sqrt(p (1 - p) / draws))
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Departure:
    """Why and when an arm left the race.

    sentence        in words, for causes other than evidence
    at_index        the interval; -1 before the first
    evidence        against it at that moment
    beaten_by       the arm with the largest part of that evidence ("evidence" only)
    """

    arm: str
    cause: Cause
    sentence: str
    at_index: int
    evidence: float
    beaten_by: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        names = list(cls.__dataclass_fields__)
        values = dict(checks.mapping(data, field="departures", allowed=names, needed=names))
        checks.one_of(values["cause"], get_args(Cause), field="departures.cause")
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What the posterior says of each arm, in arm order; it steers weights and never decides.

    p_best          the chance to be the best of the arms in the race (0 for those that left)
    expected_loss   reward that choosing this arm would cost on average, against the best in the race
    """

    p_best: tuple[float, ...]
    expected_loss: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TopTwoThompson:
    """Top-two Thompson sampling with interval fixed effects, and elimination by pairwise e-processes.

    arms            names; the first is the baseline
    alpha           the best arm is eliminated with probability at most alpha, however often one looks, if it is
                    the best in every interval (rewards may drift, as long as all arms drift together)
    beta            the part of the traffic for the arm that looks best; the rest goes to its rivals
    floor, baseline_floor   the least share of a racing candidate, and of the baseline always
    discount        of what is believed, at each update with rewards; never of the evidence
    sums            what was learned; bounded in size
    departures      who left, in order; for good
    updates         how many there were

    Immutable: `update` and `drop` give the next state. Rewards that come late are booked, all rewards of one update
    together, to the time they were assigned; an update holds answers assigned under the same weights.
    """

    arms: tuple[str, ...]
    alpha: float
    beta: float
    floor: float
    baseline_floor: float
    discount: float
    sums: Sums
    departures: tuple[Departure, ...] = ()
    updates: int = 0

    @classmethod
    def initial(
        cls,
        arms: Sequence[str],
        *,
        alpha: float = 0.05,
        beta: float = 0.5,
        floor: float = 0.05,
        baseline_floor: float = 0.1,
        discount: float = 1.0,
    ) -> Self:
        """Nothing learned yet. Raises InvalidInput naming the argument."""
        names = tuple(checks.text(name, field="arms") for name in arms)
        if len(names) < 2 or len(set(names)) != len(names):
            raise InvalidInput("arms must be at least two different names.", field="arms")
        floor = checks.between(floor, 0, 1, field="floor")
        baseline_floor = checks.between(baseline_floor, 0, 1, field="baseline_floor")
        if baseline_floor + (len(names) - 1) * floor > 1 + TOLERANCE:
            raise InvalidInput(
                f"The floors of {len(names)} arms sum to more than the whole traffic.",
                field="floor",
                fix="Lower floor or baseline_floor.",
            )
        return cls(
            arms=names,
            alpha=checks.between(alpha, 0, 0.5, field="alpha", low_open=True),
            beta=checks.between(beta, 0, 1, field="beta", low_open=True),
            floor=floor,
            baseline_floor=baseline_floor,
            discount=checks.between(discount, 0, 1, field="discount", low_open=True),
            sums=Sums.empty(len(names)),
        )

    def update(self, rewards: Mapping[str, tuple[int, float]], *, index: int | None = None) -> Self:
        """The state after one interval.

        rewards     per arm (answers n, their summed rewards s with 0 <= s <= n); an arm may be missing
        index       the interval's number, kept with departures; default: the number of updates before

        Raises InvalidInput naming `rewards.<arm>` for an unknown arm or impossible counts.
        """
        unknown = sorted(set(rewards) - set(self.arms))
        if unknown:
            raise InvalidInput(
                f"rewards.{unknown[0]} is no arm here.",
                field=f"rewards.{unknown[0]}",
                fix=f"Arms: {', '.join(self.arms)}.",
            )
        n, s = np.zeros(len(self.arms)), np.zeros(len(self.arms))
        for position, name in enumerate(self.arms):
            answers, earned = rewards.get(name, (0, 0.0))
            n[position] = checks.count(answers, field=f"rewards.{name}.n")
            s[position] = checks.between(earned, 0, n[position], field=f"rewards.{name}.s")
        at = self.updates if index is None else index
        learned = replace(self, updates=self.updates + 1)
        if n.any():
            learned = replace(learned, sums=self.sums.add(n, s, discount=self.discount))
        return learned._eliminate(at)

    def _eliminate(self, index: int) -> Self:
        """Drops the arms whose evidence reached 1/alpha, most evidence first; the last one always stays."""
        left = self
        threshold = math.log(1 / self.alpha)
        while len(left.survivors) > 1:
            against = {name: left.log_against(name) for name in left.survivors}
            worst = max(against, key=lambda name: against[name])
            if against[worst] < threshold:
                break
            left = left._without(
                Departure(
                    worst, "evidence", "", index, as_number(against[worst]), left.strongest_rival(worst)
                )
            )
        return left

    def drop(self, arm: str, cause: Cause, sentence: str, index: int = -1) -> Self:
        """The state without `arm` in the race, for good. An arm that left before keeps its first reason."""
        self._position(arm)
        checks.one_of(cause, get_args(Cause), field="cause")
        if arm not in self.survivors:
            return self
        return self._without(Departure(arm, cause, sentence, index, self.evidence_against(arm)))

    def _without(self, departure: Departure) -> Self:
        return replace(self, departures=(*self.departures, departure))

    def departure(self, arm: str) -> Departure | None:
        """Why `arm` left; None while it is in the race."""
        return next((gone for gone in self.departures if gone.arm == arm), None)

    @property
    def survivors(self) -> tuple[str, ...]:
        """The arms in the race, in order."""
        gone = {departure.arm for departure in self.departures}
        return tuple(name for name in self.arms if name not in gone)

    @property
    def threshold(self) -> float:
        """The evidence at which an arm leaves."""
        return 1 / self.alpha

    def _position(self, arm: str) -> int:
        if arm not in self.arms:
            raise InvalidInput(f"{arm!r} is no arm here.", field="arm", fix=f"Arms: {', '.join(self.arms)}.")
        return self.arms.index(arm)

    @property
    def racing(self) -> Mask:
        """Which arms are in the race, (K,)."""
        return np.array([name in self.survivors for name in self.arms])

    def _counting(self) -> Mask:
        """Arms whose evidence counts against others: not those that left for another reason than evidence, for they
        can no longer win, and being worse than them is no reason to go.
        """
        out = {departure.arm for departure in self.departures if departure.cause != "evidence"}
        return np.array([name not in out for name in self.arms])

    def log_against(self, arm: str) -> float:
        """log of the evidence that `arm` is not the best."""
        return float(self.sums.log_against(self._counting())[self._position(arm)])

    def evidence_against(self, arm: str) -> float:
        """The evidence that `arm` is not the best: (1/(K-1)) sum_i E[i beats it]; at 1/alpha it leaves."""
        return as_number(self.log_against(arm))

    def strongest_rival(self, arm: str) -> str:
        """Whose evidence of beating `arm` is largest."""
        duels = np.where(self._counting(), self.sums.log_duels()[:, self._position(arm)], -np.inf)
        return self.arms[int(np.argmax(duels))]

    def scored(self, arm: str) -> int:
        """Answers with a reward so far."""
        return int(self.sums.scored[self._position(arm)])

    def posterior(self) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
        """(means, covariance) of the arms' rewards apart from their common level."""
        means, covariance = self.sums.posterior()
        return tuple(means.tolist()), tuple(tuple(row) for row in covariance.tolist())

    def beliefs(self, rng: np.random.Generator, draws: int = DRAWS) -> Beliefs:
        """P(best) and expected loss, by Monte Carlo from the posterior."""
        theta = self.sums.draw(rng, draws)
        p_best, loss = best_of(theta, self.racing)
        return Beliefs(tuple(p_best.tolist()), tuple(loss.tolist()))

    def p_best(self, rng: np.random.Generator, draws: int = DRAWS) -> tuple[float, ...]:
        """P(best) of each arm; its standard error is sqrt(p (1 - p) / draws)."""
        return self.beliefs(rng, draws).p_best

    def expected_loss(self, rng: np.random.Generator, draws: int = DRAWS) -> tuple[float, ...]:
        """The reward that choosing each arm would cost on average."""
        return self.beliefs(rng, draws).expected_loss

    def shares(self, p_best: Sequence[float]) -> tuple[float, ...]:
        """The shares that the traffic should have, of sum 1, floors kept.

        p_best      as `p_best` gives it. Arms that left count as 0; a baseline that left keeps its floor exactly.
        """
        return tuple(self._shares(np.array(p_best, dtype=float)).tolist())

    def shares_bp(self, p_best: Sequence[float] | None) -> tuple[int, ...]:
        """`shares` in whole basis points of sum 10,000; None: the arms in the race count as alike (burn-in)."""
        if p_best is None:
            alike = race_shares(
                np.zeros(len(self.arms)),
                self.racing,
                beta=1.0,
                floor=self.floor,
                baseline_floor=self.baseline_floor,
            )
            return tuple(bp_of_shares(alike).tolist())
        return tuple(bp_of_shares(self._shares(np.array(p_best, dtype=float))).tolist())

    def _shares(self, p_best: Array) -> Array:
        return race_shares(
            p_best, self.racing, beta=self.beta, floor=self.floor, baseline_floor=self.baseline_floor
        )

    def to_json(self) -> dict[str, Any]:
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["arms"] = list(self.arms)
        data["sums"] = self.sums.to_json()
        data["departures"] = [asdict(departure) for departure in self.departures]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises InvalidInput naming the field when the data is not a learner."""
        names = list(cls.__dataclass_fields__)
        values = dict(checks.mapping(data, field="", allowed=names, needed=names))
        fresh = cls.initial(
            values["arms"],
            alpha=values["alpha"],
            beta=values["beta"],
            floor=values["floor"],
            baseline_floor=values["baseline_floor"],
            discount=values["discount"],
        )
        departures = tuple(Departure.from_json(departure) for departure in values["departures"])
        for departure in departures:
            fresh._position(departure.arm)
        return replace(
            fresh,
            sums=Sums.from_json(values["sums"], len(fresh.arms)),
            departures=departures,
            updates=checks.count(values["updates"], field="updates"),
        )


def top_two_shares(p_best: Sequence[float], beta: float) -> tuple[float, ...]:
    """How often top-two Thompson sampling draws each arm: the best of a draw with probability beta, else the best
    that differs from it. Shares of sum 1.

        share_j = beta p_j + (1 - beta) sum over i != j of p_i p_j / (1 - p_i)

    p_best      probabilities of being the best, of sum 1. One of them may be 1: there is no rival, it gets all.
    beta        in (0, 1]: 1 is plain Thompson sampling

    Raises InvalidInput naming p_best or beta. Source: Russo, Simple Bayesian algorithms for best-arm identification
    (arXiv 1602.08448).
    """
    checks.between(beta, 0, 1, field="beta", low_open=True)
    if not p_best:
        raise InvalidInput("p_best is empty.", field="p_best")
    values = [checks.between(p, 0, 1, field="p_best") for p in p_best]
    if abs(math.fsum(values) - 1) > TOLERANCE:
        raise InvalidInput(f"p_best sums to {math.fsum(values):g}, not 1.", field="p_best")
    return tuple(top_two(np.array(values), beta).tolist())
