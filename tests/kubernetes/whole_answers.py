"""deploy/kubernetes/whole-answers.yaml with its values: the lab's gateway tells who left from who had it all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.workloads import put
from tests.standins.gateway import WHOLE_ANSWERS


def policy_for(*, routes: str, installation: str) -> dict[str, Any]:
    """The object that an operator applies, for the routes of this installation in this namespace."""
    values = {"ROUTES": routes, "INSTALLATION": installation}
    (document,) = yaml.safe_load_all(WHOLE_ANSWERS.read_text())
    made: dict[str, Any] = _filled(document, values)
    assert not values, f"the file has no place for {sorted(values)}"
    return made


def hold_back_done(lab: KubernetesLab, *, routes: str, installation: str) -> None:
    """From now on the gateway does, for the routes that are made."""
    put(lab, policy_for(routes=routes, installation=installation))


def _filled(part: Any, values: dict[str, str]) -> Any:
    """With each value in its one place; it is taken out of `values` then."""
    if isinstance(part, Mapping):
        return {name: _filled(one, values) for name, one in part.items()}
    if isinstance(part, list):
        return [_filled(one, values) for one in part]
    return values.pop(part, part) if isinstance(part, str) else part
