"""Who holds something until when, by a clock that may jump: the same rule for claims of every kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.access.models import User
from controlplane.access.roles import Role
from controlplane.access.services import ensure_user
from controlplane.api.idempotency import LOCK_TIME, _claim
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Conflict
from controlplane.passes.models import ItemTrouble
from controlplane.passes.services import Pauses, one_run, run_each
from controlplane.timekeeping.claims import TOLERANCE, has_run_out, is_free

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
spans = st.timedeltas(timedelta(days=-3), timedelta(days=3))


@given(spans)
def test_is_free__whatever_the_clock_shows__for_no_longer_than_a_claim_lasts(shift: timedelta) -> None:
    """A claim that was made by any clock is free at the latest when a whole lifetime has passed."""
    until = NOW + shift + MINUTE
    assert is_free(until, now=NOW, lifetime=MINUTE) or is_free(
        until, now=NOW + MINUTE + TOLERANCE, lifetime=MINUTE
    )


@given(st.timedeltas(timedelta(0), MINUTE - timedelta(microseconds=1)))
def test_is_free__while_a_claim_of_this_clock_lasts__never(passed: timedelta) -> None:
    assert not is_free(NOW + MINUTE, now=NOW + passed, lifetime=MINUTE)


def test_is_free__nobody_claimed__yes() -> None:
    assert is_free(None, now=NOW, lifetime=MINUTE)


@pytest.mark.parametrize(
    ("moment", "over"),
    [(-61, True), (-60, True), (-59, False), (0, False), (4, False), (6, True), (3600, True)],
)
def test_is_over__by_age__and_a_moment_in_the_future_has_none(moment: int, over: bool) -> None:
    assert has_run_out(NOW + timedelta(seconds=moment), now=NOW, lifetime=MINUTE) is over


# --- claims of every kind --------------------------------------------------------------------------------------------


def _idempotent_call(clock: ManualClock, user: User) -> bool:
    try:
        _claim(user=user, key="k", fingerprint="sha256:0", now=clock.now())
    except Conflict:
        return False
    return True


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [-3600, -86_400])
def test_idempotency_key__of_a_process_that_died_before_the_clock_jumped_back__is_free_again(
    seconds: int,
) -> None:
    clock = ManualClock(NOW)
    user = ensure_user(username="eli", role=Role.ENGINEER, password="x" * 20)
    assert _idempotent_call(clock, user)
    assert not _idempotent_call(clock, user)
    clock.jump(seconds)
    assert _idempotent_call(clock, user)
    clock.advance(LOCK_TIME.total_seconds() - 1)
    assert not _idempotent_call(clock, user)


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [-3600, -86_400])
def test_run_of_a_pass__killed_before_the_clock_jumped_back__keeps_nobody_away(seconds: int) -> None:
    clock = ManualClock(NOW)
    with one_run(name="probes", clock=clock, seconds=60) as mine:
        assert mine
        with one_run(name="probes", clock=clock, seconds=60) as second:
            assert not second
        clock.jump(seconds)
        with one_run(name="probes", clock=clock, seconds=60) as after:
            assert after


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [3600, -3600, -86_400])
def test_item_that_failed__before_the_clock_jumps__is_tried_within_its_longest_pause(seconds: int) -> None:
    clock, tried = ManualClock(NOW), []

    def work(item: str) -> None:
        tried.append(item)
        if len(tried) == 1:
            raise ValueError("no")

    def run() -> None:
        run_each(name="p", items=["a"], key=str, work=work, clock=clock, pauses=Pauses(first=10, longest=60))

    run()
    run()
    assert len(tried) == 1
    clock.jump(seconds)
    run()
    assert len(tried) == 2
    assert not ItemTrouble.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [3600, -3600])
def test_run_with_a_limit__clock_jumps_in_it__ends_after_the_time_that_passed(seconds: int) -> None:
    clock, done = ManualClock(NOW), []

    def work(item: int) -> None:
        done.append(item)
        clock.advance(10)
        if item == 0:
            clock.jump(seconds)

    run_each(name="p", items=range(20), key=str, work=work, clock=clock, seconds=45)
    assert done == [0, 1, 2, 3, 4]
