"""Counters that gates ask for: what two readings of them make of an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.domain.record.asked import (
    AskedCounts,
    AskedReading,
    CounterPair,
    ProcessCounters,
    asked_between,
)


def process(bad: int | None = 0, every: int | None = 0) -> ProcessCounters:
    """One series of each; None: it is not there."""
    return ProcessCounters({} if bad is None else {"b": bad}, {} if every is None else {"a": every})


def reading(**processes: ProcessCounters) -> AskedReading:
    return AskedReading(1.0, processes)


def between(then: AskedReading | str | None, now: AskedReading | str) -> AskedCounts:
    return asked_between({} if then is None else {"d": then}, {"d": now})["d"]


def test_between__same_process__is_what_it_counted_since() -> None:
    assert between(reading(p=process(3, 100)), reading(p=process(5, 140))) == AskedCounts(2, 40)


def test_between__no_reading__is_why_and_no_number() -> None:
    assert between(reading(p=process(3, 100)), "no fresh series") == AskedCounts(why="no fresh series")


def test_between__first_reading__is_compared_with_nothing() -> None:
    assert "not read before" in between(None, reading(p=process(5, 140))).why


@pytest.mark.parametrize("now", [process(2, 140), process(5, 99)])
def test_between__counter_that_went_down__is_no_number(now: ProcessCounters) -> None:
    assert "counted down" in between(reading(p=process(3, 100)), reading(p=now)).why


def test_between__process_that_began_again__counts_nothing_of_either() -> None:
    """Also where it has counted more than the one before it."""
    found = between(reading(p1=process(3, 100)), reading(p2=process(50, 900)))
    assert found.total == 0
    assert "p1 is gone, began again or was not read; p2 was not read before" in found.why


def test_between__one_of_three_processes_began_again__the_others_count() -> None:
    then = reading(p=process(3, 100), q=process(0, 10), r=process(0, 20))
    now = reading(p=process(4, 110), q=process(1, 30), s=process(9, 9))
    assert between(then, now) == AskedCounts(2, 30)


def test_between__new_replica__counts_from_its_second_reading() -> None:
    then, now = reading(p=process(0, 10)), reading(p=process(0, 20), q=process(4, 5))
    assert between(then, now) == AskedCounts(0, 10)
    assert between(now, reading(p=process(0, 20), q=process(5, 9))) == AskedCounts(1, 4)


def test_between__series_that_begins_in_a_known_process__began_at_zero() -> None:
    then = AskedReading(1.0, {"p": process(3, 100), "q": process(None, 50)})
    now = AskedReading(1.0, {"p": process(3, 100), "q": process(2, 60)})
    assert between(then, now) == AskedCounts(2, 10)


def test_between__series_that_is_gone__voids_its_process() -> None:
    then = AskedReading(1.0, {"p": ProcessCounters({"b": 1, "c": 2}, {"a": 9})})
    assert "lost a series" in between(then, reading(p=process(1, 20))).why


def test_between__more_bad_events_than_events__are_exchanged() -> None:
    found = between(reading(p=process(90, 9)), reading(p=process(99, 10)))
    assert "more bad events (99) than events (10)" in found.why


def test_between__bad_events_of_earlier_ones__are_no_more_than_all() -> None:
    assert between(reading(p=process(0, 100)), reading(p=process(3, 101))) == AskedCounts(3, 3)


def test_between__bad_counted_by_another_process__a_restart_of_either_voids_both() -> None:
    then = reading(guard=process(1, None), engine=process(None, 100), other=process(None, 50))
    now = reading(guard=process(2, None), engine=process(None, 110), other=process(None, 55))
    assert between(then, now) == AskedCounts(1, 15)
    restarted = reading(guard=process(2, None), engine=process(None, 110), other2=process(None, 5))
    assert "could not be counted" in between(then, restarted).why


def test_reading__kept_as_json__comes_back() -> None:
    found = reading(p=process(3, 100), q=process(None, 5))
    assert AskedReading.from_json(found.to_json()) == found


@pytest.mark.parametrize("counts", [AskedCounts(2, 10), AskedCounts(why="absent"), AskedCounts()])
def test_counts__kept_as_json__come_back(counts: AskedCounts) -> None:
    assert AskedCounts.from_json(counts.to_json()) == counts


def test_counts__added_up__what_says_nothing_adds_nothing() -> None:
    assert AskedCounts(1, 5).plus(AskedCounts(2, 7)) == AskedCounts(3, 12)
    assert AskedCounts(1, 5).plus(AskedCounts(why="absent")) == AskedCounts(1, 5)
    assert AskedCounts(why="absent").plus(AskedCounts(1, 5)) == AskedCounts(1, 5)


def test_pair__other_expressions__have_another_digest() -> None:
    digests = {CounterPair("a", "b").digest, CounterPair("b", "a").digest, CounterPair("a", "bc").digest}
    assert len(digests) == 3


# --- whatever happens to the processes --------------------------------------------------------------------------------


@dataclass
class Fleet:
    """Processes that count; what happens to them is drawn. `happened` is the truth of the interval."""

    running: dict[str, list[int]] = field(default_factory=lambda: {"p0": [0, 0]})
    made: int = 1
    happened: tuple[int, int] = (0, 0)

    def read(self, hidden: frozenset[int]) -> AskedReading | str:
        """A bad counter is not there before it counts; a process whose number is hidden is not scraped."""
        seen = {
            name: ProcessCounters({"b": bad} if bad else {}, {"a": every})
            for number, (name, (bad, every)) in enumerate(sorted(self.running.items()))
            if number not in hidden
        }
        if not any(one.bad for one in seen.values()):
            return "its bad_query has no fresh series"
        self.happened = (0, 0)
        return AskedReading(1.0, seen)

    def count(self, which: int, bad: int, good: int) -> None:
        names = sorted(self.running)
        if names:
            one = self.running[names[which % len(names)]]
            one[0] += bad
            one[1] += bad + good
            self.happened = self.happened[0] + bad, self.happened[1] + bad + good

    def restart(self, which: int) -> None:
        names = sorted(self.running)
        if names:
            del self.running[names[which % len(names)]]
        self.begin()

    def begin(self) -> None:
        self.running[f"p{self.made}"] = [0, 0]
        self.made += 1


EVENTS = st.one_of(
    st.tuples(st.just("count"), st.integers(0, 9), st.integers(0, 5), st.integers(0, 20)),
    st.tuples(st.just("restart"), st.integers(0, 9)),
    st.tuples(st.just("begin")),
)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.lists(EVENTS, max_size=8), st.frozensets(st.integers(0, 3), max_size=2)), max_size=8
    )
)
def test_between__restarts_and_replicas__never_make_events_that_did_not_happen(
    intervals: list[tuple[list[tuple[str, int]], frozenset[int]]],
) -> None:
    fleet = Fleet()
    since_read = (0, 0)  # what happened since the last reading that was kept
    before: Mapping[str, AskedReading | str] = {}
    for events, hidden in intervals:
        for name, *values in events:
            getattr(fleet, name)(*values)
        since_read = since_read[0] + fleet.happened[0], since_read[1] + fleet.happened[1]
        fleet.happened = (0, 0)
        after = {"d": fleet.read(hidden)}
        found = asked_between(before, after)["d"]
        if found.why:
            assert (found.bad, found.total) == (0, 0)
        else:
            assert 0 <= found.bad <= since_read[0]
            assert found.bad <= found.total <= since_read[1]
        before, since_read = after, (0, 0)
