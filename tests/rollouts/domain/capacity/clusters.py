"""Clusters as plain values, for tests of what fits."""

from __future__ import annotations

from typing import Any

from rollouts.domain.capacity.nodes import Container, Node, NodeChoice, PodDemand, Supply
from rollouts.domain.capacity.placement import Wanted

GPU = "nvidia.com/gpu"
GIB = 1 << 30


def amounts(**given: float) -> dict[str, int]:
    """In units: gpu=8, cpu=1.5, memory=GIB, pods=110."""
    names = {"gpu": GPU}
    return {names.get(name, name): round(value * 1_000) for name, value in given.items()}


def node(name: str, *, gpu: float = 8, taken: float = 0, **given: Any) -> Node:
    """A large node with this many GPUs, some of them taken."""
    fields: dict[str, Any] = {
        "allocatable": amounts(gpu=gpu, cpu=64, memory=512 * GIB, pods=110),
        "taken": amounts(gpu=taken),
        "labels": {"pool": "gpu", "zone": name},
    }
    return Node(name, **{**fields, **given})


def demand(gpu: float = 4, **given: Any) -> PodDemand:
    requests = amounts(gpu=gpu, cpu=4, memory=32 * GIB) if gpu else amounts(cpu=4, memory=32 * GIB)
    limits = amounts(gpu=gpu, memory=32 * GIB)
    engine = Container("engine", requests, limits)
    return PodDemand(**{"requests": requests, "limits": limits, "containers": (engine,), **given})


def wanted(replicas: int = 1, **given: Any) -> Wanted:
    fields: dict[str, Any] = {
        "demand": demand(),
        "choice": NodeChoice({"pool": "gpu"}),
        "replicas": replicas,
        "headroom_percent": 0,
        "accelerator": GPU,
    }
    return Wanted(**{**fields, **given})


def supply(*nodes: Node, **given: Any) -> Supply:
    return Supply(nodes, **given)
