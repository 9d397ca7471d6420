"""HTTPRoutes and EndpointSlices kept by watches: looking at all routes every second asks the API server nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.watching import WatchedKind
from rollouts.adapters.routers.gateway_api.kubernetes import (
    ROUTES,
    SLICES,
    KubernetesRoutes,
    ready_services_of,
)


class WatchedRoutes(KubernetesRoutes):
    """A RouteStore that answers `list` and `ready_services` from what watches keep; both raise Unavailable while that
    is not known. One route, by its name, is still asked of the API server: it is read to be written.
    """

    def __init__(self, client: KubernetesClient, installation: str) -> None:
        super().__init__(client, installation)
        self._routes = WatchedKind(client, ROUTES, self._selector)
        self._slices = WatchedKind(client, SLICES, "")

    def list(self) -> Sequence[Mapping[str, Any]]:
        """See the protocol."""
        return list(self._routes.objects().values())

    def write(self, document: Mapping[str, Any], *, resource_version: str) -> Mapping[str, Any]:
        """See the protocol."""
        written = super().write(document, resource_version=resource_version)
        self._routes.put(written)
        return written

    def ready_services(self) -> frozenset[str]:
        """See the protocol."""
        return ready_services_of(self._slices.objects().values())

    def close(self) -> None:
        """Ends the watches."""
        self._routes.stop()
        self._slices.stop()
