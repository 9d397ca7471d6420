"""The projection on the boundary: the nearest point, and the same for a number and in an array, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rollouts.domain.gates.batch import ARRAYS
from rollouts.domain.gates.projection import project

INSIDE = st.floats(1e-9, 1 - 1e-9)
COUNTS = st.integers(0, 100_000)


@settings(max_examples=300)
@given(
    pa=INSIDE,
    pb=INSIDE,
    n_candidate=COUNTS,
    n_baseline=COUNTS,
    limit=st.sampled_from(((1.0, 0.0), (1.0, 0.01), (1.25, 0.0), (0.0, 0.05), (1.2, -0.01))),
)
def test_project__number_and_array__the_same_bits(
    pa: float, pb: float, n_candidate: int, n_baseline: int, limit: tuple[float, float]
) -> None:
    one = np.array([pa]), np.array([pb]), np.array([float(n_candidate)]), np.array([float(n_baseline)])

    a, b = project(*one, *limit, ARRAYS)

    assert project(pa, pb, n_candidate, n_baseline, *limit) == (
        float(np.asarray(a).flat[0]),
        float(np.asarray(b).flat[0]),
    )


def divergence(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


@given(
    st.floats(0.001, 0.999),
    st.floats(0.001, 0.999),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.sampled_from([(1.0, 0.0), (1.0, 0.05), (1.25, 0.0), (1.0, -0.1), (2.0, 0.02)]),
)
@example(0.05, 0.05, 41, 41, (1.0, -0.1))  # the first guess is 3e-17 from the end of the boundary
@settings(max_examples=150, deadline=None)
def test_project__any_alternative__lies_on_the_boundary_and_no_point_is_nearer(
    pa: float, pb: float, n_c: int, n_b: int, limit: tuple[float, float]
) -> None:
    ratio, delta = limit
    p_c, p_b = project(pa, pb, n_c, n_b, ratio, delta)
    assert 0 < p_c < 1
    assert 0 < p_b < 1
    assert p_c == pytest.approx(ratio * p_b + delta, abs=1e-12)

    def cost(b: float) -> float:
        return n_c * divergence(pa, ratio * b + delta) + n_b * divergence(pb, b)

    best = cost(p_b)
    for move in (-1e-3, -1e-5, 1e-5, 1e-3):
        other = p_b + move
        if 0 < other < 1 and 0 < ratio * other + delta < 1:
            assert best <= cost(other) + 1e-9 * max(abs(best), 1)


def test_project__equal_rates_boundary__is_the_pooled_rate() -> None:
    assert project(0.03, 0.01, 100, 300, 1.0, 0.0) == pytest.approx((0.015, 0.015))


def test_project__absolute_limit__leaves_the_baseline_alone() -> None:
    assert project(0.03, 0.2, 100, 300, 0.0, 0.01) == pytest.approx((0.01, 0.2))
