from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.domain.bandits.arithmetic import (
    ELIMINATION_ODDS,
    Sums,
    best_of,
    bp_of_shares,
    fixed_effects,
    race_shares,
    raise_to_floors,
)
from rollouts.domain.gates.evidence import Wealth
from rollouts.domain.gates.projection import log_increments

INTERVALS = st.lists(
    st.lists(
        st.integers(0, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
        min_size=3,
        max_size=3,
    ),
    min_size=1,
    max_size=6,
)


def of(rows: list[list[tuple[int, int]]], discount: float = 1.0) -> Sums:
    sums = Sums.empty(len(rows[0]))
    for row in rows:
        n, s = (np.array([pair[part] for pair in row], float) for part in (0, 1))
        sums = sums.add(n, s, discount=discount)
    return sums


def test_fixed_effects__two_arms__as_worked_out_by_hand() -> None:
    information, pull = fixed_effects(np.array([10.0, 30.0]), np.array([5.0, 21.0]))
    middle = 27 / 42
    w = np.array([10, 30]) / (middle * (1 - middle))
    mean = (w[0] * 0.5 + w[1] * 0.7) / w.sum()
    assert information == pytest.approx(np.diag(w) - np.outer(w, w) / w.sum())
    assert pull == pytest.approx(w * (np.array([0.5, 0.7]) - mean))


def test_fixed_effects__one_arm_with_answers__says_nothing_about_differences() -> None:
    information, pull = fixed_effects(np.array([50.0, 0.0, 0.0]), np.array([20.0, 0.0, 0.0]))
    assert information == pytest.approx(np.zeros((3, 3)), abs=1e-9)
    assert pull == pytest.approx(np.zeros(3), abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(INTERVALS)
def test_sums__any_counts__information_ignores_a_common_level(rows: list[list[tuple[int, int]]]) -> None:
    sums = of(rows)
    scale = 1 + np.abs(sums.information).max()
    assert np.abs(sums.information.sum(axis=1)).max() <= 1e-9 * scale
    assert abs(sums.pull.sum()) <= 1e-9 * scale


@settings(deadline=None, max_examples=50)
@given(INTERVALS)
def test_posterior__any_counts__is_that_of_the_textbook(rows: list[list[tuple[int, int]]]) -> None:
    sums = of(rows)
    means, covariance = sums.posterior()
    textbook = np.linalg.inv(sums.information + np.eye(3))
    assert covariance == pytest.approx(textbook, abs=1e-9)
    assert means == pytest.approx(textbook @ sums.pull, abs=1e-8)


def test_posterior__level_of_an_interval_shifted__unchanged_but_for_the_weights() -> None:
    """Shared drift cancels: arms 10 points apart in every interval stay so, whoever got the traffic of the good one."""
    good, bad = (0.9, 0.8), (0.5, 0.4)
    rows = [[(1000, 900), (9000, 7200)], [(9000, 4500), (1000, 400)]]
    assert good[0] - good[1] == pytest.approx(bad[0] - bad[1])
    means, _ = of(rows).posterior()
    assert means[0] - means[1] == pytest.approx(0.1, abs=1e-3)
    pooled = (5400 / 10_000) - (7600 / 10_000)
    assert pooled < 0  # what pooling would say


def test_posterior__a_billion_answers__is_still_exact() -> None:
    n = np.array([1e9, 1e9, 1e9])
    sums = Sums.empty(3).add(n, n * np.array([0.7, 0.7001, 0.6999]))
    theta = sums.draw(np.random.default_rng(1), 2000)
    p_best, _ = best_of(theta, np.array([True, True, True]))
    assert p_best == pytest.approx([0, 1, 0])
    assert (theta[1] - theta[0]).std() == pytest.approx(math.sqrt(2 * 0.21 / 1e9), rel=0.1)


def test_draw__many_draws__have_the_posterior_of_the_contrasts() -> None:
    sums = of([[(40, 30), (60, 30), (20, 15)], [(10, 4), (90, 50), (0, 0)]])
    means, covariance = sums.posterior()
    theta = sums.draw(np.random.default_rng(2), 40_000)
    for i, j in ((0, 1), (1, 2)):
        variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
        drawn = theta[i] - theta[j]
        assert drawn.mean() == pytest.approx(means[i] - means[j], abs=4 * math.sqrt(variance / 40_000))
        assert drawn.var() == pytest.approx(variance, rel=0.05)


def test_discount__below_one__forgets_beliefs_but_not_evidence() -> None:
    rows = [[(50, 40), (50, 25)], [(50, 25), (50, 40)]]
    kept, faded = of(rows), of(rows, discount=0.5)
    assert kept.posterior()[0] == pytest.approx([0, 0], abs=0.02)
    assert faded.posterior()[0][1] > 0.04
    assert np.array_equal(kept.logs, faded.logs)
    assert faded.level_n.tolist() == [75, 75]


def test_discount__interval_without_answers__changes_nothing() -> None:
    rows = [[(50, 40), (50, 25)]]
    assert of([*rows, [(0, 0), (0, 0)]], discount=0.5) == of(rows, discount=0.5)


def test_duels__against_the_scalar_evidence__alike() -> None:
    rows = [[(30, 20), (25, 20), (0, 0)], [(12, 8), (40, 31), (7, 7)], [(0, 0), (9, 3), (11, 6)]]
    sums = of(rows)
    for i, j in itertools.permutations(range(3), 2):
        evidence, s_j, n_j = Wealth.empty(len(ELIMINATION_ODDS), "single"), 0.5, 1.0
        for interval in rows:
            if interval[i][0] and interval[j][0]:
                evidence = evidence.multiply(
                    log_increments(
                        s_j / n_j,
                        *interval[i],
                        *interval[j],
                        ratio=1.0,
                        delta=0.0,
                        fail=True,
                        multipliers=ELIMINATION_ODDS,
                    )
                )
            n_j, s_j = n_j + interval[j][0], s_j + interval[j][1]
        assert sums.log_duels()[i, j] == pytest.approx(evidence.log_e, abs=1e-9)


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


def every_table(n_i: int, n_j: int) -> np.ndarray:
    """All (s_i, s_j), shape (tables, 2)."""
    return np.array(list(itertools.product(range(n_i + 1), range(n_j + 1))), float)


@pytest.mark.parametrize("n", [(1, 1), (3, 2), (2, 4), (5, 5)])
def test_duels__null_enumerated_over_two_intervals__expected_evidence_at_most_one(n: tuple[int, int]) -> None:
    """Arm 0 is never better than arm 1, at levels that change between the intervals."""
    tables = every_table(*n)
    first, second = (part.reshape(-1, 2) for part in np.broadcast_arrays(tables[:, None], tables[None, :]))
    counts = np.broadcast_to(np.array(n, float), first.shape)
    evidence = np.exp(
        Sums.empty(2, (len(first),)).add(counts, first).add(counts, second).log_duels()[:, 0, 1]
    )

    def chance(p_i: float, p_j: float) -> np.ndarray:
        return np.outer(binomial(n[0], p_i), binomial(n[1], p_j)).ravel()

    levels = [(0.2, 0.2), (0.1, 0.6), (0.7, 0.7), (0.9, 0.9), (0.5, 0.5), (0.3, 0.8), (0.0, 0.0), (1.0, 1.0)]
    for one, other in itertools.product(levels, repeat=2):
        assert np.outer(chance(*one), chance(*other)).ravel() @ evidence <= 1 + 1e-9, (one, other)


@pytest.mark.parametrize("scores", [(0.0, 0.5, 1.0), (0.3, 0.4, 0.8), (0.0, 0.9, 1.0)])
def test_duels__graded_rewards_enumerated__expected_evidence_at_most_that_of_yes_or_no(
    scores: tuple[float, ...],
) -> None:
    """Two answers of each arm, the rewards uniform on three values: the same mean in both arms."""
    mean, two = sum(scores) / 3, np.array([2.0, 2.0])
    drawn = np.array(list(itertools.product(scores, repeat=4)))
    sums = np.stack([drawn[:, :2].sum(axis=1), drawn[:, 2:].sum(axis=1)], axis=1)
    graded = np.exp(
        Sums.empty(2, (81,)).add(np.broadcast_to(two, sums.shape), sums).log_duels()[:, 0, 1]
    ).mean()
    tables = every_table(2, 2)
    evidence = np.exp(
        Sums.empty(2, (9,)).add(np.broadcast_to(two, tables.shape), tables).log_duels()[:, 0, 1]
    )
    yes_or_no = np.outer(binomial(2, mean), binomial(2, mean)).ravel() @ evidence
    assert graded <= yes_or_no + 1e-12
    assert yes_or_no <= 1 + 1e-9


def test_log_against__three_arms__mean_of_the_duels_over_k_minus_one() -> None:
    sums = of([[(30, 28), (30, 15), (30, 20)]])
    duels = np.exp(sums.log_duels())
    assert np.exp(sums.log_against())[1] == pytest.approx((duels[0, 1] + duels[2, 1]) / 2)
    without = sums.log_against(np.array([False, True, True]))
    assert np.exp(without)[1] == pytest.approx(duels[2, 1] / 2)


@settings(deadline=None, max_examples=50)
@given(INTERVALS, st.permutations(range(3)))
def test_sums__arms_permuted__results_permuted(rows: list[list[tuple[int, int]]], order: list[int]) -> None:
    plain, moved = of(rows), of([[row[position] for position in order] for row in rows])
    assert moved.log_against() == pytest.approx(plain.log_against()[order], abs=1e-6)
    assert moved.posterior()[0] == pytest.approx(plain.posterior()[0][order], abs=1e-8)
    for one, other in zip(moved.levels(), plain.levels(), strict=True):
        assert one == pytest.approx(other[order], abs=1e-8, nan_ok=True)


def test_levels__no_drift__are_the_means() -> None:
    mean, sd = of([[(4000, 2800), (4000, 3000), (0, 0)]]).levels()
    assert mean[:2] == pytest.approx([0.7, 0.75], abs=1e-3)
    assert sd[0] == pytest.approx(math.sqrt(0.7 * 0.3 / 4000), rel=0.1)
    assert math.isnan(mean[2])
    assert math.isnan(sd[2])


def test_levels__drift_and_moving_weights__compare_on_all_answers() -> None:
    mean, _ = of([[(1000, 900), (9000, 7200)], [(9000, 4500), (1000, 400)]]).levels()
    assert mean[0] - mean[1] == pytest.approx(0.1, abs=1e-3)
    assert (mean[0] + mean[1]) / 2 == pytest.approx((900 + 7200 + 4500 + 400) / 20_000, abs=1e-6)


def test_best_of__arm_that_left__cannot_be_best_and_its_loss_is_against_the_race() -> None:
    theta = np.array([[0.0, 0.0], [0.2, -0.1], [0.5, 0.5]])
    p_best, loss = best_of(theta, np.array([True, True, False]))
    assert p_best == pytest.approx([0.5, 0.5, 0])
    assert loss == pytest.approx([0.1, 0.05, 0])


@pytest.mark.parametrize("racing", [(True, True, True), (False, True, True), (True, True, False)])
def test_race_shares__some_left__floors_kept_and_nothing_for_the_others(racing: tuple[bool, ...]) -> None:
    shares = race_shares(
        np.array([0.0, 1.0, 0.0]), np.array(racing), beta=0.5, floor=0.05, baseline_floor=0.1
    )
    others = 0.05 if racing[2] else 0.0
    assert shares == pytest.approx([0.1, 0.9 - others, others])


def test_race_shares__only_the_baseline_or_nobody__baseline_gets_all() -> None:
    for racing in ((True, False, False), (False, False, False)):
        shares = race_shares(np.zeros(3), np.array(racing), beta=0.5, floor=0.05, baseline_floor=0.1)
        assert shares.tolist() == [1, 0, 0]


def test_race_shares__eliminated_baseline__keeps_exactly_its_floor() -> None:
    shares = race_shares(
        np.array([0.9, 0.05, 0.05]), np.array([False, True, True]), beta=1.0, floor=0.05, baseline_floor=0.1
    )
    assert shares == pytest.approx([0.1, 0.45, 0.45])


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.data())
def test_raise_to_floors__any_shares__floors_kept_and_order_too(
    row: list[float], data: st.DataObject
) -> None:
    shares = np.array(row) + 1e-6
    shares = shares / shares.sum()
    floors = np.array([data.draw(st.floats(0, 1 / len(row))) for _ in row])
    raised = raise_to_floors(shares, floors)
    assert raised.sum() == pytest.approx(1)
    assert (raised >= floors - 1e-12).all()
    above = raised > floors + 1e-9
    assert np.diff(raised[above] / shares[above]) == pytest.approx(0, abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda row: sum(row) > 0.01))
def test_basis_points__any_shares__whole_and_of_sum_ten_thousand(row: list[float]) -> None:
    shares = np.array(row) / math.fsum(row)
    points = bp_of_shares(shares)
    assert points.sum() == 10_000
    assert np.abs(points - shares * 10_000).max() < 1 + 1e-5


def test_basis_points__exact_floors__stay_exact() -> None:
    assert bp_of_shares(np.array([0.1, 0.05, 0.85])).tolist() == [1000, 500, 8500]
    assert bp_of_shares(np.array([1 / 3, 1 / 3, 1 / 3])).tolist() == [3334, 3333, 3333]
