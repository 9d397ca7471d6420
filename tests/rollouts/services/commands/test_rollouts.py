"""What people tell a rollout: refused with the reason, or one change of state with all that goes with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import Conflict, IllegalTransition, NotFound, Refused
from rollouts.domain.restored import RestoredState
from rollouts.models import Effect, Endpoint, GlobalStop, HistoryEvent, Rollout
from rollouts.services.commands.rollouts import (
    cancel_rollout,
    pause_rollout,
    promote_rollout,
    resume_rollout,
    roll_back_rollout,
    set_global_stop,
)
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
Command = Callable[..., Rollout]


@pytest.fixture
def manager() -> Actor:
    return Actor.person(factories.person(Role.RELEASE_MANAGER), request_id="r-1")


@pytest.fixture
def moving() -> Rollout:
    return factories.rollout_progressing(now=NOW)


def state_of(rollout: Rollout) -> tuple[object, ...]:
    """All that a command could have changed."""
    found = Rollout.objects.get(pk=rollout.pk)
    return (
        found.phase, found.revision, found.reason,
        Effect.objects.count(), HistoryEvent.objects.count(), AuditEvent.objects.count(),
    )  # fmt: skip


def test_command__at_the_revision_that_was_seen__changes_state_history_and_audit_together(
    moving: Rollout, manager: Actor
) -> None:
    Endpoint.objects.update(next_look_at=NOW)
    pause_rollout(
        rollout_id=moving.pk, actor=manager, now=NOW, expected_revision=moving.revision, why="Lunch."
    )
    found = Rollout.objects.get()
    assert (found.phase, found.pause_reason, found.revision) == ("paused", "person", moving.revision + 1)
    assert "Lunch." in found.reason
    assert HistoryEvent.objects.filter(rollout=moving, kind="pause", actor=manager.name).exists()
    told = AuditEvent.objects.get(action="rollout.pause")
    assert (told.actor, told.request_id, (told.before or {})["phase"]) == (manager.name, "r-1", "progressing")
    assert Endpoint.objects.get().next_look_at is None, "the loop looks at once"


def test_command__at_an_older_revision__is_refused_with_the_newer_one_and_changes_nothing(
    moving: Rollout, manager: Actor
) -> None:
    before = state_of(moving)
    with pytest.raises(Conflict, match="was changed by") as refused:
        roll_back_rollout(rollout_id=moving.pk, actor=manager, now=NOW, expected_revision=moving.revision - 1)
    assert refused.value.code == "revision-conflict"
    assert refused.value.extra == {
        "expected_revision": moving.revision - 1, "revision": moving.revision, "phase": "progressing",
    }  # fmt: skip
    assert state_of(moving) == before


def test_command__rollout_that_there_is_not__is_not_found(manager: Actor) -> None:
    with pytest.raises(NotFound, match="#77"):
        pause_rollout(rollout_id=77, actor=manager, now=NOW)


@pytest.mark.parametrize("command", [resume_rollout, promote_rollout])
def test_command__that_moves_forward__is_refused_under_the_global_stop(
    moving: Rollout, manager: Actor, command: Command
) -> None:
    GlobalStop.objects.create(pk=1, on=True)
    before = state_of(moving)
    with pytest.raises(Refused) as refused:
        command(rollout_id=moving.pk, actor=manager, now=NOW)
    assert refused.value.code == "global-stop"
    assert state_of(moving) == before


@pytest.mark.parametrize("state", [state for state in RestoredState if state])
def test_command__while_the_database_is_an_older_copy__is_refused_with_the_way_out(
    moving: Rollout, manager: Actor, state: RestoredState
) -> None:
    Endpoint.objects.update(restored_state=state.value)
    before = state_of(moving)
    with pytest.raises(Refused) as refused:
        roll_back_rollout(rollout_id=moving.pk, actor=manager, now=NOW)
    assert (refused.value.code, bool(refused.value.fix)) == ("restored-copy", True)
    assert state_of(moving) == before


def test_resume__weights_that_were_set_by_hand__are_taken_for_ours_no_more(manager: Actor) -> None:
    made = factories.rollout_paused(now=NOW)
    Endpoint.objects.update(applied={"shares": {"by": 1}})
    resume_rollout(rollout_id=made.pk, actor=manager, now=NOW)
    assert Rollout.objects.get().phase == "progressing"
    assert Endpoint.objects.get().applied == {}


@pytest.mark.parametrize("command", [pause_rollout, roll_back_rollout])
def test_command__that_is_no_resume__leaves_what_was_published_known(
    moving: Rollout, manager: Actor, command: Command
) -> None:
    Endpoint.objects.update(applied={"shares": {"by": 1}})
    command(rollout_id=moving.pk, actor=manager, now=NOW)
    assert Endpoint.objects.get().applied == {"shares": {"by": 1}}


def test_roll_back__while_another_one_is_active__conflict_and_nothing_changes(manager: Actor) -> None:
    watched = factories.rollout_promoted(now=NOW)
    factories.rollout_pending(of=watched.endpoint, number=3, now=NOW)
    before = state_of(watched)
    with pytest.raises(Conflict) as refused:
        roll_back_rollout(rollout_id=watched.pk, actor=manager, now=NOW)
    assert refused.value.code == "rollout-active"
    assert state_of(watched) == before


def test_roll_back__after_the_watch__names_what_to_start_instead(manager: Actor) -> None:
    over = factories.rollout_promoted(watching=False, now=NOW)
    with pytest.raises(Conflict) as refused:
        roll_back_rollout(rollout_id=over.pk, actor=manager, now=NOW)
    assert (refused.value.code, refused.value.fix) == ("watch-over", "Start a rollout of v1.")


def test_cancel__after_traffic_moved__is_illegal_and_changes_nothing(moving: Rollout, manager: Actor) -> None:
    before = state_of(moving)
    with pytest.raises(IllegalTransition):
        cancel_rollout(rollout_id=moving.pk, actor=manager, now=NOW)
    assert state_of(moving) == before


def test_global_stop__set__wakes_every_endpoint_and_is_told_at_each_once(manager: Actor) -> None:
    factories.endpoint(now=NOW)
    factories.endpoint("another", now=NOW)
    Endpoint.objects.update(next_look_at=NOW)
    for _ in range(2):
        stop = set_global_stop(on=True, why="a drill", actor=manager, now=NOW)
    assert (stop.on, stop.why, stop.by) == (True, "a drill", manager.user)
    assert set(Endpoint.objects.values_list("next_look_at", flat=True)) == {None}
    assert AuditEvent.objects.filter(action="installation.stopped").count() == 1
    assert HistoryEvent.objects.count() == 2


def test_global_stop__freed__is_audited_as_such(manager: Actor) -> None:
    set_global_stop(on=True, why="", actor=manager, now=NOW)
    set_global_stop(on=False, why="over", actor=manager, now=NOW)
    assert list(AuditEvent.objects.order_by("pk").values_list("action", flat=True)) == [
        "installation.stopped",
        "installation.freed",
    ]
    assert not GlobalStop.objects.get().on
