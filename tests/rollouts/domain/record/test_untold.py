"""Whether an interval's counters tell a client that left from one that had the whole answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rollouts.domain.record.counters import counts_between
from rollouts.domain.record.readings import ArmReading
from tests.rollouts.domain.record.test_counters import READY, reading, readings, target


def left(answered: int, gone: int, unheld: int) -> ArmReading:
    return ArmReading(arrived=answered + gone, answered=answered, abandoned={"midway": gone}, unheld=unheld)


def test_counts_between__answers_whose_end_nobody_held_back__says_that_departures_are_not_told() -> None:
    made = counts_between(reading(100, a=left(0, 0, 0)), reading(105, a=left(92, 8, 100)), READY)
    assert made.untold["a"].endswith("(100 of 100 answers)")
    outcomes = made.arms["a"].outcomes
    assert outcomes is not None
    assert (outcomes.answered, outcomes.abandoned) == (92, 8)


def test_counts_between__all_is_held_since_the_last_reading__departures_are_told_again() -> None:
    made = counts_between(reading(100, a=left(92, 8, 100)), reading(105, a=left(192, 8, 100)), READY)
    assert made.untold == {}


@pytest.mark.parametrize(("unheld", "told"), [(2, True), (3, False)])
def test_counts_between__few_that_ended_while_it_was_written_down__do_not_matter(
    unheld: int, told: bool
) -> None:
    made = counts_between(reading(100, a=left(0, 0, 0)), reading(105, a=left(95, 5, unheld)), READY)
    assert (not made.untold) is told


def test_counts_between__nobody_left_either__is_not_told_all_the_same() -> None:
    """Intervals with leavers must not be the only ones that are left out."""
    made = counts_between(reading(100, a=left(0, 0, 0)), reading(105, a=left(100, 0, 100)), READY)
    assert set(made.untold) == {"a"}


def test_counts_between__fewer_unheld_than_before__is_no_counter_that_went_down() -> None:
    made = counts_between(reading(100, a=left(10, 0, 1)), reading(105, a=left(20, 0, 0)), READY)
    assert made.missing == {}
    assert made.untold == {}


def test_counts_between__one_process_holds_nothing_back__is_not_told() -> None:
    before = readings(100, x=target(a=left(0, 0, 0)), y=target(a=left(0, 0, 0)))
    after = readings(105, x=target(a=left(50, 0, 0)), y=target(a=left(45, 5, 50)))
    assert counts_between(before, after, READY).untold["a"].endswith("(50 of 100 answers)")


def running(answered: int, runs: int, unheld: int, gone: int = 0) -> ArmReading:
    found = left(answered, gone, unheld)
    return replace(found, arrived=found.arrived + runs)


def test_counts_between__answer_that_began_unheld_ends_much_later__is_not_told() -> None:
    """It counts from its first byte on, and whoever closes at its end looks as if they left."""
    made = counts_between(reading(100, a=running(0, 1, 1)), reading(105, a=running(0, 0, 1, gone=1)), READY)
    assert made.untold["a"].endswith("(1 of 1 answers)")


def test_counts_between__all_that_ran_was_held_from_the_start__is_told() -> None:
    made = counts_between(reading(100, a=running(50, 9, 0)), reading(105, a=running(80, 7, 0, gone=3)), READY)
    assert made.untold == {}
