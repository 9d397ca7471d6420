"""What gateways say of an HTTPRoute: whether it is in force, refused with which words, or not looked at yet. Pure.

A route has no condition that says "programmed". It is in force when every Gateway that it is attached to says Accepted
and ResolvedRefs of this generation. One that says PartiallyInvalid serves something else than what was written, so that
is a refusal. What is said of an older generation says nothing of this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.foreign import Fields, words_of
from rollouts.adapters.routers.gateway_api.objects import GATEWAY_GROUP, GatewayParent

SAID = "The status of the route"
ACCEPTED, RESOLVED, PARTIAL = "Accepted", "ResolvedRefs", "PartiallyInvalid"
LONGEST_TEXT = 32_768


@dataclass(frozen=True, slots=True)
class RouteVerdict:
    """What the gateways say of a route's present generation. At most one of the two texts is there.

    in_force   all of them have it
    refused    their words, where one of them refuses it
    waits_for  whom the route waits for, where it is neither in force nor refused
    """

    in_force: bool = False
    refused: str = ""
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class _Condition:
    true: bool
    generation: int
    words: str


def verdict_of(
    status: object, parents: Iterable[GatewayParent], *, namespace: str, generation: int
) -> RouteVerdict:
    """What `status` says of this generation of a route in `namespace` with these parents.

    Where several controllers speak for one parent, all of them count: the one that does not serve it would say so.
    Raises InvalidInput for a status that cannot be understood.
    """
    said = list(Fields({} if status is None else status, SAID).parts("parents"))
    verdicts = [_of_parent(said, parent, namespace, generation) for parent in parents]
    refused = [one.refused for one in verdicts if one.refused]
    if refused:
        return RouteVerdict(refused="; ".join(dict.fromkeys(refused)))
    waiting = [one.waits_for for one in verdicts if one.waits_for]
    if waiting or not verdicts:
        return RouteVerdict(waits_for="; ".join(waiting) or "the route has no gateway")
    return RouteVerdict(in_force=True)


def _of_parent(said: list[Fields], parent: GatewayParent, namespace: str, generation: int) -> RouteVerdict:
    shown = f"gateway {parent.namespace or namespace}/{parent.name}"
    if parent.section:
        shown += f", listener {parent.section}"
    own = [one for one in said if _speaks_of(one.part("parentRef"), parent, namespace)]
    if not own:
        return RouteVerdict(waits_for=f"{shown} has not looked at the route yet")
    verdicts = [_of_conditions(_conditions(one), shown, generation) for one in own]
    for verdict in verdicts:
        if verdict.refused:
            return verdict
    return next((one for one in verdicts if one.waits_for), verdicts[0])


def _of_conditions(found: Mapping[str, _Condition], shown: str, generation: int) -> RouteVerdict:
    current = {kind: one for kind, one in found.items() if one.generation >= generation}
    partial = current.get(PARTIAL)
    if partial is not None and partial.true:
        return RouteVerdict(refused=f"{shown} takes only a part of it: {partial.words}")
    for kind in (ACCEPTED, RESOLVED):
        one = current.get(kind)
        if one is not None and not one.true:
            return RouteVerdict(refused=f"{shown} says {kind} is not so: {one.words}")
    for kind in (ACCEPTED, RESOLVED):
        if kind not in current:
            old = found.get(kind)
            what = f"says {kind} of generation {old.generation} only" if old else f"does not say {kind} yet"
            return RouteVerdict(waits_for=f"{shown} {what}")
    return RouteVerdict(in_force=True)


def _conditions(said: Fields) -> dict[str, _Condition]:
    """By kind. An unknown status ("Unknown") is not True and is not a refusal either: it is as if nothing was said."""
    found: dict[str, _Condition] = {}
    for one in said.parts("conditions"):
        kind, value = one.text("type", longest=316), one.text("status", longest=20)
        if value not in ("True", "False"):
            continue
        reason = one.text("reason", "", longest=1024)
        message = one.text("message", "", longest=LONGEST_TEXT)
        words = words_of(": ".join(filter(None, (reason, message))) or "it gives no reason")
        found[kind] = _Condition(value == "True", one.whole("observedGeneration", 0, least=0), words)
    return found


def _speaks_of(reference: Fields, parent: GatewayParent, namespace: str) -> bool:
    wanted: dict[str, Any] = {
        "group": GATEWAY_GROUP,
        "kind": "Gateway",
        "namespace": parent.namespace or namespace,
        "name": parent.name,
        "sectionName": parent.section,
    }
    usual = {"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": namespace}
    return all(
        reference.exact(name, usual.get(name, ""), longest=253) == value for name, value in wanted.items()
    )
