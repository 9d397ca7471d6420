"""The form of a new rollout: what a person typed, and what it means.

Texts are kept as they were typed, so that a mistake can be shown where it was made; `Draft` holds the
meaning.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.plan import Plan
from rollouts.domain.variants import ServingSpec
from rollouts.models import Endpoint, GatePolicyVersion, Rollout

MAX_STEPS = 20
MODES = ("strict", "tolerant")


@dataclass(frozen=True, slots=True)
class StepFields:
    share: str
    hold: str
    requests: str
    require_pass: bool = False


@dataclass(frozen=True, slots=True)
class GateFields:
    """One gate as typed. `limit` is a ratio (×), `delta` percentage points, or a margin of the score."""

    key: str
    objective: str
    mode: str
    ratio: str
    delta: str
    margin: str
    weight: str
    required: bool


DEFAULT_STEPS = (StepFields("5", "10", "200"), StepFields("25", "10", "500"), StepFields("50", "10", "1000"))


@dataclass(frozen=True, slots=True)
class NewRolloutForm:
    """Everything typed. `watch` and `hold` are minutes."""

    endpoint: str
    version: str
    note: str
    arguments: str
    watch: str
    steps: tuple[StepFields, ...]
    gates: tuple[GateFields, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """What the form means, as far as it can be read; `problems` by the name of the field.

    `serving` is None for "as the stable variant", `policy` the endpoint's own or one that is not stored yet.
    """

    version: int | None
    plan: Plan | None
    serving: ServingSpec | None
    policy: GatePolicyVersion
    policy_changed: bool
    problems: Mapping[str, InvalidInput] = field(default_factory=dict)


def blank_form(*, endpoint: Endpoint, version: str, like: Rollout | None) -> NewRolloutForm:
    """The form as it is first shown: the steps of `like` (the endpoint's newest rollout), or a usual
    canary.
    """
    steps: tuple[StepFields, ...] = DEFAULT_STEPS
    watch = "1440"
    if like is not None:
        plan = like.parsed_plan
        steps = tuple(
            StepFields(
                _number(s.share_bp / 100), _number(s.hold_seconds / 60), str(s.min_requests), s.require_pass
            )
            for s in plan.steps
        )
        watch = _number(plan.watch_seconds / 60)
    arguments = dict(endpoint.stable.spec.arguments) if endpoint.stable else {}
    return NewRolloutForm(
        endpoint=endpoint.name,
        version=version,
        note="",
        arguments=json.dumps(arguments, indent=1, sort_keys=True),
        watch=watch,
        steps=steps,
        gates=tuple(_gate_fields(gate) for gate in endpoint.gate_policy.policy.gates),
    )


def read_form(sent: Mapping[str, str], *, endpoint: Endpoint) -> NewRolloutForm:
    """What was sent, with the `change` a button asked for (`add-step`, `remove-step-2`) already made."""
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
    gates = tuple(
        GateFields(
            key=gate.key,
            objective=sent.get(f"objective-{gate.key}", "").strip(),
            mode=sent.get(f"mode-{gate.key}", gate.mode),
            ratio=sent.get(f"ratio-{gate.key}", "").strip(),
            delta=sent.get(f"delta-{gate.key}", "").strip(),
            margin=sent.get(f"margin-{gate.key}", "").strip(),
            weight=sent.get(f"weight-{gate.key}", "").strip(),
            required=f"required-{gate.key}" in sent,
        )
        for gate in endpoint.gate_policy.policy.gates
    )
    form = NewRolloutForm(
        endpoint=endpoint.name,
        version=sent.get("version", "").strip(),
        note=sent.get("note", "").strip()[:500],
        arguments=sent.get("arguments", "").strip(),
        watch=sent.get("watch", "").strip(),
        steps=tuple(steps),
        gates=gates,
    )
    return _changed(form, sent.get("change", ""))


def _changed(form: NewRolloutForm, change: str) -> NewRolloutForm:
    if change == "add-step" and len(form.steps) < MAX_STEPS:
        last = form.steps[-1] if form.steps else StepFields("0", "10", "200")
        share = _number(min(99.0, (_read(last.share) or 0.0) + 25))
        return replace(form, steps=(*form.steps, replace(last, share=share)))
    if change.startswith("remove-step-"):
        gone = change.removeprefix("remove-step-")
        kept = tuple(step for index, step in enumerate(form.steps) if str(index) != gone)
        return replace(form, steps=kept)
    return form


def understand(form: NewRolloutForm, *, endpoint: Endpoint, now: datetime) -> Draft:
    """What the form means. Every part is read for itself, so that all mistakes show at once."""
    problems: dict[str, InvalidInput] = {}

    def kept(reader: Any, *args: Any) -> Any:
        try:
            return reader(*args)
        except InvalidInput as error:
            problems[_field_of(error)] = error
            return None

    version = int(form.version) if form.version.isascii() and form.version.isdigit() else None
    if version is None:
        problems["version"] = InvalidInput("Choose a version.", field="version")
    plan = kept(_plan, form)
    serving = kept(_serving, form, endpoint)
    policy = kept(_policy, form, endpoint, now)
    return Draft(
        version=version,
        plan=plan,
        serving=serving,
        policy=policy or endpoint.gate_policy,
        policy_changed=policy is not None and policy.pk is None,
        problems=problems,
    )


def _plan(form: NewRolloutForm) -> Plan:
    steps = [
        {
            "share_bp": round(_need(step.share, f"share-{i}", "share") * 100),
            "hold_seconds": round(_need(step.hold, f"hold-{i}", "hold") * 60),
            "min_requests": round(_need(step.requests or "0", f"requests-{i}", "number of requests")),
            "require_pass": step.require_pass,
        }
        for i, step in enumerate(form.steps)
    ]
    watch = round(_need(form.watch or "0", "watch", "watch") * 60)
    return Plan.from_json({"strategy": "canary", "steps": steps, "watch_seconds": watch})


def _serving(form: NewRolloutForm, endpoint: Endpoint) -> ServingSpec | None:
    """The stable variant's spec with other arguments, or None when nothing differs."""
    if endpoint.stable is None or not form.arguments:
        return None
    stable = endpoint.stable.spec
    try:
        arguments = json.loads(form.arguments)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"Engine arguments are not JSON: {error.msg} in line {error.lineno}.", field="arguments"
        ) from None
    if not isinstance(arguments, dict):
        raise InvalidInput("Engine arguments are a JSON object.", field="arguments")
    if arguments == dict(stable.arguments):
        return None
    return ServingSpec.from_json({**stable.to_json(), "arguments": arguments})


def _policy(form: NewRolloutForm, endpoint: Endpoint, now: datetime) -> GatePolicyVersion:
    """The endpoint's policy, or an unsaved next version of it when a gate was changed."""
    stored = endpoint.gate_policy.policy
    typed = {gate.key: gate for gate in form.gates}
    gates = [_gate(gate, typed[gate.key], position) for position, gate in enumerate(stored.gates)]
    body = {**stored.to_json(), "gates": gates}
    read = GatePolicy.from_json(body)
    if read == stored:
        return endpoint.gate_policy
    changed = GatePolicy.from_json({**body, "version": stored.version + 1}).to_json()
    return GatePolicyVersion(
        name=stored.name, version=stored.version + 1, body=changed, digest=digest_of(changed), created_at=now
    )


def _gate(stored: GateSpec, typed: GateFields, position: int) -> dict[str, Any]:
    where = f"gates[{position}]"
    data = {**stored.to_json(), "mode": typed.mode, "required": typed.required}
    data["weight"] = _need(typed.weight, f"{where}.weight", "weight")
    if stored.kind == "latency_slo":
        data["slo_seconds"] = round(_need(typed.objective, f"{where}.slo_seconds", "objective") / 1000, 6)
    if stored.kind == "paired":
        data["margin"] = _need(typed.margin, f"{where}.margin", "limit")
    else:
        data["ratio"] = _need(typed.ratio, f"{where}.ratio", "ratio")
        data["delta"] = round(_need(typed.delta or "0", f"{where}.delta", "limit") / 100, 9)
    return data


def _gate_fields(gate: GateSpec) -> GateFields:
    return GateFields(
        key=gate.key,
        objective="" if gate.slo_seconds is None else _number(gate.slo_seconds * 1000),
        mode=gate.mode,
        ratio=_number(gate.ratio),
        delta=_number(gate.delta * 100),
        margin="" if gate.margin is None else _number(gate.margin),
        weight=_number(gate.weight),
        required=gate.required,
    )


def _field_of(error: InvalidInput) -> str:
    """`plan.steps[1].share_bp` -> `share-1`; a gate's field stays as the policy calls it."""
    name = error.field
    if name.startswith("plan.steps["):
        index, _, part = name.removeprefix("plan.steps[").partition("].")
        short = {"share_bp": "share", "hold_seconds": "hold", "min_requests": "requests"}.get(part, part)
        return f"{short}-{index}"
    return {"plan.watch_seconds": "watch", "plan.steps": "steps"}.get(name, name)


def _need(text: str, name: str, what: str) -> float:
    value = _read(text)
    if value is None:
        raise InvalidInput(
            f"{text!r} is no {what}: a number is needed." if text else f"The {what} is missing.", field=name
        )
    return value


def _read(text: str) -> float | None:
    try:
        value = float(text.replace(",", "").replace("\N{MINUS SIGN}", "-").replace("×", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{round(value, 6):g}"
