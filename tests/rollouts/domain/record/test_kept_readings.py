"""Readings are kept between two intervals: exact, and those of earlier versions are read."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.record.asked import AskedReading, ProcessCounters
from rollouts.domain.record.counters import counts_between
from rollouts.domain.record.kept_readings import reading_from_json, reading_to_json
from rollouts.domain.record.readings import ROUTER, EngineReading, SignalReading, TargetReading
from tests.rollouts.domain.record.test_counters import COUNTS, arm, reading


@given(COUNTS, st.floats(0, 1e9), st.floats(0, 1e9))
def test_reading__to_json_and_back__is_the_same(ended: int, at: float, started: float) -> None:
    made = SignalReading(
        at=at,
        targets={
            ROUTER: TargetReading(started, {"a": arm(ended)}, other=5, turned_away=6),
            "second": TargetReading(
                started + 1, {"b": replace(arm(0), abandoned={"before": 3}, refused={"rate": 2})}
            ),
        },
        engines={"a": EngineReading(0.0, 0.0, 0.0, 77, 12.5, {"stop": 4, "length": 1}, 2)},
    )
    assert reading_from_json(reading_to_json(made)) == made


def test_reading__counters_that_gates_asked_for__are_kept_where_they_were_read() -> None:
    read = AskedReading(3.5, {"v1-7d9f-abcde-1a2b": ProcessCounters({"s1": 2}, {"s2": 40, "s3": 1})})
    made = SignalReading(1.0, {}, asked={"v1": {"d1": read, "d2": "it is absent"}, "v2": {"d1": "away"}})
    kept = reading_from_json(json.loads(json.dumps(reading_to_json(made))))
    assert kept is not None
    assert kept.asked == {"v1": {"d1": read}, "v2": {}}


def test_reading__nothing_asked_for__has_the_bytes_of_before() -> None:
    assert "asked" not in reading_to_json(SignalReading(1.0, {}, asked={"v1": {"d1": "away"}}))


def test_reading_from_json__nothing_kept_yet__none() -> None:
    assert reading_from_json({}) is None


def test_reading_from_json__kept_before_outcomes_were_counted_and_without_an_arm__none() -> None:
    """As an endpoint keeps it whose first engine is still loading."""
    assert reading_from_json({"at": 5.0, "router_started_at": 1.0, "arms": {}, "engines": {}}) is None


def test_reading_from_json__kept_before_outcomes_were_counted__none() -> None:
    old = {"at": 1.0, "router_started_at": 0.5, "arms": {"a": {"ended": 3, "errors": 0}}, "engines": {}}
    assert reading_from_json(old) is None


def test_reading_from_json__kept_before_targets_were_told_apart__has_one_and_the_interval_goes_on() -> None:
    after = reading(100, other=3, turned_away=1, a=arm(10, 1))
    kept = reading_to_json(after)
    one = kept.pop("targets")[ROUTER]
    one["router_started_at"] = one.pop("started_at")
    before = reading_from_json({**kept, **one})
    assert before == after
    made = counts_between(before, reading(105, other=4, a=arm(30, 3)), {"a": 1.0})
    assert (made.arms["a"].requests, made.other, made.unseen) == (20, 1, {})
