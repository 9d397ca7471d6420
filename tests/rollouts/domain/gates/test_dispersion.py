from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.dispersion import Dispersion, excess, upper_excess

SCORES = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)), max_size=8)


def test_dispersion__nothing_seen__is_the_prior() -> None:
    assert Dispersion().factor == 1.5


def test_dispersion__blocks__follow_the_formula() -> None:
    state = Dispersion(phi0=1.5, n0=5).update(2.0, 4.0).update(-6.0, 4.0).update(0.0, 1.0)
    squares = ((-3.0 - 1.0) ** 2 + (0.0 + 3.0) ** 2) / 2
    assert state.factor == pytest.approx((squares + 5 * 1.5) / (2 + 5))


def test_dispersion__a_lasting_difference__cancels() -> None:
    state = Dispersion()
    for _ in range(500):
        state = state.update(50.0, 1.0)
    assert state.factor == 1.0


def test_dispersion__independent_scores__tends_to_one_and_doubled_variance_to_two() -> None:
    rng = np.random.default_rng(3)
    alike, spread = Dispersion(), Dispersion()
    for z in rng.normal(size=2000):
        alike, spread = alike.update(z, 1.0), spread.update(z * math.sqrt(2), 1.0)
    assert alike.factor == pytest.approx(1.0, abs=0.1)
    assert spread.factor == pytest.approx(2.0, abs=0.2)


def test_dispersion__block_without_variance__changes_nothing() -> None:
    state = Dispersion().update(1.0, 1.0)
    assert state.update(0.0, 0.0) == state


def test_upper_excess__little_seen__is_far_above_the_estimate_and_comes_down_to_it() -> None:
    assert excess(0.0, 0.0, 1.5, 5) == 1.5
    assert upper_excess(0.0, 0.0, 1.5, 5) == pytest.approx(5 * 1.5 / stats.chi2.ppf(0.1, 5), rel=0.02)
    assert upper_excess(1000.0, 1000, 1.5, 5) == pytest.approx(1.06, abs=0.01)


@pytest.mark.parametrize("known", [5, 12, 40, 400])
def test_upper_excess__against_the_quantile_of_scipy__is_a_90_percent_bound(known: int) -> None:
    told = upper_excess(float(known), float(known), 1.0, 1e-9)
    assert told == pytest.approx(known / stats.chi2.ppf(0.1, known), rel=0.02)


@given(SCORES)
@settings(max_examples=80, deadline=None)
def test_dispersion__any_blocks__factor_at_least_one_and_survives_json(
    rows: list[tuple[float, float]],
) -> None:
    state = Dispersion()
    for score, variance in rows:
        state = state.update(score, variance)
    assert state.factor >= 1
    assert Dispersion.from_json(json.loads(json.dumps(state.to_json()))) == state


@pytest.mark.parametrize(
    ("arguments", "field"),
    [((math.nan, 1.0), "score"), ((1.0, -1.0), "variance"), ((1.0, math.inf), "variance")],
)
def test_dispersion__bad_block__refused_with_the_field(arguments: tuple[float, float], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Dispersion().update(*arguments)
    assert refused.value.field == field


def test_dispersion__bad_setting__refused_with_the_field() -> None:
    with pytest.raises(InvalidInput) as refused:
        Dispersion(phi0=0.5)
    assert refused.value.field == "phi0"
