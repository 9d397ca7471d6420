"""Endpoints are looked at when there is a reason: a quiet one costs nothing in between, and nothing is seen late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rollouts.domain.lifecycle.looking import RESYNC_SECONDS
from rollouts.models import Endpoint
from rollouts.ports import WorkloadStatus
from rollouts.services.commands.endpoints import set_rescue
from rollouts.services.commands.rollouts import set_global_stop
from rollouts.services.loop.glances import Glances
from rollouts.services.loop.leases import look_soon, release
from rollouts.services.loop.reconcile import QUIET_A_TICK, due_endpoints, reconcile_endpoints
from tests.rollouts.memory_world import ERRORS, PLAN, MemoryWorld
from tests.rollouts.worlds import worlds_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """An endpoint that has come to rest: nobody asks it for anything."""
    made = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    made.run_for(5)
    turns(made, 5)
    return made


def turns(w: MemoryWorld, seconds: int, *, users: bool = False) -> int:
    """How many turns it has in so many ticks of a second."""
    before = w.workers
    for _ in range(seconds):
        w.clock.advance(1.0)
        w.sync_engines()
        if users:
            w.use(1.0)
        w.reconcile()
    return w.workers - before


def is_due(w: MemoryWorld) -> bool:
    return w.endpoint_id in {one.endpoint_id for one in due_endpoints(now=w.now)}


def test_idle_endpoint__has_a_turn_after_a_slow_while_only(w: MemoryWorld) -> None:
    assert turns(w, 4 * int(RESYNC_SECONDS)) == 4


def test_endpoint_with_requests__has_a_turn_an_interval(w: MemoryWorld) -> None:
    turns(w, int(RESYNC_SECONDS), users=True)
    assert turns(w, 20, users=True) == 20 / w.world.interval_seconds


def test_idle_endpoint__tick__costs_the_same_few_queries_whatever_their_number(w: MemoryWorld) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            reconcile_endpoints(worlds=w.worlds, clock=w.clock, threads=1, glances=w.glances)
        return len(found)

    w.reconcile_now()
    alone = queries()
    endpoint = w.endpoint
    for number in range(20):
        endpoint.pk, endpoint.name, endpoint.alias = None, f"other-{number}", f"other-{number}"
        endpoint._state.adding = True
        endpoint.save()
    assert queries() == alone <= 3


def by_hand(w: MemoryWorld) -> None:
    """Somebody sets the weight of its only variant to half."""
    w.router.routes["triage"] = replace(w.router.routes["triage"], shares={w.variant(1).name: 5_000})


def test_due__many_quiet_endpoints__delay_no_rollout_and_nobody_who_asked(w: MemoryWorld) -> None:
    w.start(2)
    w.run_to("progressing")
    late, moving = w.now - timedelta(minutes=5), w.endpoint
    quiet = [
        Endpoint(
            name=f"quiet-{number}", alias=f"quiet-{number}", created_at=late, reconciled_at=late, next_look_at=late,
            cluster=moving.cluster, model=moving.model, gate_policy=moving.gate_policy,
        )
        for number in range(QUIET_A_TICK + 5)
    ]  # fmt: skip
    made = Endpoint.objects.bulk_create(quiet)
    w.clock.advance(w.world.interval_seconds)
    look_soon(pk=made[-1].pk)
    due = [one.endpoint_id for one in due_endpoints(now=w.now)]
    assert due[:2] == [moving.pk, made[-1].pk]
    assert len(due) == 1 + QUIET_A_TICK


SEEN: dict[str, Callable[[MemoryWorld], object]] = {
    "its engine dies": lambda w: w.cluster.kill(w.variant(1).name),
    "its requests fail": lambda w: w.behave(1, error_rate=0.6),
    "weights are set by hand": by_hand,
    "the router falls silent": lambda w: setattr(w.router, "down", True),
    "the cluster falls silent": lambda w: setattr(w.cluster, "outage", "it does not answer"),
}


@pytest.mark.parametrize("case", sorted(SEEN))
def test_idle_endpoint__something_happens_to_it__has_a_turn_in_the_next_tick(
    w: MemoryWorld, case: str
) -> None:
    turns(w, int(RESYNC_SECONDS))
    w.reconcile_now()
    assert turns(w, 2) == 0
    SEEN[case](w)
    assert turns(w, 2, users=True) >= 1


ASKED: dict[str, Callable[[MemoryWorld], object]] = {
    "a rollout is started": lambda w: w.start(2, plan=PLAN),
    "the global stop is set": lambda w: set_global_stop(on=True, why="x", actor=w.manager, now=w.now),
    "the endpoint is changed": lambda w: set_rescue(
        endpoint_name="triage", on=False, actor=w.manager, now=w.now
    ),
}


@pytest.mark.parametrize("case", sorted(ASKED))
def test_idle_endpoint__somebody_changes_something__is_due_at_once(w: MemoryWorld, case: str) -> None:
    w.reconcile_now()
    assert not is_due(w)
    ASKED[case](w)
    assert is_due(w)


@pytest.mark.parametrize("command", ["pause", "roll_back", "promote"])
def test_rollout__somebody_commands__is_due_at_once(w: MemoryWorld, command: str) -> None:
    w.start(2)
    w.behave(2)
    w.run_to("progressing")
    w.run(lambda: not is_due(w), limit=5)
    getattr(w, command)()
    assert is_due(w)


def test_look__asked_for_in_the_middle_of_a_turn__is_taken_after_it(w: MemoryWorld) -> None:
    lease = w.claim("turn")
    assert lease is not None
    look_soon(pk=w.endpoint_id)
    w.clock.advance(1.0)
    release({lease: w.now.replace(year=w.now.year + 1)}, now=w.now)
    assert is_due(w)


def test_change__seen_while_somebody_holds_the_endpoint__is_looked_at_after_that(w: MemoryWorld) -> None:
    lease = w.claim("another")
    assert lease is not None
    w.cluster.kill(w.variant(1).name)
    w.clock.advance(1.0)
    assert not w.reconcile()
    release({lease: w.now + timedelta(seconds=10)}, now=w.now)
    assert w.reconcile()


def test_turn__that_could_not_be_taken__is_due_again_at_once(w: MemoryWorld) -> None:
    lease = w.claim("turn")
    assert lease is not None
    release({lease: None}, now=w.now)
    assert is_due(w)


def test_turn__of_a_worker_that_was_killed__is_due_when_its_lease_is_over(w: MemoryWorld) -> None:
    assert w.claim("killed") is not None
    assert not is_due(w)
    w.clock.advance(61.0)
    assert is_due(w)


def test_clock__that_jumped_back__does_not_put_a_look_off(w: MemoryWorld) -> None:
    w.reconcile_now()
    Endpoint.objects.update(next_look_at=w.now.replace(year=w.now.year + 1))
    assert is_due(w)


def test_clock__that_went_back_a_little__does_not_put_a_look_off(w: MemoryWorld) -> None:
    w.reconcile()
    w.clock.jump(-10)
    assert w.reconcile()
    assert not w.reconcile()


def test_glance__part_that_hangs__delays_nobody_and_is_seen_later(w: MemoryWorld) -> None:
    goes_on = threading.Event()

    class Hanging:
        def statuses(self) -> Mapping[str, WorkloadStatus]:
            assert goes_on.wait(30)
            return {"slow-v1-aaaaaa": replace(next(iter(w.cluster.statuses().values())))}

    hanging = replace(w.world, name="hanging", cluster=Hanging())  # type: ignore[arg-type]
    worlds = worlds_of(w.world, hanging)
    glances = Glances()
    assert "triage" in glances.changed(worlds)
    assert glances.changed(worlds) == frozenset()
    goes_on.set()
    found: set[str] = set()
    for _ in range(20):
        found |= glances.changed(worlds)
    assert found == {"slow"}


def test_glance__many_clusters_hang__the_others_are_seen(w: MemoryWorld) -> None:
    goes_on = threading.Event()

    class Hanging:
        def __getattr__(self, name: str) -> Callable[[], object]:
            return lambda: goes_on.wait(30)

    silent: Any = Hanging()
    hanging = [
        replace(w.world, name=f"a{n}", cluster=silent, router=silent, signals=silent) for n in range(5)
    ]
    found = Glances().changed(worlds_of(*hanging, w.world))
    goes_on.set()
    assert "triage" in found


def test_glance__while_another_tick_glances__is_left_to_that_one(w: MemoryWorld) -> None:
    glances = Glances()
    within: list[frozenset[str]] = []
    w.calls.hooks["router.observe_all"] = lambda: within.append(glances.changed(w.worlds))
    assert glances.changed(w.worlds) == {"triage"}
    assert within == [frozenset()]


def test_glance__part_that_raises__is_one_change_and_one_more_when_it_answers_again(w: MemoryWorld) -> None:
    glances = Glances()
    glances.changed(w.worlds)
    w.cluster.outage = "it does not answer"
    assert glances.changed(w.worlds) == {"triage"}
    assert glances.changed(w.worlds) == frozenset()
    w.cluster.outage = ""
    assert glances.changed(w.worlds) == {"triage"}
    assert glances.changed(w.worlds) == frozenset()


def test_glance__one_process_of_the_router_restarted__a_single_failure_is_no_reason_and_many_are(
    w: MemoryWorld,
) -> None:
    w.router.start("second")
    w.use(4.0)
    glances = Glances()
    glances.changed(w.worlds)
    w.router.restart("second")
    w.behave(1, error_rate=1.0)
    w.use(1 / w.rate)
    w.behave(1, error_rate=0.0)
    w.use(1.0)
    assert glances.changed(w.worlds) == frozenset()
    w.behave(1, error_rate=1.0)
    w.use(1.0)
    assert glances.changed(w.worlds) == {"triage"}


def test_glance__asked_for_while_another_one_looks__is_made_once_more(w: MemoryWorld) -> None:
    """What woke the second tick may have happened after the first one had looked."""
    glances, looked = Glances(), []
    statuses = w.cluster.statuses

    def asked_meanwhile() -> Mapping[str, WorkloadStatus]:
        found = statuses()
        looked.append(found)
        if len(looked) == 1:
            assert glances.changed(worlds_of(w.world)) == frozenset()
        return found

    w.cluster.statuses = asked_meanwhile  # type: ignore[method-assign]
    glances.changed(worlds_of(w.world))
    assert len(looked) == 2
    glances.changed(worlds_of(w.world))
    assert len(looked) == 3
