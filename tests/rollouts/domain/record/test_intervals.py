"""Counts of an interval: what adds up, and what counts as exposure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.record.intervals import OUTCOME_CLASSES, LatencyCounts, Outcomes

COUNTS = st.integers(min_value=0, max_value=10**6)
OUTCOMES = st.builds(Outcomes, **dict.fromkeys((*OUTCOME_CLASSES, "running"), COUNTS))


@given(OUTCOMES, OUTCOMES)
def test_outcomes_plus__any_two__ended_adds_up_and_running_is_the_later_level(
    one: Outcomes, other: Outcomes
) -> None:
    both = one.plus(other)
    assert both.ended == one.ended + other.ended
    assert both.running == other.running


def test_latency_plus__edges_that_only_one_knows__are_kept() -> None:
    one = LatencyCounts(10, {0.1: 5, 0.5: 1}, left=2, left_over={0.1: 1})
    other = LatencyCounts(4, {0.1: 2, 1.0: 1})
    assert one.plus(other) == LatencyCounts(14, {0.1: 7, 0.5: 1, 1.0: 1}, left=2, left_over={0.1: 1})
