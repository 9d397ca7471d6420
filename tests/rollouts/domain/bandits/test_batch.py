"""One implementation: the vectorised bandit goes exactly where the product's goes."""

from __future__ import annotations

import numpy as np
import pytest

from rollouts.domain.bandits import BanditSpec
from rollouts.domain.bandits.batch import BanditBatch
from rollouts.domain.record.intervals import ArmCounts
from tests.rollouts.domain.bandits.helpers import THREE, bandit, counts, row


@pytest.mark.parametrize("reweight_seconds", [10.0, 40.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_bandit_batch__same_rewards_and_rng__same_shares_and_race(seed: int, reweight_seconds: float) -> None:
    state = bandit(burn_in=60, reweight_seconds=reweight_seconds, discount=0.99)
    batch = BanditBatch(1, 3, state.spec)
    world = np.random.default_rng(seed)
    for index in range(60):
        assert batch.wanted[0].tolist() == list(state.wanted)
        n = world.multinomial(60, np.array(state.wanted) / 10_000) if index % 7 else np.zeros(3, int)
        s = world.binomial(n, [0.6, 0.8, 0.7])
        arms: dict[str, ArmCounts] = {
            name: counts(int(a), int(a - good)) for name, a, good in zip(THREE, n, s, strict=True)
        }
        dropped = ("candidate-2",) if index == 40 else ()
        shares = dict(zip(THREE, state.wanted, strict=True))
        force = np.array([[share / 10_000 for share in state.wanted]])
        state = state.update(
            row(index, arms, shares=shares, dropped=dropped), np.random.default_rng([seed, index])
        )
        batch.update(
            n[None].astype(float),
            s[None].astype(float),
            10.0,
            np.random.default_rng([seed, index]),
            dropped=np.array([[name in dropped for name in THREE]]),
            shares=force if n.any() else None,
        )
        assert batch.racing[0].tolist() == state.learner.racing.tolist()
    assert batch.sums.logs[0] == pytest.approx(state.learner.sums.logs, abs=1e-9)
    assert batch.sums.information[0] == pytest.approx(state.learner.sums.information)
    for one, other in zip(batch.ipw.intervals(0.05), state.ipw.intervals(0.05), strict=True):
        assert one[0] == pytest.approx(other)
    assert len(state.learner.departures) >= 1


def test_bandit_batch__many_rollouts__each_as_if_alone() -> None:
    spec = BanditSpec(burn_in=30, reweight_seconds=10.0, min_change_bp=0, beta=1.0)
    many, alone = BanditBatch(4, 3, spec), [BanditBatch(1, 3, spec) for _ in range(4)]
    world = np.random.default_rng(1)
    for _ in range(30):
        n = np.full((4, 3), 40.0)
        s = world.binomial(40, [0.5, 0.6, 0.9], (4, 3)).astype(float)
        many.update(n, s, 10.0, np.random.default_rng(1))
        for place, batch in enumerate(alone):
            batch.update(n[place : place + 1], s[place : place + 1], 10.0, np.random.default_rng(1))
    assert many.racing.tolist() == [batch.racing[0].tolist() for batch in alone]
    assert many.sums.log_against().tolist() == [batch.sums.log_against()[0].tolist() for batch in alone]
    assert many.wanted.tolist() == [batch.wanted[0].tolist() for batch in alone]
