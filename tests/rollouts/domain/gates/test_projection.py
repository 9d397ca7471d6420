"""The projection on the boundary: the same for a number and in an array, to the last bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
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
