"""What is different between two variants, as lines of `before after`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.words import bytes_text, number_text
from rollouts.domain.variants import ServingSpec
from rollouts.models import Variant

PARAMETERS_SHOWN = 4
METRICS_SHOWN = 4


@dataclass(frozen=True, slots=True)
class VariantChange:
    """One line. `before` is empty when both are the same (`after` then says so)."""

    name: str
    before: str
    after: str

    @property
    def same(self) -> bool:
        return not self.before


def what_changes(old: Variant, new: Variant) -> tuple[VariantChange, ...]:
    """Version, files, serving spec, then the first parameters and metrics that differ, and how many more do."""
    was, now = old.version, new.version
    rows = [
        _change("Version", was.label, now.label),
        _change("Files", _short(was.manifest_digest), _short(now.manifest_digest)),
        _change("Size", bytes_text(was.manifest_bytes), bytes_text(now.manifest_bytes)),
        _change("Engine", str(old.serving.get("engine", "")), str(new.serving.get("engine", ""))),
    ]
    rows += [_change(name, *words) for name, words in _asked(old.spec, new.spec) if words != ("none", "none")]
    arguments = old.public_serving["arguments"], new.public_serving["arguments"]
    rows += [
        _change(name, _word(arguments[0], name), _word(arguments[1], name)) for name in _names(*arguments)
    ]
    variables = _variables(old), _variables(new)
    rows += [
        _change(name, _word(variables[0], name), _word(variables[1], name)) for name in _names(*variables)
    ]
    rows += _first(_differing(_mapping(was.params), _mapping(now.params)), PARAMETERS_SHOWN, "parameter")
    rows += _first(_differing(_mapping(was.metrics), _mapping(now.metrics)), METRICS_SHOWN, "metric")
    return tuple(rows)


def _asked(old: ServingSpec, new: ServingSpec) -> list[tuple[str, tuple[str, str]]]:
    """What is asked of the cluster: replicas where they differ, image and accelerators where they are set."""
    found = [
        ("Image", (str(old.image or "none"), str(new.image or "none"))),
        ("Accelerators", (str(old.accelerators or "none"), str(new.accelerators or "none"))),
        ("Adopted server", (old.adopts or "none", new.adopts or "none")),
    ]
    if old.replicas != new.replicas:
        found.append(("Replicas", (str(old.replicas), str(new.replicas))))
    return found


def _first(changes: list[VariantChange], shown: int, what: str) -> list[VariantChange]:
    """The first of them, and a line that says how many more differ."""
    more = len(changes) - shown
    if more <= 0:
        return changes
    differ = "differs" if more == 1 else "differ"
    return [
        *changes[:shown],
        VariantChange(f"More {what}s", "", f"{more} more {differ}: the page of the model has them"),
    ]


def _change(name: str, before: str, after: str) -> VariantChange:
    if before == after:
        return VariantChange(name, "", f"same, {after}" if after else "same")
    return VariantChange(name, before, after)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[VariantChange]:
    pairs = [(name, _word(old, name), _word(new, name)) for name in _names(old, new)]
    return [
        VariantChange(name.replace("_", " "), before, after)
        for name, before, after in pairs
        if before != after
    ]


def _names(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(set(old) | set(new))


def _word(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "none"
    value = values[name]
    if isinstance(value, bool):
        return "on" if value else "off"
    return number_text(value) if isinstance(value, int | float) else str(value)


def _variables(variant: Variant) -> Mapping[str, Any]:
    """The variables of the engine, of secrets only that they are set."""
    shown = variant.public_serving["environment"]
    return {**shown, **{name: secret.words for name, secret in variant.spec.secrets.items()}}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:8] or "none"
