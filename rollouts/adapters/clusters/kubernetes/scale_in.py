"""Keeps an autoscaler from taking replicas away, for as long as a rollout goes on.

It is said in the policy of the scale-in itself, which an HPA has had since `autoscaling/v2`, and which KEDA hands on to
the HPA that it makes. KEDA's own annotation for it is known to newer versions only, and some of those do not give back
what was before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollouts.adapters.clusters.kubernetes.autoscaling import HPA, SCALED_OBJECT
from rollouts.adapters.clusters.kubernetes.client import OBJECT_KINDS, KubernetesClient, ObjectKind
from rollouts.adapters.clusters.kubernetes.pod_reading import part
from rollouts.adapters.clusters.kubernetes.profile import AutoscalerKind

USUAL, DISABLED = "Max", "Disabled"  # policies: the first is what is taken when none is named
KINDS: Mapping[AutoscalerKind, ObjectKind] = {
    AutoscalerKind.HPA: OBJECT_KINDS[HPA],
    AutoscalerKind.KEDA: OBJECT_KINDS[SCALED_OBJECT],
}
BEHAVIOUR: Mapping[str, tuple[str, ...]] = {
    HPA: ("spec", "behavior"),
    SCALED_OBJECT: ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior"),
}


def set_scale_in(client: KubernetesClient, kind: ObjectKind, seen: Mapping[str, Any], *, held: bool) -> None:
    """Makes it so, of the autoscaler as it was read; nothing is written where it is so already. Raises Stale when it
    changed meanwhile."""
    change = _change(kind.name, seen, DISABLED if held else USUAL)
    if change is not None:
        metadata = seen["metadata"]
        client.merge(kind, metadata["name"], change, version=metadata["resourceVersion"])


def _change(kind: str, seen: Mapping[str, Any], wanted: str) -> dict[str, Any] | None:
    """The one field that differs; None when it does not."""
    found = seen
    for name in (*BEHAVIOUR[kind], "scaleDown"):
        found = part(found, name)
    if (found.get("selectPolicy") or USUAL) == wanted:
        return None
    change: dict[str, Any] = {"scaleDown": {"selectPolicy": wanted}}
    for name in reversed(BEHAVIOUR[kind]):
        change = {name: change}
    return change
