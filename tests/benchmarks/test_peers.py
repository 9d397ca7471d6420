"""Other tools' rules on cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.gates import peers
from benchmarks.gates.traffic import MINUTE, Array, Counts


def by_minute(*shares: float, baseline: float = 0.01) -> Counts:
    """One rollout whose candidate fails this share of its 100 requests a minute; the baseline 0.01 of 100."""
    rows = np.repeat(np.array(shares), MINUTE)[:, None]
    n = np.full_like(rows, 100 / MINUTE)
    return Counts(n, rows * n, n.copy(), np.full_like(rows, baseline) * n)


def test_argo__more_failed_measurements_than_the_limit__aborts_with_the_fourth() -> None:
    assert peers.argo(by_minute(0.06, 0.06, 0.06, 0.0, 0.06), limit=0.05) == [5 * MINUTE]
    assert peers.argo(by_minute(0.06, 0.06, 0.06, 0.0, 0.0), limit=0.05) == [math.inf]


def test_argo__exactly_at_the_limit__is_no_failure() -> None:
    assert peers.argo(by_minute(*[0.05] * 8), limit=0.0500001) == [math.inf]


def test_flagger__as_many_failed_checks_as_the_threshold__rolls_back() -> None:
    assert peers.flagger(by_minute(0.03, 0.03, 0.0, 0.03, 0.03, 0.03), limit=0.02) == [6 * MINUTE]
    assert peers.flagger(by_minute(0.03, 0.03, 0.0, 0.03, 0.03), limit=0.02) == [math.inf]


def test_thresholds__shared_incident__blame_the_candidate() -> None:
    both = by_minute(*[0.08] * 5, baseline=0.08)
    assert peers.argo(both, limit=0.05) == [4 * MINUTE]
    assert peers.naive_z(both) == [math.inf]


def test_kayenta_judge__every_minute_worse__fails_at_its_first_look() -> None:
    worse = np.linspace(0.5, 0.6, 10)[:, None]
    assert peers.kayenta_judge(worse, worse - 0.5) == [peers.KAYENTA_EVERY]


def test_kayenta_judge__the_same_minutes__never_fails() -> None:
    same = np.linspace(0.0, 0.1, 30)[:, None]
    assert peers.kayenta_judge(same, same[::-1]) == [math.inf]


@pytest.mark.parametrize(("n", "exact"), [(5, 2), (10, 19), (20, 114)])
def test_rank_of_lower_end__small_samples__is_near_the_tables_of_mann_whitney(n: int, exact: int) -> None:
    assert abs(peers.rank_of_lower_end(n) - exact) <= 1


def test_running_z__one_interval__is_the_hypergeometric_score() -> None:
    counts = Counts(*(np.array([[value]]) for value in (100.0, 10.0, 300.0, 6.0)))
    z, n_candidate = peers.running_z(counts)
    # 16 of 400 fail: 4 expected of 100; variance 100 * 300 * 16 * 384 / (400 * 400 * 399)
    assert z[0, 0] == pytest.approx(6 / math.sqrt(100 * 300 * 16 * 384 / (400 * 400 * 399)))
    assert n_candidate[0, 0] == 100


def test_naive_z__too_few_requests__waits() -> None:
    counts = by_minute(0.5, 0.5)
    assert peers.naive_z(counts) == [MINUTE]  # 100 candidate requests are there after a minute


def test_fixed_horizon__plain_difference__is_seen_at_the_end_only() -> None:
    assert peers.fixed_horizon(by_minute(*[0.2] * 6)) == [6 * MINUTE]
    assert peers.fixed_horizon(by_minute(*[0.01] * 6)) == [math.inf]


def test_obrien_fleming__twelve_even_looks__published_bound_and_size_alpha() -> None:
    information = tuple((look + 1) / 12 for look in range(12))
    bounds = peers.obrien_fleming(information, 0.05)
    assert bounds[-1] == pytest.approx(1.81, abs=0.01)  # one-sided 5 %, K = 12
    assert bounds[0] / bounds[-1] == pytest.approx(math.sqrt(12))
    walks = np.random.default_rng(1).normal(size=(40_000, 12)).cumsum(axis=1) / np.sqrt(np.arange(1, 13))
    assert (walks > np.array(bounds)).any(axis=1).mean() == pytest.approx(0.05, abs=0.004)


def test_group_sequential__enormous_difference__stops_at_the_first_look() -> None:
    counts = by_minute(*[0.5] * 60)
    shares: Array = np.full(counts.intervals, 0.5)
    assert peers.group_sequential(counts, shares) == [5 * MINUTE]


def test_first__never_reached_or_no_look__is_infinite() -> None:
    reached = np.array([[False, False], [True, False], [True, False]])
    assert list(peers.first(reached, 5)) == [10.0, math.inf]
    assert list(peers.first(np.zeros((0, 2), dtype=bool), 5)) == [math.inf, math.inf]


def test_told_both__errors_tenfold__needs_as_many_requests_as_by_hand() -> None:
    n = np.full((40, 1), 10.0)
    counts = Counts(n, 0.1 * n, n, 0.01 * n, np.full((40, 1), 0.01))
    tells = 0.1 * math.log(10) + 0.9 * math.log(0.9 / 0.99)  # a request of the candidate, on average
    assert peers.told_both(counts, ratio=10) == [math.ceil(math.log(20) / tells / 10)]


def test_told_both__nothing_wrong__never_rolls_back() -> None:
    n = np.full((400, 1), 10.0)
    assert peers.told_both(Counts(n, 0.01 * n, n, 0.01 * n, np.full((400, 1), 0.01)), ratio=2) == [math.inf]
