"""The page of a new rollout: choices on the left, the live plan (dry run) on the right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.kernel.errors import InvalidInput
from controlplane.web.words import clock_text, duration_text, number_text, share_text
from registry.models import Version
from registry.selectors import page_versions
from rollouts import selectors
from rollouts.domain.gates.forecast import PlanForecast
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.states import ACTIVE, Phase
from rollouts.models import Endpoint, Rollout
from rollouts.services.start import Check, Preview, preview_rollout
from rollouts.ui.new_form import Draft, GateFields, NewRolloutForm, StepFields

VERSIONS_SHOWN = 9
Edges = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class VersionChoice:
    number: int
    label: str
    hint: str
    tone: str
    state: str
    chosen: bool
    disabled: bool


@dataclass(frozen=True, slots=True)
class StepRow:
    index: int
    fields: StepFields
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateRow:
    """A gate of the form. `below`, `above` are the neighbouring edges in ms when the objective is none."""

    gate: GateSpec
    hint: str
    fields: GateFields
    problems: tuple[str, ...]
    objective_problem: str
    below: str
    above: str


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
    """The dry run. `off` says why Start is disabled, empty when it is not."""

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
    first_share: str
    off: str
    call: str


@dataclass(frozen=True, slots=True)
class NewRolloutPage:
    endpoint: Endpoint
    endpoints: tuple[tuple[str, str, bool], ...]
    form: NewRolloutForm
    versions: tuple[VersionChoice, ...]
    steps: tuple[StepRow, ...]
    gates: tuple[GateRow, ...]
    policy: str
    policy_note: str
    arguments_problem: str
    plan: PlanPanel
    now: datetime


def endpoints_to_choose() -> list[Endpoint]:
    """All endpoints, for the choice."""
    return list(selectors.endpoints())


def newest_rollout(endpoint: Endpoint) -> Rollout | None:
    """The endpoint's newest rollout: its steps are the best guess for the next."""
    return Rollout.objects.filter(endpoint=endpoint).order_by("-id").first()


def build(
    *,
    endpoint: Endpoint,
    choices: Sequence[Endpoint],
    form: NewRolloutForm,
    draft: Draft,
    edges: Edges,
    user: User,
    address: str,
    now: datetime,
) -> NewRolloutPage:
    """The whole page; reads the versions and tries the rollout dry."""
    preview = _preview(endpoint, draft, edges, now)
    return NewRolloutPage(
        endpoint=endpoint,
        endpoints=tuple((one.name, _place(one), one.pk == endpoint.pk) for one in choices),
        form=form,
        versions=tuple(_versions(endpoint, form)),
        steps=tuple(
            StepRow(index, fields, _messages(draft, f"share-{index}", f"hold-{index}", f"requests-{index}"))
            for index, fields in enumerate(form.steps)
        ),
        gates=tuple(
            _gate_row(gate, fields, position, draft, edges)
            for position, (gate, fields) in enumerate(
                zip(endpoint.gate_policy.policy.gates, form.gates, strict=True)
            )
        ),
        policy=str(draft.policy),
        policy_note="stored as a new version when you start" if draft.policy_changed else "",
        arguments_problem=" ".join(_messages(draft, "arguments")),
        plan=_panel(endpoint, draft, preview, user, address, now),
        now=now,
    )


def newest_launchable(endpoint: Endpoint) -> str:
    """The number of the newest version that is not the stable one and may be launched; empty without one."""
    stable = endpoint.stable.version_id if endpoint.stable else None
    for row in page_versions(model_id=endpoint.model_id, limit=VERSIONS_SHOWN).rows:
        if not row.refusal and row.version.pk != stable:
            return str(row.version.number)
    return ""


def _place(endpoint: Endpoint) -> str:
    current = [r for r in getattr(endpoint, "current_rollouts", ()) if Phase(r.phase) in ACTIVE]
    return f"{endpoint.environment}, #{current[0].pk} is active" if current else endpoint.environment


def _preview(endpoint: Endpoint, draft: Draft, edges: Edges, now: datetime) -> Preview | None:
    if draft.version is None or draft.plan is None:
        return None
    try:
        return preview_rollout(
            endpoint=endpoint,
            version_number=draft.version,
            plan=draft.plan,
            edges=edges,
            serving=draft.serving,
            gate_policy=draft.policy,
            now=now,
        )
    except InvalidInput:
        return None  # The version was deleted meanwhile; its radio button is gone, and Start says so.


def _versions(endpoint: Endpoint, form: NewRolloutForm) -> list[VersionChoice]:
    stable = endpoint.stable.version_id if endpoint.stable else None
    rows = []
    for row in page_versions(model_id=endpoint.model_id, limit=VERSIONS_SHOWN).rows:
        version = row.version
        is_stable = version.pk == stable
        if row.refusal:
            tone, state = "fail", "Refused"
        else:
            tone, state = ("mute", "Stable") if is_stable else ("pass", "Ready")
        rows.append(
            VersionChoice(
                number=version.number,
                label=version.label,
                hint=row.refusal or _version_hint(version, is_stable),
                tone=tone,
                state=state,
                chosen=str(version.number) == form.version,
                disabled=bool(row.refusal),
            )
        )
    return rows


def _version_hint(version: Version, is_stable: bool) -> str:
    best = [
        f"{name.replace('_', ' ')} {number_text(value)}"
        for name, value in sorted(version.metrics.items())[:2]
    ]
    words = ", ".join(best) or version.run_name or "no metrics"
    return f"Serves now. {words}" if is_stable else words


def _messages(draft: Draft, *names: str) -> tuple[str, ...]:
    return tuple(
        f"{p.message} {p.fix}".strip() for name in names if (p := draft.problems.get(name)) is not None
    )


def _gate_row(gate: GateSpec, fields: GateFields, position: int, draft: Draft, edges: Edges) -> GateRow:
    where = f"gates[{position}]"
    hint = {
        "error_rate": "5xx, broken streams, fallbacks",
        "latency_slo": "share of requests over",
        "paired": "paired, random prompts",
        "feedback": "share of answers rated down",
    }[gate.kind]
    objective, below, above = _messages(draft, f"{where}.slo_seconds"), "", ""
    if gate.kind == "latency_slo" and not objective:
        known = sorted(edges.get(gate.signal or "", ()))
        slo = draft.policy.policy.gate(gate.key).slo_seconds or 0.0
        if known and slo not in known:
            below = next((_ms(edge) for edge in reversed(known) if edge < slo), "")
            above = next((_ms(edge) for edge in known if edge > slo), "")
            objective = ("No bucket edge.",)
    names = [f"{where}.{name}" for name in ("mode", "ratio", "delta", "margin", "weight", "required")]
    problems = _messages(draft, *names, *(["gates"] if position == 0 else []))
    return GateRow(gate, hint, fields, problems, " ".join(objective), below, above)


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000, 3):g}"


# --- the dry run
# ------------------------------------------------------------------------------------------------


def _panel(
    endpoint: Endpoint, draft: Draft, preview: Preview | None, user: User, address: str, now: datetime
) -> PlanPanel:
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
    first = share_text(draft.plan.steps[0].share_bp) if draft.plan else ""
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
        latency=tuple(_latency(step.share_bp, step.load, step.latency) for step in preview.steps)
        if preview
        else (),
        promise=preview.promise if preview else "",
        first_share=first,
        off=off,
        call=_call(endpoint, draft, address),
    )


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
    """The step line of the plan in minutes and percent, and at most four moments under it."""
    if preview is None:
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
    gate = draft.policy.policy.gate(forecast.key)
    if forecast.detectable is None:
        smallest = "none"
    elif gate.kind == "paired":
        smallest = f"−{forecast.detectable:.2g}"
    else:
        smallest = f"×{forecast.detectable:.3g}"
    if forecast.minutes_to_pass is None:
        passes = "not in sight"
    else:
        passes = duration_text(forecast.minutes_to_pass * 60)
        if not forecast.passes_in_plan:
            passes += ", too late"
    return FoundRow(gate.label, smallest, passes, forecast.sentence)


def _latency(share_bp: int, load: float, may: str) -> LatencyRow:
    tone = {"fail and pass": "pass", "nothing": "mute"}.get(may, "warn")
    return LatencyRow(share_text(share_bp), f"×{load:.2f}", tone, may[:1].upper() + may[1:])


def _call(endpoint: Endpoint, draft: Draft, address: str) -> str:
    """The same rollout as a call of the API."""
    body: dict[str, Any] = {
        "endpoint": endpoint.name,
        "version": draft.version or 0,
        "gate_policy": str(draft.policy),
    }
    if draft.serving is not None:
        body["serving"] = draft.serving.to_json()
    body["plan"] = draft.plan.to_json() if draft.plan else {}
    body["dry_run"] = False
    text = json.dumps(body, indent=2).replace("'", "'\\''")
    return (
        f"curl -X POST {address}/api/v1/rollouts \\\n"
        '  -H "Authorization: Bearer $HEADGATE_TOKEN" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{text}'"
    )
