"""What implementations of the Gateway API can do: declared in a table, and tried once a cluster (see `trial`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rollouts.domain.capabilities import Capability
from rollouts.domain.trials import GatewayTrait


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
