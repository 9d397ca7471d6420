"""What a cluster has and what a pod asks for, as plain values; and on which nodes a pod may run.

Amounts of every resource are whole thousandths of its unit, as Kubernetes counts them at its finest: 1,500 of `cpu` are
one and a half, 8,000 of `nvidia.com/gpu` are eight, and 1,000 of `memory` are one byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

Amounts = Mapping[str, int]
UNIT = 1_000  # of the thousandths of a resource
PODS = "pods"  # a node takes a number of pods; each pod asks for one


@dataclass(frozen=True, slots=True)
class Toleration:
    """A taint of nodes that engines may run on all the same. `seconds`: for so long, with the effect NoExecute."""

    key: str
    operator: str = "Exists"
    value: str = ""
    effect: str = ""
    seconds: int | None = None

    def tolerates(self, taint: Taint) -> bool:
        """Whether a pod may stay on a node with this taint. One that may stay for some seconds may not."""
        if (
            self.effect not in ("", taint.effect)
            or self.key not in ("", taint.key)
            or self.seconds is not None
        ):
            return False
        return self.operator == "Exists" or self.value == taint.value


@dataclass(frozen=True, slots=True)
class NodeRule:
    """What a label of a node must be: "nvidia.com/gpu.product In NVIDIA-H200"."""

    label: str
    operator: str
    values: tuple[str, ...] = ()

    def allows(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels is one of them, as Kubernetes' node affinity reads the rule."""
        found = labels.get(self.label)
        match self.operator:
            case "In":
                return found in self.values
            case "NotIn":
                return found not in self.values
            case "Exists":
                return found is not None
            case "DoesNotExist":
                return found is None
            case "Gt" | "Lt" if found is not None and found.removeprefix("-").isdecimal():
                limit = int(self.values[0])
                return int(found) > limit if self.operator == "Gt" else int(found) < limit
            case _:
                return False

    def __str__(self) -> str:
        return " ".join([self.label, self.operator, ", ".join(self.values)]).strip()


@dataclass(frozen=True, slots=True)
class Taint:
    """What keeps pods off a node."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __str__(self) -> str:
        return f"{self.key}{'=' if self.value else ''}{self.value}:{self.effect}"


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    allocatable  what pods may take of it in all
    taken        what the pods on it asked for
    open         new pods may come: it is ready and not cordoned
    """

    name: str
    allocatable: Amounts
    taken: Amounts = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    open: bool = True

    def free(self, resource: str) -> int:
        return max(0, self.allocatable.get(resource, 0) - self.taken.get(resource, 0))


@dataclass(frozen=True, slots=True)
class Container:
    """What a container asks for (`requests`) and may take (`limits`). `first`: it ends before the others begin."""

    name: str
    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)
    first: bool = False


@dataclass(frozen=True, slots=True)
class PodDemand:
    """What one pod asks for.

    requests, limits  of the pod as a whole
    containers        each of them, those that run first too: the bounds of a namespace are about containers
    """

    requests: Amounts
    limits: Amounts = field(default_factory=dict)
    containers: tuple[Container, ...] = ()

    @property
    def on_node(self) -> dict[str, int]:
        """What it takes of a node."""
        return {**{name: amount for name, amount in self.requests.items() if amount > 0}, PODS: UNIT}

    def quota_amount(self, key: str) -> int | None:
        """What it takes of a quota, by the quota's name for it; None where the quota asks for a figure that the pod
        does not give. Raises KeyError for what is no quota of pods."""
        if key in (PODS, "count/pods"):
            return UNIT
        if key.startswith("limits."):
            return self.limits.get(key.removeprefix("limits."))
        if key.startswith("requests."):
            return self._requested(key.removeprefix("requests."))
        if key in ("cpu", "memory", "ephemeral-storage") or key.startswith("hugepages-"):
            return self._requested(key)
        raise KeyError(key)

    def _requested(self, resource: str) -> int | None:
        # What a container must name where there is a quota of it; all else counts as none.
        return self.requests.get(resource, None if resource in ("cpu", "memory") else 0)


@dataclass(frozen=True, slots=True)
class Quota:
    """What a namespace may still take, by the quota's names: `requests.nvidia.com/gpu`, `limits.memory`, `pods`."""

    name: str
    left: Amounts


@dataclass(frozen=True, slots=True)
class Bound:
    """What a LimitRange says of a resource of every container, or of every pod (`of_pod`).

    usual, usual_request  what a container gets as its limit, and as its request, which has none
    ratio                 how many times its request a limit may be, in thousandths
    """

    name: str
    resource: str
    least: int | None = None
    most: int | None = None
    usual: int | None = None
    usual_request: int | None = None
    of_pod: bool = False
    ratio: int | None = None


def as_admitted(demand: PodDemand, bounds: tuple[Bound, ...]) -> PodDemand:
    """The pod as the cluster makes it: a container that names no limit or no request gets the usual one of its
    namespace."""
    for bound in bounds:
        if bound.of_pod:
            continue
        name = bound.resource
        if bound.usual is not None:
            limits = [{name: bound.usual, **one.limits} for one in demand.containers]
            demand = _with(demand, name, [one.requests for one in demand.containers], limits)
        if bound.usual_request is not None:
            requests = [{name: bound.usual_request, **one.requests} for one in demand.containers]
            demand = _with(demand, name, requests, [one.limits for one in demand.containers])
    return demand


def _with(demand: PodDemand, name: str, requests: Sequence[Amounts], limits: Sequence[Amounts]) -> PodDemand:
    """The pod whose containers ask for these, as far as one resource goes."""
    containers = tuple(
        replace(one, requests=asked, limits=limit)
        for one, asked, limit in zip(demand.containers, requests, limits, strict=True)
    )
    return replace(
        demand,
        containers=containers,
        requests=_at_least(demand.requests, name, [(one.requests, one.first) for one in containers]),
        limits=_at_least(demand.limits, name, [(one.limits, one.first) for one in containers]),
    )


def _at_least(whole: Amounts, name: str, parts: Sequence[tuple[Amounts, bool]]) -> dict[str, int]:
    together = sum(amounts.get(name, 0) for amounts, first in parts if not first)
    alone = max((amounts.get(name, 0) for amounts, first in parts if first), default=0)
    most = max(whole.get(name, 0), together, alone)
    return {**whole, name: most} if most or name in whole else dict(whole)


@dataclass(frozen=True, slots=True)
class Supply:
    """What a cluster has for one namespace at one moment.

    waiting  what pods asked for that have no node yet: they may be first. Told, and not subtracted, for nobody knows
             which nodes they wait for
    """

    nodes: tuple[Node, ...]
    quotas: tuple[Quota, ...] = ()
    bounds: tuple[Bound, ...] = ()
    waiting: Amounts = field(default_factory=dict)

    def without(self, pods: tuple[PlacedPod, ...]) -> Supply:
        """Once these pods, which are counted in it, are gone."""
        nodes = {node.name: node for node in self.nodes}
        quotas = list(self.quotas)
        for pod in pods:
            node = nodes.get(pod.node)
            if node is not None:
                given_back = pod.demand.on_node
                kept = {name: max(0, taken - given_back.get(name, 0)) for name, taken in node.taken.items()}
                nodes[pod.node] = replace(node, taken=kept)
            quotas = [_given_back(quota, pod.demand) for quota in quotas]
        return replace(self, nodes=tuple(nodes.values()), quotas=tuple(quotas))


@dataclass(frozen=True, slots=True)
class PlacedPod:
    """A pod and the node that it is on."""

    node: str
    demand: PodDemand


@dataclass(frozen=True, slots=True)
class NodeChoice:
    """Which nodes a pod may run on.

    spread  a label over whose values pods must be spread, and by how much they may differ at most; None: they need not
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[NodeRule, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    spread: tuple[str, int] | None = None

    def is_meant(self, node: Node) -> bool:
        """Whether it is of the kind that is asked for."""
        fits = all(node.labels.get(name) == value for name, value in self.labels.items())
        return fits and all(rule.allows(node.labels) for rule in self.rules)

    def untolerated(self, node: Node) -> Taint | None:
        """A taint that keeps the pod off; None: there is none."""
        for taint in node.taints:
            if taint.effect != "PreferNoSchedule" and not any(
                one.tolerates(taint) for one in self.tolerations
            ):
                return taint
        return None

    def may_use(self, node: Node) -> bool:
        return node.open and self.is_meant(node) and self.untolerated(node) is None

    def __str__(self) -> str:
        named = [f"{name}={value}" for name, value in self.labels.items()] + [
            str(rule) for rule in self.rules
        ]
        return f"nodes with {' and '.join(named)}" if named else "nodes"


def _given_back(quota: Quota, demand: PodDemand) -> Quota:
    left = dict(quota.left)
    for key in left:
        try:
            left[key] += demand.quota_amount(key) or 0
        except KeyError:
            continue
    return replace(quota, left=left)
