"""What implementations of the Gateway API can do: declared in a table, and probed once a cluster (see `probes`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from rollouts.domain.capabilities import Capability


class GatewayTrait(StrEnum):
    """What not every implementation does as the Gateway API has it.

    KEEPS_ZERO       a reference with weight 0 gets no request. Without it such references are left out of the split
    HEADER_WINS      a rule with a matching header goes before the split. Without it no variant can be forced
    MIRRORS_A_PART   a mirror with a fraction gets that part of the requests, and not all of them
    COUNTS_FORCED_APART
                     its counters tell forced requests from drawn ones that go to the same Service. It is not probed:
                     what its counters are called is in its template
    """

    KEEPS_ZERO = "keeps-zero"
    HEADER_WINS = "header-wins"
    MIRRORS_A_PART = "mirrors-a-part"
    COUNTS_FORCED_APART = "counts-forced-apart"


PROBED = frozenset({GatewayTrait.KEEPS_ZERO, GatewayTrait.HEADER_WINS, GatewayTrait.MIRRORS_A_PART})


@dataclass(frozen=True, slots=True)
class GatewayImplementation:
    """An implementation, by how the name of its controller begins (`GatewayClass.spec.controllerName`).

    source  where that is known from
    """

    name: str
    controller: str
    traits: frozenset[GatewayTrait]
    source: str

    def capabilities(self, found: frozenset[GatewayTrait]) -> frozenset[Capability]:
        """What our routes of it can do, by what was found of it here. Nobody answers for a dead variant: the Gateway
        API has no fallback. Every request is drawn anew and none is copied: our routes ask for neither, whatever the
        implementation could do."""
        return frozenset({Capability.FORCED_VARIANT}) if GatewayTrait.HEADER_WINS in found else frozenset()


EVERY_TRAIT = frozenset(GatewayTrait)
IMPLEMENTATIONS: Mapping[str, GatewayImplementation] = {
    one.name: one
    for one in (
        GatewayImplementation(
            "Envoy Gateway",
            "gateway.envoyproxy.io/",
            EVERY_TRAIT,
            "probed on 1.9; its translator leaves references with weight 0 out",
        ),
        GatewayImplementation(
            "Contour",
            "projectcontour.io/",
            frozenset({GatewayTrait.KEEPS_ZERO, GatewayTrait.HEADER_WINS}),
            "tried on 1.33: it accepts a mirror of a part and mirrors all",
        ),
        GatewayImplementation(
            "Istio",
            "istio.io/",
            frozenset({GatewayTrait.HEADER_WINS, GatewayTrait.MIRRORS_A_PART}),
            "not tried here: what costs least if it is wrong",
        ),
    )
}
