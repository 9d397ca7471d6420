"""How a backend of a cluster is referred to in a route, and what routes and their annotations are called.

A backend of kind "service" has the name of a Service, `NAME` or `NAMESPACE/NAME`, and may have the Service's port as
its address.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.errors import InvalidInput
from rollouts.ports import Backend

SERVICE = "service"
# What a backend of each kind refers to: group and kind of the object.
REFERENCE_KINDS = {SERVICE: ("", "Service")}

PREFIX = "headgate.dev/"
MANAGED_BY = "app.kubernetes.io/managed-by"
INSTALLATION = f"{PREFIX}installation"  # label: whose route it is
ENDPOINT = f"{PREFIX}endpoint-name"  # annotation: the endpoint as Headgate calls it
REVISION = f"{PREFIX}desired-revision"  # annotation: counts the routes that we wrote for the endpoint
TOKEN = f"{PREFIX}fencing-token"  # annotation: the newest that wrote or claimed the route
DIGEST = (
    f"{PREFIX}spec-digest"  # annotation: of the spec as we wrote it, before the API server added defaults
)
VARIANTS = f"{PREFIX}variants"  # annotation: which variant each backend is
PLACES = f"{PREFIX}places"  # annotation: which variant has which place in the route
SERVED = f"{PREFIX}served-revision"  # annotation: the newest revision that a proxy was seen to serve
LACKED = (
    f"{PREFIX}lacked-revision"  # annotation: the newest revision for which a proxy was seen to lack endpoints
)
SINCE = f"{PREFIX}backends-since"  # annotation: since when the backends stand in this order, seconds since the epoch
PLACED = f"{PREFIX}backends-generation"  # annotation: the route's generation since which they stand so
WRITTEN = (
    f"{PREFIX}written"  # annotation: what the route becomes by what we wrote, and what was before (`notes`)
)
REFUSED = f"{PREFIX}refused"  # annotation: the API server's words for a newer route that it did not take
OVERRULED = f"{PREFIX}overruled"  # annotation: whose change we wrote over last, and when

LONGEST_NAME = 52
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_MADE = re.compile(r"-x[0-9a-f]{10}$")  # such a name could be that of another one's digest


@dataclass(frozen=True, slots=True)
class BackendReference:
    """What a route refers to. An empty `namespace` is the route's own."""

    group: str
    kind: str
    name: str
    namespace: str
    port: int

    @property
    def key(self) -> str:
        """Tells it from every other one in the same route."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = {"group": self.group, "kind": self.kind, "name": self.name, "port": self.port}
        return {**found, "namespace": self.namespace} if self.namespace else found


def reference_of(backend: Backend, *, namespace: str, port: int) -> BackendReference:
    """What the backend refers to, seen from a route in `namespace`. `port` is used where the backend names none.

    Raises InvalidInput for a kind that has no reference, and for what no Service can be called.
    """
    if backend.kind not in REFERENCE_KINDS:
        raise InvalidInput(
            f"Variant {backend.variant} cannot be referred to: its backend is of kind {backend.kind!r}.",
            field="route.backends",
            fix=f"This router knows: {', '.join(sorted(REFERENCE_KINDS))}.",
        )
    group, kind = REFERENCE_KINDS[backend.kind]
    where, _, name = backend.name.rpartition("/")
    if not _LABEL.fullmatch(name) or len(name) > 63 or (where and not _LABEL.fullmatch(where)):
        raise InvalidInput(
            f"Variant {backend.variant} names no Service: {backend.name!r}.",
            field="route.backends",
            fix="Write NAME or NAMESPACE/NAME, in small letters, digits and dashes.",
        )
    return BackendReference(group, kind, name, "" if where == namespace else where, _port(backend, port))


def _port(backend: Backend, usual: int) -> int:
    text = backend.address.rpartition(":")[2]
    if not text:
        return usual
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise InvalidInput(
            f"Variant {backend.variant} has no usable port: {backend.address!r}.",
            field="route.backends",
            fix="Give a number from 1 to 65535.",
        )
    return int(text)


def route_name(endpoint: str) -> str:
    """What the endpoint's route is called, which is the first part of its host name too: the endpoint's own name
    where Kubernetes takes it, else a cut form with a digest behind it. No two endpoints have the same."""
    if len(endpoint) <= LONGEST_NAME and _LABEL.fullmatch(endpoint) and not _MADE.search(endpoint):
        return endpoint
    kept = re.sub(r"[^a-z0-9]+", "-", endpoint.lower()).strip("-")[: LONGEST_NAME - 12].rstrip("-")
    return f"{kept or 'e'}-x{hashlib.sha256(endpoint.encode()).hexdigest()[:10]}"
