"""What has a retention is deleted when it is over and no earlier, whatever the clock shows; every cluster is looked
after."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Unavailable
from controlplane.passes.models import ItemTrouble
from controlplane.timekeeping.models import ClockJump
from rollouts.models import Cluster, Effect, Endpoint, Feedback
from rollouts.services.errands.housekeeping import EFFECTS_KEPT, FEEDBACK_KEPT, HOUSEKEEPING, keep_house
from rollouts.services.world import World, Worlds
from tests import factories
from tests.rollouts.worlds import world_in_memory, worlds_of

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
WHY = "The cluster elsewhere cannot be used."


class Log:
    """A router's log that counts how often it was rotated."""

    def __init__(self) -> None:
        self.rotated = 0

    def rotate(self) -> bool:
        self.rotated += 1
        return True


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint(now=NOW)


def keep(worlds: Worlds | None = None) -> Any:
    clock = ManualClock(NOW)
    return keep_house(clock=clock, evidence_days=400, worlds=worlds or worlds_of(world_in_memory(clock)))


def rated(endpoint: Endpoint, ago: timedelta, state: str) -> Feedback:
    return Feedback.objects.create(
        request_id=f"r-{Feedback.objects.count()}", endpoint=endpoint, variant="v", up=True,
        received_at=NOW - ago, state=state,
    )  # fmt: skip


def effect(endpoint: Endpoint, ago: timedelta, state: str) -> Effect:
    return Effect.objects.create(
        endpoint=endpoint, kind="drain-workload", payload={}, created_at=NOW - ago, state=state
    )


@pytest.mark.parametrize(("make", "kept_for"), [(rated, FEEDBACK_KEPT), (effect, EFFECTS_KEPT)])
def test_rows__settled_and_older_than_they_are_kept__are_deleted_and_what_waits_is_not(
    endpoint: Endpoint, make: Any, kept_for: timedelta
) -> None:
    second, done = timedelta(seconds=1), {rated: "verified", effect: "done"}[make]
    make(endpoint, kept_for + second, done)
    kept = [
        make(endpoint, kept_for - second, done),
        make(endpoint, kept_for + second, "pending"),
    ]
    assert keep().failed == 0
    assert list(type(kept[0]).objects.order_by("pk")) == kept


def test_rows__clock_jumped_forward__are_no_older_than_before(endpoint: Endpoint) -> None:
    forward = timedelta(days=20)
    ClockJump.objects.create(number=1, before=NOW - forward, at=NOW, seconds=forward.total_seconds())
    kept = rated(endpoint, FEEDBACK_KEPT + timedelta(days=19), "verified")
    gone = rated(endpoint, FEEDBACK_KEPT + timedelta(days=21), "verified")
    keep()
    assert Feedback.objects.filter(pk=kept.pk).exists()
    assert not Feedback.objects.filter(pk=gone.pk).exists()


def test_clusters__one_cannot_be_used__keeps_no_other_from_being_looked_after() -> None:
    clock, log = ManualClock(NOW), Log()
    Cluster.objects.get_or_create(name="here")
    here = world_in_memory(clock, request_log=log)

    def build(name: str) -> World:
        if name == "here":
            return here
        raise Unavailable(WHY, fix="Use one of: local.")

    report = keep(Worlds(("elsewhere", "here"), build, clock))
    assert report.failed == 2  # the log of its router, and what lies in it
    assert log.rotated == 1
    labels = ItemTrouble.objects.filter(pass_name=HOUSEKEEPING).values_list("label", flat=True)
    assert sorted(labels) == ["the log of the router of elsewhere", "what lies in elsewhere"]


def test_chore__that_failed__is_tried_again_after_its_pause_and_not_before() -> None:
    clock, log = ManualClock(NOW), Log()
    Cluster.objects.create(name="elsewhere")
    answers: list[bool] = []

    def build(name: str) -> World:
        if not answers:
            raise Unavailable(WHY)
        return world_in_memory(clock, "elsewhere", request_log=log)

    worlds = Worlds(("elsewhere",), build, clock)
    for seconds, rotated in ((0, 0), (30, 0), (31, 1)):
        clock.advance(seconds)
        keep_house(clock=clock, evidence_days=400, worlds=worlds)
        assert log.rotated == rotated
        answers.append(True)
    assert not ItemTrouble.objects.filter(pass_name=HOUSEKEEPING).exists()
