"""The form of a gate policy: what a person typed, in fields or as YAML, and what it means.

Texts are kept as they were typed, so that a mistake can be shown where it was made. Values that have no field in the
form (there are none today; a test says so) would come from the version that is edited.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.services.policies.text import LONGEST, PolicyDocument, policy_text, read_policy_text

MAX_GATES = 30
LONGEST_NOTE = 500
VIEWS = ("form", "yaml")


@dataclass(frozen=True, slots=True)
class NumberField:
    """A number of the policy or its fast kill. `scale`: what is typed is so many times what is stored."""

    field: str
    label: str
    unit: str = ""
    hint: str = ""
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ChoiceField:
    field: str
    label: str


OUTAGE = "baseline_outage_share"
NUMBERS = (
    NumberField(
        "alpha",
        "False alarms, alpha",
        hint="chance that a version that is no worse is rolled back by mistake",
    ),
    NumberField(
        "beta",
        "False passes, beta",
        hint="chance that a candidate at or beyond a gate's limit passes that gate by mistake",
    ),
    NumberField(
        "restart_every_seconds",
        "Late search every",
        "s",
        "of measured traffic; then the gates also look for a problem that begins only now",
    ),
    NumberField("stale_after_seconds", "No data after", "s", "without a measurement"),
    NumberField("warm_up_requests", "Warm-up", "requests", "of the candidate, kept out of latency gates"),
    NumberField(
        OUTAGE,
        "Baseline is out of order",
        "%",
        "of its requests fail; nothing counts in favour of the candidate then",
        100.0,
    ),
)
CHOICES = (
    ChoiceField("on_inconclusive", "No decision in time"),
    ChoiceField("on_no_data", "No data in time"),
    ChoiceField("on_error", "Broken source"),
)
FAST_KILL = (
    NumberField("fast_kill.window_seconds", "Window", "s"),
    NumberField("fast_kill.min_requests", "Least requests", hint="of the candidate in the window"),
    NumberField("fast_kill.error_share", "Candidate fails", "%", "this share or more", 100.0),
    NumberField("fast_kill.baseline_error_share", "Baseline fails", "%", "at most this share", 100.0),
    NumberField("fast_kill.crash_restarts", "Restarts", hint="of an engine"),
    NumberField("fast_kill.oom_kills", "Kills for memory"),
)
FAST_KILL_FLAGS = (
    ("fast_kill.enabled", "The fast kill is on"),
    ("fast_kill.without_baseline", "Also when all traffic is on the candidate"),
)
GATE_NUMBERS = {  # name in the form -> (field of the gate, scale)
    "weight": ("weight", 1.0),
    "ratio": ("ratio", 1.0),
    "delta": ("delta", 100.0),
    "margin": ("margin", 1.0),
    "slo": ("slo_seconds", 1000.0),
    "exposure": ("min_exposure", 1.0),
    "limit": ("limit", 1.0),
    "fail_readings": ("fail_readings", 1.0),
    "pass_readings": ("pass_readings", 1.0),
}
# Called as the gate's fields.
GATE_TEXTS = ("key", "label", "mode", "signal", "bad_query", "all_query", "query", "direction")
NEW_GATES: Mapping[str, Mapping[str, str]] = {
    "error_rate": {"key": "errors", "label": "Error rate", "mode": "strict", "ratio": "1", "delta": "1"},
    "refused": {"key": "refused", "label": "Refused", "mode": "strict", "ratio": "1", "delta": "1"},
    "abandoned": {"key": "abandoned", "label": "Abandoned", "mode": "tolerant", "ratio": "1", "delta": "2"},
    "latency_slo": {
        "key": "ttft",
        "label": "Time to first token",
        "mode": "tolerant",
        "signal": "ttft",
        "slo": "500",
        "ratio": "1.25",
        "delta": "0",
    },
    "paired": {"key": "quality", "label": "Golden-set score", "mode": "tolerant", "margin": "0.05"},
    "feedback": {"key": "thumbs", "label": "Thumbs down", "mode": "tolerant", "ratio": "1", "delta": "3"},
    "empty": {"key": "empty", "label": "Empty answers", "mode": "tolerant", "ratio": "1", "delta": "1"},
    "truncated": {"key": "cut", "label": "Cut answers", "mode": "tolerant", "ratio": "1", "delta": "5"},
    "counter_ratio": {
        "key": "tools",
        "label": "Failed tool calls",
        "mode": "strict",
        "ratio": "1",
        "delta": "2",
        "bad_query": 'tool_call_failures_total{namespace="{{namespace}}",pod=~"{{pods}}"}',
        "all_query": 'tool_calls_total{namespace="{{namespace}}",pod=~"{{pods}}"}',
    },
    "metric_limit": {
        "key": "heat",
        "label": "GPU temperature",
        "query": 'max(DCGM_FI_DEV_GPU_TEMP{namespace="{{namespace}}",pod=~"{{pods}}"})',
        "direction": "at_most",
        "limit": "85",
        "fail_readings": "6",
        "pass_readings": "12",
    },
}


@dataclass(frozen=True, slots=True)
class PolicyGateFields:
    """One gate as typed; `row` stays with it however many rows come and go."""

    row: int
    kind: str
    required: bool
    typed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PolicyForm:
    """Everything typed. `based_on` is the version that is edited, 0 for a new policy; `numbers_of` an endpoint."""

    name: str
    based_on: int
    view: str
    note: str
    numbers_of: str
    typed: Mapping[str, str]
    flags: Mapping[str, bool]
    gates: tuple[PolicyGateFields, ...]
    text: str

    @property
    def rows(self) -> str:
        """The rows in order, as the form sends them back."""
        return ",".join(str(gate.row) for gate in self.gates)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the form says, unchecked: `body` for the services, or why it cannot even be read as one."""

    body: Mapping[str, Any]
    document: PolicyDocument | None = None
    problem: InvalidInput | None = None
    rows: tuple[int, ...] = field(default=())


def form_of(policy: GatePolicy, *, name: str, based_on: int, view: str = "form") -> PolicyForm:
    """The form as it is first shown for a stored policy (or one to copy)."""
    data = policy.to_json()
    typed = {one.field: field_text(_at(data, one.field), one.scale) for one in (*NUMBERS, *FAST_KILL)}
    typed |= {one.field: str(data[one.field]) for one in CHOICES}
    return PolicyForm(
        name=name,
        based_on=based_on,
        view=view,
        note="",
        numbers_of="",
        typed=typed,
        flags={name: bool(_at(data, name)) for name, _ in FAST_KILL_FLAGS},
        gates=tuple(_gate_fields(row, gate) for row, gate in enumerate(policy.gates)),
        text=policy_text(policy, heading=False),
    )


def read_form(sent: Mapping[str, str], *, name: str) -> PolicyForm:
    """What was sent, with the `change` a button asked for (`add-paired`, `remove-2`) already made."""
    view = sent.get("view", "form")
    rows = [int(part) for part in sent.get("rows", "").split(",") if part.isdecimal() and len(part) < 6]
    gates = tuple(_read_gate(sent, row) for row in dict.fromkeys(rows[:MAX_GATES]))
    base = sent.get("based_on", "0")
    form = PolicyForm(
        name=name or sent.get("name", "").strip()[:200],
        based_on=int(base) if base.isdecimal() and len(base) < 10 else 0,
        view=view if view in VIEWS else "form",
        note=sent.get("note", "").strip(),
        numbers_of=sent.get("numbers_of", ""),
        typed={one.field: sent.get(one.field, "").strip() for one in (*NUMBERS, *FAST_KILL, *CHOICES)},
        flags={name: name in sent for name, _ in FAST_KILL_FLAGS},
        gates=gates,
        text=sent.get("text", "").replace("\r\n", "\n")[: LONGEST + 1],
    )
    return _changed(form, sent.get("change", ""))


def meaning_of(form: PolicyForm) -> Meaning:
    """The policy that the form describes, as plain data: numbers where numbers were typed, texts where not."""
    if form.view == "yaml":
        try:
            document = read_policy_text(form.text)
        except InvalidInput as problem:
            return Meaning({}, problem=problem)
        return Meaning(document.body, document=document)
    fast_kill: dict[str, Any] = {name.removeprefix("fast_kill."): on for name, on in form.flags.items()}
    body: dict[str, Any] = {one.field: form.typed[one.field] for one in CHOICES}
    for one in (*NUMBERS, *FAST_KILL):
        value = value_of(form.typed[one.field], one.scale)
        if one.field == OUTAGE and not form.typed[one.field]:
            continue  # as in a policy from before there was this rule: storing it brings the usual share
        if one.field.startswith("fast_kill."):
            fast_kill[one.field.removeprefix("fast_kill.")] = value
        else:
            body[one.field] = value
    body["gates"] = [_gate_body(gate) for gate in form.gates]
    body["fast_kill"] = fast_kill
    return Meaning(body, rows=tuple(gate.row for gate in form.gates))


def note_problem(form: PolicyForm) -> InvalidInput | None:
    """Why the note cannot be kept with the version, if so."""
    if len(form.note) <= LONGEST_NOTE:
        return None
    return InvalidInput(
        f"The note is longer than {LONGEST_NOTE} characters.", field="note", fix="Shorten it."
    )


def switched(form: PolicyForm, policy: GatePolicy, view: str) -> PolicyForm:
    """The same policy in the other view."""
    other = form_of(policy, name=form.name, based_on=form.based_on, view=view)
    return replace(other, note=form.note, numbers_of=form.numbers_of)


def weight_sum(form: PolicyForm, meaning: Meaning) -> float | None:
    """The sum of the weights as far as they can be read; None when none is given (then all parts are equal)."""
    gates = meaning.body.get("gates")
    weights = (
        [gate.get("weight") for gate in gates if isinstance(gate, Mapping)] if isinstance(gates, list) else []
    )
    given = [one for one in weights if isinstance(one, int | float) and not isinstance(one, bool)]
    return math.fsum(given) if given else None


def value_of(typed: str, scale: float = 1.0) -> Any:
    """The stored value of a typed number; the text itself when it is none, so that the refusal can show it."""
    text = typed.replace(",", "").replace("\N{MINUS SIGN}", "-").replace("×", "").strip()
    try:
        number = float(text)
    except ValueError:
        return typed
    if not math.isfinite(number):
        return typed
    number = number if scale == 1.0 else round(number / scale, 12)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def field_text(value: Any, scale: float = 1.0) -> str:
    """A stored number as it is typed: as short as it can be and still be read back as the same number."""
    if value is None:
        return ""
    short = f"{round(float(value) * scale, 9):.12g}"
    return short if value_of(short, scale) == value else repr(float(value) * scale)


def _at(data: Mapping[str, Any], name: str) -> Any:
    outer, dot, inner = name.partition(".")
    return data[outer][inner] if dot else data.get(outer)


def _gate_fields(row: int, gate: GateSpec) -> PolicyGateFields:
    data = gate.to_json()
    typed = {name: field_text(data.get(stored), scale) for name, (stored, scale) in GATE_NUMBERS.items()}
    typed |= {name: data.get(name, "") for name in GATE_TEXTS}
    return PolicyGateFields(row, gate.kind, gate.required, typed)


def _read_gate(sent: Mapping[str, str], row: int) -> PolicyGateFields:
    names = (*GATE_TEXTS, *GATE_NUMBERS)
    kind = sent.get(f"kind-{row}", "error_rate")
    typed = {name: sent.get(f"{name}-{row}", "").strip() for name in names}
    return PolicyGateFields(row, kind, f"required-{row}" in sent, typed)


def _gate_body(gate: PolicyGateFields) -> dict[str, Any]:
    """The fields that this kind has; an empty weight is left out, an empty limit is none."""
    typed = gate.typed
    body: dict[str, Any] = {
        "key": typed["key"],
        "label": typed["label"] or typed["key"],
        "kind": gate.kind,
        "required": gate.required,
    }
    if gate.kind == "metric_limit":
        numbers = ("limit", "fail_readings", "pass_readings")
        body |= {name: typed[name] for name in ("query", "direction")}
        return body | {name: value_of(typed[name]) for name in numbers if typed[name]}
    body |= {"mode": typed["mode"], "min_exposure": value_of(typed["exposure"])}
    if typed["weight"]:
        body["weight"] = value_of(typed["weight"])
    if gate.kind == "paired":
        body["margin"] = value_of(typed["margin"])
    else:
        body["ratio"] = value_of(typed["ratio"] or "1")
        body["delta"] = value_of(typed["delta"] or "0", 100.0)
    if gate.kind == "latency_slo":
        body["signal"] = typed["signal"]
        body["slo_seconds"] = value_of(typed["slo"], 1000.0)
    if gate.kind == "counter_ratio":
        body |= {name: typed[name] for name in ("bad_query", "all_query")}
    return body


def _changed(form: PolicyForm, change: str) -> PolicyForm:
    kind = change.removeprefix("add-")
    if change.startswith("add-") and kind in NEW_GATES and len(form.gates) < MAX_GATES:
        row = max((gate.row for gate in form.gates), default=-1) + 1
        taken = {gate.typed["key"] for gate in form.gates}
        start = NEW_GATES[kind]
        key = next(name for name in _names(start["key"]) if name not in taken)
        empty = dict.fromkeys((*GATE_TEXTS, *GATE_NUMBERS), "")
        typed = {**empty, "weight": "0", "exposure": "30", **start, "key": key}
        if not form.gates:
            typed["weight"] = "1"
        return replace(form, gates=(*form.gates, PolicyGateFields(row, kind, True, typed)))
    if change.startswith("remove-"):
        gone = change.removeprefix("remove-")
        return replace(form, gates=tuple(gate for gate in form.gates if str(gate.row) != gone))
    if change == "equal-weights" and form.gates:
        tests = [gate for gate in form.gates if gate.kind != "metric_limit"]  # fixed limits have no weight
        part = field_text(1 / max(1, len(tests)))
        return replace(
            form,
            gates=tuple(
                replace(gate, typed={**gate.typed, "weight": part}) if gate in tests else gate
                for gate in form.gates
            ),
        )
    return form


def _names(key: str) -> list[str]:
    return [key, *(f"{key}-{number}" for number in range(2, MAX_GATES + 2))]
