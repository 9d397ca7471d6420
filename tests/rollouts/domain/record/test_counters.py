"""From counters to the counts of an interval: a restart, a gap or a fault is missing, never negative, never zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from rollouts.domain.record.counters import (
    completions_between,
    counts_between,
)
from rollouts.domain.record.intervals import Completions, Outcomes
from rollouts.domain.record.kept_readings import reading_from_json, reading_to_json
from rollouts.domain.record.readings import (
    ROUTER,
    ArmReading,
    EngineReading,
    HistogramReading,
    SignalReading,
    TargetReading,
)

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


def reading(
    at: float, *, started_at: float = 50.0, other: int = 0, turned_away: int = 0, **arms: ArmReading
) -> SignalReading:
    """Of a router that is one process."""
    return SignalReading(at, {ROUTER: TargetReading(started_at, arms, other, turned_away)})


def readings(at: float, **targets: TargetReading) -> SignalReading:
    return SignalReading(at, targets)


def target(started_at: float = 50.0, **arms: ArmReading) -> TargetReading:
    return TargetReading(started_at, arms)


READY = {"a": 1.0, "b": 2.0}


def test_difference__two_readings__counts_of_the_time_between() -> None:
    made = counts_between(reading(100, a=arm(10, 1)), reading(105, a=arm(30, 3)), READY)
    assert (made.started_at, made.seconds) == (100, 5)
    counts = made.arms["a"]
    assert (counts.requests, counts.errors, counts.arrived, counts.ready) == (20, 2, 20, 1.0)
    assert counts.latency["ttft"].total == 18
    assert counts.latency["ttft"].over == {0.1: 9, 0.25: 0, 1.0: 0}


def test_difference__first_reading__nothing_and_why() -> None:
    made = counts_between(None, reading(100, a=arm(10)), READY)
    assert made.arms == {}
    assert "first reading" in made.missing["router"]


def test_difference__router_restarted__nothing_and_why() -> None:
    after = reading(105, started_at=103.0, a=arm(2))
    made = counts_between(reading(100, a=arm(10)), after, READY)
    assert made.arms == {}
    assert "restarted" in made.missing["router"]


def test_difference__no_time_passed__nothing() -> None:
    assert counts_between(reading(100, a=arm(10)), reading(100, a=arm(20)), READY).arms == {}


def test_difference__counter_went_down__that_arm_is_missing_and_the_other_counts() -> None:
    made = counts_between(reading(100, a=arm(10), b=arm(5)), reading(105, a=arm(3), b=arm(9)), READY)
    assert set(made.arms) == {"b"}
    assert "went down" in made.missing["a"]


def test_difference__new_variant__counts_from_zero() -> None:
    assert (
        counts_between(reading(100, a=arm(10)), reading(105, a=arm(10), b=arm(4)), READY).arms["b"].requests
        == 4
    )


def test_difference__variant_no_longer_reported__missing_and_not_zero() -> None:
    made = counts_between(reading(100, a=arm(10), b=arm(5)), reading(105, a=arm(12)), READY)
    assert "b" not in made.arms
    assert "no longer reports" in made.missing["b"]


def test_difference__nothing_ready__zero_ready_replicas() -> None:
    assert counts_between(reading(100, a=arm(1)), reading(105, a=arm(2)), {}).arms["a"].ready == 0.0


@pytest.mark.parametrize("slow", [0, 15], ids=["all quick", "half slow"])
def test_difference__histogram_with_other_edges__latency_is_missing_and_the_counts_stay(slow: int) -> None:
    """What was timed before is in all of its counts, and nobody knows in which."""
    other = {"ttft": HistogramReading((0.2, 0.4), (30 - slow, 30 - slow), 30)}
    made = counts_between(reading(100, a=arm(4)), reading(105, a=arm(30, latency=other)), READY)
    assert made.arms["a"].requests == 26
    assert made.arms["a"].latency == {}


def test_difference__fallbacks__are_told_apart() -> None:
    now = replace(arm(20, 6), answered=10, fallbacks=4)
    assert counts_between(reading(100, a=arm(10)), reading(105, a=now), READY).fallbacks == {"a": 4}


COUNTS = st.integers(0, 10**9)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_difference__any_counters__never_negative(
    ended: int, errors: int, more: int, more_errors: int
) -> None:
    before, after = arm(ended, min(errors, ended)), arm(more, min(more_errors, more))
    made = counts_between(reading(100, a=before), reading(105, a=after), READY)
    for counts in made.arms.values():
        assert counts.requests >= counts.errors >= 0
        for latency in counts.latency.values():
            assert all(0 <= over <= latency.total for over in latency.over.values())


def test_difference__every_class__adds_up_to_what_arrived() -> None:
    now = ArmReading(
        arrived=60,
        answered=20,
        refused={"request": 9, "rate": 1, "gateway": 2},
        failed=3,
        fallbacks=4,
        abandoned={"before": 5, "midway": 6},
    )
    counts = counts_between(reading(100, a=ArmReading()), reading(105, a=now), READY).arms["a"]
    assert counts.outcomes == Outcomes(20, 9, 1, 2, 3, 4, 5, 6, running=10)
    assert counts.outcomes.ended + counts.outcomes.running == counts.arrived == 60
    assert (counts.requests, counts.errors) == (39, 7)


def test_difference__those_who_left__are_in_the_latency_with_how_long_they_waited() -> None:
    waited = {"ttft": HistogramReading(EDGES, (1, 3, 4), 6)}
    counts = counts_between(reading(100, a=arm(0)), reading(105, a=replace(arm(10), left=waited)), READY)
    ttft = counts.arms["a"].latency["ttft"]
    assert (ttft.total, ttft.left, ttft.left_over) == (10, 6, {0.1: 5, 0.25: 3, 1.0: 2})


def test_difference__those_who_left_cannot_be_compared__latency_is_missing_and_not_of_the_others_alone() -> (
    None
):
    before = replace(arm(0), left={"ttft": HistogramReading(EDGES, (5, 5, 5), 5)})
    after = replace(arm(10), left={"ttft": HistogramReading(EDGES, (2, 2, 2), 2)})
    counts = counts_between(reading(100, a=before), reading(105, a=after), READY).arms["a"]
    assert (counts.requests, counts.latency) == (10, {})


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
    before = reading(100, other=10, turned_away=3, a=arm(0))
    made = counts_between(before, reading(105, other=14, turned_away=4, a=arm(1)), READY)
    assert (made.other, made.turned_away) == (4, 1)


def test_difference__router_restarted__its_calls_are_all_new() -> None:
    before = reading(100, other=10, a=arm(0))
    again = reading(105, started_at=102.0, other=4, turned_away=1, a=arm(0))
    made = counts_between(before, again, READY)
    assert (made.seconds, made.other, made.turned_away) == (0.0, 4, 1)


def test_difference__such_a_counter_went_down__is_never_negative() -> None:
    before = reading(100, other=10, a=arm(0))
    assert counts_between(before, reading(105, other=4, a=arm(0)), READY).other == 0


# --- several processes of the router ----------------------------------------------------------------------------------


def test_difference__several_targets__their_counts_are_added_up() -> None:
    before = readings(100, x=target(a=arm(10, 1)), y=target(60.0, a=arm(100, 10)))
    after = readings(105, x=target(a=arm(30, 3)), y=target(60.0, a=arm(140, 14)))
    made = counts_between(before, after, READY)
    counts = made.arms["a"]
    assert (counts.requests, counts.errors, counts.arrived, counts.ready) == (60, 6, 60, 1.0)
    assert counts.latency["ttft"].total == 54
    assert (made.unseen, made.unseen_share, made.unseen_seconds) == ({}, 0.0, 0.0)


def test_difference__several_targets__what_still_runs_is_the_sum_at_the_end() -> None:
    held = ArmReading(arrived=5, answered=2)
    before = readings(100, x=target(a=ArmReading()), y=target(a=ArmReading()))
    counts = counts_between(before, readings(105, x=target(a=held), y=target(a=held)), READY).arms["a"]
    assert counts.outcomes is not None
    assert (counts.outcomes.running, counts.outcomes.answered) == (6, 4)


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ({"x": target(a=arm(30)), "y": target(103.0, a=arm(2))}, "restarted"),
        ({"x": target(a=arm(30))}, "was not read: it does not answer"),
        ({"x": target(a=arm(30)), "y": target(a=arm(100)), "z": target(99.0, a=arm(2))}, "not read before"),
    ],
)
def test_difference__one_target_cannot_be_compared__only_its_part_is_void(
    after: dict[str, TargetReading], why: str
) -> None:
    before = readings(100, x=target(a=arm(10)), y=target(a=arm(100)))
    made = counts_between(before, readings(105, **after), READY)
    assert made.arms["a"].requests == 20
    assert made.missing == {}
    assert [why in words for words in made.unseen.values()] == [True]
    assert made.unseen_seconds == pytest.approx(made.unseen_share * 5)


def test_difference__one_of_two_restarted__half_of_the_traffic_went_unseen() -> None:
    before = readings(100, x=target(a=arm(10)), y=target(a=arm(10)))
    made = counts_between(before, readings(105, x=target(a=arm(30)), y=target(101.0, a=arm(15))), READY)
    assert (made.unseen_share, made.seconds) == (0.5, 5)


@pytest.mark.parametrize("others", [{}, {"y": target(101.0)}], ids=["gone", "restarted"])
def test_difference__a_target_is_lost__so_is_what_it_held_when_it_was_read_last(
    others: dict[str, TargetReading],
) -> None:
    held = ArmReading(arrived=9, answered=2)
    before = readings(100, x=target(a=held, b=arm(5)), y=target(a=held, b=arm(5)))
    assert counts_between(before, readings(105, x=target(a=held, b=arm(6)), **others), READY).lost == {"a": 7}
    assert counts_between(before, readings(105, **others), READY).lost == {"a": 14}, (
        "the whole interval is void"
    )


def test_difference__most_targets_restarted__the_interval_is_void_and_says_how_many() -> None:
    before = readings(100, x=target(a=arm(10)), y=target(a=arm(10)), z=target(a=arm(10)))
    after = readings(105, x=target(a=arm(30)), y=target(101.0, a=arm(1)), z=target(101.0, a=arm(1)))
    made = counts_between(before, after, READY)
    assert (made.arms, made.seconds, made.unseen_share, made.unseen_seconds) == ({}, 0.0, 1.0, 5)
    assert made.missing["router"].startswith("2 of 3 processes of the router were not counted: y restarted")


def test_difference__few_targets_with_most_of_the_traffic_restarted__the_interval_is_void() -> None:
    """Targets need not be alike: what the new process has counted already is more than all the others."""
    before = readings(100, x=target(a=arm(0)), y=target(a=arm(0)), z=target(a=arm(900)))
    after = readings(105, x=target(a=arm(10)), y=target(a=arm(10)), z=target(101.0, a=arm(80)))
    assert counts_between(before, after, READY).arms == {}


def test_difference__one_of_two_restarted_that_had_a_little_over_a_half__is_no_void_interval() -> None:
    before = readings(100, x=target(a=arm(10)), y=target(a=arm(10)))
    made = counts_between(before, readings(105, x=target(a=arm(30)), y=target(100.1, a=arm(24))), READY)
    assert made.unseen_share == pytest.approx(24 / 44)
    assert made.arms["a"].requests == 20


def test_difference__one_of_two_replaced_by_one_with_another_name__half_went_unseen() -> None:
    """As a rolling update of pods does: it is one process that was replaced, not two of three that are missing."""
    before = readings(100, x=target(a=arm(10)), y=target(a=arm(10)))
    made = counts_between(before, readings(105, x=target(a=arm(30)), z=target(101.0, a=arm(15))), READY)
    assert (made.unseen_share, made.arms["a"].requests, set(made.unseen)) == (0.5, 20, {"y", "z"})


def test_difference__a_target_is_read_again_after_a_gap__only_its_part_is_void() -> None:
    """All that it counted since it started, an hour ago, says little of the last five seconds."""
    before = readings(3_600, x=target(a=arm(9_000)), y=target(a=arm(9_000)))
    after = readings(3_605, x=target(a=arm(9_020)), y=target(a=arm(9_020)), z=target(a=arm(9_020)))
    made = counts_between(before, after, READY)
    assert made.arms["a"].requests == 40
    assert made.unseen_share == pytest.approx(1 / 3)


def test_difference__no_target_at_all__nothing_and_why() -> None:
    made = counts_between(readings(100), readings(105), READY)
    assert (made.seconds, made.missing) == (0.0, {"router": "the router reports no process that counts"})


def test_difference__a_counter_went_down_at_one_target__the_arm_is_missing_and_the_other_counts() -> None:
    before = readings(100, x=target(a=arm(10), b=arm(5)), y=target(a=arm(10), b=arm(5)))
    after = readings(105, x=target(a=arm(20), b=arm(9)), y=target(a=arm(3), b=arm(9)))
    made = counts_between(before, after, READY)
    assert set(made.arms) == {"b"}
    assert "went down" in made.missing["a"]
    assert made.arms["b"].requests == 8


def test_difference__targets_with_other_edges__latency_is_missing_and_the_counts_stay() -> None:
    other = {"ttft": HistogramReading((0.2, 0.4), (5, 10), 10)}
    before = readings(100, x=target(a=arm(0)), y=target(a=arm(0, latency={})))
    after = readings(105, x=target(a=arm(10)), y=target(a=arm(10, latency=other)))
    counts = counts_between(before, after, READY).arms["a"]
    assert (counts.requests, counts.latency) == (20, {})


def test_difference__a_target_that_has_measured_nothing_yet__is_no_gap_in_the_latency() -> None:
    before = readings(100, x=target(a=arm(0)), y=target(a=arm(0, latency={})))
    after = readings(105, x=target(a=arm(10)), y=target(a=arm(0, latency={})))
    assert counts_between(before, after, READY).arms["a"].latency["ttft"].total == 10


def test_difference__calls_of_a_target_that_is_new__are_those_since_it_started() -> None:
    before = SignalReading(100, {"x": TargetReading(50.0, {}, 10)})
    young, old = TargetReading(101.0, {}, 4, 1), TargetReading(20.0, {}, 1_000, 1_000)
    made = counts_between(
        before, SignalReading(105, {"x": TargetReading(50.0, {}, 12), "y": young, "z": old}), READY
    )
    assert (made.other, made.turned_away) == (6, 1)


class Router(RuleBasedStateMachine):
    """Some processes of a router that take requests, restart, come and go; what became of each request is known.

    The truth beside the counters: by process, the requests that it has and nobody has read yet."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.starts = 0
        self.running: dict[str, tuple[float, int]] = {}  # by process: its start, what it has counted
        self.fresh: dict[str, int] = {}  # by process that was read in this life: counted since that reading
        self.before: SignalReading | None = None
        self.sent = self.seen = 0
        for name in ("x", "y"):
            self.start(name)

    @rule(name=st.sampled_from("wxyz"))
    def start(self, name: str) -> None:
        """A new process of this name: it restarts where there is one."""
        self.starts += 1
        self.running[name] = (float(self.starts), 0)
        self.fresh.pop(name, None)

    @rule(name=st.sampled_from("wxyz"))
    def stop(self, name: str) -> None:
        self.running.pop(name, None)
        self.fresh.pop(name, None)

    @rule(name=st.sampled_from("wxyz"), number=st.integers(0, 50))
    def send(self, name: str, number: int) -> None:
        if name not in self.running:
            return
        started_at, counted = self.running[name]
        self.running[name] = (started_at, counted + number)
        self.sent += number
        if name in self.fresh:
            self.fresh[name] += number

    @rule()
    def read(self) -> None:
        self.now += 5
        after = readings(
            self.now, **{n: target(start, a=arm(count)) for n, (start, count) in self.running.items()}
        )
        made = counts_between(self.before, after, READY)
        counted = made.arms["a"].requests if "a" in made.arms else 0
        comparable = sum(self.fresh.values())
        assert counted >= 0
        assert 0 <= made.unseen_share <= 1
        # All that a process counted that lived on, or nothing: never what another one lost, never a part of one.
        assert counted == (comparable if made.seconds else 0)
        assert set(made.unseen).isdisjoint(self.fresh)
        self.seen += counted
        assert self.seen <= self.sent, "a request was counted twice"
        assert reading_from_json(reading_to_json(after)) == after
        self.before, self.fresh = after, dict.fromkeys(self.running, 0)


TestRouter = Router.TestCase
TestRouter.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
