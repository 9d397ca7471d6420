"""The promises of the bandit at a small size: seeded simulations of many rollouts through the product's arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rollouts.domain.bandits import BanditSpec
from rollouts.domain.bandits.batch import BanditBatch

SPEC = BanditSpec(burn_in=100, reweight_seconds=120.0)


def most(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


def play(
    rewards: tuple[float, ...],
    *,
    runs: int,
    intervals: int,
    drift: float = 0.0,
    late: int = 0,
    seed: int = 1,
    spec: BanditSpec = SPEC,
) -> BanditBatch:
    """Bandits over so many minutes of 60 answers; the rewards of the newest `late` minutes are still to come."""
    rng = np.random.default_rng(seed)
    batch = BanditBatch(runs, len(rewards), spec, draws=200)
    level, waiting = np.zeros((runs, 1)), []
    for _ in range(intervals):
        shares = batch.wanted / 10_000
        level = 0.98 * level + rng.normal(0, drift, (runs, 1))
        n = rng.multinomial(60, shares)
        waiting.append((n, rng.binomial(n, np.clip(np.array(rewards) + level, 0.01, 0.99)), shares))
        if len(waiting) > late:
            n, s, then = waiting.pop(0)
            batch.update(n.astype(float), s.astype(float), 60.0, rng, shares=then)
    return batch


@pytest.mark.parametrize("drift", [0.0, 0.03])
def test_elimination__best_arm__dropped_in_at_most_alpha_of_rollouts(drift: float) -> None:
    runs = 250
    batch = play((0.70, 0.74, 0.76), runs=runs, intervals=150, drift=drift)
    assert (~batch.racing[:, 2]).mean() <= most(SPEC.alpha, runs)
    assert (~batch.racing[:, 0]).mean() > 0.5  # it does decide something


@pytest.mark.parametrize("arms", [2, 3])
def test_tie__equal_arms__a_winner_in_at_most_two_alpha_of_rollouts(arms: int) -> None:
    runs = 250
    batch = play((0.75,) * arms, runs=runs, intervals=150)
    assert batch.decided.mean() <= most(2 * SPEC.alpha, runs)


def test_late_rewards__by_half_an_hour__decide_the_same_arm() -> None:
    batch = play((0.60, 0.70, 0.80), runs=60, intervals=150, late=30)
    assert batch.decided.mean() > 0.9
    assert not batch.racing[batch.decided][:, :2].any()


def test_discount__arms_that_change_places__follows_the_newer_one() -> None:
    """Evidence is not forgotten, but weights go where the reward is now."""
    rng = np.random.default_rng(3)
    means = {}
    for discount in (1.0, 0.95):
        batch = BanditBatch(40, 2, BanditSpec(burn_in=50, discount=discount, alpha=1e-6), draws=200)
        for rewards in ((0.76, 0.72), (0.72, 0.76)):
            for _ in range(40 if rewards[0] > rewards[1] else 25):
                n = rng.multinomial(40, batch.wanted / 10_000)
                batch.update(n.astype(float), rng.binomial(n, rewards).astype(float), 60.0, rng)
        means[discount] = batch.wanted[:, 1].mean()
    assert means[0.95] > means[1.0]


def test_ipw__drift_and_shares_that_follow_rewards__ever_misses_in_at_most_alpha_of_rollouts() -> None:
    runs, rewards = 200, np.array([0.70, 0.74, 0.76])
    rng = np.random.default_rng(2)
    batch = BanditBatch(runs, 3, SPEC, draws=200)
    level, sums, missed = np.zeros((runs, 1)), np.zeros((runs, 3)), np.zeros((runs, 3), bool)
    for minute in range(1, 121):
        shares = batch.wanted / 10_000
        level = 0.98 * level + rng.normal(0, 0.03, (runs, 1))
        p = np.clip(rewards + level, 0.01, 0.99)
        n = rng.multinomial(60, shares)
        batch.update(n.astype(float), rng.binomial(n, p).astype(float), 60.0, rng, shares=shares)
        sums += p
        if minute % 10 == 0:
            _, low, high = batch.ipw.intervals(0.05)
            truth = sums / minute
            missed |= ((truth < low) | (truth > high)) & (batch.wanted > 0)
    assert missed.mean(axis=0).max() <= most(0.05, runs)
