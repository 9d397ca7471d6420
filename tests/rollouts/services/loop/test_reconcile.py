"""Endpoints are taken in batches: as one by one, at the cost of one, and what is wrong with one stops no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from benchmarks.loop.furnish import furnish, worlds_of
from benchmarks.loop.plane import Plane
from controlplane.access.actors import HEADGATE
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import StaleWriter
from controlplane.passes.models import ItemTrouble
from rollouts.domain.lifecycle.looking import RESYNC_SECONDS
from rollouts.models import Endpoint, Evidence, MinuteSample, Rollout, Workload
from rollouts.ports import Backend, Route, WorkloadStatus
from rollouts.selectors import TURNS
from rollouts.services.commands.rollouts import roll_back_rollout
from rollouts.services.loop.leases import claim_endpoints
from rollouts.services.loop.reconcile import (
    BATCH,
    Due,
    _batches,
    due_endpoints,
    reconcile_endpoint,
    reconcile_endpoints,
    reconcile_together,
    worker_name,
)
from rollouts.services.world import Worlds
from tests.rollouts.lock_order import lock_order_watched

pytestmark = pytest.mark.django_db

INTERVAL = 10.0


class Many:
    """So many endpoints with a canary, and so many without a rollout, that had their first look."""

    def __init__(self, active: int, quiet: int = 0) -> None:
        self.clock = ManualClock(datetime(2026, 3, 2, 9, 0, tzinfo=UTC))
        self.plane = furnish(active, quiet, clock=self.clock)
        self.worlds = worlds_of(self.plane, clock=self.clock, interval_seconds=INTERVAL)
        self.tick()  # routes are published
        self.tick()

    def at(self, clock: ManualClock) -> None:
        """Goes on with another clock."""
        self.clock = self.plane.clock = clock
        self.worlds = worlds_of(self.plane, clock=clock, interval_seconds=INTERVAL)

    def tick(self, seconds: float = INTERVAL, worlds: Worlds | None = None) -> None:
        self.clock.advance(seconds)
        reconcile_endpoints(worlds=worlds or self.worlds, clock=self.clock, threads=1)

    def queries(self, seconds: float = INTERVAL) -> int:
        with CaptureQueriesContext(connection) as found:
            self.tick(seconds)
        return len(found)

    def intervals(self) -> dict[str, int]:
        """How many each endpoint has."""
        rows = Rollout.objects.values_list("endpoint__name", "next_interval")
        return dict(rows)

    def with_plane(self, **calls: Callable[..., Any]) -> Worlds:
        """The same world, some calls of its data plane being others."""
        plane = type("Other", (Plane,), calls)(self.plane.busy, self.clock)
        plane.routes, plane.engines_seen, plane.began = (
            self.plane.routes,
            self.plane.engines_seen,
            self.plane.began,
        )
        return worlds_of(plane, clock=self.clock, interval_seconds=INTERVAL)


@pytest.mark.parametrize("number", [2, 30])
def test_interval__of_a_batch__at_most_so_many_queries(number: int) -> None:
    many = Many(number)
    assert many.queries() <= 40
    assert set(many.intervals().values()) == {3}


@pytest.mark.parametrize("number", [2, 30])
def test_look_at_quiet_endpoints__of_a_batch__at_most_so_many_queries(number: int) -> None:
    many = Many(0, number)
    assert many.queries(RESYNC_SECONDS) <= 30


@pytest.mark.parametrize("number", [5, 40])
def test_first_look__of_a_batch__at_most_so_many_queries(number: int) -> None:
    clock = ManualClock(datetime(2026, 3, 2, 9, 0, tzinfo=UTC))
    worlds = worlds_of(furnish(0, number, clock=clock), clock=clock, interval_seconds=INTERVAL)
    with CaptureQueriesContext(connection) as found:
        reconcile_endpoints(worlds=worlds, clock=clock, threads=1)
    assert not Endpoint.objects.filter(reconciled_at=None).exists()
    assert len(found) <= 40, [query["sql"][:90] for query in found]


def test_batch__keeps_the_same_evidence_as_one_by_one() -> None:
    many = Many(4)
    start, clock = transaction.savepoint(), deepcopy(many.clock)

    def digests() -> dict[tuple[str, int], str]:
        rows = Evidence.objects.values_list("rollout__endpoint__name", "index", "digest")
        return {(name, index): digest for name, index, digest in rows}

    for _ in range(3):
        many.tick()
    together = digests()
    transaction.savepoint_rollback(start)
    many.at(clock)
    many.plane.tokens.clear()
    for _ in range(3):
        many.clock.advance(INTERVAL)
        for number in Endpoint.objects.values_list("pk", flat=True):
            reconcile_endpoint(endpoint_id=number, world=many.worlds.of("here"), owner=worker_name())
    assert digests() == together
    assert len(together) == 4 * 5


def test_batch__one_endpoint_is_odd__keeps_its_error_and_the_others_go_on() -> None:
    many = Many(4)
    Rollout.objects.filter(endpoint__name="busy-2").update(gates_state={"kind": "of nothing that is known"})
    many.tick()
    assert many.intervals() == {"busy-0": 3, "busy-1": 3, "busy-2": 2, "busy-3": 3}
    trouble = ItemTrouble.objects.get(pass_name=TURNS)
    assert trouble.label == "endpoint busy-2"


def test_batch__one_endpoint_is_odd__is_tried_again_and_recovers() -> None:
    many = Many(3)
    before = Rollout.objects.get(endpoint__name="busy-1").gates_state
    Rollout.objects.filter(endpoint__name="busy-1").update(gates_state={"kind": "of nothing that is known"})
    many.tick()
    Rollout.objects.filter(endpoint__name="busy-1").update(gates_state=before)
    many.tick()
    assert many.intervals() == {"busy-0": 4, "busy-1": 3, "busy-2": 4}
    assert not ItemTrouble.objects.filter(pass_name=TURNS).exists()


def test_batch__database_refuses_one_row__the_others_are_written() -> None:
    many = Many(3)
    name = Workload.objects.get(variant__endpoint__name="busy-1", variant__version__number=2).variant.name

    def statuses(plane: Plane) -> Mapping[str, WorkloadStatus]:
        found = dict(plane.engines_seen)
        found[name] = replace(found[name], restarts=2**70)
        return found

    many.tick(worlds=many.with_plane(statuses=statuses))
    assert many.intervals() == {"busy-0": 3, "busy-1": 2, "busy-2": 3}
    assert ItemTrouble.objects.get(pass_name=TURNS).label == "endpoint busy-1"


def test_batch__lease_of_one_is_lost_meanwhile__nothing_of_it_is_written() -> None:
    many = Many(3)
    taken = Endpoint.objects.get(name="busy-1")

    def read_all(plane: Plane, backends: Mapping[str, tuple[Backend, ...]]) -> Any:
        Endpoint.objects.filter(pk=taken.pk).update(lease_until=None)
        assert claim_endpoints(endpoint_ids=(taken.pk,), owner="another", now=many.clock.now())
        return Plane.read_all(plane, backends)

    many.tick(worlds=many.with_plane(read_all=read_all))
    assert many.intervals() == {"busy-0": 3, "busy-1": 2, "busy-2": 3}
    after = Endpoint.objects.get(name="busy-1")
    assert after.lease_owner == "another"
    assert after.last_reading == taken.last_reading


def test_batch__somebody_rolls_one_back_meanwhile__that_wins_and_the_others_go_on() -> None:
    many = Many(3)
    rollout = Rollout.objects.get(endpoint__name="busy-1")
    asked: list[int] = []

    def read_all(plane: Plane, backends: Mapping[str, tuple[Backend, ...]]) -> Any:
        if not asked:
            asked.append(1)
            roll_back_rollout(rollout_id=rollout.pk, actor=HEADGATE, now=many.clock.now())
        return Plane.read_all(plane, backends)

    many.tick(worlds=many.with_plane(read_all=read_all))
    rollout.refresh_from_db()
    assert rollout.phase in ("rolling-back", "rolled-back")
    assert {name: number for name, number in many.intervals().items() if name != "busy-1"} == {
        "busy-0": 3,
        "busy-2": 3,
    }


def test_batch__held_by_another_worker__is_left_to_it() -> None:
    many = Many(3)
    held = Endpoint.objects.get(name="busy-0")
    many.clock.advance(INTERVAL)
    assert claim_endpoints(endpoint_ids=(held.pk,), owner="another", now=many.clock.now())
    world = many.worlds.of("here")
    numbers = list(Endpoint.objects.values_list("pk", flat=True))
    outcome = reconcile_together(endpoint_ids=numbers, world=world, owner="this one")
    assert outcome.taken == set(numbers) - {held.pk}
    assert not reconcile_endpoint(endpoint_id=held.pk, world=world, owner="a third one")


def test_batch__router_is_slow__what_was_seen_long_ago_is_acted_on_no_more() -> None:
    many = Many(3)
    asked: list[str] = []

    def apply(plane: Plane, route: Route, *, token: int) -> int:
        asked.append(route.endpoint)
        many.clock.advance(20)
        return Plane.apply(plane, route, token=token)

    slow = many.with_plane(apply=apply)
    Endpoint.objects.update(applied={})  # nobody knows any more what was published
    many.tick(worlds=slow)
    assert asked == ["busy-0"], "the others were given back"
    assert not Endpoint.objects.exclude(lease_owner="").exists()
    assert set(Endpoint.objects.exclude(name="busy-0").values_list("next_look_at", flat=True)) == {None}
    many.tick(seconds=1, worlds=slow)
    many.tick(seconds=1, worlds=slow)
    assert sorted(asked) == ["busy-0", "busy-1", "busy-2"]


def test_batch__router_knows_a_newer_writer_of_one__it_is_given_back_at_once() -> None:
    """Its lease is still ours: left to run out, it would keep everybody from the endpoint for a minute."""
    many = Many(2)

    def apply(plane: Plane, route: Route, *, token: int) -> None:
        raise StaleWriter("The router knows a newer writer.")

    Endpoint.objects.filter(name="busy-0").update(applied={})
    many.tick(worlds=many.with_plane(apply=apply))
    refused = Endpoint.objects.get(name="busy-0")
    assert (refused.lease_owner, refused.lease_until, refused.next_look_at) == ("", None, None)


def test_batch__locks_endpoints_before_rollouts() -> None:
    many = Many(3)
    with lock_order_watched():
        many.tick()


def test_due__endpoints_with_something_to_wait_for__are_taken_alone() -> None:
    many = Many(4)
    many.clock.advance(INTERVAL)
    Rollout.objects.filter(endpoint__name="busy-1").update(phase="rolling-back")
    Endpoint.objects.filter(name="busy-2").update(restored_state="held")
    alone = {one.endpoint_id for one in due_endpoints(now=many.clock.now()) if one.alone}
    assert alone == set(Endpoint.objects.filter(name__in=("busy-1", "busy-2")).values_list("pk", flat=True))


def test_minutes_of_the_charts__of_a_batch__hold_all_that_was_counted() -> None:
    many = Many(2)
    for _ in range(4):
        many.tick()
    rows = MinuteSample.objects.filter(endpoint__name="busy-0")
    arms = Rollout.objects.get(endpoint__name="busy-0").arms.all()
    assert sum(row.requests for row in rows) == sum(arm.requests for arm in arms) > 0


def test_batches__many_of_one_cluster__a_batch_of_every_cluster_comes_before_its_second() -> None:
    due = [*(Due(n, "big", True, False) for n in range(2 * BATCH + 1)), Due(1000, "small", True, False)]
    batches = [(batch.cluster, len(batch.endpoint_ids)) for batch in _batches(due)]
    assert batches == [("big", BATCH), ("small", 1), ("big", BATCH), ("big", 1)]


def test_batches__more_rollouts_than_time__endpoints_without_one_have_their_turn_in_between() -> None:
    moving = [Due(n, "here", True, False) for n in range(7 * BATCH)]
    quiet = [Due(1000 + n, "here", False, False) for n in range(4 * BATCH)]
    kinds = "".join("R" if batch.endpoint_ids[0] < 1000 else "q" for batch in _batches([*moving, *quiet]))
    assert kinds == "RRRqRRRqRqq"
