"""The rollout page as plain values: the template only lays them out. `build` costs the same at any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.web.words import duration_text, share_text
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.words import seconds_text
from rollouts.domain.plan import Plan
from rollouts.domain.states import FINAL, PauseReason, Phase
from rollouts.models import HistoryEvent, Rollout
from rollouts.ui.arms_table import (
    ArmRow,
    arm_number,
    arm_row,
    arms_meta,
    recent_intervals,
    workload_of,
    workload_of_arm,
)
from rollouts.ui.gates_table import GatesTable, gates_table
from rollouts.ui.phases import Pill, cause_words, exposure_reached, pill_of, split_sentence, step_share
from rollouts.ui.steps_strip import StepCell, step_cells
from rollouts.ui.what_changes import Change, what_changes

STALE_AFTER = timedelta(seconds=60)
EVENTS_SHOWN = 12
LOG_LINES = 50

EVENT_LOOK: Mapping[str, tuple[str, str]] = {
    "created": ("rocket", "acc"),
    "provision": ("cpu", ""),
    "start": ("arrow-right", ""),
    "advance": ("arrow-right", ""),
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
class Launch:
    """The candidate's engine while it comes up, or why it did not."""

    variant: str
    failed: bool
    strong: str
    detail: str
    log: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChartCard:
    """A chart over time: `name` is in its address, `now` are the last values by arm."""

    name: str
    title: str
    foot: str
    limit: bool


@dataclass(frozen=True, slots=True)
class RolloutPage:
    rollout: Rollout
    pill: Pill
    why: Why
    steps: tuple[StepCell, ...]
    gates: GatesTable
    gates_heading: str
    arms: tuple[ArmRow, ...]
    arms_meta: str
    latency_titles: tuple[str, ...]
    events: tuple[EventRow, ...]
    event_count: int
    changes: tuple[Change, ...]
    launch: Launch | None
    actions: tuple[ActionButton, ...]
    action_note: str
    charts: tuple[ChartCard, ...]
    legend: tuple[tuple[int, str, str], ...]
    stale_from: datetime | None
    stale_for: str
    now: datetime

    @property
    def shows_evidence(self) -> bool:
        """False for a rollout that ended before anything could be measured."""
        return self.rollout.traffic_at is not None or Phase(self.rollout.phase) not in FINAL


def build(*, rollout: Rollout, user: User, now: datetime, stop_on: bool) -> RolloutPage:
    """Everything the page shows at `now` for `user`. `rollout` is one of `selectors.find_rollout`."""
    plan = rollout.parsed_plan
    policy = rollout.gate_policy.policy
    history = list(HistoryEvent.objects.filter(rollout=rollout).order_by("-id"))
    arms = list(rollout.arms.all())
    intervals = recent_intervals(rollout)
    gates = gates_table(policy, rollout.verdicts)
    latency = [gate for gate in policy.gates if gate.kind == "latency_slo"]
    stale_from = _stale_from(rollout, now)
    share = share_text(step_share(plan, rollout.step_index))
    return RolloutPage(
        rollout=rollout,
        pill=pill_of(rollout, plan, now.timestamp()),
        why=_why(rollout, plan, now),
        steps=step_cells(rollout, plan, history, gates, now),
        gates=gates,
        gates_heading="Gates" if rollout.step_index < 0 else f"Gates at {share}",
        arms=tuple(arm_row(arm, workload_of_arm(rollout, arm), intervals, policy) for arm in arms),
        arms_meta=arms_meta(rollout, arms, intervals),
        latency_titles=tuple(
            f"{_signal_words(gate.signal)} > {seconds_text(gate.slo_seconds or 0)}" for gate in latency
        ),
        events=_event_rows(history),
        event_count=len(history),
        changes=what_changes(rollout.baseline, rollout.candidate),
        launch=_launch(rollout),
        actions=_actions(rollout, user, stop_on=stop_on),
        action_note=_action_note(rollout, stop_on=stop_on),
        charts=chart_cards(policy),
        legend=tuple(
            (arm_number(arm), arm.variant.version.label, share_text(arm.observed_bp)) for arm in arms
        ),
        stale_from=stale_from,
        stale_for="" if stale_from is None else duration_text((now - stale_from).total_seconds()),
        now=now,
    )


def chart_cards(policy: GatePolicy) -> tuple[ChartCard, ...]:
    """Traffic, the first latency gate, and quality (or errors where no golden set is asked)."""
    cards = [ChartCard("traffic", "Traffic", "Solid: measured. Dashed: plan.", False)]
    for gate in policy.gates:
        if gate.kind == "latency_slo":
            title = f"Over {seconds_text(gate.slo_seconds or 0)} to {_signal_words(gate.signal).lower()}"
            cards.append(ChartCard(gate.key, title, "share of requests", True))
            break
    paired = next((gate for gate in policy.gates if gate.kind == "paired"), None)
    errors = next((gate for gate in policy.gates if gate.kind == "error_rate"), None)
    third = paired or errors
    if third is not None:
        foot = "mean score so far, same prompts to both" if third is paired else "share of requests"
        cards.append(ChartCard(third.key, third.label, foot, True))
    return tuple(cards)


def _signal_words(signal: str | None) -> str:
    return {"ttft": "First token", "duration": "Full answer"}.get(signal or "", signal or "")


def _stale_from(rollout: Rollout, now: datetime) -> datetime | None:
    """When the loop last looked, if that is too long ago to move forward on."""
    if Phase(rollout.phase) in FINAL and not rollout.watching:
        return None
    looked = rollout.endpoint.reconciled_at or rollout.created_at
    return looked if now - looked > STALE_AFTER else None


def _why(rollout: Rollout, plan: Plan, now: datetime) -> Why:
    phase = Phase(rollout.phase)
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
        after = duration_text((rollout.decided_at - rollout.traffic_at).total_seconds())
        return f"{heading}, {after} after its first traffic: {who}."
    return f"{heading} before it had traffic: {who}."


def _event_rows(history: Sequence[HistoryEvent]) -> tuple[EventRow, ...]:
    """The newest events; a detail that only repeats that of the event before it is left out."""
    before = [*[event.detail for event in history[1:]], ""]
    return tuple(
        _event_row(event, "" if event.detail == older else event.detail)
        for event, older in list(zip(history, before, strict=True))[:EVENTS_SHOWN]
    )


def _event_row(event: HistoryEvent, detail: str) -> EventRow:
    icon, tone = EVENT_LOOK.get(event.kind, ("circle-dot", ""))
    actor = "" if event.actor in ("Headgate", "") or event.title.startswith(event.actor) else event.actor
    return EventRow(icon, f"ico-s {tone}".strip(), event.title, detail, actor, event.at)


def _launch(rollout: Rollout) -> Launch | None:
    workload = workload_of(rollout.candidate)
    failed = rollout.cause.startswith(("launch:", "workload:"))
    if workload is None or not (failed or rollout.phase == Phase.PROVISIONING.value):
        return None
    log = tuple(str(line) for line in workload.log_tail[-LOG_LINES:])
    if failed:
        untouched = "" if rollout.traffic_at else "Traffic was never touched."
        return Launch(rollout.candidate.name, True, rollout.cause_sentence, untouched, log)
    words = workload.message or "waiting for the cluster"
    return Launch(rollout.candidate.name, False, f"{words[:1].upper()}{words[1:]}.", "", log)


def _actions(rollout: Rollout, user: User, *, stop_on: bool) -> tuple[ActionButton, ...]:
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
    if phase is Phase.PAUSED and not stop_on:
        found.append(ActionButton("resume", "Resume", "play", "", control, True))
    if phase in (Phase.PROGRESSING, Phase.PAUSED) and not stop_on:
        found.append(ActionButton("promote", "Promote now…", "fast-forward", "primary", promote, True))
    return tuple(found)


def _action_note(rollout: Rollout, *, stop_on: bool) -> str:
    if stop_on and Phase(rollout.phase) in (Phase.PROGRESSING, Phase.PAUSED):
        return "Global stop: forward is off, back is not"
    if rollout.pause_reason == PauseReason.DRIFT.value:
        return "Resuming restores the planned weights"
    return ""
