"""The rollout page as plain values: the template only lays them out. `build` costs the same at any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.web.words import count_text, duration_text, number_text, percent_text, share_text
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.words import seconds_text
from rollouts.domain.intervals import Interval
from rollouts.domain.plan import Plan
from rollouts.domain.states import FINAL, PauseReason, Phase
from rollouts.models import Arm, Evidence, HistoryEvent, Rollout, Variant, Workload
from rollouts.ui.gates_table import GatesTable, gates_table
from rollouts.ui.phases import Pill, cause_words, exposure_reached, pill_of, split_sentence, step_share
from rollouts.ui.what_changes import Change, what_changes

RECENT = timedelta(minutes=5)
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
class StepCell:
    """One step of the strip. `state` is done, now, back or todo."""

    state: str
    icon: str
    title: str
    label: str
    percent: float


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm as measured over the last minutes."""

    arm: int
    name: str
    variant: str
    version: str
    target: str
    actual: str
    replicas: str
    served: str
    per_second: str
    kv_cache: str
    kv_percent: float | None
    latency: tuple[str, ...]
    errors: str


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
    intervals = _recent_intervals(rollout)
    gates = gates_table(policy, rollout.verdicts)
    latency = [gate for gate in policy.gates if gate.kind == "latency_slo"]
    stale_from = _stale_from(rollout, now)
    share = share_text(step_share(plan, rollout.step_index))
    return RolloutPage(
        rollout=rollout,
        pill=pill_of(rollout, plan, now.timestamp()),
        why=_why(rollout, plan, now),
        steps=_steps(rollout, plan, history, gates, now),
        gates=gates,
        gates_heading="Gates" if rollout.step_index < 0 else f"Gates at {share}",
        arms=tuple(_arm_row(arm, _workload_of_arm(rollout, arm), intervals, policy) for arm in arms),
        arms_meta=_arms_meta(rollout, arms, intervals),
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
            (_arm_number(arm), arm.variant.version.label, share_text(arm.observed_bp)) for arm in arms
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


def _arm_number(arm: Arm) -> int:
    return 0 if arm.name == "baseline" else 1


def _stale_from(rollout: Rollout, now: datetime) -> datetime | None:
    """When the loop last looked, if that is too long ago to move forward on."""
    if Phase(rollout.phase) in FINAL and not rollout.watching:
        return None
    looked = rollout.endpoint.reconciled_at or rollout.created_at
    return looked if now - looked > STALE_AFTER else None


# --- why and steps
# --------------------------------------------------------------------------------------------


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


def _steps(
    rollout: Rollout, plan: Plan, history: Sequence[HistoryEvent], gates: GatesTable, now: datetime
) -> tuple[StepCell, ...]:
    moments = _step_moments(history)
    ended = Phase(rollout.phase) in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.CANCELLED, Phase.FAILED)
    cells = [_launch_cell(rollout, moments, ended=ended, now=now)]
    for index, step in enumerate(plan.steps):
        title = share_text(step.share_bp)
        planned = f"{duration_text(step.hold_seconds)} · {step.min_requests:,} requests"
        if index < rollout.step_index:
            held = _held(moments, index)
            label = f"{held} · no fail" if held else "no fail"
            cells.append(StepCell("done", "circle-check", title, label, 100))
        elif index == rollout.step_index and ended:
            cells.append(StepCell("back", "undo-2", title, "back to the baseline", 100))
        elif index == rollout.step_index:
            cells.append(_current_cell(rollout, title, step.hold_seconds, step.min_requests, gates, now))
        else:
            label = planned + (" · pass required" if step.require_pass else "")
            cells.append(StepCell("todo", "circle", title, label, 0))
    cells.append(_last_cell(rollout, plan, ended=ended, now=now))
    return tuple(cells)


def _launch_cell(
    rollout: Rollout, moments: Mapping[int, datetime], *, ended: bool, now: datetime
) -> StepCell:
    if rollout.step_index >= 0:
        took = (moments[0] - rollout.created_at).total_seconds() if 0 in moments else 0
        return StepCell(
            "done", "circle-check", "Launch", f"ready in {duration_text(took)}" if took else "ready", 100
        )
    if ended:
        return StepCell("back", "undo-2", "Launch", cause_words(rollout) or "ended", 100)
    if rollout.phase == Phase.PENDING.value:
        return StepCell("now", "circle-dot", "Launch", "waiting to be taken up", 0)
    waited = duration_text((now - rollout.phase_since).total_seconds())
    return StepCell("now", "circle-dot", "Launch", f"loading for {waited}", 50)


def _current_cell(
    rollout: Rollout, title: str, hold_seconds: int, min_requests: int, gates: GatesTable, now: datetime
) -> StepCell:
    if rollout.step_since is None:
        return StepCell("now", "circle-dot", title, "being set on the router", 0)
    held = max(0.0, (now - rollout.step_since).total_seconds())
    parts = [held / hold_seconds if hold_seconds else 1.0]
    if min_requests:
        parts.append(rollout.step_requests / min_requests)
    passing = sum(row.tone == "pass" for row in gates.rows)
    if min(parts) >= 1:
        label = f"{duration_text(held)} · {passing} of {len(gates.rows)} pass"
    else:
        label = f"{duration_text(held)} of {duration_text(hold_seconds)}"
        if min_requests:
            label += f" · {min(rollout.step_requests, min_requests):,} of {min_requests:,}"
    icon = "pause" if rollout.phase == Phase.PAUSED.value else "circle-dot"
    return StepCell("now", icon, title, label, 100 * min(1.0, *parts))


def _last_cell(rollout: Rollout, plan: Plan, *, ended: bool, now: datetime) -> StepCell:
    watch = duration_text(plan.watch_seconds)
    reached = rollout.step_index >= len(plan.steps)
    if reached and ended:
        return StepCell("back", "undo-2", "100%", "back to the baseline", 100)
    if rollout.phase == Phase.SUCCEEDED.value:
        if rollout.watching and rollout.watch_until is not None:
            left = max(0.0, (rollout.watch_until - now).total_seconds())
            done = 100 * (1 - left / plan.watch_seconds) if plan.watch_seconds else 100
            return StepCell("done", "flag", "100%", f"watched {duration_text(left)} more", done)
        return StepCell("done", "flag", "100%", "promoted", 100)
    if reached:
        return StepCell("now", "circle-dot", "100%", "being set on the router", 50)
    return StepCell("todo", "flag", "100%", f"promote, watch {watch}", 0)


def _step_moments(history: Sequence[HistoryEvent]) -> dict[int, datetime]:
    """When each step began, from the history: `start` begins the first, every `advance` the next."""
    moments: dict[int, datetime] = {}
    for event in reversed(history):
        if event.kind == "start":
            moments[0] = event.at
        elif event.kind in ("advance", "promote") and moments:
            moments[max(moments) + 1] = event.at
    return moments


def _held(moments: Mapping[int, datetime], index: int) -> str:
    if index not in moments or index + 1 not in moments:
        return ""
    return duration_text((moments[index + 1] - moments[index]).total_seconds())


# --- arms
# -----------------------------------------------------------------------------------------------------


def _recent_intervals(rollout: Rollout) -> list[Interval]:
    """The intervals of the last RECENT minutes in which anything was measured."""
    until = rollout.measured_at or rollout.created_at
    rows = Evidence.objects.filter(rollout=rollout, ended_at__gt=until - RECENT).order_by("index")
    return [Interval.from_json(data) for data in rows.values_list("interval", flat=True)]


def _workload_of_arm(rollout: Rollout, arm: Arm) -> Workload | None:
    return _workload(rollout.baseline if arm.name == "baseline" else rollout.candidate)


def _arm_row(
    arm: Arm, workload: Workload | None, intervals: Sequence[Interval], policy: GatePolicy
) -> ArmRow:
    counts = [interval.arms[arm.name] for interval in intervals if arm.name in interval.arms]
    seconds = sum(interval.seconds for interval in intervals if arm.name in interval.arms)
    requests = sum(count.requests for count in counts)
    errors = sum(count.errors for count in counts)
    latency = []
    for gate in policy.gates:
        if gate.kind != "latency_slo":
            continue
        measured = [
            count.latency[gate.signal or ""] for count in counts if (gate.signal or "") in count.latency
        ]
        total = sum(one.total for one in measured)
        over = sum(one.over.get(gate.slo_seconds or 0.0, 0) for one in measured)
        latency.append(percent_text(over / total if total else None))
    kv_cache = workload.kv_cache_share if workload else None
    return ArmRow(
        arm=_arm_number(arm),
        name=arm.name,
        variant=arm.variant.name,
        version=arm.variant.version.label,
        target=share_text(arm.desired_bp),
        actual=share_text(arm.observed_bp),
        replicas=f"{workload.ready} / {max(workload.desired, workload.ready)}" if workload else "0 / 0",
        served=f"{arm.requests:,}",
        per_second=number_text(requests / seconds) if seconds else "no data",
        kv_cache="no data" if kv_cache is None else f"{kv_cache:.0%}",
        kv_percent=None if kv_cache is None else kv_cache * 100,
        latency=tuple(latency),
        errors=percent_text(errors / requests if requests else None),
    )


def _workload(variant: Variant) -> Workload | None:
    return getattr(variant, "workload", None)


def _arms_meta(rollout: Rollout, arms: Sequence[Arm], intervals: Sequence[Interval]) -> str:
    failed = sum(arm.failed for arm in arms)
    fallbacks = sum(arm.fallbacks for arm in arms)
    parts = ["last 5 min" if intervals else "nothing measured yet"]
    if rollout.traffic_at is not None:
        parts.append(f"{count_text(failed, 'request')} failed for users")
    if fallbacks:
        parts.append(f"{fallbacks:,} answered by the baseline instead")
    return " · ".join(parts)


# --- events, launch, actions
# ----------------------------------------------------------------------------------


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
    workload = _workload(rollout.candidate)
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
