from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits import top_two_shares

CHANCES = st.lists(st.floats(0, 1), min_size=1, max_size=8).filter(lambda row: sum(row) > 1e-3)


def scaled(row: list[float]) -> list[float]:
    return [value / math.fsum(row) for value in row]


def test_top_two_shares__two_arms__beta_goes_to_either_by_its_chance() -> None:
    # .5 * .8 + .5 * (.2 * .8 / .8) = .5: with two arms the rival of one is always the other
    assert top_two_shares([0.8, 0.2], 0.5) == pytest.approx((0.5, 0.5))
    # .7 * .8 + .3 * .2 = .62
    assert top_two_shares([0.8, 0.2], 0.7) == pytest.approx((0.62, 0.38))


def test_top_two_shares__three_arms__as_worked_out_by_hand() -> None:
    p = (0.5, 0.3, 0.2)
    # the rival is j with chance p_j / (1 - p_i)
    first = 0.5 * 0.5 + 0.5 * (0.3 * 0.5 / 0.7 + 0.2 * 0.5 / 0.8)
    second = 0.5 * 0.3 + 0.5 * (0.5 * 0.3 / 0.5 + 0.2 * 0.3 / 0.8)
    assert top_two_shares(p, 0.5) == pytest.approx((first, second, 1 - first - second))


def test_top_two_shares__drawn_one_by_one__agree_with_the_formula() -> None:
    p, beta, rng = np.array([0.5, 0.3, 0.15, 0.05]), 0.6, np.random.default_rng(3)
    picked = np.zeros(4)
    stream = iter(rng.choice(4, p=p, size=200_000).tolist())
    for again in (rng.random(20_000) >= beta).tolist():
        first = arm = next(stream)
        while again and arm == first:
            arm = next(stream)
        picked[arm] += 1
    error = np.sqrt(0.25 / picked.sum())
    assert np.abs(picked / picked.sum() - top_two_shares(p.tolist(), beta)).max() < 4 * error


def test_top_two_shares__one_arm_is_surely_best__gets_all() -> None:
    assert top_two_shares([0.0, 1.0, 0.0], 0.5) == (0.0, 1.0, 0.0)
    assert top_two_shares([1.0], 0.5) == (1.0,)


@settings(deadline=None)
@given(CHANCES, st.floats(0.01, 1))
def test_top_two_shares__any_chances__sum_to_one(row: list[float], beta: float) -> None:
    shares = top_two_shares(scaled(row), beta)
    assert math.isclose(math.fsum(shares), 1, abs_tol=1e-9)
    assert all(share >= 0 for share in shares)


@settings(deadline=None)
@given(CHANCES, st.floats(0.01, 1), st.randoms())
def test_top_two_shares__arms_permuted__shares_permuted(
    row: list[float], beta: float, random: object
) -> None:
    p = scaled(row)
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    plain = top_two_shares(p, beta)
    moved = top_two_shares([p[position] for position in order], beta)
    assert moved == pytest.approx([plain[position] for position in order], abs=1e-9)


@pytest.mark.parametrize(
    ("p_best", "beta", "field"),
    [
        ([0.5, 0.5], 0.0, "beta"),
        ([0.5, 0.5], 1.1, "beta"),
        ([0.5, 0.5], math.nan, "beta"),
        ([], 0.5, "p_best"),
        ([0.5, 0.4], 0.5, "p_best"),
        ([1.5, -0.5], 0.5, "p_best"),
        ([math.nan, 1.0], 0.5, "p_best"),
    ],
)
def test_top_two_shares__impossible_input__refused_with_the_field(
    p_best: list[float], beta: float, field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        top_two_shares(p_best, beta)
    assert refused.value.field == field
