"""How a decision is written: state, effects, history, audit and live hint, always together in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from controlplane.access.actors import HEADGATE, Actor
from controlplane.audit.services import record
from controlplane.kernel.errors import StaleWriter
from controlplane.web.live import publish
from rollouts.domain.lifecycle.decision import Decision, Drop
from rollouts.domain.lifecycle.effects import AnyEffect as DomainEffect
from rollouts.domain.lifecycle.effects import DrainWorkload, EnsureWorkload, HoldScaleIn, SetTraffic
from rollouts.domain.lifecycle.states import FINAL, Event, PauseReason, Phase
from rollouts.models import Arm, Effect, EffectState, Endpoint, HistoryEvent, Rollout
from rollouts.services.loop.leases import look_soon
from rollouts.services.loop.writes import Writes

BEGINS_ANEW = (PauseReason.DRIFT.value, PauseReason.CHANGED.value)  # after such a pause a step does
BY_PERSON = "by_person"  # in the payload of a split that somebody asked for


def apply_decision(*, rollout: Rollout, decision: Decision, actor: Actor = HEADGATE, now: datetime) -> None:
    """Writes a decision into `rollout` (locked, or guarded by its revision) and all that goes with it.

    Must run inside a transaction. Raises StaleWriter when the rollout moved on since it was read; nothing is written.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("apply_decision belongs into a transaction")
    before = {"phase": rollout.phase, "step": rollout.step_index, "pause_reason": rollout.pause_reason}
    moved = decision.event is not None or decision.end_watch
    fields = _changes(rollout, decision, now)
    if decision.effects or moved:
        fields["revision"] = F("revision") + 1
    if fields:
        changed = Rollout.objects.filter(pk=rollout.pk, revision=rollout.revision).update(**fields)
        if changed != 1:
            raise StaleWriter(f"Rollout {rollout} was changed meanwhile.", fix="It is decided anew at once.")
        rollout.refresh_from_db(
            fields=list(fields)
        )  # these only: the related rows that were read with it stay
    for drop in decision.drops:
        _drop_arm(rollout, drop, actor, now)
    add_effects(
        endpoint=rollout.endpoint,
        rollout=rollout,
        effects=decision.effects,
        now=now,
        by_person=actor != HEADGATE,
    )
    if moved:
        _settle_endpoint(rollout, decision, now)
        record(
            at=now,
            actor=actor.name,
            actor_kind=actor.kind,
            action=f"rollout.{decision.event.value if decision.event else 'watch-ended'}",
            object_kind="rollout",
            object_id=rollout.pk,
            before=before,
            after={
                "phase": rollout.phase,
                "step": rollout.step_index,
                "pause_reason": rollout.pause_reason,
                **({"dropped": [drop.arm for drop in decision.drops]} if decision.drops else {}),
                **({"arm": decision.winner} if decision.winner else {}),
            },
            why=decision.reason,
            request_id=actor.request_id,
        )
    if decision.title and not (decision.once and _was_told(rollout, decision.title)):
        tell(
            endpoint=rollout.endpoint,
            rollout=rollout,
            kind=decision.event.value if decision.event else "note",
            title=decision.title,
            detail=decision.detail,
            actor=actor.name,
            now=now,
        )
    if fields:
        publish(f"rollout:{rollout.pk}", f"endpoint:{rollout.endpoint_id}", "overview", now=now)


def changes_words_only(rollout: Rollout, decision: Decision) -> bool:
    """Whether the decision leaves everything as it is but for what people read: most do."""
    stays = (decision.phase.value, decision.pause_reason, decision.step_index) == (
        rollout.phase,
        PauseReason(rollout.pause_reason),
        rollout.step_index,
    )
    moves = decision.event or decision.end_watch or decision.effects or decision.drops or decision.winner
    return stays and not moves and not decision.title


def keep_words(rollout: Rollout, decision: Decision, *, writes: Writes, now: datetime) -> None:
    """What people read of a decision that changes nothing else."""
    fields = _changes(rollout, decision, now)
    if not fields:
        return
    for name, value in fields.items():
        setattr(rollout, name, value)
    writes.save(rollout, *fields)
    writes.publish(f"rollout:{rollout.pk}", f"endpoint:{rollout.endpoint_id}", "overview")


def _drop_arm(rollout: Rollout, drop: Drop, actor: Actor, now: datetime) -> None:
    """An arm leaves for good, with its reason."""
    arm = Arm.objects.select_related("variant__version").get(rollout=rollout, name=drop.arm)
    arm.dropped_at, arm.dropped_cause, arm.dropped_sentence = now, drop.cause, drop.sentence
    arm.save(update_fields=["dropped_at", "dropped_cause", "dropped_sentence"])
    tell(
        endpoint=rollout.endpoint,
        rollout=rollout,
        kind=Event.DROP.value,
        title=f"{arm.variant.version.label} is out of the race",
        detail=drop.sentence,
        actor=actor.name,
        now=now,
    )


def _was_told(rollout: Rollout, title: str) -> bool:
    """Whether the history has this title since the weights last moved."""
    kinds = (Event.START.value, Event.REWEIGHT.value, Event.DROP.value, Event.RESUME.value)
    rows = HistoryEvent.objects.filter(rollout=rollout)
    moved = rows.filter(kind__in=kinds).order_by("-pk").values_list("pk", flat=True).first()
    return rows.filter(title=title, pk__gt=moved or 0).exists()


def _changes(rollout: Rollout, decision: Decision, now: datetime) -> dict[str, object]:
    """Only the columns that differ: a tick that changes nothing writes nothing."""
    fields: dict[str, object] = {}
    texts = {
        "next_step": decision.next_step,
        "cause": decision.cause,
        "cause_sentence": decision.cause_sentence,
    }
    if decision.reason and (decision.reason != rollout.reason or decision.next_step != rollout.next_step):
        fields["reason"] = decision.reason
        fields["next_step"] = decision.next_step
    for name in ("cause", "cause_sentence"):
        if texts[name] and texts[name] != getattr(rollout, name):
            fields[name] = texts[name]
    # The word of a newer version stays as long as the pause does.
    if decision.pause_reason is not PauseReason(rollout.pause_reason):
        fields["pause_reason"] = decision.pause_reason.value
    if decision.step_index != rollout.step_index:
        fields |= {"step_index": decision.step_index, "step_since": None, "step_requests": 0}
    if decision.event is Event.RESUME and rollout.pause_reason in BEGINS_ANEW:
        # What was measured under weights set by hand, or of something else, is no exposure of this step.
        fields |= {"step_since": None, "step_requests": 0}
    if decision.winner:
        winner = Arm.objects.select_related("variant").get(rollout=rollout, name=decision.winner)
        fields["candidate"] = winner.variant
    if decision.end_watch:
        fields |= {"watching": False, "watch_until": now}
    if decision.phase.value == rollout.phase:
        return fields
    phase = decision.phase
    fields |= {"phase": phase.value, "phase_since": now}
    if phase in (Phase.ROLLING_BACK, Phase.PROMOTING):
        fields["decided_at"] = now
    if phase is Phase.ROLLING_BACK:
        fields["watching"] = False
        fields["finished_at"] = None
    if phase is Phase.SUCCEEDED:
        watch = timedelta(seconds=rollout.parsed_plan.watch_seconds)
        fields |= {"promoted_at": now, "watch_until": now + watch, "watching": True}
    if phase in FINAL:
        fields["finished_at"] = now
    if phase in (Phase.PROGRESSING, Phase.PAUSED) and rollout.traffic_at is None:
        fields["traffic_at"] = now
    return fields


def _settle_endpoint(rollout: Rollout, decision: Decision, now: datetime) -> None:
    """Which variant is stable follows the phase: the candidate once promoted, the baseline once returned; and so
    does what each arm was last seen to have."""
    endpoint = rollout.endpoint
    if decision.phase is Phase.SUCCEEDED and not decision.end_watch:
        endpoint.stable, endpoint.previous = rollout.candidate, rollout.baseline
    elif decision.phase is Phase.ROLLED_BACK:
        endpoint.stable, endpoint.previous = rollout.baseline, None
    else:
        return
    endpoint.save(update_fields=["stable", "previous"])
    # Both phases are decided on a route that was read back: from here on this is what each arm has.
    Arm.objects.filter(rollout=rollout).update(observed_bp=F("desired_bp"))


def add_effects(
    *,
    endpoint: Endpoint,
    rollout: Rollout | None,
    effects: Iterable[DomainEffect],
    now: datetime,
    by_person: bool = False,
) -> None:
    """Writes effect rows. A new split supersedes the ones that still wait, and becomes the desired one; running or
    draining a variant supersedes what was asked of it before, so that a late retry cannot undo the newer wish.

    by_person   somebody asked for it: a split then needs no whole engine to give it more
    """
    for effect in effects:
        waiting = Effect.objects.filter(endpoint=endpoint, state=EffectState.PENDING)
        if isinstance(effect, EnsureWorkload | DrainWorkload):
            waiting.filter(
                kind__in=(EnsureWorkload.kind, DrainWorkload.kind), payload__variant=effect.variant
            ).update(state=EffectState.SUPERSEDED, done_at=now)
        if isinstance(effect, HoldScaleIn):
            waiting.filter(kind=HoldScaleIn.kind, payload__variant=effect.variant).update(
                state=EffectState.SUPERSEDED, done_at=now
            )
        if isinstance(effect, SetTraffic):
            waiting.filter(kind=SetTraffic.kind).update(state=EffectState.SUPERSEDED, done_at=now)
            endpoint.desired_shares = dict(effect.shares)
            endpoint.desired_fallback = effect.fallback
            endpoint.save(update_fields=["desired_shares", "desired_fallback"])
            if rollout is not None:
                arms = list(Arm.objects.filter(rollout=rollout).select_related("variant"))
                for arm in arms:
                    arm.desired_bp = effect.shares.get(arm.variant.name, 0)
                Arm.objects.bulk_update(arms, ["desired_bp"])
        # A split stands in the endpoint and nowhere else: whoever publishes it publishes the newest.
        payload = effect.to_json()
        if isinstance(effect, SetTraffic):
            payload = {BY_PERSON: True} if by_person else {}
        Effect.objects.create(
            endpoint=endpoint, rollout=rollout, kind=effect.kind, payload=payload, created_at=now
        )


def tell(
    *,
    endpoint: Endpoint,
    rollout: Rollout | None,
    kind: str,
    title: str,
    now: datetime,
    detail: str = "",
    actor: str = HEADGATE.name,
) -> HistoryEvent:
    """Adds a line to the history that people read."""
    line = history_line(
        endpoint=endpoint, rollout=rollout, kind=kind, title=title, now=now, detail=detail, actor=actor
    )
    line.save(force_insert=True)
    return line


def history_line(
    *,
    endpoint: Endpoint,
    rollout: Rollout | None,
    kind: str,
    title: str,
    now: datetime,
    detail: str = "",
    actor: str = HEADGATE.name,
) -> HistoryEvent:
    """A line of the history that is not written yet."""
    return HistoryEvent(
        endpoint=endpoint, rollout=rollout, at=now, kind=kind, title=title, detail=detail, actor=actor
    )


def note_change(
    *,
    endpoint: Endpoint,
    action: str,
    kind: str,
    title: str,
    actor: Actor,
    now: datetime,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    detail: str = "",
    why: str = "",
    topics: Sequence[str] = (),
) -> None:
    """Notes what somebody changed about an endpoint: in its history, in the audit trail, for the pages that are open
    and for the loop. Call it in the transaction of the change.

    action  `endpoint.rescue-set`, as the audit trail has it; `kind` and `title` as the history has them
    topics  of pages that follow besides the endpoint's own
    """
    tell(endpoint=endpoint, rollout=None, kind=kind, title=title, detail=detail, actor=actor.name, now=now)
    record(
        at=now,
        actor=actor.name,
        actor_kind=actor.kind,
        action=action,
        object_kind="endpoint",
        object_id=endpoint.name,
        before=before,
        after=after,
        why=why,
        request_id=actor.request_id,
    )
    publish(f"endpoint:{endpoint.pk}", *topics, now=now)
    look_soon(pk=endpoint.pk)
