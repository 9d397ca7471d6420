"""HTTPRoutes by the Kubernetes client that workloads use, too."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import Fields
from rollouts.adapters.clusters.kubernetes.client import OBJECT_KINDS, KubernetesClient, ObjectKind
from rollouts.adapters.clusters.kubernetes.errors import Missing, Stale
from rollouts.adapters.routers.gateway_api.api import RouteMoved
from rollouts.adapters.routers.gateway_api.references import INSTALLATION, MANAGED_BY

ROUTES = OBJECT_KINDS["HTTPRoute"]
SLICES = ObjectKind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
SERVICE_OF = "kubernetes.io/service-name"  # label of a slice
SAID = "What the cluster says of endpoints"

log = logging.getLogger(__name__)


class KubernetesRoutes:
    """A RouteStore on a real API server, of the client's namespace and one installation.

    Routes are replaced whole: whoever changed one since it was read makes the write fail, whichever fields it was.
    """

    def __init__(self, client: KubernetesClient, installation: str) -> None:
        self._client = client
        self._selector = f"{MANAGED_BY}=headgate,{INSTALLATION}={installation}"

    def get(self, name: str) -> Mapping[str, Any] | None:
        """See the protocol."""
        return self._client.get(ROUTES, name)

    def at_hand(self, name: str) -> Mapping[str, Any] | None:
        """See the protocol. Here it is asked."""
        return self.get(name)

    def list(self) -> Sequence[Mapping[str, Any]]:
        """See the protocol."""
        return self._client.list(ROUTES, self._selector)[0]

    def write(self, document: Mapping[str, Any], *, resource_version: str) -> Mapping[str, Any]:
        """See the protocol."""
        try:
            if not resource_version:
                return self._client.create(document)
            metadata = {**document["metadata"], "resourceVersion": resource_version}
            return self._client.replace({**document, "metadata": metadata})
        except (Stale, Missing) as error:  # it was changed, or deleted
            raise RouteMoved(error.message, fix="Read it again.") from error

    def ready_services(self) -> frozenset[str]:
        """See the protocol. Only those of the client's own namespace are known."""
        return ready_services_of(self._client.list(SLICES)[0])


def ready_services_of(slices: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The Services that have a ready endpoint, by these EndpointSlices."""
    return frozenset({ready_service_in(one) for one in slices} - {""})


def ready_service_in(raw: Mapping[str, Any]) -> str:
    """The Service of an EndpointSlice that has a ready endpoint; "" for another one. One that is odd makes nothing
    ready."""
    try:
        one = Fields(raw, SAID)
        return one.part("metadata").part("labels").text(SERVICE_OF, "") if _is_ready(one) else ""
    except InvalidInput as error:
        log.warning("router.endpoints_odd %s", error.message)
        return ""


def _is_ready(one: Fields) -> bool:
    """Whether one of its endpoints is. One that does not say so is ready, as the API has it; a list that is null is an
    empty one."""
    if not one.has_object("endpoints"):
        return False
    return any(
        endpoint.part("conditions").flag("ready", True)
        for endpoint in one.parts("endpoints")
        if endpoint.has_object("conditions") or "conditions" not in endpoint
    )
