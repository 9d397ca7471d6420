"""The dry run beside the form of a new rollout: checks, the plan in time, what each gate finds, the same as a call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import percent_of_bp
from controlplane.web.words import clock_text, duration_text, number_text
from rollouts.domain.gates.forecast import PlanForecast, worsening_text
from rollouts.models import Endpoint
from rollouts.services.commands.start import Check, Preview
from rollouts.ui.new.bandit_form import start_words
from rollouts.ui.new.bandit_plan import BanditPanel, bandit_panel
from rollouts.ui.new.form import Draft


@dataclass(frozen=True, slots=True)
class CheckRow:
    tone: str
    icon: str
    word: str
    title: str
    detail: str
    fix: str

    @property
    def css(self) -> str:
        return f"ico-s {self.tone}"


@dataclass(frozen=True, slots=True)
class FoundRow:
    """The smallest worsening a gate finds by the end, and when it can pass."""

    label: str
    smallest: str
    passes: str
    sentence: str


@dataclass(frozen=True, slots=True)
class LatencyRow:
    share: str
    load: str
    tone: str
    may: str


@dataclass(frozen=True, slots=True)
class PlanPanel:
    """The dry run. `off` says why Start is disabled, empty when it is not; `bandit` what only a bandit has."""

    ends: str
    lasts: str
    rate: str
    points: tuple[tuple[float, float], ...]
    end: float
    ticks: tuple[tuple[float, str], ...]
    picture: str
    checks: tuple[CheckRow, ...]
    failing: int
    warnings: int
    found: tuple[FoundRow, ...]
    latency: tuple[LatencyRow, ...]
    promise: str
    start: str
    off: str
    call: str
    bandit: BanditPanel | None


def panel(
    *,
    endpoint: Endpoint,
    draft: Draft,
    is_bandit: bool,
    preview: Preview | None,
    user: User,
    address: str,
    now: datetime,
) -> PlanPanel:
    """The panel for what is typed; `preview` is None while that cannot be tried."""
    checks = [_mistake(problem) for problem in draft.problems.values()]
    checks += [_check(check) for check in preview.checks] if preview else []
    order = {"fail": 0, "warn": 1, "pass": 2}
    checks.sort(key=lambda row: order[row.tone])
    failing = sum(row.tone == "fail" for row in checks)
    off = refusal(user.role, Action.START_ROLLOUT)
    if not off and failing:
        off = (
            f"Off: {failing} checks fail. Fix them first."
            if failing > 1
            else "Off: 1 check fails. Fix it first."
        )
    if not off and preview is None:
        off = "Off: the plan cannot be read yet."
    points, end, ticks = _line(preview, now)
    bandit = bandit_panel(preview.bandit) if preview and preview.bandit else None
    return PlanPanel(
        ends=clock_text(preview.ends_at, now=now) if preview else "unknown",
        lasts=f"in {duration_text(preview.seconds)}" if preview else "",
        rate=number_text(preview.requests_per_second) if preview and preview.requests_per_second else "none",
        points=points,
        end=end,
        ticks=ticks,
        picture="Planned share over time: " + ", ".join(f"{p:g}% after {m:.0f} min" for m, p in points),
        checks=tuple(checks),
        failing=failing,
        warnings=sum(row.tone == "warn" for row in checks),
        found=tuple(_found(forecast, draft) for forecast in preview.gates) if preview else (),
        latency=_latency_rows(preview, bandit),
        promise=preview.promise if preview else "",
        start=_start_label(draft, is_bandit=is_bandit),
        off=off,
        call=_call(endpoint, draft, address),
        bandit=bandit,
    )


def _start_label(draft: Draft, *, is_bandit: bool) -> str:
    if is_bandit:
        return start_words(len(draft.versions))
    return f"Start canary to {percent_of_bp(draft.plan.steps[0].share_bp)}" if draft.plan else "Start canary"


def _mistake(problem: InvalidInput) -> CheckRow:
    return CheckRow("fail", "circle-x", "Failed: ", problem.message, "", problem.fix)


def _check(check: Check) -> CheckRow:
    tone, icon, word = {
        "ok": ("pass", "circle-check", "Passed: "),
        "warning": ("warn", "circle-alert", "Warning: "),
        "refused": ("fail", "circle-x", "Failed: "),
    }[check.state]
    return CheckRow(tone, icon, word, check.title, check.detail, check.fix)


def _line(
    preview: Preview | None, now: datetime
) -> tuple[tuple[tuple[float, float], ...], float, tuple[tuple[float, str], ...]]:
    """The step line of a canary in minutes and percent, and at most four moments under it."""
    if preview is None or not preview.steps:
        return (), 1.0, ()
    points = [(step.starts_after / 60, step.share_bp / 100) for step in preview.steps]
    points.append((preview.seconds / 60, 100.0))
    end = preview.seconds / 60 * 1.12
    moments = [0.0] + [minute for minute, _ in points]
    shown: list[tuple[float, str]] = []
    for minute in moments:
        if not shown or minute - shown[-1][0] >= end * 0.2:
            shown.append((minute, f"{minute:.0f} min" if minute else clock_text(now, now=now)))
    return tuple(points), end, tuple(shown)


def _found(forecast: PlanForecast, draft: Draft) -> FoundRow:
    gate = draft.policy.gate(forecast.key)
    rate, ratio = forecast.detectable_rate, forecast.detectable
    smallest = worsening_text(gate, ratio, rate / ratio if rate and ratio else None)
    if forecast.minutes_to_pass is None:
        passes = "not in sight"
    else:
        passes = duration_text(forecast.minutes_to_pass * 60)
        if not forecast.passes_in_plan:
            passes += ", too late"
    return FoundRow(gate.label, smallest, passes, forecast.sentence)


def _latency_rows(preview: Preview | None, bandit: BanditPanel | None) -> tuple[LatencyRow, ...]:
    """By step; of a bandit by who has how much traffic."""
    if bandit is not None:
        return tuple(_latency(when, load, may) for when, load, may in bandit.latency)
    steps = preview.steps if preview else ()
    return tuple(_latency(percent_of_bp(step.share_bp), step.load, step.latency) for step in steps)


def _latency(when: str, load: float, may: str) -> LatencyRow:
    tone = {"fail and pass": "pass", "nothing": "mute"}.get(may, "warn")
    return LatencyRow(when, f"×{load:.2f}", tone, may[:1].upper() + may[1:])


def _call(endpoint: Endpoint, draft: Draft, address: str) -> str:
    """The same rollout as a call of the API."""
    body: dict[str, Any] = {"endpoint": endpoint.name}
    if len(draft.versions) > 1:
        body["versions"] = list(draft.versions)
    else:
        body["version"] = draft.versions[0] if draft.versions else 0
    body["gate_policy"] = str(draft.shared_policy)
    if draft.own_policy is not None:
        own = draft.own_policy.to_json().items()
        body["own_policy"] = {name: value for name, value in own if name not in ("name", "version")}
    if draft.serving is not None:
        body["serving"] = draft.serving.to_public()
    body["plan"] = draft.plan.to_json() if draft.plan else {}
    body["dry_run"] = False
    text = json.dumps(body, indent=2).replace("'", "'\\''")
    return (
        f"curl -X POST {address}/api/v1/rollouts \\\n"
        '  -H "Authorization: Bearer $HEADGATE_TOKEN" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{text}'"
    )
