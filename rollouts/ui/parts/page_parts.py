"""What the page of every rollout has, whatever its strategy: the sentence, the events, the launch, the actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.kernel.words import duration_of_seconds
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import FINAL, PauseReason, Phase
from rollouts.models import HistoryEvent, Rollout
from rollouts.ui.parts.arms_table import workload_of
from rollouts.ui.parts.outages import holding_note
from rollouts.ui.parts.phases import cause_words, exposure_reached, split_sentence

STALE_AFTER = timedelta(seconds=60)
LOG_LINES = 50

EVENT_LOOK: Mapping[str, tuple[str, str]] = {
    "created": ("rocket", "acc"),
    "provision": ("cpu", ""),
    "start": ("arrow-right", ""),
    "advance": ("arrow-right", ""),
    "reweight": ("activity", "acc"),
    "drop": ("circle-x", ""),
    "pause": ("pause", "warn"),
    "resume": ("play", "acc"),
    "promote": ("fast-forward", "acc"),
    "finish": ("flag", "pass"),
    "roll-back": ("undo-2", "fail"),
    "return": ("undo-2", "fail"),
    "cancel": ("circle-slash", ""),
    "supersede": ("circle-slash", ""),
    "give-up": ("circle-x", "fail"),
    "global-stop": ("octagon-pause", "warn"),
    "launch-failed": ("circle-x", "fail"),
    "outage": ("circle-x", "fail"),
    "outage-over": ("circle-check", "pass"),
}


@dataclass(frozen=True, slots=True)
class Why:
    """The sentence over the page: why it waits and what happens next. Tones: info, warn, fail, pass, mute."""

    tone: str
    icon: str
    strong: str
    first: str
    more: str


@dataclass(frozen=True, slots=True)
class EventRow:
    icon: str
    css: str
    title: str
    detail: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ActionButton:
    """Something a person may do now. `refused` says why not (shown in its place); `forward` waits for fresh
    data.
    """

    name: str
    label: str
    icon: str
    look: str
    refused: str
    forward: bool


@dataclass(frozen=True, slots=True)
class LaunchNote:
    """The candidate's engine while it comes up, or why it did not."""

    variant: str
    failed: bool
    strong: str
    detail: str
    log: tuple[str, ...]


def stale_since(rollout: Rollout, now: datetime) -> datetime | None:
    """When the loop last looked, if that is too long ago to move forward on."""
    if Phase(rollout.phase) in FINAL and not rollout.watching:
        return None
    looked = rollout.endpoint.reconciled_at or rollout.created_at
    return looked if now - looked > STALE_AFTER else None


def why_of(rollout: Rollout, plan: Plan, now: datetime) -> Why:
    """The band: the loop's own reason and next step, in the tone of the phase."""
    phase = Phase(rollout.phase)
    held = holding_note(rollout, now)
    if held is not None:
        return Why("fail", "server", held.strong, held.first, f"{held.more} {rollout.next_step}")
    tone, icon = "info", "activity"
    if phase is Phase.PAUSED or (
        phase is Phase.PROGRESSING and exposure_reached(rollout, plan, now.timestamp())
    ):
        tone, icon = "warn", "circle-alert"
    elif phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.FAILED):
        tone, icon = "fail", "circle-x"
    elif phase is Phase.SUCCEEDED:
        tone, icon = "pass", "flag"
    elif phase in (Phase.PENDING, Phase.CANCELLED, Phase.SUPERSEDED):
        tone, icon = "mute", "clock"
    strong, first = split_sentence(rollout.reason or "Waiting for the control loop to take it up.")
    if phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK) and rollout.cause:
        strong, first = _rollback_heading(rollout), rollout.reason
    return Why(tone, icon, strong, first, rollout.next_step)


def _rollback_heading(rollout: Rollout) -> str:
    who = cause_words(rollout)
    heading = "Rolling back" if rollout.phase == Phase.ROLLING_BACK.value else "Rolled back"
    if rollout.traffic_at is not None and rollout.decided_at is not None:
        after = duration_of_seconds((rollout.decided_at - rollout.traffic_at).total_seconds())
        return f"{heading}, {after} after its first traffic: {who}."
    return f"{heading} before it had traffic: {who}."


def event_rows(history: Sequence[HistoryEvent]) -> tuple[EventRow, ...]:
    """Events, newest first; a detail that only repeats that of the event before it is left out."""
    before = [*[event.detail for event in history[1:]], ""]
    return tuple(
        _event_row(event, "" if event.detail == older else event.detail)
        for event, older in zip(history, before, strict=False)
    )


def _event_row(event: HistoryEvent, detail: str) -> EventRow:
    icon, tone = EVENT_LOOK.get(event.kind, ("circle-dot", ""))
    actor = "" if event.actor in ("Headgate", "") or event.title.startswith(event.actor) else event.actor
    return EventRow(icon, f"ico-s {tone}".strip(), event.title, detail, actor, event.at)


def launch_of(rollout: Rollout) -> LaunchNote | None:
    """The candidate's engine, while it comes up or when it did not."""
    workload = workload_of(rollout.candidate)
    failed = rollout.cause.startswith(("launch:", "workload:"))
    if workload is None or not (failed or rollout.phase == Phase.PROVISIONING.value):
        return None
    log = tuple(str(line) for line in workload.log_tail[-LOG_LINES:])
    if failed:
        untouched = "" if rollout.traffic_at else "Traffic was never touched."
        return LaunchNote(rollout.candidate.name, True, rollout.cause_sentence, untouched, log)
    words = workload.message or "waiting for the cluster"
    return LaunchNote(rollout.candidate.name, False, f"{words[:1].upper()}{words[1:]}.", "", log)


def actions_of(rollout: Rollout, user: User, *, stop_on: bool) -> tuple[ActionButton, ...]:
    """What a person may ask for in this phase; an action that the role forbids carries the reason."""
    phase, baseline = Phase(rollout.phase), rollout.baseline.version.label
    control = refusal(user.role, Action.CONTROL_ROLLOUT)
    promote = refusal(user.role, Action.PROMOTE_NOW)
    found = []
    if phase in (Phase.PENDING, Phase.PROVISIONING):
        found.append(ActionButton("cancel", "Cancel", "circle-slash", "danger", control, False))
    if phase in (Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING, Phase.FAILED) or (
        phase is Phase.SUCCEEDED and rollout.watching
    ):
        found.append(
            ActionButton("roll-back", f"Roll back to {baseline}", "undo-2", "danger", control, False)
        )
    if phase is Phase.PROGRESSING:
        found.append(ActionButton("pause", "Pause", "pause", "", control, False))
    if phase is Phase.PAUSED and not stop_on and rollout.pause_reason != PauseReason.CHANGED.value:
        found.append(ActionButton("resume", "Resume", "play", "", control, True))
    if phase in (Phase.PROGRESSING, Phase.PAUSED) and not stop_on:
        found.append(ActionButton("promote", "Promote now…", "fast-forward", "primary", promote, True))
    return tuple(found)


def action_note(rollout: Rollout, *, stop_on: bool) -> str:
    """One quiet line beside the buttons."""
    if stop_on and Phase(rollout.phase) in (Phase.PROGRESSING, Phase.PAUSED):
        return "Global stop: nothing moves forward, rolling back is possible"
    if rollout.pause_reason == PauseReason.DRIFT.value:
        return "Resuming restores the planned weights"
    if rollout.pause_reason == PauseReason.CHANGED.value:
        return "It goes on by itself when what was changed is undone in the cluster"
    return ""
