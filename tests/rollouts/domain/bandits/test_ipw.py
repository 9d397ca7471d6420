from __future__ import annotations

import math

import numpy as np
import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits.ipw import IpwSums, boundary


def test_ipw__one_interval__is_the_plain_mean() -> None:
    sums = IpwSums.empty(2).add(np.array([30.0, 70.0]), np.array([15.0, 63.0]), np.array([0.3, 0.7]))
    mean, low, high = sums.intervals(0.05)
    assert mean == pytest.approx([0.5, 0.9])
    assert (low < mean).all()
    assert (high > mean).all()


def test_ipw__drift_and_shares_that_moved__estimates_the_mean_over_all_answers() -> None:
    """A good hour at 10 %, a bad one at 90 %: pooled, the arm would earn (90 + 450) / 1000 = .54."""
    sums = IpwSums.empty(2)
    sums = sums.add(np.array([100.0, 900.0]), np.array([90.0, 720.0]), np.array([0.1, 0.9]))
    sums = sums.add(np.array([900.0, 100.0]), np.array([450.0, 40.0]), np.array([0.9, 0.1]))
    mean, _, _ = sums.intervals(0.05)
    assert mean == pytest.approx([0.7, 0.6])


def test_ipw__without_shares_or_with_none_for_an_arm__uses_the_answers_own_proportions() -> None:
    n, s = np.array([20.0, 80.0]), np.array([10.0, 60.0])
    plain = IpwSums.empty(2).add(n, s)
    assert plain == IpwSums.empty(2).add(n, s, np.array([0.0, 1.0]))
    assert plain == IpwSums.empty(2).add(n, s, np.array([0.2, 0.8]))
    assert plain != IpwSums.empty(2).add(n, s, np.array([0.5, 0.5]))


def test_ipw__no_answer__no_estimate_for_that_arm_alone() -> None:
    estimates = IpwSums.empty(2).add(np.array([50.0, 0.0]), np.array([20.0, 0.0])).estimates(0.05)
    assert estimates[0] is not None
    assert estimates[1] is None


def test_ipw__all_rewards_alike__interval_still_open() -> None:
    estimate = IpwSums.empty(2).add(np.array([50.0, 50.0]), np.array([50.0, 0.0])).estimates(0.05)[0]
    assert estimate is not None
    assert estimate.high == 1
    assert estimate.low < 0.97


def test_ipw__more_answers__narrower() -> None:
    widths = []
    for n in (100.0, 1_000.0, 10_000.0):
        estimate = IpwSums.empty(2).add(np.array([n, n]), np.array([0.7 * n, 0.7 * n])).estimates(0.05)[0]
        assert estimate is not None
        widths.append(estimate.high - estimate.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[2] < 0.05


def test_boundary__random_walks__crossed_by_at_most_alpha_of_them() -> None:
    runs, steps, alpha = 1_000, 1_000, 0.05
    walks = np.cumsum(np.random.default_rng(4).standard_normal((runs, steps)), axis=1)
    limit = boundary(np.arange(1, steps + 1, dtype=float), alpha, tuned_for=300.0)
    crossed = (np.abs(walks) > limit).any(axis=1).mean()
    assert crossed <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)
    assert crossed > 0.005


def test_ipw__json__gives_it_back_and_refuses_what_is_not() -> None:
    sums = IpwSums.empty(2).add(np.array([20.0, 80.0]), np.array([10.0, 60.0]), np.array([0.3, 0.7]))
    assert IpwSums.from_json(sums.to_json(), 2) == sums
    with pytest.raises(InvalidInput) as refused:
        IpwSums.from_json(sums.to_json(), 3)
    assert refused.value.field == "ipw.n1"
