"""Which objects of a namespace are this Headgate's. An apply would make somebody else's object a part of a variant, and
it would be deleted with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.kernel.errors import Refused
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient, ObjectKind


def owned_object(
    client: KubernetesClient, kind: ObjectKind, name: str, labels: Mapping[str, str]
) -> Mapping[str, Any] | None:
    """The object as it is now, None when there is none. Raises Refused for one without these labels: it is somebody
    else's."""
    seen = client.get(kind, name)
    if seen is not None and not labels.items() <= (seen["metadata"].get("labels") or {}).items():
        raise name_taken(kind, name)
    return seen


def name_taken(kind: ObjectKind, name: str) -> Refused:
    """The refusal to touch it."""
    return Refused(
        f"A {kind.name} {name} is there already, and it is not this Headgate's.",
        fix="Delete it, or use another namespace.",
        code="name-taken",
    )
