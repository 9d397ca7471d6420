"""What nodes, pods, quotas and limit ranges say, as values for `rollouts.domain.capacity`.

Pure. Whatever cannot be understood raises InvalidInput: what a node has left, or a quota, is then not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.kernel.foreign import Fields, words_of
from rollouts.adapters.clusters.kubernetes.quantities import amounts
from rollouts.domain.capacity.nodes import (
    PODS,
    UNIT,
    Amounts,
    Bound,
    Container,
    Node,
    PodDemand,
    Quota,
    Taint,
)

MOST_LABELS = 2_000
LONGEST_NAME = 253
ALWAYS = "Always"  # the restart policy of an init container that goes on running beside the others
OVER = ("Succeeded", "Failed")
# Scopes of quotas that pods of engines are in: they ask for memory, and have no deadline.
OURS, NOT_OURS = ("NotTerminating", "NotBestEffort"), ("Terminating", "BestEffort")
ANTI = "CrossNamespacePodAffinity"


# --- pods -------------------------------------------------------------------------------------------------------------


def demand_in(spec: Fields, said: str) -> PodDemand:
    """What a pod with this `spec` asks for, as the scheduler and quotas count it."""
    before = list(spec.parts("initContainers")) if spec.has_object("initContainers") else []
    containers = [
        *(_container(part, said, first=part.text("restartPolicy", "") != ALWAYS) for part in before),
        *(_container(part, said, first=False) for part in spec.parts("containers")),
    ]
    own = spec.part("resources") if spec.has_object("resources") else None
    overhead = amounts(spec, "overhead", said, up=True)
    requests, limits = (
        _plus(
            {**_together(containers, which), **(amounts(own, which, said, up=True) if own else {})}, overhead
        )
        for which in ("requests", "limits")
    )
    return PodDemand(requests, limits, tuple(containers))


def _container(part: Fields, said: str, *, first: bool) -> Container:
    resources = part.part("resources") if part.has_object("resources") else None
    limits = amounts(resources, "limits", said, up=True) if resources else {}
    # The API server puts the limit in the place of a request that is missing.
    requests = {**limits, **amounts(resources, "requests", said, up=True)} if resources else {}
    return Container(part.text("name", "", longest=253), requests, limits, first)


def _together(containers: list[Container], which: str) -> dict[str, int]:
    """The most that is asked for at any time. Init containers run one after the other, before all others; those of them
    that go on running count from then on."""
    running: dict[str, int] = {}
    most: dict[str, int] = {}
    for container in containers:
        asked: Amounts = container.requests if which == "requests" else container.limits
        if container.first:
            now = _plus(running, asked)
        else:
            now = running = _plus(running, asked)
        most = {name: max(most.get(name, 0), now.get(name, 0)) for name in (*most, *now)}
    return most


def _plus(one: Amounts, other: Amounts) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in (*one, *other)}


def is_over(pod: Fields) -> bool:
    """Whether it has ended and takes nothing any more."""
    return pod.part("status").text("phase", "", longest=50) in OVER


# --- nodes ------------------------------------------------------------------------------------------------------------


def node_in(raw: Fields, said: str) -> Node:
    """A node on which nothing runs yet."""
    spec, status = raw.part("spec"), raw.needed("status")
    labels = raw.needed("metadata").texts_by_name("labels", longest=63)
    if len(labels) > MOST_LABELS:
        raise raw.odd(f"it has {len(labels):,} labels")
    ready = any(
        one.text("type", "") == "Ready" and one.text("status", "") == "True"
        for one in status.parts("conditions")
    )
    taints = spec.parts("taints") if spec.has_object("taints") else ()
    return Node(
        name=name_of(raw),
        allocatable=amounts(status, "allocatable", said, up=False),
        labels=labels,
        taints=tuple(
            Taint(
                one.text("key", longest=400),
                one.text("value", "", longest=63),
                one.text("effect", longest=50),
            )
            for one in taints
        ),
        open=ready and not (spec.has_object("unschedulable") and spec.flag("unschedulable")),
    )


def name_of(raw: Fields) -> str:
    return raw.needed("metadata").text("name", longest=253)


def taken_by(pods: Mapping[str, list[PodDemand]], node: str) -> dict[str, int]:
    """What the pods on a node take of it together."""
    found: dict[str, int] = {PODS: 0}
    for demand in pods.get(node, ()):
        found = _plus(found, {**demand.requests, PODS: UNIT})
    return found


# --- the namespace ----------------------------------------------------------------------------------------------------


def quota_in(raw: Fields, said: str, priority_class: str) -> Quota | None:
    """What is left of a quota; None where it is not about engines' pods."""
    spec, status = raw.part("spec"), raw.part("status")
    if not _is_about(spec, priority_class):
        return None
    hard = amounts(spec, "hard", said, up=False)
    used = amounts(status, "used", said, up=True)
    return Quota(name_of(raw), {name: most - used.get(name, 0) for name, most in hard.items()})


def _is_about(spec: Fields, priority_class: str) -> bool:
    """Whether pods of engines are in the quota's scopes. An unknown scope counts as if they were."""
    scopes = spec.texts("scopes", longest=100) if spec.has_object("scopes") else []
    if any(scope in (*NOT_OURS, ANTI) for scope in scopes):
        return False
    selector = spec.part("scopeSelector") if spec.has_object("scopeSelector") else None
    for rule in selector.parts("matchExpressions") if selector else ():
        scope, operator = rule.text("scopeName", longest=100), rule.text("operator", "", longest=50)
        values = rule.texts("values", longest=253) if rule.has_object("values") else []
        if scope in OURS and operator == "DoesNotExist":
            return False
        if scope in (*NOT_OURS, ANTI) and operator == "Exists":
            return False
        if scope == "PriorityClass" and not _selects(operator, values, priority_class):
            return False
    return True


def _selects(operator: str, values: list[str], priority_class: str) -> bool:
    match operator:
        case "In":
            return priority_class in values
        case "NotIn":
            return priority_class not in values
        case "Exists":
            return priority_class != ""
        case "DoesNotExist":
            return priority_class == ""
        case _:
            return True


def bounds_in(raw: Fields, said: str) -> Iterator[Bound]:
    """What a LimitRange says about containers and pods."""
    name = name_of(raw)
    for item in raw.part("spec").parts("limits"):
        kind = item.text("type", "", longest=50)
        if kind not in ("Container", "Pod"):
            continue
        least, most = amounts(item, "min", said, up=True), amounts(item, "max", said, up=False)
        ratio = amounts(item, "maxLimitRequestRatio", said, up=False)
        of_pod = kind == "Pod"
        usual, usual_request = (
            {} if of_pod else amounts(item, field, said, up=True) for field in ("default", "defaultRequest")
        )
        for resource in dict.fromkeys((*least, *most, *usual, *usual_request, *ratio)):
            yield Bound(
                name,
                resource,
                least.get(resource),
                most.get(resource),
                usual.get(resource),
                usual_request.get(resource),
                of_pod,
                ratio.get(resource),
            )


def fields_of(raw: Mapping[str, Any], kind: str) -> tuple[Fields, str]:
    """A reader, and how its errors name the object: "What the cluster says of the node gpu-1"."""
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    called = words_of(name) if isinstance(name, str) and len(name) <= LONGEST_NAME else ""
    said = f"What the cluster says of the {kind} {called or '?'}"
    return Fields(raw, said), said
