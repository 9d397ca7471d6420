"""From counters to the counts of an interval: a restart, a gap or a fault is missing, never negative, never zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.record.counters import (
    completions_between,
    difference,
    reading_from_json,
    reading_to_json,
)
from rollouts.domain.record.intervals import Completions, Outcomes
from rollouts.domain.record.readings import ArmReading, EngineReading, HistogramReading, SignalReading

EDGES = (0.1, 0.25, 1.0)


def arm(ended: int, errors: int = 0, **changes: Any) -> ArmReading:
    good = ended - errors
    latency = {"ttft": HistogramReading(EDGES, (good // 2, good, good), good)}
    return ArmReading(
        arrived=ended,
        answered=good,
        failed=errors,
        statuses={"2xx": good},
        latency=changes.pop("latency", latency),
        **changes,
    )


def reading(at: float, **arms: ArmReading) -> SignalReading:
    return SignalReading(at=at, router_started_at=50.0, arms=arms)


READY = {"a": 1.0, "b": 2.0}


def test_difference__two_readings__counts_of_the_time_between() -> None:
    made = difference(reading(100, a=arm(10, 1)), reading(105, a=arm(30, 3)), READY)
    assert (made.started_at, made.seconds) == (100, 5)
    counts = made.arms["a"]
    assert (counts.requests, counts.errors, counts.arrived, counts.ready) == (20, 2, 20, 1.0)
    assert counts.latency["ttft"].total == 18
    assert counts.latency["ttft"].over == {0.1: 9, 0.25: 0, 1.0: 0}


def test_difference__first_reading__nothing_and_why() -> None:
    made = difference(None, reading(100, a=arm(10)), READY)
    assert made.arms == {}
    assert "first reading" in made.missing["router"]


def test_difference__router_restarted__nothing_and_why() -> None:
    after = replace(reading(105, a=arm(2)), router_started_at=103.0)
    made = difference(reading(100, a=arm(10)), after, READY)
    assert made.arms == {}
    assert "restarted" in made.missing["router"]


def test_difference__no_time_passed__nothing() -> None:
    assert difference(reading(100, a=arm(10)), reading(100, a=arm(20)), READY).arms == {}


def test_difference__counter_went_down__that_arm_is_missing_and_the_other_counts() -> None:
    made = difference(reading(100, a=arm(10), b=arm(5)), reading(105, a=arm(3), b=arm(9)), READY)
    assert set(made.arms) == {"b"}
    assert "went down" in made.missing["a"]


def test_difference__new_variant__counts_from_zero() -> None:
    assert (
        difference(reading(100, a=arm(10)), reading(105, a=arm(10), b=arm(4)), READY).arms["b"].requests == 4
    )


def test_difference__variant_no_longer_reported__missing_and_not_zero() -> None:
    made = difference(reading(100, a=arm(10), b=arm(5)), reading(105, a=arm(12)), READY)
    assert "b" not in made.arms
    assert "no longer reports" in made.missing["b"]


def test_difference__nothing_ready__zero_ready_replicas() -> None:
    assert difference(reading(100, a=arm(1)), reading(105, a=arm(2)), {}).arms["a"].ready == 0.0


def test_difference__histogram_with_other_edges__latency_is_missing_and_the_counts_stay() -> None:
    other = {"ttft": HistogramReading((0.2, 0.4), (30, 30), 30)}
    made = difference(reading(100, a=arm(20)), reading(105, a=arm(30, latency=other)), READY)
    assert made.arms["a"].requests == 10
    assert made.arms["a"].latency == {}


def test_difference__fallbacks__are_told_apart() -> None:
    now = replace(arm(20, 6), answered=10, fallbacks=4)
    assert difference(reading(100, a=arm(10)), reading(105, a=now), READY).fallbacks == {"a": 4}


COUNTS = st.integers(0, 10**9)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_difference__any_counters__never_negative(
    ended: int, errors: int, more: int, more_errors: int
) -> None:
    before, after = arm(ended, min(errors, ended)), arm(more, min(more_errors, more))
    made = difference(reading(100, a=before), reading(105, a=after), READY)
    for counts in made.arms.values():
        assert counts.requests >= counts.errors >= 0
        for latency in counts.latency.values():
            assert all(0 <= over <= latency.total for over in latency.over.values())


@given(COUNTS, st.floats(0, 1e9), st.floats(0, 1e9))
def test_reading__to_json_and_back__is_the_same(ended: int, at: float, started: float) -> None:
    made = SignalReading(
        at=at,
        router_started_at=started,
        arms={"a": arm(ended), "b": replace(arm(0), abandoned={"before": 3}, refused={"rate": 2})},
        engines={"a": EngineReading(0.0, 0.0, 0.0, 77, 12.5, {"stop": 4, "length": 1}, 2)},
        other=5,
        turned_away=6,
    )
    assert reading_from_json(reading_to_json(made)) == made


def test_reading_from_json__nothing_kept_yet__none() -> None:
    assert reading_from_json({}) is None


def test_reading_from_json__kept_before_outcomes_were_counted_and_without_an_arm__none() -> None:
    """As an endpoint keeps it whose first engine is still loading."""
    assert reading_from_json({"at": 5.0, "router_started_at": 1.0, "arms": {}, "engines": {}}) is None


def test_reading_from_json__kept_before_outcomes_were_counted__none() -> None:
    old = {"at": 1.0, "router_started_at": 0.5, "arms": {"a": {"ended": 3, "errors": 0}}, "engines": {}}
    assert reading_from_json(old) is None


def test_difference__every_class__adds_up_to_what_arrived() -> None:
    now = ArmReading(
        arrived=60,
        answered=20,
        refused={"request": 9, "rate": 1, "gateway": 2},
        failed=3,
        fallbacks=4,
        abandoned={"before": 5, "midway": 6},
    )
    counts = difference(reading(100, a=ArmReading()), reading(105, a=now), READY).arms["a"]
    assert counts.outcomes == Outcomes(20, 9, 1, 2, 3, 4, 5, 6, running=10)
    assert counts.outcomes.ended + counts.outcomes.running == counts.arrived == 60
    assert (counts.requests, counts.errors) == (39, 7)


def test_difference__those_who_left__are_in_the_latency_with_how_long_they_waited() -> None:
    waited = {"ttft": HistogramReading(EDGES, (1, 3, 4), 6)}
    counts = difference(reading(100, a=arm(0)), reading(105, a=replace(arm(10), left=waited)), READY)
    ttft = counts.arms["a"].latency["ttft"]
    assert (ttft.total, ttft.left, ttft.left_over) == (10, 6, {0.1: 5, 0.25: 3, 1.0: 2})


ENGINE = EngineReading(0.0, 0.0, 0.0, 100, 12.5, {"stop": 8, "length": 2, "abort": 1}, 3)


def test_completions_between__two_readings__what_the_engine_finished() -> None:
    later = replace(ENGINE, generated_tokens=150, empty=5, endings={"stop": 15, "length": 5, "abort": 4})
    assert completions_between(ENGINE, later) == Completions(10, empty=2, truncated=3, tokens=50)


@pytest.mark.parametrize(
    "later",
    [
        replace(ENGINE, started_at=13.0),
        replace(ENGINE, endings={}),
        replace(ENGINE, empty=None),
        replace(ENGINE, endings={"stop": 7}),
        None,
    ],
    ids=["another process", "does not say", "does not say how long", "went down", "not read"],
)
def test_completions_between__not_comparable__none(later: EngineReading | None) -> None:
    assert completions_between(ENGINE, later) is None


def test_difference__calls_that_belong_to_no_arm__are_those_since_the_last_reading() -> None:
    before = replace(reading(100, a=arm(0)), other=10, turned_away=3)
    made = difference(before, replace(reading(105, a=arm(1)), other=14, turned_away=4), READY)
    assert (made.other, made.turned_away) == (4, 1)


def test_difference__router_restarted__its_calls_are_all_new() -> None:
    before = replace(reading(100, a=arm(0)), other=10)
    again = replace(reading(105, a=arm(0)), router_started_at=102.0, other=4, turned_away=1)
    made = difference(before, again, READY)
    assert (made.seconds, made.other, made.turned_away) == (0.0, 4, 1)


def test_difference__such_a_counter_went_down__is_never_negative() -> None:
    before = replace(reading(100, a=arm(0)), other=10)
    assert difference(before, replace(reading(105, a=arm(0)), other=4), READY).other == 0
