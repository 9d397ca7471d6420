"""What people and pipelines tell a rollout. Each writes rows; the loop does the rest.

Every command takes the revision its sender saw: when the rollout moved on since, it raises Conflict and changes
nothing (`expected_revision=None` skips the check, for scripts that mean "whatever it is now").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from django.db import IntegrityError, transaction

from controlplane.access.actors import Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.audit.services import record
from controlplane.kernel.errors import Conflict, Refused
from controlplane.web.live import publish
from rollouts.domain.lifecycle import decide
from rollouts.domain.lifecycle.changed import changed_hold
from rollouts.domain.lifecycle.decision import GLOBAL_STOP, Decision, Hold, RolloutView
from rollouts.domain.lifecycle.moves import cancel, roll_back
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.domain.restored import RestoredState
from rollouts.domain.strategies import strategy_of
from rollouts.models import Endpoint, GlobalStop, HistoryEvent, Rollout, Workload
from rollouts.services.locks import lock_rollout
from rollouts.services.loop.leases import look_soon
from rollouts.services.loop.views import view_of
from rollouts.services.writing import apply_decision, tell

Command = Callable[[RolloutView], Decision]


@requires(Action.CONTROL_ROLLOUT)
def pause_rollout(
    *, rollout_id: int, actor: Actor, now: datetime, expected_revision: int | None = None, why: str = ""
) -> Rollout:
    """Holds the shares where they are until somebody resumes. The gates go on watching and may roll back, and what the
    strategy never freezes goes on, too.
    """
    more = f" {why}" if why else ""

    def command(view: RolloutView) -> Decision:
        words = strategy_of(view).WORDS
        sentence = f"{actor.name} {words.paused}.{more}"
        return decide.pause(view, why=PauseReason.PERSON, sentence=sentence, next_step=words.while_paused)

    return _command(rollout_id, command, actor=actor, now=now, expected_revision=expected_revision)


@requires(Action.CONTROL_ROLLOUT)
def resume_rollout(
    *, rollout_id: int, actor: Actor, now: datetime, expected_revision: int | None = None, why: str = ""
) -> Rollout:
    """Goes on with the step; weights that were set by hand are set as planned again. Raises Refused during the global
    stop, and while something else runs than what was asked for."""
    refuse_while_held()
    more = f" {why}" if why else ""

    def command(view: RolloutView) -> Decision:
        _refuse_while_changed(changed_hold(view, _altered(view)))
        return decide.resume(view, sentence=f"{actor.name} {strategy_of(view).WORDS.resumed}.{more}")

    return _command(
        rollout_id,
        command,
        actor=actor,
        now=now,
        expected_revision=expected_revision,
        forget_applied=True,
    )


@requires(Action.PROMOTE_NOW)
def promote_rollout(
    *,
    rollout_id: int,
    actor: Actor,
    now: datetime,
    expected_revision: int | None = None,
    why: str = "",
    arm: str = "",
) -> Rollout:
    """Moves all traffic to the candidate now, whatever the gates still wait for. Watched like any promotion. Raises
    Refused during the global stop, and while something else runs of that candidate than what was asked for.

    arm     which one, such as "candidate-2"; needed while several candidates are in the race

    Raises InvalidInput (field `arm`) for one that is missing, unknown or not in the race any more.
    """
    refuse_while_held()
    more = f" {why}" if why else ""

    def command(view: RolloutView) -> Decision:
        chosen = view.arm(arm)
        what = (
            f"{chosen.label} without waiting for the evidence"
            if chosen
            else "it without waiting for the gates"
        )
        made = decide.promote(view, sentence=f"{actor.name} promoted {what}.{more}", arm=arm)
        promoted = replace(view, phase=made.phase, candidate_arm=made.winner or view.candidate_arm)
        _refuse_while_changed(changed_hold(promoted, _altered(view)))
        return made

    return _command(rollout_id, command, actor=actor, now=now, expected_revision=expected_revision)


@requires(Action.CONTROL_ROLLOUT)
def roll_back_rollout(
    *, rollout_id: int, actor: Actor, now: datetime, expected_revision: int | None = None, why: str = ""
) -> Rollout:
    """Returns all traffic to the baseline. Allowed in a global stop, and while the watch after a promotion lasts."""
    sentence = f"{actor.name} rolled it back." + (f" {why}" if why else "")

    def command(view: RolloutView) -> Decision:
        if view.phase is Phase.SUCCEEDED and not view.watching:
            raise Conflict(
                f"The rollback window is over and {view.baseline} is stopped.",
                code="watch-over",
                fix=f"Start a rollout of {view.baseline_label}.",
            )
        return roll_back(view, cause="person", sentence=sentence)

    return _command(rollout_id, command, actor=actor, now=now, expected_revision=expected_revision)


@requires(Action.CONTROL_ROLLOUT)
def cancel_rollout(
    *, rollout_id: int, actor: Actor, now: datetime, expected_revision: int | None = None, why: str = ""
) -> Rollout:
    """Ends a rollout before any traffic moved."""
    sentence = f"{actor.name} cancelled it before traffic moved." + (f" {why}" if why else "")
    return _command(
        rollout_id,
        lambda view: cancel(view, sentence=sentence),
        actor=actor,
        now=now,
        expected_revision=expected_revision,
    )


def hold_in_force() -> Hold | None:
    """What keeps everything that moves forward from moving now; None when nothing does. One query."""
    return GLOBAL_STOP if GlobalStop.objects.filter(pk=1, on=True).exists() else None


def refuse_while_held() -> None:
    """Raises Refused while something holds whatever moves forward."""
    held_by = hold_in_force()
    if held_by is not None:
        fix = f"It is possible when {held_by.ends}."
        raise Refused(f"{held_by.sentence}.", code=held_by.kind.value, fix=fix)


def _altered(view: RolloutView) -> dict[str, str]:
    """What of each arm's variant runs otherwise than it was asked for, as far as was seen; 1 query."""
    rows = Workload.objects.filter(variant__name__in=[arm.variant for arm in view.arms])
    return dict(rows.values_list("variant__name", "altered"))


def _refuse_while_changed(hold: Hold | None) -> None:
    if hold is not None:
        raise Refused(
            f"{hold.sentence}.",
            code="changed-by-hand",
            fix="Undo it in the cluster: then the rollout goes on by itself. Or roll back.",
        )


@requires(Action.GLOBAL_STOP)
def set_global_stop(*, on: bool, why: str, actor: Actor, now: datetime) -> GlobalStop:
    """Freezes (or frees) every forward action of the installation. Rolling back is never stopped."""
    with transaction.atomic():
        stop, _ = GlobalStop.objects.get_or_create(pk=1)
        stop = GlobalStop.objects.select_for_update().get(pk=1)
        if stop.on == on:
            return stop
        look_soon()  # first: it locks every endpoint
        stop.on, stop.since, stop.by, stop.why = on, now, actor.user, why
        stop.save()
        record(
            at=now,
            actor=actor.name,
            actor_kind=actor.kind,
            action="installation.stopped" if on else "installation.freed",
            object_kind="installation",
            object_id="global-stop",
            before={"on": not on},
            after={"on": on},
            why=why,
            request_id=actor.request_id,
        )
        publish("overview", "global-stop", now=now)
        for endpoint in Endpoint.objects.all():
            tell(
                endpoint=endpoint,
                rollout=None,
                kind="global-stop",
                title="Global stop set" if on else "Global stop lifted",
                detail=why,
                actor=actor.name,
                now=now,
            )
    return stop


def refuse_while_restored(endpoint: Endpoint) -> None:
    """Raises Refused while the database is known to be an older copy: nobody can tell what a command would change."""
    state = Endpoint.objects.filter(pk=endpoint.pk).values_list("restored_state", flat=True).first()
    if state:
        raise refusal_while_restored(endpoint.name, RestoredState(state))


def refusal_while_restored(name: str, state: RestoredState) -> Refused:
    """What a command on an endpoint in this state, which is not NONE, is answered."""
    return Refused(
        f"{name} is held: the database is an older copy than what serves.",
        code="restored-copy",
        fix=_WAY_OUT[state],
    )


_WAY_OUT = {
    RestoredState.WATCHING: "It first makes sure that no other control plane is at work on it. Try again in a minute.",
    RestoredState.RIVAL: "Another control plane is at work on it. Stop that one first.",
    RestoredState.HELD: "A release manager chooses first what serves, on the endpoint's page.",
    RestoredState.KEEPING: "What serves was chosen and is being written down. Try again in a minute.",
    RestoredState.RETURNING: "What the database says was chosen and is being launched. Try again when it serves.",
}


def _command(
    rollout_id: int,
    command: Command,
    *,
    actor: Actor,
    now: datetime,
    expected_revision: int | None,
    forget_applied: bool = False,
) -> Rollout:
    with transaction.atomic():
        rollout = lock_rollout(rollout_id)
        if expected_revision is not None and rollout.revision != expected_revision:
            raise _changed(rollout, expected_revision, now)
        refuse_while_restored(rollout.endpoint)
        decision = command(view_of(rollout))
        try:
            with transaction.atomic():
                apply_decision(rollout=rollout, decision=decision, actor=actor, now=now)
        except IntegrityError as error:
            raise Conflict(
                f"Another rollout of {rollout.endpoint} is active.",
                code="rollout-active",
                fix="End that one first.",
            ) from error
        if forget_applied:
            Endpoint.objects.filter(pk=rollout.endpoint_id).update(applied={})
        look_soon(pk=rollout.endpoint_id)
    return rollout


def _changed(rollout: Rollout, expected: int, now: datetime) -> Conflict:
    last = HistoryEvent.objects.filter(rollout=rollout).first()
    who = f"by {last.actor} {max(0, round((now - last.at).total_seconds()))} s ago" if last else "meanwhile"
    return Conflict(
        f"Rollout {rollout} was changed {who}.",
        code="revision-conflict",
        fix="Look at its state now and decide again.",
        extra={"expected_revision": expected, "revision": rollout.revision, "phase": rollout.phase},
    )
