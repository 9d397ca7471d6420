"""Where evidence crosses a level: the number that bisection finds, to the last bit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.domain.gates.bounds import BISECTIONS, Side
from rollouts.domain.gates.crossing import first_on_grid
from rollouts.domain.gates.evidence import log_sum_exp
from rollouts.domain.gates.forecast import _first, trials_until

LEVELS = st.sampled_from((math.log(20), math.log(40), math.log(1000)))
STARTS = st.floats(-200, 200, allow_nan=False)
RATES = st.floats(-2, 0.5, allow_nan=False)


def mean_log(values: list[float]) -> float:
    return log_sum_exp(values) - math.log(len(values))


def bisected(side: Side, position: int, level: float) -> float:
    """As it is defined: the last part of the stretch that still reaches the level."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        values = [(1 - middle) * row[position] + middle * row[position + 1] for row in side.logs]
        low, high = (middle, high) if mean_log(values) >= level else (low, middle)
    return side.nodes[position] + low * (side.nodes[position + 1] - side.nodes[position])


@settings(max_examples=300)
@given(rows=st.lists(st.tuples(STARTS, STARTS, STARTS), min_size=1, max_size=5), level=LEVELS)
def test_reach__any_evidence__what_bisection_finds(
    rows: list[tuple[float, float, float]], level: float
) -> None:
    falling = tuple(tuple(sorted(row, reverse=True)) for row in rows)
    side = Side((-1.0, 0.1, 0.7), falling)

    reached = [i for i in range(3) if mean_log([row[i] for row in falling]) >= level]

    if not reached:
        assert side.reach(level) is None
    elif reached[-1] == 2:
        assert side.reach(level) == 0.7
    else:
        assert side.reach(level) == bisected(side, reached[-1], level)


@settings(max_examples=300)
@given(
    lines=st.lists(st.tuples(st.floats(-30, 3), RATES), min_size=1, max_size=40),
    level=LEVELS,
    most=st.sampled_from((1.0, 50.0, 1e4, 1e7)),
)
def test_trials_until__any_growth__what_bisection_finds(
    lines: list[tuple[float, float]], level: float, most: float
) -> None:
    logs, growths = [start for start, _ in lines], [rate for _, rate in lines]

    def reached(trials: float) -> bool:
        return mean_log([value + trials * rate for value, rate in lines]) >= level

    expected = 0.0 if reached(0) else _first(reached, most)

    assert trials_until(logs, growths, level, most) == expected


def test_first_on_grid__between_two_points__the_one_that_reaches_the_level() -> None:
    assert first_on_grid([0.0], [1.0], 0.6, 0.25, end=1.0) == 3


def test_first_on_grid__on_a_point__leaves_it_to_bisection() -> None:
    assert first_on_grid([0.0], [1.0], 0.5, 0.25, end=1.0) is None


@pytest.mark.parametrize(("rate", "end"), [(-1.0, 10.0), (0.0, 10.0), (1.0, 0.5)])
def test_first_on_grid__never_reached_up_to_the_end__none(rate: float, end: float) -> None:
    assert first_on_grid([0.0], [rate], 0.6, 0.25, end=end) is None
