"""Nodes, pods, quotas and limit ranges as an API server tells of them, for tests."""

from __future__ import annotations

from typing import Any

GPU = "nvidia.com/gpu"


def raw_node(
    name: str, *, gpus: int = 8, labels: dict[str, str] | None = None, **changes: Any
) -> dict[str, Any]:
    status = {
        "allocatable": {
            "cpu": "64",
            "memory": "512Gi",
            "ephemeral-storage": "2Ti",
            "pods": "110",
            GPU: str(gpus),
        },
        "conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}],
    }
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": changes.pop("spec", {}),
        "status": {**status, **changes},
    }


def container(name: str = "engine", *, gpus: int = 0, **changes: Any) -> dict[str, Any]:
    requests = {"cpu": "1", "memory": "8Gi", **({GPU: str(gpus)} if gpus else {})}
    return {"name": name, "resources": {"requests": requests}, **changes}


def raw_pod(
    name: str,
    node: str = "",
    *,
    gpus: int = 0,
    phase: str = "Running",
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    placed = {"nodeName": node} if node else {}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "somewhere", "labels": labels or {}},
        "spec": {"containers": [container(gpus=gpus)], **placed, **spec},
        "status": {"phase": phase},
    }


def raw_quota(name: str = "team", *, hard: Any = None, used: Any = None, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "ResourceQuota",
        "metadata": {"name": name},
        "spec": {"hard": hard or {}, **spec},
        "status": {"hard": hard or {}, "used": used or {}},
    }


def raw_range(*limits: dict[str, Any], name: str = "range") -> dict[str, Any]:
    return {"kind": "LimitRange", "metadata": {"name": name}, "spec": {"limits": list(limits)}}


def listed(*objects: dict[str, Any], more: str = "") -> tuple[int, dict[str, Any]]:
    return 200, {"metadata": {"resourceVersion": "7", "continue": more}, "items": list(objects)}
