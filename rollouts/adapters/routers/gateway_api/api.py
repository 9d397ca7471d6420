"""What the router needs of a Kubernetes API server, and how that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from controlplane.kernel.errors import Conflict

RouteDocument = Mapping[str, Any]


class RouteMoved(Conflict):
    """Somebody wrote the route since it was read. Nothing was changed."""

    code = "route-moved"


class RouteStore(Protocol):
    """The HTTPRoutes of one namespace, and which of its Services have endpoints. Every call ends within seconds.

    All raise Unavailable when the API server does not answer, and Rejected, with its words in `extra["words"]`, when
    it refuses.
    """

    def get(self, name: str) -> RouteDocument | None:
        """None when there is no such route."""
        ...

    def at_hand(self, name: str) -> RouteDocument | None:
        """The same; it may be late by a moment, and asks nobody where it is at hand."""
        ...

    def list(self) -> Sequence[RouteDocument]:
        """All that this installation wrote, as `at_hand`; an object that did not change is the same one as before."""
        ...

    def write(self, document: RouteDocument, *, resource_version: str) -> RouteDocument:
        """Creates the route ("") or replaces the one of that resource version, and returns it as it is now. Its
        `metadata.generation` grows with each change of the spec, and with nothing else. Raises RouteMoved when it has
        another resource version by now, is gone, or exists already."""
        ...

    def ready_services(self) -> frozenset[str]:
        """Services with at least one ready endpoint: NAME, or NAMESPACE/NAME in another namespace."""
        ...
