"""The strip of steps over a rollout: what is behind it, how far the present step is, what comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.kernel.words import duration_of_seconds, percent_of_bp
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import Phase
from rollouts.models import HistoryEvent, Rollout
from rollouts.ui.parts.gates_table import GatesTable
from rollouts.ui.parts.phases import cause_words

STEP_EVENTS = ("start", "advance", "promote")  # the events that begin a step


@dataclass(frozen=True, slots=True)
class StepCell:
    """One step of the strip. `state` is done, now, held (now, and it waits), back or todo."""

    state: str
    icon: str
    title: str
    label: str
    percent: float


def step_cells(
    rollout: Rollout, plan: Plan, began: Sequence[HistoryEvent], gates: GatesTable, now: datetime
) -> tuple[StepCell, ...]:
    """Launch, every step of the plan, 100%. `began`: what `step_events` read."""
    moments = _step_moments(began)
    ended = Phase(rollout.phase) in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.CANCELLED, Phase.FAILED)
    cells = [_launch_cell(rollout, moments, ended=ended, now=now)]
    for index, step in enumerate(plan.steps):
        title = percent_of_bp(step.share_bp)
        planned = f"{duration_of_seconds(step.hold_seconds)} · {step.min_requests:,} requests"
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
            "done",
            "circle-check",
            "Launch",
            f"ready in {duration_of_seconds(took)}" if took else "ready",
            100,
        )
    if ended:
        return StepCell("back", "undo-2", "Launch", cause_words(rollout) or "ended", 100)
    if rollout.phase == Phase.PENDING.value:
        return StepCell("now", "circle-dot", "Launch", "waiting to be taken up", 0)
    waited = duration_of_seconds((now - rollout.phase_since).total_seconds())
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
        label = f"{duration_of_seconds(held)} · {passing} of {len(gates.rows)} pass"
    else:
        label = f"{duration_of_seconds(held)} of {duration_of_seconds(hold_seconds)}"
        if min_requests:
            label += f" · {min(rollout.step_requests, min_requests):,} of {min_requests:,}"
    paused = rollout.phase == Phase.PAUSED.value
    state = "held" if paused or min(parts) >= 1 else "now"
    return StepCell(state, "pause" if paused else "circle-dot", title, label, 100 * min(1.0, *parts))


def _last_cell(rollout: Rollout, plan: Plan, *, ended: bool, now: datetime) -> StepCell:
    watch = duration_of_seconds(plan.watch_seconds)
    reached = rollout.step_index >= len(plan.steps)
    if reached and ended:
        return StepCell("back", "undo-2", "100%", "back to the baseline", 100)
    if rollout.phase == Phase.SUCCEEDED.value:
        if rollout.watching and rollout.watch_until is not None:
            left = max(0.0, (rollout.watch_until - now).total_seconds())
            done = 100 * (1 - left / plan.watch_seconds) if plan.watch_seconds else 100
            return StepCell("done", "flag", "100%", f"watched {duration_of_seconds(left)} more", done)
        return StepCell("done", "flag", "100%", "promoted", 100)
    if reached:
        return StepCell("now", "circle-dot", "100%", "being set on the router", 50)
    return StepCell("todo", "flag", "100%", f"promote, watch {watch}", 0)


def step_events(rollout: Rollout, plan: Plan) -> list[HistoryEvent]:
    """The events that begin a step, oldest first: at most the start, one a step and a promotion, however much else
    happened. One query."""
    found = HistoryEvent.objects.filter(rollout=rollout, kind__in=STEP_EVENTS).order_by("id")
    return list(found[: len(plan.steps) + 2])


def _step_moments(began: Sequence[HistoryEvent]) -> dict[int, datetime]:
    """When each step began: `start` begins the first, everything else the next."""
    moments: dict[int, datetime] = {}
    for event in began:
        if event.kind == "start":
            moments[0] = event.at
        elif moments:
            moments[max(moments) + 1] = event.at
    return moments


def _held(moments: Mapping[int, datetime], index: int) -> str:
    if index not in moments or index + 1 not in moments:
        return ""
    return duration_of_seconds((moments[index + 1] - moments[index]).total_seconds())
