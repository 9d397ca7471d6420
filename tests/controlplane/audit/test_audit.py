"""The audit trail takes lines and never gives one back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import models

from controlplane.audit.models import AuditEvent
from controlplane.audit.selectors import events_of
from controlplane.audit.services import record
from controlplane.kernel.errors import InvalidInput

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)


def paused(rollout: int = 7) -> AuditEvent:
    return record(
        at=NOW,
        actor="ana",
        actor_kind="person",
        action="rollout.paused",
        object_kind="rollout",
        object_id=rollout,
        before={"phase": "progressing"},
        after={"phase": "paused"},
        why="support lead asked",
        request_id="7c1f",
    )


def test_record__event__keeps_all_that_was_said() -> None:
    event = AuditEvent.objects.get(pk=paused().pk)
    assert (event.actor, event.object_id, event.why, event.request_id) == (
        "ana",
        "7",
        "support lead asked",
        "7c1f",
    )
    assert event.before == {"phase": "progressing"}
    assert str(event) == "2026-11-20 09:49:00 ana rollout.paused rollout:7"


def test_save__existing_event__is_refused() -> None:
    event = paused()
    event.why = "something else"
    with pytest.raises(TypeError, match="append-only"):
        event.save()


def test_delete__event__is_refused() -> None:
    with pytest.raises(TypeError, match="append-only"):
        paused().delete()


@pytest.mark.parametrize(
    "manager", [AuditEvent.objects, AuditEvent._base_manager, AuditEvent._default_manager]
)
def test_queryset__any_manager__can_neither_change_nor_delete(manager: models.Manager[AuditEvent]) -> None:
    paused()
    with pytest.raises(TypeError, match="append-only"):
        manager.all().update(why="")
    with pytest.raises(TypeError, match="append-only"):
        manager.all().delete()
    assert AuditEvent.objects.get().why == "support lead asked"


@pytest.mark.parametrize(
    ("change", "field"),
    [({"actor_kind": "robot"}, "actor_kind"), ({"actor": ""}, "actor"), ({"action": "paused"}, "action")],
)
def test_record__bad_value__names_the_field(change: dict[str, str], field: str) -> None:
    line = {"actor": "ana", "actor_kind": "person", "action": "rollout.paused", **change}
    with pytest.raises(InvalidInput) as caught:
        record(
            at=NOW,
            actor=line["actor"],
            actor_kind=line["actor_kind"],
            action=line["action"],
            object_kind="rollout",
            object_id=1,
        )
    assert caught.value.field == field


def test_events_of__several_objects__gives_one_newest_first() -> None:
    first, _, last = paused(1), paused(2), paused(1)
    assert events_of(object_kind="rollout", object_id=1) == [last, first]
    assert events_of(object_kind="rollout", object_id=1, limit=1) == [last]
