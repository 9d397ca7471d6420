"""HTTPRoutes and EndpointSlices kept by watches: looking at all routes every second asks the API server nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.watching import PerObject, WatchedKind
from rollouts.adapters.routers.gateway_api.kubernetes import (
    ROUTES,
    SLICES,
    KubernetesRoutes,
    ready_service_in,
)


class WatchedRoutes(KubernetesRoutes):
    """A RouteStore that answers `at_hand`, `list` and `ready_services` from what watches keep; all raise Unavailable
    while that is not known. One route, by its name, is still asked of the API server: it is read to be written.

    All routes of the namespace are watched: where an endpoint's name is taken by somebody else's, that is seen, too.

    wake   called whenever something changed; it returns at once
    """

    def __init__(
        self, client: KubernetesClient, installation: str, *, wake: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(client, installation)
        self._routes = WatchedKind(client, ROUTES, "", wake=wake)
        self._slices = WatchedKind(client, SLICES, "", wake=wake)
        self._ready = PerObject(ready_service_in)

    def at_hand(self, name: str) -> Mapping[str, Any] | None:
        """See the protocol."""
        return self._routes.objects().get(name)

    def list(self) -> Sequence[Mapping[str, Any]]:
        """See the protocol. Those of others are among them."""
        return list(self._routes.objects().values())

    def write(self, document: Mapping[str, Any], *, resource_version: str) -> Mapping[str, Any]:
        """See the protocol."""
        written = super().write(document, resource_version=resource_version)
        self._routes.put(written)
        return written

    def ready_services(self) -> frozenset[str]:
        """See the protocol."""
        return frozenset(set(self._ready.of(self._slices.objects()).values()) - {""})

    def close(self) -> None:
        """Ends the watches."""
        self._routes.stop()
        self._slices.stop()
