"""What differs between two versions of a policy, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rollouts.domain.gates.policy import GatePolicy, GateSpec


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One field. `before` or `after` is empty where the field, or the whole gate, is not there.

    field   `alpha`, `fast_kill.error_share`, `gates.errors.delta`, or `gates.errors` for a whole gate
    """

    field: str
    before: str
    after: str

    def to_json(self) -> dict[str, str]:
        return {"field": self.field, "before": self.before, "after": self.after}


def policy_changes(old: GatePolicy, new: GatePolicy) -> tuple[PolicyChange, ...]:
    """The changes from `old` to `new` in the order of the policy; name and version are no change."""
    changes = _values("", _rules(old), _rules(new))
    changes += _values("fast_kill.", old.fast_kill.to_json(), new.fast_kill.to_json())
    before, after = {gate.key: gate for gate in old.gates}, {gate.key: gate for gate in new.gates}
    for key in [*before, *(key for key in after if key not in before)]:
        if key not in after:
            changes.append(PolicyChange(f"gates.{key}", _in_short(before[key]), ""))
        elif key not in before:
            changes.append(PolicyChange(f"gates.{key}", "", _in_short(after[key])))
        else:
            changes += _values(f"gates.{key}.", before[key].to_json(), after[key].to_json())
    common_before, common_after = [k for k in before if k in after], [k for k in after if k in before]
    if common_before != common_after:
        changes.append(PolicyChange("gates", ", ".join(common_before), ", ".join(common_after)))
    return tuple(changes)


def _rules(policy: GatePolicy) -> dict[str, Any]:
    apart = ("name", "version", "gates", "fast_kill")
    return {name: value for name, value in policy.to_json().items() if name not in apart}


def _values(prefix: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[PolicyChange]:
    names = [*old, *(name for name in new if name not in old)]
    return [
        PolicyChange(prefix + name, value_text(old.get(name)), value_text(new.get(name)))
        for name in names
        if old.get(name) != new.get(name)
    ]


def value_text(value: object) -> str:
    """A value of a policy as people write it; empty for one that is not there."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _in_short(gate: GateSpec) -> str:
    if gate.fixed:
        return f"{gate.label}, {gate.limit_text()}, a fixed limit"
    return f"{gate.label}, {gate.limit_text()}, {gate.mode}, weight {gate.weight:.3g}"
