"""The dry run beside the form of a new rollout: checks, the plan in time, what each gate finds, the same as a call."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import clock_text, duration_of_minutes, duration_of_seconds, number_text
from rollouts.domain.gates.plan_forecast import PlanForecast, worsening_text
from rollouts.models import Endpoint
from rollouts.services.commands.start import Check, Preview
from rollouts.ui.new.form import Draft, fix_here
from rollouts.ui.new.part import FormPart


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
    """The dry run. `off` says why Start is disabled, empty when it is not.

    own, template   what only the chosen strategy says, and the template that shows it
    """

    ends: str
    lasts: str
    rate: str
    checks: tuple[CheckRow, ...]
    failing: int
    warnings: int
    found: tuple[FoundRow, ...]
    latency: tuple[LatencyRow, ...]
    promise: str
    start: str
    off: str
    call: str
    own: object | None
    template: str


def panel(
    *,
    endpoint: Endpoint,
    draft: Draft,
    own: FormPart,
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
    return PlanPanel(
        ends=clock_text(preview.ends_at, now=now) if preview else "unknown",
        lasts=f"in {duration_of_seconds(preview.seconds)}" if preview else "",
        rate=number_text(preview.requests_per_second) if preview and preview.requests_per_second else "none",
        checks=tuple(checks),
        failing=failing,
        warnings=sum(row.tone == "warn" for row in checks),
        found=tuple(_found(forecast, draft) for forecast in preview.gates) if preview else (),
        latency=tuple(_latency(*row) for row in own.latency(preview)) if preview else (),
        promise=preview.promise if preview else "",
        start=own.start_words(draft.plan, candidates=len(draft.versions)),
        off=off,
        call=_call(endpoint, draft, address),
        own=own.panel(preview, now=now),
        template=own.PLAN_TEMPLATE,
    )


def _mistake(problem: InvalidInput) -> CheckRow:
    return CheckRow("fail", "circle-x", "Failed: ", problem.message, "", fix_here(problem))


def _check(check: Check) -> CheckRow:
    tone, icon, word = {
        "ok": ("pass", "circle-check", "Passed: "),
        "warning": ("warn", "circle-alert", "Warning: "),
        "refused": ("fail", "circle-x", "Failed: "),
    }[check.state]
    return CheckRow(tone, icon, word, check.title, check.detail, fix_here(check))


def _found(forecast: PlanForecast, draft: Draft) -> FoundRow:
    gate = draft.policy.gate(forecast.key)
    rate, ratio = forecast.detectable_rate, forecast.detectable
    smallest = worsening_text(gate, ratio, rate / ratio if rate and ratio else None)
    if forecast.minutes_to_pass is None:
        passes = "not in sight"
    else:
        passes = f"{duration_of_minutes(forecast.minutes_to_pass)} {forecast.since}".strip()
        if not forecast.passes_in_plan:
            passes += ", too late"
    return FoundRow(gate.label, smallest, passes, forecast.sentence)


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
