"""What is missing for pods to fit: the resource, how much of it, and on which kind of nodes. In sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rollouts.domain.capacity.amounts import amount_text, many
from rollouts.domain.capacity.nodes import (
    UNIT,
    Amounts,
    Bound,
    Container,
    Node,
    NodeChoice,
    PodDemand,
    Quota,
    Supply,
)

MOST_NAMED = 3  # kinds of taints that a sentence names
NO_LIMIT = 1 << 40


# --- bounds of a namespace --------------------------------------------------------------------------------------------


def bounds_broken(bounds: Iterable[Bound], demand: PodDemand) -> list[str]:
    """A sentence for each bound for which the cluster would make no such pod."""
    found = []
    for bound in bounds:
        subjects = [_whole(demand)] if bound.of_pod else demand.containers
        for subject in subjects:
            found += _broken(bound, subject)
    return found


def _whole(demand: PodDemand) -> Container:
    return Container("", demand.requests, demand.limits)


def _broken(bound: Bound, subject: Container) -> list[str]:
    what = f"the container {subject.name}" if subject.name else "a pod"
    who = f"The limit range {bound.name}"
    limit = subject.limits.get(bound.resource, None if bound.of_pod else bound.usual)
    asked = subject.requests.get(bound.resource)
    if bound.usual is not None and limit is not None and asked is not None and asked > limit:
        usual, wanted = amount_text(bound.resource, limit), amount_text(bound.resource, asked)
        return [f"{who} gives {what} a limit of {usual}, and it asks for {wanted}."]
    asked = limit if asked is None else asked
    found = []
    if bound.most is not None:
        most = amount_text(bound.resource, bound.most)
        if limit is None:
            found.append(f"{who} allows at most {most}, and {what} has no limit of it.")
        elif limit > bound.most:
            found.append(
                f"{who} allows at most {most}, and {what} may take {amount_text(bound.resource, limit)}."
            )
    # The cluster lets a container that asks for nothing ask for the least. A pod it refuses.
    if (
        bound.least is not None
        and (asked is None or asked < bound.least)
        and (asked is not None or bound.of_pod)
    ):
        least = amount_text(bound.resource, bound.least)
        given = "nothing" if asked is None else amount_text(bound.resource, asked)
        found.append(f"{who} wants at least {least}, and {what} asks for {given}.")
    if bound.ratio is not None:
        found += _above_ratio(who, what, bound.resource, bound.ratio, asked or 0, limit or 0)
    return found


def _above_ratio(who: str, what: str, resource: str, ratio: int, asked: int, limit: int) -> list[str]:
    """A sentence where a limit is too many times the request, or one of both is missing: the cluster then makes no such
    pod."""
    allows = f"{who} allows a limit of {resource} that is at most {ratio / UNIT:,g} times the request"
    if not asked or not limit:
        return [f"{allows}, and {what} has no {'limit' if asked else 'request'} of it."]
    if limit / asked * UNIT > ratio:  # with the same roundings as the cluster
        may, asks = amount_text(resource, limit), amount_text(resource, asked)
        return [f"{allows}, and {what} may take {may} and asks for {asks}."]
    return []


# --- quotas -----------------------------------------------------------------------------------------------------------


def quota_pods(quota: Quota, demand: PodDemand) -> int:
    """How many pods the quota allows."""
    most = NO_LIMIT
    for key, left in quota.left.items():
        try:
            each = demand.quota_amount(key)
        except KeyError:
            continue  # of something else than pods
        if each is None:
            return 0
        if each > 0:
            most = min(most, max(0, left) // each)
    return most


def quota_shortages(quota: Quota, demand: PodDemand, pods: int) -> list[str]:
    """A sentence for each figure of the quota that does not allow so many pods."""
    found = []
    for key, left in sorted(quota.left.items()):
        try:
            each = demand.quota_amount(key)
        except KeyError:
            continue
        if each is None:
            found.append(f"The quota {quota.name} takes no pod that does not say its {key}.")
        elif each * pods > max(0, left):
            needed, there = amount_text(key, each * pods), amount_text(key, max(0, left))
            short = amount_text(key, each * pods - max(0, left))
            found.append(
                f"The quota {quota.name} leaves {there}, and {needed} are needed: {short} are short."
            )
    return found


# --- nodes ------------------------------------------------------------------------------------------------------------


def room_shortages(supply: Supply, demand: PodDemand, choice: NodeChoice, pods: int) -> list[str]:
    """Why so many pods do not find nodes. At least one sentence."""
    meant = [node for node in supply.nodes if choice.is_meant(node)]
    usable = [node for node in meant if choice.may_use(node)]
    where = f"{many(len(usable), 'node')}{str(choice).removeprefix('nodes')}"
    if not usable:
        return [_no_nodes(len(supply.nodes), meant, choice)]
    asked = demand.on_node
    found = [
        line
        for name, amount in sorted(asked.items())
        if (line := _short_of(name, amount, pods, usable, where))
    ]
    closed = _closed(meant, choice)
    if not found and choice.spread is not None:
        found.append(
            f"Pods must be spread evenly over {choice.spread[0]}, and {where} are too unevenly filled for it."
        )
    if not found:
        found.append(
            f"{where} have enough of everything together, but no node has enough of all of it for the last pod: "
            f"each asks for {_listed(asked)}."
        )
    return [*found, *([f"Beside them, {closed}."] if closed else [])]


def _short_of(name: str, amount: int, pods: int, usable: list[Node], where: str) -> str:
    """The sentence of one resource; empty where it is not what is missing."""
    free = [node.free(name) for node in usable]
    total, largest, needed = sum(free), max(free), amount * pods
    there = "has" if len(usable) == 1 else "have"
    if not any(node.allocatable.get(name, 0) >= amount for node in usable):
        most = max(node.allocatable.get(name, 0) for node in usable)
        asks, has = amount_text(name, amount), amount_text(name, most)
        return f"A pod asks for {asks}, and the largest of {where} has {has} in all."
    if total < needed:
        return (
            f"{where} {there} {amount_text(name, total)} free, and {amount_text(name, needed)} are needed: "
            f"{amount_text(name, needed - total)} are short."
        )
    placed = sum(each // amount for each in free)
    if placed < pods:
        return (
            f"{where} {there} {amount_text(name, total)} free, but at most {amount_text(name, largest)} on one, and "
            f"each pod asks for {amount_text(name, amount)}: {placed:,} of {many(pods, 'pod')} would find a node."
        )
    return ""


def _no_nodes(all_nodes: int, meant: list[Node], choice: NodeChoice) -> str:
    if all_nodes == 0:
        return "The cluster has no nodes."
    if not meant:
        return f"The cluster has {many(all_nodes, 'node')}, and there are no {choice} among them."
    return f"No pod may use any of the {choice}: {_closed(meant, choice)}."


def _closed(meant: list[Node], choice: NodeChoice) -> str:
    """Nodes of the right kind that take no pods, and why: `1 node has the taint x ..., 2 nodes are not ready`."""
    shut = sum(1 for node in meant if not node.open)
    taints = Counter(str(taint) for node in meant if node.open and (taint := choice.untolerated(node)))
    parts = [
        f"{many(count, 'node')} {'has' if count == 1 else 'have'} the taint {taint} that is not tolerated"
        for taint, count in taints.most_common(MOST_NAMED)
    ]
    if shut:
        parts.append(f"{many(shut, 'node')} {'is' if shut == 1 else 'are'} not ready or cordoned")
    return ", ".join(parts)


def _listed(asked: Amounts) -> str:
    return ", ".join(amount_text(name, amount) for name, amount in sorted(asked.items()))
