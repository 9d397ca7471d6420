"""Engines of several replicas: all are needed to begin and to get more, one of them is enough to go on, none is an
outage."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.access.models import User
from controlplane.kernel.errors import Unavailable
from rollouts import selectors
from rollouts.domain.variants import ServingSpec
from rollouts.services.commands.rollouts import set_global_stop
from rollouts.ui.parts.shortages import shortages_of_endpoint, shortages_of_rollout
from rollouts.ui.rollout.page import build
from tests.rollouts.memory_world import ERRORS, MemoryWorld

pytestmark = [pytest.mark.django_db, pytest.mark.story]

THREE = ServingSpec(replicas=3)


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """A canary of a better version 2 with three replicas was asked for."""
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=30).serve()
    w.start(2, serving=THREE)
    w.behave(2)
    return w


@pytest.fixture
def moving(w: MemoryWorld) -> MemoryWorld:
    """It has its first share."""
    w.run(lambda: w.shares().get(2) == 2_500)
    return w


@pytest.fixture
def stable(moving: MemoryWorld) -> MemoryWorld:
    """A person promoted it at once, and version 1 is not watched any more."""
    moving.promote()
    moving.run(lambda: not moving.rollout.is_active and not moving.rollout.watching)
    return moving


def away(*args: object, **options: object) -> int:
    raise Unavailable("The router does not answer.")


def stop(w: MemoryWorld, *, on: bool) -> None:
    set_global_stop(on=on, why="an incident", actor=w.manager, now=w.now)


def notes_of(w: MemoryWorld) -> list[str]:
    return [note.strong for note in shortages_of_rollout(selectors.find_rollout(w.rollout.pk))]


def test_launch__two_of_three_are_ready__gets_no_traffic_until_the_third_is(w: MemoryWorld) -> None:
    name = w.variant(2).name
    w.cluster.allow(name, most_ready=2)
    w.run_for(8)
    assert (w.rollout.phase, w.shares()) == ("provisioning", {1: 10_000})
    assert w.rollout.reason.startswith(f"Waiting for {name} to be ready")
    assert "2 of 3 replicas are ready" in w.rollout.reason
    w.cluster.allow(name, most_ready=3)
    w.run(lambda: w.shares().get(2) == 2_500)


def test_launch__two_of_three_are_ready_for_too_long__is_rolled_back_and_says_how_many(
    w: MemoryWorld,
) -> None:
    w.cluster.allow(w.variant(2).name, most_ready=2)
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "launch:timeout"
    assert "was not ready within 20 s: 2 of 3 replicas are ready." in rollout.reason


def test_launch__one_of_three_dies_while_the_stop_holds_it__has_launched_and_waits_for_it(
    w: MemoryWorld,
) -> None:
    name = w.variant(2).name
    w.tick()
    stop(w, on=True)
    w.run_for(50)  # longer than twice what a launch may take
    assert w.rollout.reason == "Ready to start, but the global stop is on."
    w.cluster.kill(name, replicas=1, down_seconds=4)
    w.run_for(2)
    assert w.rollout.phase == "provisioning"
    assert "2 of 3 replicas are ready" in w.rollout.reason
    w.run_for(6)
    stop(w, on=False)
    w.run(lambda: w.shares().get(2) == 2_500)


def test_canary__one_of_three_dies__no_outage_no_rollback_and_the_page_says_so(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.kill(w.variant(2).name, replicas=1, down_seconds=4)
    w.run_for(2)
    assert (w.rollout.phase, w.shares()) == ("progressing", {1: 7_500, 2: 2_500})
    rollout = selectors.find_rollout(w.rollout.pk)
    page = build(rollout=rollout, user=User.objects.get(username="mara"), now=w.now, stop_on=False)
    assert [note.strong for note in page.shortages] == ["v2: 2 of 3 replicas are ready."]
    assert (page.outage, [row.replicas for row in page.arms]) == (None, ["1 / 1", "2 / 3"])
    w.run(lambda: w.shares().get(2) == 5_000)
    assert (w.lost, notes_of(w)) == (0, [])


def test_canary__one_of_three_stays_away__keeps_its_share_until_it_is_back(moving: MemoryWorld) -> None:
    w = moving
    name = w.variant(2).name
    w.cluster.allow(name, most_ready=2)
    w.run_for(12)
    assert (w.rollout.phase, w.shares()) == ("progressing", {1: 7_500, 2: 2_500})
    assert w.rollout.reason == f"Held at 25%: of {name}, 2 of 3 replicas are ready."
    w.cluster.allow(name, most_ready=3)
    w.run(lambda: w.shares().get(2) == 5_000)


def test_canary__one_of_three_dies_before_its_larger_share_is_published__gets_it_when_all_are_back(
    moving: MemoryWorld,
) -> None:
    w = moving
    name = w.variant(2).name
    w.router.apply = away  # type: ignore[method-assign]
    w.run(lambda: w.rollout.step_index == 1)
    w.cluster.allow(name, most_ready=2)
    w.run_for(2)
    del w.router.apply
    w.run_for(6)
    assert w.shares() == {1: 7_500, 2: 2_500}
    assert w.rollout.reason.endswith(f"Of {name}, 2 of 3 replicas are ready.")
    w.cluster.allow(name, most_ready=3)
    w.run(lambda: w.shares().get(2) == 5_000)


def test_promotion__waits_for_replicas_that_were_lost_meanwhile__a_rollback_overtakes_it(
    moving: MemoryWorld,
) -> None:
    w = moving
    w.run(lambda: w.shares().get(2) == 5_000)
    w.router.apply = away  # type: ignore[method-assign]
    w.run_to("promoting")
    w.cluster.allow(w.variant(2).name, most_ready=2)
    w.run_for(2)
    del w.router.apply
    w.run_for(5)
    assert (w.rollout.phase, w.shares()) == ("promoting", {1: 5_000, 2: 5_000})
    w.roll_back()
    w.run_to("rolled-back")


def test_canary__one_of_three_stays_away__a_person_may_promote_it(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.allow(w.variant(2).name, most_ready=2)
    w.run_for(2)
    w.promote()
    w.run(lambda: w.shares() == {2: 10_000})


def test_canary__each_of_three_is_restarted_once__is_no_crash_loop(moving: MemoryWorld) -> None:
    w = moving
    for _ in range(3):
        w.cluster.kill(w.variant(2).name, replicas=1)
        w.run_for(2)
    assert w.workload(2).restarts == 1
    assert w.rollout.phase == "progressing"


def test_canary__all_three_stay_away__is_rolled_back_and_nobody_loses_a_request(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.allow(w.variant(2).name, most_ready=0)
    w.run_to("rolled-back")
    assert w.lost == 0


def test_stable__one_of_three_dies__is_no_outage_and_the_page_of_the_endpoint_says_so(
    stable: MemoryWorld,
) -> None:
    w = stable
    w.cluster.kill(w.variant(2).name, replicas=1, down_seconds=10)
    w.run_for(6)
    assert w.endpoint.serving.lasting is None
    notes = shortages_of_endpoint(w.endpoint, selectors.variants_of(w.endpoint))
    assert [note.strong for note in notes] == ["v2: 2 of 3 replicas are ready."]


def test_stable__all_three_die__is_an_outage(stable: MemoryWorld) -> None:
    w = stable
    w.cluster.kill(w.variant(2).name, down_seconds=10)
    w.run_for(6)
    outage = w.endpoint.serving.lasting
    assert outage is not None
    assert outage.why == "its engine is unready: none of its 3 replicas is ready"
    w.run(lambda: w.endpoint.serving.lasting is None)


def test_baseline__one_of_three_is_away__a_rollout_starts_all_the_same(stable: MemoryWorld) -> None:
    w = stable
    w.cluster.allow(w.variant(2).name, most_ready=2)
    w.run_for(2)
    w.start(3)
    w.behave(3)
    w.run(lambda: w.shares() == {2: 7_500, 3: 2_500})
