"""Reads an HTTPRoute as the API server gives it out: whose it is, its split, and what is in force. Pure.

Whatever another hand did to it is read as it is. Raises InvalidInput for what cannot be understood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.foreign import Fields, number_of, parsed, whole_of, words_of
from rollouts.adapters.routers.gateway_api.conditions import RouteVerdict, verdict_of
from rollouts.adapters.routers.gateway_api.notes import SplitRead, WriteNote
from rollouts.adapters.routers.gateway_api.objects import GatewayPlace
from rollouts.adapters.routers.gateway_api.references import (
    ENDPOINT,
    INSTALLATION,
    LACKED,
    MANAGED_BY,
    OVERRULED,
    PLACED,
    PLACES,
    REFUSED,
    REVISION,
    SERVED,
    SINCE,
    TOKEN,
    VARIANTS,
    WRITTEN,
)
from rollouts.adapters.routers.gateway_api.steps import SplitStep, read_step
from rollouts.ports import FORCED_VARIANT_HEADER

SAID = "What the cluster says of the route"
MOST_WEIGHT = 1_000_000
FILLED_IN = frozenset(
    {"group", "kind", "type", "weight"}
)  # fields that an API server adds with their defaults
MANAGER = "headgate"  # our name among those who wrote an object


@dataclass(frozen=True, slots=True)
class RouteRead:
    """An HTTPRoute of ours.

    document          as it came
    split             as its spec says it now, whoever wrote that
    step              the same with those who are faint (see `steps`)
    places            which variant stands at which place (rule, backend) of the split
    drawn             the same of those with a weight
    standing          which variant has which place, as we wrote it; empty where nobody has it
    note              of what we wrote last
    served            the newest revision that a proxy was seen to serve
    lacked            the newest revision for which a proxy was seen to lack endpoints
    verdict           of the gateways, on the present generation
    placed            the generation since which the backends stand where they do
    waits_for_places  some gateway has not looked at that generation: it still counts by the places of before
    refused           the API server's words for a newer route that it did not take
    owner             who else changed the spec last; empty when nobody did
    overruled         (whose change we wrote over last, when)
    """

    document: Mapping[str, Any]
    endpoint: str
    resource_version: str
    revision: int
    token: int
    since: float
    placed: int
    waits_for_places: bool
    split: SplitRead
    step: SplitStep
    services: Mapping[str, str]
    places: Mapping[tuple[int, int], str]
    drawn: Mapping[tuple[int, int], str]
    standing: tuple[str, ...]
    note: WriteNote
    served: int
    lacked: int
    verdict: RouteVerdict
    refused: str
    owner: str
    overruled: tuple[str, float]

    @property
    def generation(self) -> int:
        """The API server's count of specs."""
        return self.split.generation

    @property
    def accepted(self) -> int:
        """The generation, as callers know it, of what was accepted last."""
        return self.generation if self.by_another_hand else self.note.wanted.generation

    @property
    def by_another_hand(self) -> bool:
        """Whether the spec is not what we wrote: its generation grew without us."""
        return self.generation != self.note.at

    @property
    def is_served(self) -> bool:
        """Whether the gateways have the present spec and a proxy was seen to serve it. Their word alone proves nothing:
        a proxy may take long to come back to a controller that was away, and serves the route before until then.
        """
        return self.verdict.in_force and not self.by_another_hand and self.served == self.revision

    @property
    def in_force(self) -> SplitRead:
        """What the gateways do, as far as it can be known: the split before until a proxy was seen to serve the last
        spec on the way to this one. Once seen it stays in force whatever is said of it later: where a Service goes, a
        gateway refuses the route, and fails that part of it. What another hand wrote is in force by the gateways' word:
        nobody is told by it whom to ask for a proof."""
        if self.by_another_hand and self.verdict.in_force:
            return self.split
        return self.note.wanted if self.note.last and self.served == self.revision else self.note.before


def is_ours(document: Mapping[str, Any], place: GatewayPlace) -> bool:
    """Whether this installation wrote it."""
    labels = Fields(document, SAID).part("metadata").part("labels")
    return labels.has(MANAGED_BY, MANAGER) and labels.has(INSTALLATION, place.installation)


def read_route(document: Mapping[str, Any], place: GatewayPlace) -> RouteRead:
    """What the document says. See the module for what is raised."""
    whole = Fields(document, SAID)
    metadata = whole.needed("metadata")
    notes = metadata.part("annotations")
    generation = metadata.whole("generation", 0, least=0)
    variants = _noted_object(notes, VARIANTS).texts_by_name("it", longest=200)
    weights, named, split = _split_of(whole.part("spec"), variants)
    note = WriteNote.read(_noted_object(notes, WRITTEN).part("it"))
    step = read_step(weights, note.coming)
    by, _, when = notes.text(OVERRULED, "").rpartition(" ")
    placed = whole_of(notes.text(PLACED, "0", longest=20), SAID, PLACED, least=0)

    def verdict(since: int) -> RouteVerdict:
        status = document.get("status")
        return verdict_of(status, place.parents, namespace=place.namespace, generation=since)

    return RouteRead(
        document=document,
        endpoint=notes.exact(ENDPOINT, "", longest=200),
        resource_version=metadata.exact("resourceVersion", "", longest=200),
        revision=whole_of(notes.text(REVISION, "0", longest=20), SAID, REVISION, least=0),
        token=whole_of(notes.text(TOKEN, "0", longest=20), SAID, TOKEN, least=0),
        since=number_of(notes.text(SINCE, "0", longest=32), SAID, SINCE, least=0.0),
        placed=placed,
        waits_for_places=bool(verdict(placed).waits_for),
        split=SplitRead(step.shares, named, generation),
        step=step,
        services=variants,
        places={place: variant for place, (variant, _) in split.items()},
        drawn={place: variant for place, (variant, weight) in split.items() if weight},
        standing=tuple(Fields({"it": _parsed(notes, PLACES, "[]")}, SAID, PLACES).texts("it", longest=200)),
        note=note,
        served=whole_of(notes.text(SERVED, "0", longest=20), SAID, SERVED, least=0),
        lacked=whole_of(notes.text(LACKED, "0", longest=20), SAID, LACKED, least=0),
        verdict=verdict(generation),
        refused=words_of(notes.text(REFUSED, "")),
        owner=_newest_manager(metadata),
        overruled=(by, number_of(when, SAID, OVERRULED, least=0.0) if when else 0.0),
    )


def covers(server: object, wanted: object, *, more: bool = True) -> bool:
    """Whether the API server's document says all that the wanted one does. It may say more: what the API server fills
    in (`FILLED_IN`) and, with `more`, anything: where nobody else changed it, that is a default, too."""
    if isinstance(wanted, Mapping):
        return (
            isinstance(server, Mapping)
            and all(
                name in server and covers(server[name], value, more=more) for name, value in wanted.items()
            )
            and (more or not {name for name, value in server.items() if value} - {*wanted, *FILLED_IN})
        )
    if isinstance(wanted, list):
        return (
            isinstance(server, list)
            and len(server) == len(wanted)
            and all(covers(one, other, more=more) for one, other in zip(server, wanted, strict=True))
        )
    return server == wanted


def _noted_object(notes: Fields, name: str) -> Fields:
    """What an annotation holds as JSON, in the field `it`."""
    return Fields({"it": _parsed(notes, name, "{}")}, SAID, name)


def _parsed(notes: Fields, name: str, default: str) -> Any:
    return parsed(notes.text(name, default), f"{SAID}, in {name},")


def _split_of(
    spec: Fields, variants: Mapping[str, str]
) -> tuple[dict[str, int], frozenset[str], dict[tuple[int, int], tuple[str, int]]]:
    """(weights, variants that a request can reach, variant and weight at each place of the split). The split is
    the first rule that takes a POST and asks for no header of a forced variant. A backend that we did not write is
    called by its own name."""
    split: dict[tuple[int, int], tuple[str, int]] | None = None
    weights: dict[str, int] = {}
    named: set[str] = set()
    for rule_index, rule in enumerate(spec.parts("rules")):
        backends: dict[tuple[int, int], tuple[str, int]] = {}
        for index, reference in enumerate(rule.parts("backendRefs")):
            name, namespace = (
                reference.text("name", longest=253),
                reference.text("namespace", "", longest=253),
            )
            key = f"{namespace}/{name}" if namespace else name
            weight = reference.whole("weight", 1, least=0, most=MOST_WEIGHT)
            backends[rule_index, index] = (variants.get(key, key), weight)
        forced = _is_forced(rule)
        if not forced:
            named |= {variant for variant, _ in backends.values()}
        if split is None and not forced and _takes_posts(rule):
            split = backends
            for variant, weight in backends.values():
                weights[variant] = weights.get(variant, 0) + weight
        elif forced:
            named |= {variant for variant, _ in backends.values() if variant in variants.values()}
    return weights, frozenset(named), split or {}


def _is_forced(rule: Fields) -> bool:
    return any(
        header.text("name", longest=256).lower() == FORCED_VARIANT_HEADER
        for match in rule.parts("matches")
        for header in match.parts("headers")
    )


def _takes_posts(rule: Fields) -> bool:
    return any(match.text("method", "POST", longest=20) == "POST" for match in rule.parts("matches"))


def _newest_manager(metadata: Fields) -> str:
    """Who, other than us and besides those who wrote a status only, wrote the object last."""
    found = [
        (entry.text("time", "", longest=40), entry.text("manager", "", longest=200))
        for entry in metadata.parts("managedFields")
        if not entry.text("subresource", "", longest=40)
    ]
    others = [one for one in found if one[1] != MANAGER]
    return words_of(max(others)[1], 100) if others else ""
