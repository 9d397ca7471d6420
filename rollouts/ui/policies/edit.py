"""The page where the next version of a gate policy is written: form or YAML, and what it would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from controlplane.access.actors import HEADGATE
from controlplane.kernel.errors import InvalidInput, NotFound
from controlplane.kernel.words import count_text
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.policy_changes import PolicyChange, policy_changes
from rollouts.domain.gates.templates import DEFAULT_GATES
from rollouts.models import Endpoint, GatePolicyVersion
from rollouts.services.policies.numbers import with_traffic
from rollouts.services.policies.text import policy_text
from rollouts.services.policies.versions import (
    RESERVED,
    PolicyCheck,
    check_document_name,
    check_gate_policy,
)
from rollouts.services.world import Edges
from rollouts.ui.parts.gate_words import HELP, MEASURES
from rollouts.ui.policies.form import (
    CHOICES,
    FAST_KILL,
    FAST_KILL_FLAGS,
    GATE_NUMBERS,
    NUMBERS,
    VIEWS,
    Meaning,
    NumberField,
    PolicyForm,
    PolicyGateFields,
    meaning_of,
    switched,
    weight_sum,
)
from rollouts.ui.policies.page import GateLine, gate_line

FORM_NAMES = {stored: name for name, (stored, _) in GATE_NUMBERS.items()}
SIGNALS = (("ttft", "time to first token"), ("duration", "time of the whole answer"))


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one field. `below`, `above`: the neighbouring edges in ms, where an SLO is none."""

    message: str
    fix: str
    below: str = ""
    above: str = ""

    @property
    def text(self) -> str:
        return f"{self.message} {self.fix}".strip()


@dataclass(frozen=True, slots=True)
class NumberRow:
    """A number with its name in the form, what was typed, and what is wrong with it."""

    spec: NumberField
    value: str
    problem: FieldProblem | None


@dataclass(frozen=True, slots=True)
class ChoiceRow:
    field: str
    label: str
    value: str
    problem: FieldProblem | None


@dataclass(frozen=True, slots=True)
class PolicyGateRow:
    """A gate of the form. `problems` by the name of its field in the form, `other` what fits none of them."""

    fields: PolicyGateFields
    number: int
    measures: str
    help: str
    says: str
    problems: Mapping[str, FieldProblem]
    other: tuple[FieldProblem, ...]
    absolute: bool

    @property
    def name(self) -> str:
        return self.fields.typed["label"] or self.fields.typed["key"] or f"Gate {self.number}"

    @property
    def typed(self) -> Mapping[str, str]:
        return self.fields.typed


@dataclass(frozen=True, slots=True)
class Mistake:
    """A problem for the list beside the form: where, what, how to mend it. `line` is 0 outside YAML."""

    field: str
    message: str
    fix: str
    line: int


@dataclass(frozen=True, slots=True)
class EditPage:
    """`title`, `action` and `is_new` differ between a new policy and the next version of one."""

    form: PolicyForm
    is_new: bool
    newest: GatePolicyVersion | None
    check: PolicyCheck | None
    gates: tuple[PolicyGateRow, ...]
    numbers: tuple[NumberRow, ...]
    choices: tuple[ChoiceRow, ...]
    fast_kill: tuple[NumberRow, ...]
    flags: tuple[tuple[str, str, bool], ...]
    mistakes: tuple[Mistake, ...]
    name_problem: FieldProblem | None
    forecasts: tuple[GateLine, ...]
    promises: tuple[str, ...]
    notes: tuple[str, ...]
    basis: tuple[str, ...]
    changes: tuple[PolicyChange, ...]
    weights: str
    weights_ok: bool
    endpoints: tuple[str, ...]
    off: str
    yaml: str
    now: datetime

    @property
    def reference(self) -> str:
        return self.check.reference if self.check else f"{self.form.name or 'NAME'}@{self.form.based_on + 1}"

    @property
    def same(self) -> bool:
        return self.check is not None and self.check.same

    @property
    def mistakes_text(self) -> str:
        return count_text(len(self.mistakes), "mistake")

    @property
    def text_lines(self) -> int:
        return max(12, self.form.text.count("\n") + 2)

    @property
    def text_problem(self) -> bool:
        return self.form.view == "yaml" and bool(self.mistakes)


def starter() -> GatePolicy:
    """What a new policy begins with when nothing is copied."""
    return GatePolicy(name="unnamed", version=1, gates=DEFAULT_GATES)


def first_user_of(name: str, now: datetime) -> str:
    """An endpoint that uses the policy, for its numbers, best one with traffic; empty when none does."""
    return with_traffic(now).filter(gate_policy__name=name).values_list("name", flat=True).first() or ""


def between(name: str, old: int, new: int) -> tuple[str, tuple[PolicyChange, ...]]:
    """Who stored version `new` while `old` was edited, and what lies between them."""
    stored = {row.version: row for row in GatePolicyVersion.objects.filter(name=name, version__in=(old, new))}
    if old not in stored or new not in stored:
        raise NotFound(f"There is no gate policy {name}@{old} or @{new}.", code="gate-policy-not-found")
    return stored[new].created_by or HEADGATE.name, policy_changes(stored[old].policy, stored[new].policy)


def build(
    *, form: PolicyForm, is_new: bool, edges: Edges | None, now: datetime, wanted_view: str = ""
) -> tuple[EditPage, bool]:
    """The page for what was typed, and whether it is in `wanted_view` now: a view is only left for a policy that can be
    read, so that nothing typed is lost. 4 queries, one more with an endpoint's feedback.
    """
    endpoints = list(Endpoint.objects.select_related("stable").order_by("name"))
    source = _source(endpoints, form.numbers_of)
    meaning = meaning_of(form)
    check = None
    problems: list[InvalidInput] = [meaning.problem] if meaning.problem else []
    if not problems:
        check = check_gate_policy(
            name=form.name, body=meaning.body, endpoint=source, edges=edges, exposures=(), now=now
        )
        problems = list(check.problems)
        if meaning.document is not None:
            problems = [meaning.document.located(one) for one in problems + _misnamed(form, meaning)]
    moved = wanted_view in VIEWS and wanted_view != form.view
    if moved and check is not None and check.policy is not None and not problems:
        form = switched(form, check.policy, wanted_view)
        return build(form=form, is_new=is_new, edges=edges, now=now)[0], True
    return _page(form, is_new, meaning, check, problems, endpoints, now), not moved


def _page(
    form: PolicyForm,
    is_new: bool,
    meaning: Meaning,
    check: PolicyCheck | None,
    problems: Sequence[InvalidInput],
    endpoints: Sequence[Endpoint],
    now: datetime,
) -> EditPage:
    by_field: dict[str, InvalidInput] = {}
    for one in problems:
        by_field.setdefault(one.field, one)
    outlook = check.outlook if check and not problems else None
    policy = check.policy if check and not problems else None
    total = weight_sum(form, meaning)
    off = f"Off: {count_text(len(problems), 'mistake')} to mend first." if problems else ""
    if not off and check is not None and check.same:
        off = f"Off: {check.reference} says the same already."
    if not off and is_new and check is not None and check.newest is not None:
        off = f"Off: {check.newest} exists. Edit that one, or choose another name."
    return EditPage(
        form=form,
        is_new=is_new,
        newest=check.newest if check else None,
        check=check,
        gates=tuple(  # beside a text they mean nothing: it has gates of its own
            _gate_row(position, fields, by_field, policy)
            for position, fields in enumerate(form.gates if form.view == "form" else ())
        ),
        numbers=tuple(_number_row(form, one, by_field) for one in NUMBERS),
        choices=tuple(
            ChoiceRow(one.field, one.label, form.typed[one.field], _problem(by_field.get(one.field)))
            for one in CHOICES
        ),
        fast_kill=tuple(_number_row(form, one, by_field) for one in FAST_KILL),
        flags=tuple((name, label, form.flags[name]) for name, label in FAST_KILL_FLAGS),
        mistakes=tuple(_mistake(one, form) for one in problems),
        name_problem=_problem(by_field.get("name")) if is_new else None,
        forecasts=tuple(gate_line(gate, told) for gate, told in zip(policy.gates, outlook.gates, strict=True))
        if policy and outlook
        else (),
        promises=outlook.promises if outlook else (),
        notes=outlook.notes if outlook else (),
        basis=outlook.basis if outlook else (),
        changes=check.changes if check and not problems else (),
        weights="equal parts" if total is None else f"{total:.9g}",
        weights_ok=total is None or abs(total - 1) <= 1e-9,
        endpoints=tuple(endpoint.name for endpoint in endpoints),
        off=off,
        yaml=policy_text(replace(policy, name=form.name)) if policy else "",
        now=now,
    )


def _misnamed(form: PolicyForm, meaning: Meaning) -> list[InvalidInput]:
    assert meaning.document is not None
    if not form.name or form.name in RESERVED:
        return []
    try:
        check_document_name(form.name, meaning.document)
    except InvalidInput as error:
        return [error]
    return []


def _source(endpoints: Sequence[Endpoint], name: str) -> Endpoint | None:
    if not name or name == "-":
        return None
    found = next((endpoint for endpoint in endpoints if endpoint.name == name), None)
    if found is None:
        raise NotFound(f"There is no endpoint {name!r}.", code="endpoint-not-found")
    return found


def _number_row(form: PolicyForm, spec: NumberField, problems: Mapping[str, InvalidInput]) -> NumberRow:
    return NumberRow(spec, form.typed[spec.field], _problem(problems.get(spec.field)))


def _gate_row(
    position: int, fields: PolicyGateFields, problems: Mapping[str, InvalidInput], policy: GatePolicy | None
) -> PolicyGateRow:
    prefix = f"gates[{position}]"
    found: dict[str, FieldProblem] = {}
    other: list[FieldProblem] = []
    for name, error in problems.items():
        if name == "gates" and position == 0:
            other.append(_shown(error))
        if name != prefix and not name.startswith(prefix + "."):
            continue
        stored = name.removeprefix(prefix).lstrip(".")
        short = FORM_NAMES.get(stored, stored)
        if short in fields.typed:
            found[short] = _shown(error)
        else:
            other.append(_shown(error))
    return PolicyGateRow(
        fields=fields,
        number=position + 1,
        measures=MEASURES.get(fields.kind, fields.kind),
        help=HELP.get(fields.kind, ""),
        says=policy.gates[position].describe() if policy else "",
        problems=found,
        other=tuple(other),
        absolute=bool(policy and policy.gates[position].absolute),
    )


def _problem(error: InvalidInput | None) -> FieldProblem | None:
    return None if error is None else _shown(error)


def _shown(error: InvalidInput) -> FieldProblem:
    below, above = error.extra.get("below"), error.extra.get("above")
    message = error.message
    if error.field and message.startswith(error.field):
        message = error.field.rpartition(".")[2] + message.removeprefix(error.field)
    return FieldProblem(message, error.fix, _ms(below), _ms(above))


def _mistake(error: InvalidInput, form: PolicyForm) -> Mistake:
    line = int(error.extra.get("line", 0)) if form.view == "yaml" else 0
    return Mistake(error.field, error.message, error.fix, line)


def _ms(seconds: object) -> str:
    return f"{round(seconds * 1000, 3):g}" if isinstance(seconds, int | float) else ""
