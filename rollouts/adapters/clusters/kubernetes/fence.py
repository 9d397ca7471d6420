"""The fencing token of whoever wrote last for an endpoint, kept in the cluster: a ConfigMap whose every change is a
compare-and-set.

A worker that lost its lease finds a larger number there and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.kernel.errors import StaleWriter, Unavailable
from rollouts.adapters.clusters.kubernetes.client import CONFIG_MAP, KubernetesClient
from rollouts.adapters.clusters.kubernetes.errors import Stale
from rollouts.adapters.clusters.kubernetes.names import (
    ENDPOINT,
    ENDPOINT_NAME,
    INSTALLATION,
    MANAGED_BY,
    label_value,
    object_name,
)
from rollouts.adapters.clusters.kubernetes.tokens import TOKEN, TokenBook, token_in

TRIES = 5


class Fence:
    """The tokens of this installation's endpoints in one namespace.

    told   what loops told beside that: a worker may have been overtaken by one that wrote nothing yet
    """

    def __init__(self, client: KubernetesClient, installation: str, told: TokenBook) -> None:
        self._client = client
        self._installation = installation
        self._told = told

    def claim(self, endpoint: str, token: int) -> int:
        """Writes the token down unless a larger one was seen, and returns the largest one seen."""
        told = self._told.tell(endpoint, token)
        if told > token:
            return told
        for _ in range(TRIES):
            seen = self._client.get(CONFIG_MAP, self._name(endpoint))
            newest = token_in(seen)
            if newest is not None and newest >= token:
                return newest
            try:
                self._write(endpoint, token, seen)
            except Stale:
                continue  # somebody else wrote it meanwhile
            return token
        raise Unavailable(
            f"The token of {endpoint} is changed by others again and again.", fix="It is tried again."
        )

    def check(self, endpoint: str, token: int) -> None:
        """The same. Raises StaleWriter when a larger one was seen."""
        newest = self.claim(endpoint, token)
        if newest > token:
            raise StaleWriter(
                f"Token {token} for endpoint {endpoint} is older than {newest}.", extra={"newest": newest}
            )

    def _write(self, endpoint: str, token: int, seen: Mapping[str, Any] | None) -> None:
        labels = {
            "app.kubernetes.io/managed-by": MANAGED_BY,
            INSTALLATION: label_value(self._installation),
            ENDPOINT: label_value(endpoint),
        }
        body = {
            "apiVersion": "v1",
            "kind": CONFIG_MAP.name,
            "metadata": {
                "name": self._name(endpoint),
                "namespace": self._client.namespace,
                "labels": labels,
                "annotations": {ENDPOINT_NAME: endpoint},
            },
            "data": {TOKEN: str(token)},
        }
        if seen is None:
            self._client.create(body)  # of two who find none, one makes it
        else:
            self._client.apply(body, seen, force=True)

    def _name(self, endpoint: str) -> str:
        # No variant has a dot in the name of its objects; two installations may share a namespace.
        return f"fence.{object_name(self._installation)}.{object_name(endpoint)}"
