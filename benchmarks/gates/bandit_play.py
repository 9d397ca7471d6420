"""A day of a simulated bandit: what the arms earn, who sends the traffic where, and what came of it.

Every rule plays the same world with its own random numbers. Ours is the product's own vectorised form
(`rollouts.domain.bandits.batch`); the peers are written here as plainly as they are used, and mabwiser is the library.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.gates.rules import RESTART_SECONDS
from benchmarks.gates.running import Results
from rollouts.domain.bandits.arithmetic import Sums
from rollouts.domain.bandits.batch import BanditBatch
from rollouts.domain.bandits.spec import BanditSpec
from rollouts.domain.gates.batch import ProportionBatch

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DAY = 1_440  # minutes
SCORED = 13  # answers a minute with a score, of
ANSWERS = 39  # answers a minute
BURN_IN = 500  # scored answers of each arm at equal shares, for every rule
REWEIGHT = 720.0  # seconds between our reweights; the peers move every minute
LOOK = 10  # minutes between looks at P(best), and at the intervals
DRAWS = 300
SURE = 0.95
RESTART = max(1, round(RESTART_SECONDS / 60))  # minutes between the starts of a guardrail's search
PASS_SHARE = 0.25
GUARDRAIL_LIMIT = 0.01


@dataclass(frozen=True)
class World:
    """What the arms earn; the first is the baseline.

    rewards     mean reward of each arm, of yes-or-no rewards
    drift       standard deviation of a level that all arms share, an AR(1) of time constant 100 minutes
    late        minutes that rewards come after their answers
    step        minutes of an interval; coarser ones are faster to simulate
    errors      the share of requests that fail, per arm; None: no guardrails
    """

    rewards: tuple[float, ...] = (0.70, 0.72, 0.75, 0.78)
    minutes: int = DAY
    drift: float = 0.0
    late: int = 0
    step: int = 1
    errors: tuple[float, ...] | None = None

    @property
    def arms(self) -> int:
        return len(self.rewards)

    @property
    def gaps(self) -> Array:
        return max(self.rewards) - np.array(self.rewards)


class Rule(Protocol):
    """Who sends the traffic where. Arrays are (runs, arms)."""

    def send(self, total: int, rng: np.random.Generator) -> Array:
        """How many of the next `total` scored answers each arm gives."""

    def learn(self, n: Array, s: Array, rng: np.random.Generator) -> None:
        """Answers and their rewards, as they become known."""


def draw_counts(total: int, shares: Array, rng: np.random.Generator) -> Array:
    """Answers drawn one by one with these shares."""
    return rng.multinomial(total, shares / shares.sum(axis=1, keepdims=True)).astype(float)


@dataclass
class Pooled:
    """What the peers remember: all answers in one pot, whenever they were given. This one never moves its shares."""

    runs: int
    arms: int
    n: Array = field(init=False)
    s: Array = field(init=False)

    def __post_init__(self) -> None:
        self.n, self.s = np.zeros((self.runs, self.arms)), np.zeros((self.runs, self.arms))

    def send(self, total: int, rng: np.random.Generator) -> Array:
        equal = np.full(self.n.shape, 1 / self.arms)
        burning = (self.n < BURN_IN).any(axis=1, keepdims=True)
        learned = self.learned(total, rng)
        return np.where(burning, draw_counts(total, equal, rng), learned)

    def learned(self, total: int, rng: np.random.Generator) -> Array:
        return draw_counts(total, np.full(self.n.shape, 1 / self.arms), rng)

    def learn(self, n: Array, s: Array, rng: np.random.Generator) -> None:
        self.n, self.s = self.n + n, self.s + s

    @property
    def means(self) -> Array:
        return np.asarray(self.s / np.maximum(self.n, 1))

    def p_best(self, rng: np.random.Generator) -> Array:
        """From Beta posteriors of the pooled rewards, as is usual."""
        theta = rng.beta(self.s[..., None] + 1, (self.n - self.s)[..., None] + 1, (*self.s.shape, DRAWS))
        return np.asarray((theta == theta.max(axis=1, keepdims=True)).mean(axis=-1))


class FixedSplit(Pooled):
    """Equal shares all day."""


class EpsilonGreedy(Pooled):
    """A tenth of the traffic at random, the rest to the arm with the best mean."""

    def learned(self, total: int, rng: np.random.Generator) -> Array:
        shares = np.full(self.n.shape, 0.1 / self.arms)
        shares[np.arange(self.runs), self.means.argmax(axis=1)] += 0.9
        return draw_counts(total, shares, rng)


class Ucb1(Pooled):
    """UCB1; answers that are still to be scored count as tries."""

    def learned(self, total: int, rng: np.random.Generator) -> Array:
        tries, means, rows = self.n.copy(), self.means, np.arange(self.runs)
        for _ in range(total):
            seen = tries.sum(axis=1, keepdims=True)
            bonus = np.sqrt(2 * np.log(np.maximum(seen, 1)) / np.maximum(tries, 1e-9))
            tries[rows, (means + bonus).argmax(axis=1)] += 1
        return np.asarray(tries - self.n)


class Thompson(Pooled):
    """Thompson sampling with Beta posteriors."""

    def learned(self, total: int, rng: np.random.Generator) -> Array:
        theta = rng.beta(self.s[..., None] + 1, (self.n - self.s)[..., None] + 1, (*self.s.shape, total))
        return np.asarray((theta == theta.max(axis=1, keepdims=True)).sum(axis=-1), dtype=float)


class Mabwiser(Pooled):
    """Thompson sampling of the library mabwiser, one of its bandits a run."""

    def __post_init__(self) -> None:
        from mabwiser.mab import MAB, LearningPolicy  # its import takes seconds, and only this needs it

        super().__post_init__()
        policy = LearningPolicy.ThompsonSampling()
        self.bandits = [MAB(list(range(self.arms)), policy, seed=run) for run in range(self.runs)]

    def learned(self, total: int, rng: np.random.Generator) -> Array:
        if not self.n.any():  # it cannot predict before it was fitted
            return np.zeros(self.n.shape)
        drawn = [[bandit.predict() for _ in range(total)] for bandit in self.bandits]
        return np.array([np.bincount(row, minlength=self.arms) for row in drawn], dtype=float)

    def learn(self, n: Array, s: Array, rng: np.random.Generator) -> None:
        for bandit, answers, earned in zip(self.bandits, n.astype(int), s.astype(int), strict=True):
            decisions = np.repeat(np.arange(self.arms), answers)
            rewards = np.concatenate(
                [np.arange(count) < good for count, good in zip(answers, earned, strict=True)]
            )
            bandit.partial_fit(decisions.tolist(), rewards.astype(int).tolist())
        super().learn(n, s, rng)


PEERS = {
    "fixed split": FixedSplit,
    "epsilon-greedy, 0.1": EpsilonGreedy,
    "UCB1": Ucb1,
    "Thompson": Thompson,
    "mabwiser, Thompson": Mabwiser,
}


def rewards_of(world: World, n: Array, level: Array, rng: np.random.Generator) -> Array:
    """Summed yes-or-no rewards of n answers at this level of the minute, (runs, arms)."""
    p = np.clip(np.array(world.rewards) + level[:, None], 0.01, 0.99)
    return rng.binomial(n.astype(int), p).astype(float)


def next_level(world: World, level: Array, rng: np.random.Generator) -> Array:
    if not world.drift:
        return level
    keep = math.exp(-world.step / 100)
    return np.asarray(keep * level + rng.normal(0, world.drift * math.sqrt(1 - keep**2), len(level)))


def peer_run(*, runs: int, rng: np.random.Generator, world: World, rule: str) -> Results:
    """One peer's day.

    regret      reward lost against the best arm, over all answers
    decided     hour in which our elimination evidence, on this peer's data, would leave one arm
    named       hour in which P(best) of one arm exceeds 95 % at a look, the usual stop rule
    wrong       1 when the arm with the best mean at the end is not the best
    """
    peer = PEERS[rule](runs, world.arms)
    judge = Judge.of(runs, world.arms)
    regret, level = np.zeros(runs), np.zeros(runs)
    named = np.full(runs, np.inf)
    waiting: deque[tuple[Array, Array]] = deque()
    for minute in range(0, world.minutes, world.step):
        n = peer.send(SCORED * world.step, rng)
        level = next_level(world, level, rng)
        waiting.append((n, rewards_of(world, n, level, rng)))
        regret += n @ world.gaps * ANSWERS / SCORED
        if len(waiting) * world.step > world.late:
            row = waiting.popleft()
            peer.learn(*row, rng)
            judge.learn(*row, (minute + world.step) / 60)
        if (minute + world.step) % LOOK < world.step:
            sure = (peer.p_best(rng).max(axis=1) > SURE) & (peer.n >= BURN_IN).all(axis=1)
            named = np.where(sure & np.isinf(named), (minute + world.step) / 60, named)
    wrong = world.gaps[peer.means.argmax(axis=1)] > 0
    return {"regret": regret, "decided": judge.hour, "named": named, "wrong": wrong.astype(float)}


@dataclass
class Judge:
    """Our elimination evidence alone, on anybody's data."""

    sums: Sums
    racing: Mask
    hour: Array

    @classmethod
    def of(cls, runs: int, arms: int) -> Judge:
        return cls(Sums.empty(arms, (runs,)), np.ones((runs, arms), dtype=bool), np.full(runs, np.inf))

    def learn(self, n: Array, s: Array, hour: float) -> None:
        self.sums = self.sums.add(n, s)
        self.racing = self.racing & (self.sums.log_against() < math.log(1 / BanditSpec().alpha))
        done = (self.racing.sum(axis=1) <= 1) & np.isinf(self.hour)
        self.hour = np.where(done, hour, self.hour)


@dataclass
class Guardrails:
    """One strict error gate a candidate arm, as `GatesState` keeps it, at alpha / (K - 1)."""

    runs: int
    arms: int
    fails: list[ProportionBatch] = field(init=False)
    passes: list[ProportionBatch] = field(init=False)

    def __post_init__(self) -> None:
        others = range(self.arms - 1)
        self.fails = [ProportionBatch(self.runs, spread=True) for _ in others]
        self.passes = [
            ProportionBatch(self.runs, delta=GUARDRAIL_LIMIT, decision="pass", prior_events=0.5)
            for _ in others
        ]

    def learn(self, n: Array, errors: Array, shares: Array, *, restart: bool) -> None:
        for arm in range(1, self.arms):
            fail, ok = self.fails[arm - 1], self.passes[arm - 1]
            if restart:
                fail.start_again()
            row = (n[:, arm], errors[:, arm], n[:, 0], errors[:, 0])
            fail.update(*row)
            ok.update(*row, used=shares[:, arm] >= PASS_SHARE)

    def dropped(self, alpha: float = 0.05) -> Mask:
        """(runs, arms): the evidence reached (K - 1) / alpha; never the baseline."""
        limit = math.log((self.arms - 1) / alpha)
        return np.column_stack([np.zeros(self.runs, bool), *(fail.log_e >= limit for fail in self.fails)])

    def passed(self, beta: float = 0.05) -> Mask:
        """(runs, arms); the baseline needs no gate."""
        limit = math.log(1 / beta)
        return np.column_stack([np.ones(self.runs, bool), *(ok.log_e >= limit for ok in self.passes)])


def our_run(*, runs: int, rng: np.random.Generator, world: World, spec: BanditSpec | None = None) -> Results:
    """Our day; a winner gets all the traffic from then on.

    regret, wrong   as of the peers; the arm shown as best at the end is the winner, else the one with the best P(best)
    decided         hour of the winner: one arm is left, and its gates pass
    named           the same, for comparison with the peers' stop rule
    winner          the winner's number, or -1
    dropped         hour in which a guardrail dropped the last arm
    missed J        1 when the IPW interval of arm J missed its mean reward at any look while it got answers
    pooled missed J 1 when pooled mean +- 1.96 standard errors misses it at the last such look
    """
    batch = BanditBatch(
        runs, world.arms, spec or BanditSpec(burn_in=BURN_IN, reweight_seconds=REWEIGHT), draws=DRAWS
    )
    guard = None if world.errors is None else Guardrails(runs, world.arms)
    truth = Truth(runs, world.arms)
    regret, level = np.zeros(runs), np.zeros(runs)
    winner, hour, dropped = np.full(runs, -1), np.full(runs, np.inf), np.full(runs, np.inf)
    waiting: deque[tuple[Array, Array, Array, Array]] = deque()
    for minute in range(0, world.minutes, world.step):
        shares = batch.wanted / 10_000
        won = winner >= 0
        n = draw_counts(SCORED * world.step, shares, rng)
        level = next_level(world, level, rng)
        regret += np.where(won, world.gaps[winner] * ANSWERS * world.step, n @ world.gaps * ANSWERS / SCORED)
        waiting.append((n, rewards_of(world, n, level, rng), shares, level))
        out = None
        if guard is not None and world.errors is not None:
            requests = draw_counts(ANSWERS * world.step, shares, rng)
            failed = rng.binomial(requests.astype(int), np.array(world.errors)).astype(float)
            guard.learn(requests, failed, shares, restart=minute > 0 and minute % RESTART < world.step)
            out = guard.dropped() & batch.racing
            dropped = np.where(out[:, -1] & np.isinf(dropped), (minute + world.step) / 60, dropped)
        if len(waiting) * world.step > world.late:
            answers, earned, force, then = waiting.popleft()
            batch.update(answers, earned, 60.0 * world.step, rng, dropped=out, shares=force)
            truth.learn(answers, then, np.array(world.rewards))
        elif out is not None:
            nothing = np.zeros(n.shape)
            batch.update(nothing, nothing, 60.0 * world.step, rng, dropped=out)
        passed = np.ones(n.shape, bool) if guard is None else guard.passed()
        last = np.where(batch.racing.any(axis=1), batch.racing.argmax(axis=1), 0)
        new = batch.decided & passed[np.arange(runs), last] & (winner < 0)
        winner, hour = np.where(new, last, winner), np.where(new, (minute + world.step) / 60, hour)
        if (minute + world.step) % LOOK < world.step:
            truth.look(batch)
    best = np.where(winner >= 0, winner, batch.p_best.argmax(axis=1))
    return {
        "regret": regret,
        "decided": hour,
        "named": hour,
        "wrong": (world.gaps[best] > 0).astype(float),
        "winner": winner.astype(float),
        "dropped": dropped,
        **{f"missed {arm}": truth.missed[:, arm].astype(float) for arm in range(world.arms)},
        **{f"pooled missed {arm}": truth.missed_now[:, arm].astype(float) for arm in range(world.arms)},
    }


@dataclass
class Truth:
    """What the arms would have earned on average over all answers so far, against the intervals that are shown."""

    runs: int
    arms: int
    answers: Array = field(init=False)
    earned: Array = field(init=False)
    missed: Mask = field(init=False)
    missed_now: Mask = field(init=False)

    def __post_init__(self) -> None:
        self.answers, self.earned = np.zeros((self.runs, 1)), np.zeros((self.runs, self.arms))
        self.missed = self.missed_now = np.zeros((self.runs, self.arms), dtype=bool)

    def learn(self, n: Array, level: Array, rewards: Array) -> None:
        total = n.sum(axis=1, keepdims=True)
        self.answers = self.answers + total
        self.earned = self.earned + total * np.clip(rewards + level[:, None], 0.01, 0.99)

    def look(self, batch: BanditBatch) -> None:
        """`missed`: the always-valid IPW interval ever missed, while the arm got answers; `missed_now`: the usual
        interval around the pooled mean misses at this look.
        """
        mean = self.earned / np.maximum(self.answers, 1)
        _, low, high = batch.ipw.intervals(0.05)
        served = batch.wanted > 0
        self.missed = self.missed | (((mean < low) | (mean > high)) & served)
        pooled = batch.sums.rewards / np.maximum(batch.sums.scored, 1)
        error = np.sqrt(pooled * (1 - pooled) / np.maximum(batch.sums.scored, 1))
        now = np.abs(pooled - mean) > 1.96 * error
        self.missed_now = np.where(served, now, self.missed_now)
