"""The canary's part of the new-rollout form: its steps as typed, the plan they mean, and their line in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from controlplane.kernel.words import clock_text, percent_of_bp
from rollouts.domain.lifecycle.plan import MAX_STEPS, Plan
from rollouts.domain.strategies.plans import read_plan
from rollouts.services.commands.start import Preview
from rollouts.ui.new.numbers import need_number, read_number, typed_number
from rollouts.ui.new.part import PlanWords

LABEL = "Canary"
HINT = "Shares rise while gates watch"
TEMPLATE = "rollouts/new/_steps.html"
PLAN_TEMPLATE = "rollouts/new/_plan_steps.html"
WORDS = PlanWords(gates="Gates", by="end", latency="Latency evidence by step", when="Step")


@dataclass(frozen=True, slots=True)
class StepFields:
    share: str
    hold: str
    requests: str
    require_pass: bool = False


Steps = tuple[StepFields, ...]
DEFAULT_STEPS: Steps = (
    StepFields("5", "10", "200"),
    StepFields("25", "10", "500"),
    StepFields("50", "10", "1000"),
)


@dataclass(frozen=True, slots=True)
class StepRow:
    index: int
    fields: StepFields
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepRows:
    """`watch` as typed, in minutes."""

    steps: tuple[StepRow, ...]
    watch: str


@dataclass(frozen=True, slots=True)
class StepsPanel:
    """The line of the steps: (minutes, percent) from left to right, where it ends, and the moments below it."""

    points: tuple[tuple[float, float], ...]
    end: float
    ticks: tuple[tuple[float, str], ...]
    picture: str


def blank(like: Plan | None) -> Steps:
    """See the protocol."""
    if like is None or not like.steps:
        return DEFAULT_STEPS
    return tuple(
        StepFields(
            typed_number(step.share_bp / 100),
            typed_number(step.hold_seconds / 60),
            str(step.min_requests),
            step.require_pass,
        )
        for step in like.steps
    )


def read(sent: Mapping[str, str]) -> Steps:
    """See the protocol."""
    steps = []
    for index in range(MAX_STEPS):
        if f"share-{index}" not in sent:
            break
        steps.append(
            StepFields(
                sent[f"share-{index}"].strip(),
                sent.get(f"hold-{index}", "").strip(),
                sent.get(f"requests-{index}", "").strip(),
                f"pass-{index}" in sent,
            )
        )
    return tuple(steps)


def changed(fields: Steps, change: str) -> Steps:
    """See the protocol: `add-step`, `remove-step-2`."""
    if change == "add-step" and len(fields) < MAX_STEPS:
        last = fields[-1] if fields else StepFields("0", "10", "200")
        share = typed_number(min(99.0, (read_number(last.share) or 0.0) + 25))
        return (*fields, replace(last, share=share))
    if change.startswith("remove-step-"):
        gone = change.removeprefix("remove-step-")
        return tuple(step for index, step in enumerate(fields) if str(index) != gone)
    return fields


def kept(fields: Steps) -> Sequence[tuple[str, str]]:
    """See the protocol."""
    found = []
    for index, step in enumerate(fields):
        found += [
            (f"share-{index}", step.share),
            (f"hold-{index}", step.hold),
            (f"requests-{index}", step.requests),
        ]
        found += [(f"pass-{index}", "on")] if step.require_pass else []
    return found


def plan(fields: Steps, *, watch_seconds: int, keep: Callable[..., Any]) -> Plan | None:
    """See the protocol."""
    made: Plan | None = keep(_plan, fields, watch_seconds)
    return made


def _plan(fields: Steps, watch_seconds: int) -> Plan:
    steps = [
        {
            "share_bp": round(need_number(step.share, f"share-{i}", "share") * 100),
            "hold_seconds": round(need_number(step.hold, f"hold-{i}", "hold") * 60),
            "min_requests": round(need_number(step.requests or "0", f"requests-{i}", "number of requests")),
            "require_pass": step.require_pass,
        }
        for i, step in enumerate(fields)
    ]
    return read_plan({"strategy": "canary", "steps": steps, "watch_seconds": watch_seconds})


def field_of(name: str) -> str:
    """See the protocol."""
    if name.startswith("plan.steps["):
        index, _, part = name.removeprefix("plan.steps[").partition("].")
        short = {"share_bp": "share", "hold_seconds": "hold", "min_requests": "requests"}.get(part, part)
        return f"{short}-{index}"
    return "steps" if name == "plan.steps" else ""


def rows(fields: Steps, *, watch: str, problems: Callable[..., tuple[str, ...]]) -> StepRows:
    """See the protocol."""
    return StepRows(
        tuple(
            StepRow(index, step, problems(f"share-{index}", f"hold-{index}", f"requests-{index}"))
            for index, step in enumerate(fields)
        ),
        watch,
    )


def start_words(plan: Plan | None, *, candidates: int) -> str:
    """See the protocol."""
    return f"Start canary to {percent_of_bp(plan.steps[0].share_bp)}" if plan else "Start canary"


def panel(preview: Preview | None, *, now: datetime) -> StepsPanel:
    """See the protocol: the step line in minutes and percent, and at most four moments under it."""
    points: list[tuple[float, float]] = []
    end, shown = 1.0, list[tuple[float, str]]()
    if preview is not None and preview.steps:
        points = [(step.starts_after / 60, step.share_bp / 100) for step in preview.steps]
        points.append((preview.seconds / 60, 100.0))
        end = preview.seconds / 60 * 1.12
        for minute in [0.0] + [minute for minute, _ in points]:
            if not shown or minute - shown[-1][0] >= end * 0.2:
                shown.append((minute, f"{minute:.0f} min" if minute else clock_text(now, now=now)))
    picture = "Planned share over time: " + ", ".join(
        f"{percent_of_bp(100 * percent)} after {minute:.0f} min" for minute, percent in points
    )
    return StepsPanel(tuple(points), end, tuple(shown), picture)


def latency(preview: Preview) -> Sequence[tuple[str, float, str]]:
    """See the protocol."""
    return [(percent_of_bp(step.share_bp), step.load, step.latency) for step in preview.steps]
