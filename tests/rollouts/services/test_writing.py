"""A decision is written whole: state, effects, history, audit and live hint, or nothing of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from controlplane.access.actors import HEADGATE, Actor
from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import StaleWriter
from controlplane.web.models import LiveEvent
from rollouts.domain.lifecycle.decision import Decision, Drop
from rollouts.domain.lifecycle.effects import DrainWorkload, EnsureWorkload, SetTraffic
from rollouts.domain.lifecycle.states import Event, PauseReason, Phase
from rollouts.models import Arm, Effect, EffectState, Endpoint, HistoryEvent, Rollout
from rollouts.services.loop.writes import Writes
from rollouts.services.writing import (
    BY_PERSON,
    add_effects,
    apply_decision,
    changes_words_only,
    keep_words,
    note_change,
)
from tests import factories
from tests.factories.rollouts import tell

NOW = factories.right_now()
on_the_database = pytest.mark.django_db


@pytest.fixture
def rollout(db: None) -> Rollout:
    return factories.rollout_progressing(now=NOW)


def stays(rollout: Rollout, **changes: Any) -> Decision:
    """The decision that leaves the rollout as it is."""
    decision = Decision(
        Phase(rollout.phase), rollout.step_index, rollout.reason, rollout.next_step,
        pause_reason=PauseReason(rollout.pause_reason),
    )  # fmt: skip
    return replace(decision, **changes)


def apply(rollout: Rollout, decision: Decision, actor: Actor = HEADGATE) -> None:
    with transaction.atomic():
        apply_decision(rollout=rollout, decision=decision, actor=actor, now=NOW)


def written() -> tuple[int, ...]:
    return tuple(kind.objects.count() for kind in (Effect, HistoryEvent, AuditEvent, LiveEvent))


# --- a decision -------------------------------------------------------------------------------------------------------


def test_apply__outside_a_transaction__is_an_error_of_the_program() -> None:
    with pytest.raises(RuntimeError, match="transaction"):
        apply_decision(rollout=Rollout(), decision=Decision(Phase.PAUSED, 0, ""), now=NOW)


def test_apply__that_changes_nothing__writes_nothing(rollout: Rollout) -> None:
    before = written(), rollout.revision
    apply(rollout, stays(rollout))
    assert (written(), Rollout.objects.get().revision) == before


def test_apply__event__is_in_state_history_and_audit_at_a_new_revision(rollout: Rollout) -> None:
    revision, person = rollout.revision, Actor.person(factories.person(Role.ENGINEER), request_id="r-7")
    paused = stays(
        rollout, phase=Phase.PAUSED, event=Event.PAUSE, pause_reason=PauseReason.PERSON, reason="Lunch.",
        title="Held at 5%",
    )  # fmt: skip
    apply(rollout, paused, person)
    found = Rollout.objects.get()
    assert (found.phase, found.pause_reason, found.revision) == ("paused", "person", revision + 1)
    assert rollout.revision == revision + 1, "the row in hand is as it is in the database"
    told = AuditEvent.objects.get(action="rollout.pause")
    assert (told.request_id, told.why, (told.after or {})["pause_reason"]) == ("r-7", "Lunch.", "person")
    assert HistoryEvent.objects.filter(kind="pause", title="Held at 5%", actor=person.name).count() == 1
    assert LiveEvent.objects.filter(topic=f"rollout:{rollout.pk}").exists()


def test_apply__rollout_moved_on_since_it_was_read__is_stale_and_nothing_is_written(rollout: Rollout) -> None:
    Rollout.objects.update(revision=rollout.revision + 1)
    before = written()
    decision = stays(
        rollout, event=Event.ADVANCE, step_index=1, title="Moving on",
        effects=(SetTraffic({rollout.baseline.name: 10_000}, rollout.baseline.name),),
    )  # fmt: skip
    with pytest.raises(StaleWriter):
        apply(rollout, decision)
    assert written() == before
    assert Rollout.objects.get().step_index == rollout.step_index


def test_apply__the_next_step__begins_with_nothing_counted(rollout: Rollout) -> None:
    assert rollout.step_requests
    apply(rollout, stays(rollout, event=Event.ADVANCE, step_index=2))
    found = Rollout.objects.get()
    assert (found.step_index, found.step_since, found.step_requests) == (2, None, 0)


@pytest.mark.parametrize(("reason", "counts"), [(PauseReason.DRIFT, False), (PauseReason.PERSON, True)])
def test_apply__resumed__what_was_measured_under_weights_set_by_hand_is_no_exposure(
    rollout: Rollout, reason: PauseReason, counts: bool
) -> None:
    Rollout.objects.update(phase="paused", pause_reason=reason.value)
    rollout.refresh_from_db()
    apply(rollout, stays(rollout, phase=Phase.PROGRESSING, event=Event.RESUME, pause_reason=PauseReason.NONE))
    assert bool(Rollout.objects.get().step_requests) is counts


def test_apply__a_note_that_is_told_once__is_told_again_after_the_weights_moved(rollout: Rollout) -> None:
    note = stays(rollout, title="No room to grow", once=True)
    for _ in range(2):
        apply(rollout, note)
    assert HistoryEvent.objects.filter(title="No room to grow").count() == 1
    tell(rollout, Event.REWEIGHT.value, "Weights moved", NOW)
    apply(rollout, note)
    assert HistoryEvent.objects.filter(title="No room to grow").count() == 2


def test_apply__an_arm_leaves__for_good_with_its_reason(rollout: Rollout) -> None:
    drop = Drop("candidate", "gate:errors", "Too many errors.")
    apply(rollout, stays(rollout, event=Event.DROP, drops=(drop,)))
    arm = Arm.objects.get(name="candidate")
    assert (arm.dropped_at, arm.dropped_cause, arm.dropped_sentence) == (
        NOW, "gate:errors", "Too many errors.",
    )  # fmt: skip
    assert HistoryEvent.objects.filter(kind="drop", detail="Too many errors.").exists()
    assert (AuditEvent.objects.get().after or {})["dropped"] == ["candidate"]


def test_apply__promoted__the_candidate_is_the_stable_variant_and_is_watched(rollout: Rollout) -> None:
    Arm.objects.filter(name="candidate").update(desired_bp=10_000, observed_bp=0)
    apply(rollout, stays(rollout, phase=Phase.SUCCEEDED, event=Event.FINISH))
    found = Rollout.objects.get()
    endpoint = Endpoint.objects.get()
    assert (endpoint.stable, endpoint.previous) == (rollout.candidate, rollout.baseline)
    assert (found.watching, found.finished_at, found.promoted_at) == (True, NOW, NOW)
    assert found.watch_until == NOW + timedelta(seconds=found.parsed_plan.watch_seconds)
    assert Arm.objects.get(name="candidate").observed_bp == 10_000


def test_apply__returned__the_baseline_is_the_stable_variant_and_none_is_kept_beside(
    rollout: Rollout,
) -> None:
    Endpoint.objects.update(stable=rollout.candidate, previous=rollout.baseline)
    rollout.endpoint.refresh_from_db()
    apply(rollout, stays(rollout, phase=Phase.ROLLED_BACK, event=Event.RETURN))
    endpoint = Endpoint.objects.get()
    assert (endpoint.stable, endpoint.previous) == (rollout.baseline, None)


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words_only"),
    [
        ({}, True),
        ({"reason": "Holding 5%.", "next_step": "Then 25%."}, True),
        ({"step_index": 2}, False),
        ({"phase": Phase.PAUSED}, False),
        ({"pause_reason": PauseReason.PERSON}, False),
        ({"event": Event.ADVANCE}, False),
        ({"effects": (EnsureWorkload("v"),)}, False),
        ({"drops": (Drop("candidate", "x", "y"),)}, False),
        ({"winner": "candidate"}, False),
        ({"end_watch": True}, False),
        ({"title": "It is told"}, False),
    ],
)
def test_changes_words_only__says__whether_anything_but_words_changes(
    changes: dict[str, Any], words_only: bool
) -> None:
    rollout = Rollout(phase="progressing", step_index=0)
    assert changes_words_only(rollout, stays(rollout, **changes)) is words_only


def test_keep_words__other_words__are_written_with_the_turn_and_leave_the_revision(rollout: Rollout) -> None:
    writes = Writes()
    keep_words(rollout, stays(rollout, reason="Holding 5%: 40 s of 1 min."), writes=writes, now=NOW)
    assert Rollout.objects.get().reason != "Holding 5%: 40 s of 1 min."
    writes.flush(now=NOW)
    found = Rollout.objects.get()
    assert (found.reason, found.revision) == ("Holding 5%: 40 s of 1 min.", rollout.revision)


def test_keep_words__the_same_words__write_and_tell_nothing(rollout: Rollout) -> None:
    writes, before = Writes(), written()
    keep_words(rollout, stays(rollout), writes=writes, now=NOW)
    writes.flush(now=NOW)
    assert written() == before


# --- effects ----------------------------------------------------------------------------------------------------------


def add(rollout: Rollout, *effects: Any, by_person: bool = False) -> None:
    add_effects(endpoint=rollout.endpoint, rollout=rollout, effects=effects, now=NOW, by_person=by_person)


def waiting() -> list[tuple[str, str]]:
    rows = Effect.objects.filter(state=EffectState.PENDING).order_by("pk")
    return [(row.kind, row.payload.get("variant", "")) for row in rows]


def test_add_effects__a_newer_split__takes_the_place_of_those_that_wait_and_is_the_desired_one(
    rollout: Rollout,
) -> None:
    baseline, candidate = rollout.baseline.name, rollout.candidate.name
    add(rollout, SetTraffic({baseline: 9_500, candidate: 500}, baseline))
    add(rollout, SetTraffic({baseline: 10_000}, baseline))
    assert waiting() == [("set-traffic", "")]
    assert Effect.objects.filter(state=EffectState.SUPERSEDED, done_at=NOW).count() == 1
    assert Endpoint.objects.get().desired_shares == {baseline: 10_000}
    assert dict(Arm.objects.values_list("name", "desired_bp")) == {"baseline": 10_000, "candidate": 0}


@pytest.mark.parametrize(("by_person", "payload"), [(True, {BY_PERSON: True}), (False, {})])
def test_add_effects__a_split__is_written_down_in_the_endpoint_only(
    rollout: Rollout, by_person: bool, payload: dict[str, bool]
) -> None:
    add(rollout, SetTraffic({rollout.baseline.name: 10_000}, rollout.baseline.name), by_person=by_person)
    assert Effect.objects.get().payload == payload


def test_add_effects__an_end__takes_the_place_of_a_launch_of_the_same_variant_only(rollout: Rollout) -> None:
    add(rollout, EnsureWorkload("one"), EnsureWorkload("two"))
    add(rollout, DrainWorkload("one"))
    assert waiting() == [("ensure-workload", "two"), ("drain-workload", "one")]
    add(rollout, EnsureWorkload("one"))
    assert waiting() == [("ensure-workload", "two"), ("ensure-workload", "one")]


def test_add_effects__of_another_endpoint__are_left_alone(rollout: Rollout) -> None:
    other = factories.endpoint("another", now=NOW)
    add_effects(endpoint=other, rollout=None, effects=[EnsureWorkload("one")], now=NOW)
    add(rollout, DrainWorkload("one"))
    assert len(waiting()) == 2


@on_the_database
def test_note_change__is_in_history_and_audit_and_wakes_the_loop() -> None:
    endpoint = factories.endpoint(now=NOW)
    Endpoint.objects.update(next_look_at=NOW)
    person = Actor.person(factories.person(Role.ENGINEER))
    note_change(
        endpoint=endpoint, action="endpoint.tried", kind="tried", title="Tried", actor=person, now=NOW,
        before={"a": 1}, after={"a": 2}, why="to see", topics=("overview",),
    )  # fmt: skip
    told = AuditEvent.objects.get()
    assert (told.action, told.before, told.after, told.why) == (
        "endpoint.tried",
        {"a": 1},
        {"a": 2},
        "to see",
    )
    assert HistoryEvent.objects.get().title == "Tried"
    assert set(LiveEvent.objects.values_list("topic", flat=True)) == {f"endpoint:{endpoint.pk}", "overview"}
    assert Endpoint.objects.get().next_look_at is None
