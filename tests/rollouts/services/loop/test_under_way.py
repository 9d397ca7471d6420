"""A cluster that hangs takes a few threads of a worker and no more, however much is due on it or clicked."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from rollouts.models import Endpoint
from rollouts.services.loop import reconcile
from rollouts.services.loop.leases import claim_endpoints, look_soon, release
from rollouts.services.loop.reconcile import CLICK_PAUSES, reconcile_after_click, reconcile_endpoints
from rollouts.services.loop.under_way import SLOW_AFTER, SLOW_AT_ONCE, WOKEN_AT_ONCE, UnderWay
from tests.rollouts.memory_world import ERRORS, MemoryWorld


class Steady:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def slow_turns(under_way: UnderWay, clock: Steady, cluster: str, number: int) -> ExitStack:
    """So many turns that are under way for longer than turns take."""
    turns = ExitStack()
    for _ in range(number):
        turns.enter_context(under_way.turn(cluster))
    clock.now += SLOW_AFTER + 0.1
    return turns


def test_cluster__as_many_slow_turns_as_may_be__hangs_until_one_ends() -> None:
    clock = Steady()
    under_way = UnderWay(clock=clock)
    turns = slow_turns(under_way, clock, "munich", SLOW_AT_ONCE)
    assert under_way.hangs("munich")
    assert not under_way.hangs("paris")
    turns.close()
    assert not under_way.hangs("munich")


def test_cluster__many_turns_that_just_began__does_not_hang() -> None:
    clock = Steady()
    under_way = UnderWay(clock=clock)
    slow_turns(under_way, clock, "munich", SLOW_AT_ONCE - 1)
    with ExitStack() as turns:
        for _ in range(10):
            turns.enter_context(under_way.turn("munich"))
        assert not under_way.hangs("munich")


def test_turn__fails__is_no_longer_under_way() -> None:
    clock = Steady()
    under_way = UnderWay(clock=clock)
    for _ in range(SLOW_AT_ONCE):
        with pytest.raises(OSError, match="gone"), under_way.turn("munich"):
            raise OSError("gone")
    clock.now += SLOW_AFTER + 0.1
    assert not under_way.hangs("munich")


def test_clicks__more_than_may_be_on_one_cluster__are_left_and_those_on_others_are_not() -> None:
    under_way = UnderWay(clock=Steady())
    with ExitStack() as clicks:
        taken = [clicks.enter_context(under_way.woken("munich")) for _ in range(WOKEN_AT_ONCE + 1)]
        assert taken == [True] * WOKEN_AT_ONCE + [False]
        assert clicks.enter_context(under_way.woken("paris"))
    with under_way.woken("munich") as free:
        assert free, "those that ended, and the one that was left, take no place any more"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Steady:
    """Of the turns under way in this process."""
    steady = Steady()
    monkeypatch.setattr(reconcile, "UNDER_WAY", UnderWay(clock=steady))
    return steady


@pytest.mark.django_db
def test_tick__cluster_hangs__leaves_its_endpoints_out_until_it_answers(
    tmp_path: Path, clock: Steady
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    look_soon()
    w.clock.advance(1.0)
    turns = slow_turns(reconcile.UNDER_WAY, clock, w.world.name, SLOW_AT_ONCE)
    assert reconcile_endpoints(worlds=w.worlds, clock=w.clock, threads=1).done == 0
    turns.close()
    assert reconcile_endpoints(worlds=w.worlds, clock=w.clock, threads=1).done == 1


@pytest.mark.django_db
def test_click__as_many_as_may_be_are_under_way__is_left_to_the_next_tick(
    tmp_path: Path, clock: Steady
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    endpoint = Endpoint.objects.get(name="triage")
    look_soon()
    w.clock.advance(1.0)
    with ExitStack() as clicks:
        for _ in range(WOKEN_AT_ONCE):
            clicks.enter_context(reconcile.UNDER_WAY.woken(w.world.name))
        reconcile_after_click(endpoint_id=endpoint.pk, worlds=w.worlds)
        endpoint.refresh_from_db()
        assert endpoint.reconciled_at != w.now
    assert reconcile_endpoints(worlds=w.worlds, clock=w.clock, threads=1).done == 1
    endpoint.refresh_from_db()
    assert endpoint.reconciled_at == w.now


@pytest.mark.django_db
def test_click__nothing_is_under_way__has_its_turn_at_once(tmp_path: Path, clock: Steady) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.clock.advance(1.0)
    reconcile_after_click(endpoint_id=Endpoint.objects.get(name="triage").pk, worlds=w.worlds)
    assert Endpoint.objects.get(name="triage").reconciled_at == w.now


@pytest.mark.django_db
def test_click__turn_of_its_endpoint_under_way__has_its_own_right_after_that(
    tmp_path: Path, clock: Steady
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.clock.advance(1.0)
    number = Endpoint.objects.get(name="triage").pk
    leases = claim_endpoints(endpoint_ids=[number], owner="the turn under way", now=w.now)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:  # it ends; what it read was older than the click
            release(dict.fromkeys(leases), now=w.now)
        w.clock.advance(seconds)

    reconcile_after_click(endpoint_id=number, worlds=w.worlds, sleep=sleep)
    assert slept == list(CLICK_PAUSES[:2])
    assert Endpoint.objects.get(pk=number).reconciled_at == w.now


@pytest.mark.django_db
def test_click__turn_of_its_endpoint_lasts_long__is_left_to_the_next_tick(
    tmp_path: Path, clock: Steady
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.clock.advance(1.0)
    number = Endpoint.objects.get(name="triage").pk
    before = Endpoint.objects.get(pk=number).reconciled_at
    leases = claim_endpoints(endpoint_ids=[number], owner="the turn under way", now=w.now)
    look_soon(pk=number)
    slept: list[float] = []
    reconcile_after_click(endpoint_id=number, worlds=w.worlds, sleep=slept.append)
    assert slept == list(CLICK_PAUSES)
    assert Endpoint.objects.get(pk=number).reconciled_at == before
    release(dict.fromkeys(leases, w.now), now=w.now)
    assert reconcile_endpoints(worlds=w.worlds, clock=w.clock, threads=1).done == 1
