"""Asks a cluster what it has and judges whether variants fit, before anything is started.

Everything is listed anew: what is free changes by the second. `preflight` says how often that is. Four lists are
read: nodes, the pods of all namespaces, and the quotas and limit ranges of our own. Raises Denied (with the verb) where
the role lacks one of them, and Unavailable while the cluster does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from controlplane.kernel.errors import InvalidInput, Unavailable
from controlplane.kernel.foreign import Fields
from rollouts.adapters.clusters.kubernetes.client import (
    LIMIT_RANGE,
    NODE,
    POD_ANYWHERE,
    RESOURCE_QUOTA,
    KubernetesClient,
    ObjectKind,
)
from rollouts.adapters.clusters.kubernetes.container import ContainerEngine
from rollouts.adapters.clusters.kubernetes.names import INSTALLATION, VARIANT, label_value, object_name
from rollouts.adapters.clusters.kubernetes.pod import pod_of
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.clusters.kubernetes.spec_checks import check_spec, pods_of_replica
from rollouts.adapters.clusters.kubernetes.supply_reading import (
    bounds_in,
    demand_in,
    fields_of,
    is_over,
    node_in,
    quota_in,
    taken_by,
)
from rollouts.domain.capacity.nodes import Bound, NodeChoice, PlacedPod, PodDemand, Quota, Supply
from rollouts.domain.capacity.placement import Placement, Wanted, place
from rollouts.ports import WorkloadSpec

MOST_NODES, MOST_PODS = 20_000, 500_000  # more than Kubernetes is made for (5,000 and 150,000)
RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ClusterReading:
    """What the cluster said.

    supply    for `rollouts.domain.capacity`
    placed    our own pods that have a node, by the name of their variant's objects
    odd       names of nodes that are left out, because something about them cannot be understood
    """

    supply: Supply
    placed: Mapping[str, tuple[PlacedPod, ...]]
    odd: tuple[str, ...]


def judged(
    reading: ClusterReading, wanted: Wanted, *, ending: Sequence[str] = (), baseline: str = ""
) -> Placement:
    """Whether the replicas fit.

    ending    variants whose replicas end when these start: what they take is free
    baseline  the variant whose replicas could end for them, and do not
    """
    there = [variant for variant in ending if reading.placed.get(object_name(variant))]
    gone = tuple(pod for variant in there for pod in reading.placed[object_name(variant)])
    leaving = reading.placed.get(object_name(baseline), ()) if baseline else ()
    found = place(reading.supply.without(gone), wanted, leaving)
    notes = list(found.notes)
    if there:
        notes.append(f"What {' and '.join(there)} takes counts as free: it ends when the rollout starts.")
    if reading.odd:
        names = ", ".join(reading.odd[:3]) + (" and others" if len(reading.odd) > 3 else "")
        notes.append(f"Left out, because what the cluster says of them cannot be understood: {names}.")
    return replace(found, notes=tuple(notes))


def wanted_together(
    specs: Sequence[WorkloadSpec], profile: ClusterProfile, engines: Mapping[str, ContainerEngine]
) -> Wanted:
    """What several variants want that are served alike and start at the same time. Where files are fetched into pods,
    these ask for different amounts of disk, and the largest counts. Raises InvalidInput as `wanted_of` does."""
    each = [wanted_of(spec, profile, engines) for spec in specs]
    largest = max(each, key=lambda one: one.demand.requests.get("ephemeral-storage", 0))
    return replace(largest, replicas=sum(one.replicas for one in each))


def wanted_of(spec: WorkloadSpec, profile: ClusterProfile, engines: Mapping[str, ContainerEngine]) -> Wanted:
    """What the variant's pods ask for and where they may run: from the very pod that would be made."""
    engine, chosen = check_spec(spec, profile, engines)
    strict = [(one.label, one.max_skew) for one in profile.spread if one.strict]
    if len(strict) > 1:
        raise InvalidInput(
            "Whether pods fit that must be spread over several labels at once is not judged.",
            field="configuration.profile.spread",
            fix="Make one of them strict at most.",
        )
    pods = pods_of_replica(spec, profile)
    count = spec.accelerators.count if spec.accelerators is not None else 0
    pod = pod_of(spec, profile, engine, chosen, object_name(spec.variant), accelerators=count // pods)
    said = "The pod that would be made"
    return Wanted(
        demand=demand_in(Fields(pod, said), said),
        choice=NodeChoice(
            labels=profile.node_labels,
            rules=profile.node_rules,
            tolerations=profile.tolerations,
            spread=strict[0] if strict else None,
        ),
        replicas=spec.replicas,
        pods=pods,
        headroom_percent=profile.headroom_percent,
        accelerator=spec.accelerators.resource if spec.accelerators is not None else "",
    )


def accelerator_bytes(supply: Supply, choice: NodeChoice, resource: str) -> int | None:
    """Memory of the smallest accelerator that pods may get; None where a node does not say it.

    NVIDIA's GPU feature discovery says it in MiB by the label RESOURCE.memory, also of a MIG slice. Where several pods
    share one (RESOURCE.replicas above 1), nobody knows what is left for one of them.
    """
    found = []
    for node in supply.nodes:
        if not choice.is_meant(node) or node.allocatable.get(resource, 0) <= 0:
            continue
        said, shared = node.labels.get(f"{resource}.memory", ""), node.labels.get(f"{resource}.replicas", "1")
        if not said.isascii() or not said.isdecimal() or not 0 < int(said) < 10**9 or shared != "1":
            return None
        found.append(int(said) * MIB)
    return min(found, default=None)


# --- reading ----------------------------------------------------------------------------------------------------------


def read_supply(client: KubernetesClient, profile: ClusterProfile, installation: str) -> ClusterReading:
    """Nodes first, then pods: one that is made in between is counted rather than missed."""
    nodes, odd = {}, set()
    for raw in _each(client, NODE, MOST_NODES):
        fields, said = fields_of(raw, "node")
        try:
            node = node_in(fields, said)
        except InvalidInput:
            odd.add(said.rsplit(" ", 1)[1])
            continue
        nodes[node.name] = node
    pods = _Pods(label_value(installation))
    for raw in _each(client, POD_ANYWHERE, MOST_PODS, fields=RUNNING):
        pods.add(*fields_of(raw, "pod"))
    odd |= pods.odd_nodes & set(nodes)
    known = tuple(
        replace(node, taken=taken_by(pods.by_node, name), open=node.open and name not in odd)
        for name, node in sorted(nodes.items())
    )
    return ClusterReading(
        Supply(known, *_rules_of_namespace(client, profile), waiting=pods.waiting),
        {name: tuple(placed) for name, placed in pods.ours.items()},
        tuple(sorted(odd)),
    )


class _Pods:
    """What pods take, as they come by. Only amounts are kept."""

    def __init__(self, installation: str) -> None:
        self._installation = installation
        self.by_node: dict[str, list[PodDemand]] = {}
        self.ours: dict[str, list[PlacedPod]] = {}
        self.waiting: dict[str, int] = {}
        self.odd_nodes: set[str] = set()

    def add(self, pod: Fields, said: str) -> None:
        try:
            node = pod.part("spec").text("nodeName", "", longest=253)
        except InvalidInput:
            return  # on no node that has a name
        try:
            if is_over(pod):
                return
            demand = demand_in(pod.needed("spec"), said)
            labels = pod.needed("metadata").texts_by_name("labels")
        except InvalidInput:
            self.odd_nodes.add(node)
            return
        if not node:
            for name, amount in demand.requests.items():
                self.waiting[name] = self.waiting.get(name, 0) + amount
            return
        self.by_node.setdefault(node, []).append(demand)
        if labels.get(INSTALLATION) == self._installation and VARIANT in labels:
            self.ours.setdefault(labels[VARIANT], []).append(PlacedPod(node, demand))


def _rules_of_namespace(
    client: KubernetesClient, profile: ClusterProfile
) -> tuple[tuple[Quota, ...], tuple[Bound, ...]]:
    try:
        quotas = tuple(
            quota
            for raw in _each(client, RESOURCE_QUOTA, MOST_NODES)
            if (quota := quota_in(*fields_of(raw, "quota"), profile.priority_class)) is not None
        )
        bounds = tuple(
            bound
            for raw in _each(client, LIMIT_RANGE, MOST_NODES)
            for bound in bounds_in(*fields_of(raw, "limit range"))
        )
    except InvalidInput as error:
        raise Unavailable(error.message, fix="Look at it in the cluster.", code=error.code) from None
    return quotas, bounds


def _each(
    client: KubernetesClient, kind: ObjectKind, most: int, *, fields: str = ""
) -> Iterable[Mapping[str, object]]:
    count = 0
    for objects, _ in client.pages(kind, fields=fields):
        count += len(objects)
        if count > most:
            raise Unavailable(
                f"The cluster lists more than {most:,} objects of the kind {kind.name}; so many are not read.",
                fix="Judge it by hand.",
            )
        yield from objects
