"""Jumps of the clock: noticed, noted once, and what was kept as a time is moved with them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.clock import ClockReading, ManualClock, SystemClock, seconds_between
from controlplane.timekeeping import database_clock
from controlplane.timekeeping.database_clock import CLOCK, DatabaseClock
from controlplane.timekeeping.jumps import (
    SMALLEST_JUMP,
    jumps_after,
    look_at_clock,
    moved,
    now_for_retention,
)
from controlplane.timekeeping.models import ClockJump
from controlplane.web.health import beat, reported

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = 3600.0
pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, 24 * HOUR, -24 * HOUR, 6.0, -6.0])
def test_look__after_a_jump__notes_it_once(clock: ManualClock, seconds: float) -> None:
    look_at_clock(clock)
    clock.advance(3)
    clock.jump(seconds)
    assert look_at_clock(clock).jumps == 1
    clock.advance(100)
    assert look_at_clock(clock).jumps == 1
    jump = ClockJump.objects.get()
    assert jump.seconds == pytest.approx(seconds)
    assert (jump.number, jump.at - jump.before) == (1, timedelta(seconds=3 + seconds))


def test_look__clock_is_set_gently__is_no_jump(clock: ManualClock) -> None:
    for _ in range(100):
        clock.advance(10)
        clock.jump(SMALLEST_JUMP / 10)
        look_at_clock(clock)
    assert not ClockJump.objects.exists()


def test_look__after_the_control_plane_was_away_for_an_hour__is_no_jump(clock: ManualClock) -> None:
    look_at_clock(clock)
    clock.advance(HOUR)
    assert look_at_clock(clock).jumps == 0


def test_look__two_machines__a_jump_of_the_common_clock_is_noted_once_whoever_sees_it(
    clock: ManualClock,
) -> None:
    other = ManualClock(NOW + timedelta(seconds=1), machine="other")
    for _ in range(5):
        look_at_clock(clock)
        look_at_clock(other)
        clock.advance(10)
        other.advance(10)
    clock.jump(-HOUR)
    other.jump(-HOUR)
    assert look_at_clock(other).jumps == 1
    assert look_at_clock(clock).jumps == 1


def test_look__first_one_of_a_machine__knows_a_clock_that_went_back(clock: ManualClock) -> None:
    look_at_clock(clock)
    started = ManualClock(NOW - timedelta(hours=1), machine="started anew")
    assert look_at_clock(started).jumps == 1
    assert ClockJump.objects.get().seconds == pytest.approx(-HOUR)


def test_look__nothing_jumped__one_query(clock: ManualClock) -> None:
    look_at_clock(clock)
    clock.advance(1)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        look_at_clock(clock)
    assert len(queries) == 1


@given(
    st.lists(
        st.tuples(st.floats(20, 5000), st.sampled_from([HOUR, -HOUR, 24 * HOUR, -24 * HOUR, 600.0, -600.0])),
        min_size=1,
        max_size=6,
    ),
    st.floats(0, 5000),
)
def test_moved__after_any_jumps__now_minus_it_is_the_time_that_passed(
    story: list[tuple[float, float]], passed: float
) -> None:
    """The moment is moved once after every jump, as the loop does. It may count as new; never as older than it is."""
    now, age, moment = NOW, passed, NOW - timedelta(seconds=passed)
    for seconds, jump in story:
        before = now + timedelta(seconds=seconds)
        now = before + timedelta(seconds=jump + 1)
        age += seconds + 1
        row = ClockJump(before=before, at=now, seconds=jump)
        moment = moved(moment, [row], now=now)
        found = (now - moment).total_seconds()
        assert found <= age + 0.001
        if abs(age - abs(jump)) > 20:  # else it may be taken for a moment of just now
            assert found == pytest.approx(age, abs=0.001)
        else:
            age = found


def test_jumps_after__are_those_that_were_not_settled(clock: ManualClock) -> None:
    for seconds in (HOUR, -HOUR, HOUR):
        look_at_clock(clock)
        clock.advance(10)
        clock.jump(seconds)
        look_at_clock(clock)
    assert [jump.number for jump in jumps_after(1)] == [2, 3]


def test_retention__after_a_jump_forward__nothing_is_older_than_it_is(clock: ManualClock) -> None:
    look_at_clock(clock)
    clock.advance(10)
    clock.jump(400 * 24 * HOUR)
    look_at_clock(clock)
    kept = now_for_retention(clock.now(), longest=timedelta(days=30))
    assert kept == NOW + timedelta(seconds=10)


# --- shown -----------------------------------------------------------------------------------------------------------


def test_readiness__after_a_jump__says_so(clock: ManualClock) -> None:
    look_at_clock(clock)
    clock.jump(-HOUR)
    look_at_clock(clock)
    part = next(part for part in reported(now=clock.now()) if part.name == "clock")
    assert part.state == "failing"
    assert part.message.startswith("it jumped back by 1 h at 2026-03-02 08:00:00 UTC")
    clock.advance(25 * HOUR)
    assert not any(part.name == "clock" for part in reported(now=clock.now()))


def test_readiness__after_two_jumps__says_the_last_one(clock: ManualClock) -> None:
    for seconds in (24 * HOUR, -HOUR):
        look_at_clock(clock)
        clock.jump(seconds)
    look_at_clock(clock)
    part = next(part for part in reported(now=clock.now()) if part.name == "clock")
    assert "back by 1 h" in part.message


def test_readiness__last_word_of_a_part_in_the_future__is_an_alarm(clock: ManualClock) -> None:
    beat(name="worker", now=NOW + timedelta(hours=1))
    part = next(part for part in reported(now=NOW) if part.name == "worker")
    assert part.state == "stale"
    assert "is 1 h in the future" in part.message
    assert part.age_words == "in the future"


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_seconds_between__on_one_machine__are_measured_whatever_the_clock_shows(clock: ManualClock) -> None:
    begin = clock.reading()
    clock.advance(5)
    clock.jump(-HOUR)
    assert seconds_between(begin, clock.reading()) == 5


def test_seconds_between__on_two_machines__are_as_the_clocks_tell_and_never_negative() -> None:
    first = ClockReading(NOW, 100.0, "a")
    assert seconds_between(first, ClockReading(NOW + timedelta(seconds=7), 3.0, "b")) == 7
    assert seconds_between(first, ClockReading(NOW - timedelta(seconds=7), 3.0, "b")) == 0


def test_reading__as_json__is_the_same_again(clock: ManualClock) -> None:
    reading = clock.reading()
    assert ClockReading.from_json(reading.to_json()) == reading


def test_database_clock__is_aware_and_near_this_machines(clock: ManualClock) -> None:
    made, here = DatabaseClock(), SystemClock()
    for shown in (made.now(), made.reading().at, made.now()):
        assert abs(shown - here.now()) < timedelta(seconds=5)
    assert made.reading().machine == here.reading().machine


@pytest.mark.parametrize("error", [OperationalError("no route"), InterfaceError("connection already closed")])
def test_database_clock__database_does_not_answer__goes_on_and_never_fails(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails() -> datetime:
        raise error

    monkeypatch.setattr(database_clock, "connection", SimpleNamespace(vendor="postgresql"))
    monkeypatch.setattr(database_clock, "_asked", fails)
    assert abs(DatabaseClock().now() - SystemClock().now()) < timedelta(seconds=5)


def test_clock_of_the_installation__in_a_test__asks_no_database_however_long_the_test_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tests that count queries count those of the code, on a slow machine too."""
    asked: list[object] = []
    later = time.monotonic() + HOUR
    monkeypatch.setattr(database_clock, "connection", SimpleNamespace(vendor="postgresql"))
    monkeypatch.setattr(database_clock, "_asked", lambda: asked.append(1))
    monkeypatch.setattr(database_clock, "time", SimpleNamespace(monotonic=lambda: later))
    assert abs(CLOCK.now() - datetime.now(UTC) - timedelta(hours=1)) < timedelta(seconds=5)
    assert not asked
