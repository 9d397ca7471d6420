"""The form of a new rollout: what a person typed, and what it means.

Texts are kept as they were typed, so that a mistake can be shown where it was made; `Draft` holds the
meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.http import QueryDict

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.plain import check_plain
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.strategies import STRATEGIES
from rollouts.domain.strategies.plans import USUAL
from rollouts.domain.variants import ServingSpec
from rollouts.models import Endpoint, GatePolicyVersion, Rollout
from rollouts.services.commands.start import Check
from rollouts.services.policies.own import own_policy_from_values
from rollouts.ui.new.numbers import need_number, typed_number
from rollouts.ui.new.part import FormPart
from rollouts.ui.strategies import SHOWN

NOT_SHOWN = "This form keeps it as the stable variant has it; the API and the command take another `serving`."
LONGEST_NOTE = 500
LONGEST_ARGUMENTS = 20_000


@dataclass(frozen=True, slots=True)
class RolloutGateFields:
    """One gate as typed. `limit` is a ratio (×), `delta` percentage points, or a margin of the score."""

    key: str
    objective: str
    mode: str
    ratio: str
    delta: str
    margin: str
    weight: str
    required: bool


MOST_DIGITS = 10  # of a version: no number of as many is chosen in a browser


@dataclass(frozen=True, slots=True)
class NewRolloutForm:
    """Everything typed. `watch` is minutes.

    versions    chosen, the first one first; a strategy of one candidate takes the first and keeps the others in mind
    parts       what each strategy has of its own, so that changing one's mind loses nothing
    """

    endpoint: str
    strategy: str
    versions: tuple[str, ...]
    note: str
    arguments: str
    watch: str
    parts: Mapping[str, Any]
    gates: tuple[RolloutGateFields, ...]

    @property
    def takes_several(self) -> bool:
        """Whether several versions may be chosen."""
        return STRATEGIES[self.strategy].MOST_CANDIDATES > 1


@dataclass(frozen=True, slots=True)
class Draft:
    """What the form means, as far as it can be read; `problems` by the name of the field.

    versions    the candidates, in the order of their numbers where there are several
    serving     None for "as the stable variant"
    own_policy  of this rollout alone; None for the endpoint's as it is
    """

    versions: tuple[int, ...]
    plan: Plan | None
    serving: ServingSpec | None
    shared_policy: GatePolicyVersion
    own_policy: GatePolicy | None
    problems: Mapping[str, InvalidInput] = field(default_factory=dict)

    @property
    def policy(self) -> GatePolicy:
        """What the rollout would be judged by."""
        return self.own_policy or self.shared_policy.policy


def blank_form(
    *, endpoint: Endpoint, version: str, like: Rollout | None, strategy: str = USUAL
) -> NewRolloutForm:
    """The form as it is first shown: the settings of `like` (the endpoint's newest rollout) for its strategy, and the
    usual ones for the others.
    """
    plan = like.parsed_plan if like is not None else None
    watch = typed_number((Plan(USUAL) if plan is None else plan).watch_seconds / 60)
    arguments = endpoint.stable.public_serving["arguments"] if endpoint.stable else {}
    return NewRolloutForm(
        endpoint=endpoint.name,
        strategy=_strategy(strategy),
        versions=(version,) if version else (),
        note="",
        arguments=json.dumps(arguments, indent=1, sort_keys=True),
        watch=watch,
        parts={name: one.form.blank(plan) for name, one in SHOWN.items()},
        gates=tuple(_gate_fields(gate) for gate in endpoint.gate_policy.policy.gates),
    )


def read_form(sent: Mapping[str, str], *, endpoint: Endpoint) -> NewRolloutForm:
    """What was sent, with the `change` a button asked for (`add-step`, `remove-step-2`) already made."""
    gates = tuple(
        RolloutGateFields(
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
    change = sent.get("change", "")
    return NewRolloutForm(
        endpoint=endpoint.name,
        strategy=_strategy(sent.get("strategy", "")),
        versions=tuple(dict.fromkeys([*_all(sent, "version"), *_all(sent, "also")])),
        note=sent.get("note", "").strip(),
        arguments=sent.get("arguments", "").strip(),
        watch=sent.get("watch", "").strip(),
        parts={name: one.form.changed(one.form.read(sent), change) for name, one in SHOWN.items()},
        gates=gates,
    )


def _all(sent: Mapping[str, str], name: str) -> list[str]:
    """Every value sent under a name, in order."""
    values = sent.getlist(name) if isinstance(sent, QueryDict) else [sent.get(name, "")]
    return [str(value).strip() for value in values if str(value).strip()]


def _strategy(name: str) -> str:
    return name if name in SHOWN else USUAL


def understand(form: NewRolloutForm, *, endpoint: Endpoint) -> Draft:
    """What the form means. Every part is read for itself, so that all mistakes show at once."""
    problems: dict[str, InvalidInput] = {}
    own = SHOWN[form.strategy].form

    def kept(reader: Any, *args: Any) -> Any:
        try:
            return reader(*args)
        except InvalidInput as error:
            problems[field_of(error, own)] = error
            return None

    numbers = [
        int(text) for text in form.versions if text.isascii() and text.isdigit() and len(text) < MOST_DIGITS
    ]
    versions = tuple(sorted(numbers)) if form.takes_several else tuple(numbers[:1])
    if not versions:
        words = "Choose one version or several." if form.takes_several else "Choose a version."
        problems["version"] = InvalidInput(words, field="version")
    kept(_check_note, form)
    watch = kept(_watch, form)
    plan = own.plan(form.parts[form.strategy], watch_seconds=watch or 0, keep=kept)
    plan = None if watch is None else plan
    serving = kept(_serving, form, endpoint)
    own_policy = kept(_policy, form, endpoint)
    return Draft(
        versions=versions,
        plan=plan,
        serving=serving,
        shared_policy=endpoint.gate_policy,
        own_policy=own_policy,
        problems=problems,
    )


def _check_note(form: NewRolloutForm) -> None:
    if len(form.note) > LONGEST_NOTE:
        raise InvalidInput(
            f"The note is longer than {LONGEST_NOTE} characters.", field="note", fix="Shorten it."
        )


def _watch(form: NewRolloutForm) -> int:
    return round(need_number(form.watch or "0", "watch", "watch") * 60)


def _serving(form: NewRolloutForm, endpoint: Endpoint) -> ServingSpec | None:
    """The stable variant's spec with other arguments, or None when nothing differs."""
    if endpoint.stable is None or not form.arguments:
        return None
    stable = endpoint.stable.spec.to_launch
    if len(form.arguments) > LONGEST_ARGUMENTS:
        raise InvalidInput(
            f"Engine arguments are longer than {LONGEST_ARGUMENTS:,} characters.", field="arguments"
        )
    try:
        arguments = json.loads(form.arguments)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"Engine arguments are not JSON: {error.msg} in line {error.lineno}.", field="arguments"
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        raise InvalidInput("Engine arguments are too large to be read.", field="arguments") from None
    if not isinstance(arguments, dict):
        raise InvalidInput("Engine arguments are a JSON object.", field="arguments")
    check_plain(arguments, field="serving.arguments")
    if arguments in (dict(stable.arguments), stable.to_public()["arguments"]):
        return None
    # All that the form does not show stays as the stable variant has it: variables, secrets, image, replicas.
    return replace(stable, arguments=ServingSpec.from_json({"arguments": arguments}).arguments)


def _policy(form: NewRolloutForm, endpoint: Endpoint) -> GatePolicy | None:
    """The policy of this rollout when a gate was changed; None for the endpoint's."""
    stored = endpoint.gate_policy
    typed = {gate.key: gate for gate in form.gates}
    gates = [_gate(gate, typed[gate.key], position) for position, gate in enumerate(stored.policy.gates)]
    return own_policy_from_values({**stored.policy.to_json(), "gates": gates}, source=stored)


def _gate(stored: GateSpec, typed: RolloutGateFields, position: int) -> dict[str, Any]:
    where = f"gates[{position}]"
    if stored.fixed:  # its limit is the policy's
        return {**stored.to_json(), "required": typed.required}
    data = {**stored.to_json(), "mode": typed.mode, "required": typed.required}
    data["weight"] = need_number(typed.weight, f"{where}.weight", "weight")
    if stored.kind == "latency_slo":
        data["slo_seconds"] = round(
            need_number(typed.objective, f"{where}.slo_seconds", "objective") / 1000, 6
        )
    if stored.kind == "paired":
        data["margin"] = need_number(typed.margin, f"{where}.margin", "limit")
    else:
        data["ratio"] = need_number(typed.ratio, f"{where}.ratio", "ratio")
        data["delta"] = round(need_number(typed.delta or "0", f"{where}.delta", "limit") / 100, 9)
    return data


def _gate_fields(gate: GateSpec) -> RolloutGateFields:
    return RolloutGateFields(
        key=gate.key,
        objective="" if gate.slo_seconds is None else typed_number(gate.slo_seconds * 1000),
        mode=gate.mode,
        ratio=typed_number(gate.ratio),
        delta=typed_number(gate.delta * 100),
        margin="" if gate.margin is None else typed_number(gate.margin),
        weight=typed_number(gate.weight),
        required=gate.required,
    )


def fix_here(error: InvalidInput | Check) -> str:
    """What to do about it, where part of that cannot be done in this form."""
    shown = not error.field.startswith("serving.") or error.field.startswith("serving.arguments")
    return error.fix if shown else f"{error.fix} {NOT_SHOWN}".strip()


def field_of(error: InvalidInput | Check, part: FormPart) -> str:
    """`plan.steps[1].share_bp` -> `share-1`, `versions[1]` -> `version`, `serving.arguments.x` -> `arguments`; a gate's
    field is called as in the policy, and what the form does not show as the API calls it."""
    name = error.field
    if name.startswith("versions"):
        return "version"
    if name.startswith("serving.arguments"):
        return "arguments"
    if name == "plan.watch_seconds":
        return "watch"
    return part.field_of(name) or name
