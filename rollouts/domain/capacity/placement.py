"""How many more replicas a cluster has room for, and what follows: beside what runs, in its place, or not at all.

A forecast: pods that others start meanwhile, and rules of a scheduler that are not named here (affinity between pods,
volumes that belong to a zone, devices by ResourceClaims, queues), are not in it. Within what it knows it never says
that something fits which does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from controlplane.kernel.words import percent_of_bp
from rollouts.domain.capacity.amounts import amount_text, many
from rollouts.domain.capacity.nodes import NodeChoice, PlacedPod, PodDemand, Supply, as_admitted
from rollouts.domain.capacity.shortages import (
    bounds_broken,
    quota_pods,
    quota_shortages,
    room_shortages,
)

NO_LIMIT = 1 << 40  # pods, where nothing limits them


class StartPlan(StrEnum):
    """How a variant may be started."""

    SURGE = "surge"  # all replicas beside what runs
    REPLACE = "replace in place"  # all of them only once the baseline's replicas have ended
    SHORT = "short"  # not even then


@dataclass(frozen=True, slots=True)
class Wanted:
    """What shall run.

    pods              of one replica, all of them alike
    headroom_percent  of the free accelerators that stay free, rounded down to whole ones
    accelerator       the resource that this is about; empty: the pods have none
    """

    demand: PodDemand
    choice: NodeChoice
    replicas: int
    pods: int = 1
    headroom_percent: int = 20
    accelerator: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """What can be done, and why no more.

    beside     replicas that fit beside everything that runs, at most as many as are wanted
    shortages  a sentence for each thing that is missing; none when all fit beside
    head       what follows, in a sentence
    figures    what a replica asks for and, where all fit, what there is: sentences
    notes      what is to be known beside that: sentences
    """

    plan: StartPlan
    wanted: int
    beside: int
    shortages: tuple[str, ...]
    head: str
    figures: str
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What follows, what is missing, and what is to be known."""
        return " ".join([self.head, *self.shortages, *self.notes])


def place(supply: Supply, wanted: Wanted, leaving: tuple[PlacedPod, ...] = ()) -> Placement:
    """Judges `wanted`. `leaving`: the baseline's pods, which are counted in `supply` and could end."""
    wanted = replace(wanted, demand=as_admitted(wanted.demand, supply.bounds))
    beside = min(wanted.replicas, replicas_that_fit(supply, wanted))
    if beside == wanted.replicas:
        return _said(StartPlan.SURGE, supply, wanted, beside, ())
    short = shortages(supply, wanted)
    if leaving:
        after = supply.without(leaving)
        if replicas_that_fit(after, wanted) >= wanted.replicas:
            return _said(StartPlan.REPLACE, supply, wanted, beside, short)
        short = shortages(after, wanted)
    return _said(StartPlan.SHORT, supply, wanted, beside, short, after_end=bool(leaving))


def replicas_that_fit(supply: Supply, wanted: Wanted) -> int:
    """How many replicas of a variant that has none yet fit at once, by everything that `supply` knows."""
    if bounds_broken(supply.bounds, wanted.demand):
        return 0
    pods = min(
        pods_on_nodes(supply, wanted.demand, wanted.choice),
        _within_headroom(supply, wanted),
        *(quota_pods(quota, wanted.demand) for quota in supply.quotas),
    )
    return pods // wanted.pods


def pods_on_nodes(supply: Supply, demand: PodDemand, choice: NodeChoice) -> int:
    """How many pods find a node. All are alike, so each node can be filled by itself."""
    asked = demand.on_node
    by_node = {
        node.name: min(node.free(name) // amount for name, amount in asked.items())
        if choice.may_use(node)
        else 0
        for node in supply.nodes
    }
    if choice.spread is None:
        return sum(by_node.values())
    label, skew = choice.spread
    room: dict[str, int] = {}
    for node in supply.nodes:
        # A node that takes no pods now counts all the same: its zone stays empty, and the others may not run ahead.
        if choice.is_meant(node) and label in node.labels:
            room[node.labels[label]] = room.get(node.labels[label], 0) + by_node[node.name]
    fewest = min(room.values(), default=0)
    return sum(min(each, fewest + skew) for each in room.values())


def _within_headroom(supply: Supply, wanted: Wanted) -> int:
    """How many pods leave enough accelerators free."""
    each = wanted.demand.requests.get(wanted.accelerator, 0)
    if each <= 0:
        return NO_LIMIT
    free = free_accelerators(supply, wanted)
    return (free - kept_free(free, wanted.headroom_percent)) // each


def free_accelerators(supply: Supply, wanted: Wanted) -> int:
    """On all nodes that the pods may use, in thousandths."""
    return sum(node.free(wanted.accelerator) for node in supply.nodes if wanted.choice.may_use(node))


def kept_free(free: int, percent: int) -> int:
    """What of the free accelerators a launch leaves alone: whole ones, in thousandths. 20 % of four is none."""
    return free * percent // 100 // 1_000 * 1_000


def shortages(supply: Supply, wanted: Wanted) -> tuple[str, ...]:
    """A sentence for each thing that keeps the replicas from fitting; empty where all fit."""
    pods = wanted.replicas * wanted.pods
    found = [*bounds_broken(supply.bounds, wanted.demand)]
    for quota in supply.quotas:
        found += quota_shortages(quota, wanted.demand, pods)
    if pods_on_nodes(supply, wanted.demand, wanted.choice) < pods:
        found += room_shortages(supply, wanted.demand, wanted.choice, pods)
    elif _within_headroom(supply, wanted) < pods:
        free = free_accelerators(supply, wanted)
        kept = kept_free(free, wanted.headroom_percent)
        needed = pods * wanted.demand.requests[wanted.accelerator]
        name = wanted.accelerator
        found.append(
            f"{amount_text(name, free)} are free on {wanted.choice}, {amount_text(name, kept)} of them stay free "
            f"(headroom of {percent_of_bp(100 * wanted.headroom_percent)}), and {amount_text(name, needed)} are "
            f"needed: {amount_text(name, needed + kept - free)} are short."
        )
    return tuple(found)


def _said(
    plan: StartPlan,
    supply: Supply,
    wanted: Wanted,
    beside: int,
    short: tuple[str, ...],
    *,
    after_end: bool = False,
) -> Placement:
    replicas = many(wanted.replicas, "replica")
    match plan:
        case StartPlan.SURGE:
            head = f"{replicas} {'fits' if wanted.replicas == 1 else 'fit'} beside what runs."
        case StartPlan.REPLACE:
            first = f"{beside} of them beside what runs" if beside else "none of them before"
            head = f"{replicas} {'fits' if wanted.replicas == 1 else 'fit'} once the baseline's have ended, {first}."
        case StartPlan.SHORT:
            even = " even once the baseline's have ended" if after_end else ""
            head = f"{replicas} {'does' if wanted.replicas == 1 else 'do'} not fit{even}; {beside} would now."
    waits = supply.waiting.get(wanted.accelerator, 0)
    notes = (f"Other pods wait for {amount_text(wanted.accelerator, waits)} already.",) if waits > 0 else ()
    figures = _asked(wanted)
    if plan is StartPlan.SURGE:
        figures = f"{figures} {_there_is(supply, wanted)}"
    return Placement(plan, wanted.replicas, beside, short, head, figures, notes)


def _asked(wanted: Wanted) -> str:
    """`Each replica asks for 1 CPU, 8 GiB of memory, 4 x nvidia.com/gpu.`"""
    asked = [
        amount_text(name, amount) for name, amount in sorted(wanted.demand.requests.items()) if amount > 0
    ]
    who = (
        "Each replica"
        if wanted.pods == 1
        else f"Each replica is {many(wanted.pods, 'pod')}, and each of them"
    )
    return f"{who} asks for {', '.join(asked) or 'nothing'}."


def _there_is(supply: Supply, wanted: Wanted) -> str:
    """How much of what matters is free: accelerators, else places for such pods."""
    name = wanted.accelerator
    each = wanted.demand.requests.get(name, 0)
    if each <= 0:
        places = pods_on_nodes(supply, wanted.demand, wanted.choice)
        return f"There is room for {many(places, 'such pod')} on {wanted.choice}."
    free = free_accelerators(supply, wanted)
    kept = kept_free(free, wanted.headroom_percent)
    stay = (
        f"; {amount_text(name, kept)} of them stay free (headroom of {percent_of_bp(100 * wanted.headroom_percent)})"
        if kept
        else ""
    )
    needed = amount_text(name, each * wanted.replicas * wanted.pods)
    return f"{needed} are needed, {amount_text(name, free)} are free on {wanted.choice}{stay}."
