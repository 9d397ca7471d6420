"""Routes kept by watches: whose they are, and when the loop is woken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Rejected, Unavailable
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient, ObjectKind
from rollouts.adapters.clusters.kubernetes.errors import Transient
from rollouts.adapters.routers.gateway_api.kubernetes import ROUTES
from rollouts.adapters.routers.gateway_api.router import GatewayRouter
from rollouts.adapters.routers.gateway_api.user import ServedAnswer
from rollouts.adapters.routers.gateway_api.watched import WatchedRoutes
from tests.rollouts.adapters.clusters.kubernetes.told import MemoryTokens
from tests.rollouts.adapters.routers.gateway_api.cluster import MemoryRoutes
from tests.rollouts.adapters.routers.gateway_api.routes import PLACE, V1, two

Event = tuple[str, dict[str, Any]]


class Lists:
    """Lists and watches of routes and EndpointSlices. `asked`: what was asked for beside those."""

    def __init__(self) -> None:
        self.routes: list[dict[str, Any]] = []
        self.slices: list[dict[str, Any]] = []
        self.events: list[Event] = []
        self.away: Exception | None = None
        self.asked: list[str] = []
        self.over = threading.Event()
        self.watched: list[WatchedRoutes] = []

    def list(self, kind: ObjectKind, selector: str = "") -> tuple[list[dict[str, Any]], str]:
        if self.away is not None:
            raise self.away
        return (self.routes if kind == ROUTES else self.slices), "500"

    def watch(self, kind: ObjectKind, selector: str, version: str) -> Iterator[Event]:
        if kind == ROUTES:
            yield from self.events
        self.over.wait(30)

    def get(self, kind: ObjectKind, name: str) -> None:
        self.asked.append(name)


@pytest.fixture
def lists() -> Iterator[Lists]:
    made = Lists()
    yield made
    for one in made.watched:
        one.close()
    made.over.set()


def a_route(**more: Any) -> dict[str, Any]:
    """The route of "chat", as our router writes it."""
    there = MemoryRoutes()
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    GatewayRouter(there, PLACE, clock, frozenset, there.served, MemoryTokens()).apply(two(500), token=5)
    document = there.documents["chat"]
    return {**document, "metadata": {**document["metadata"], **more}}


def router_of(lists: Lists, **more: Any) -> GatewayRouter:
    def served(host: str, variant: str) -> ServedAnswer:
        raise Unavailable("nobody is asked here")

    routes = WatchedRoutes(cast(KubernetesClient, lists), PLACE.installation, **more)
    lists.watched.append(routes)
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    return GatewayRouter(routes, PLACE, clock, frozenset, served, MemoryTokens())


def slice_of(name: str, *, ready: bool) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    metadata = {"name": f"{name}-0", "labels": labels, "resourceVersion": "9"}
    return {"metadata": metadata, "endpoints": [{"conditions": {"ready": ready}}]}


def test_observe__watched_route__asks_for_nothing(lists: Lists) -> None:
    lists.routes, lists.slices = [a_route()], [slice_of(V1, ready=True), slice_of("other", ready=True)]
    router = router_of(lists)
    found = router.observe("chat")
    assert found is not None
    assert (found.healthy, router.observe("nobody"), lists.asked) == (frozenset({V1}), None, [])


def test_observe__name_that_somebody_else_has__is_refused_and_hides_no_other(lists: Lists) -> None:
    theirs = {"metadata": {"name": "mail", "labels": {"team": "b"}, "resourceVersion": "7"}, "spec": {}}
    lists.routes = [theirs, a_route()]
    router = router_of(lists)
    with pytest.raises(Rejected, match="belongs to somebody else"):
        router.observe("mail")
    assert set(router.observe_all()) == {"chat"}


def test_observe__odd_object_among_routes__hides_no_other(lists: Lists) -> None:
    odd: Any = [{"metadata": {"name": "odd", "resourceVersion": "3", "labels": []}}, {"metadata": {}}, {}]
    lists.routes = [*odd, a_route()]
    assert set(router_of(lists).observe_all()) == {"chat"}


def test_route__that_changed__wakes_and_is_seen(lists: Lists) -> None:
    woken = threading.Semaphore(0)
    lists.events = [("ADDED", a_route(resourceVersion="501"))]
    router = router_of(lists, wake=woken.release)
    assert router.claim("nobody", token=1) == 1
    for _ in range(2):  # the list, and the route
        assert woken.acquire(timeout=10)
    assert set(router.observe_all()) == {"chat"}


def test_server__away__is_unavailable(lists: Lists) -> None:
    lists.away = Transient("no answer")
    with pytest.raises(Unavailable, match="no answer"):
        router_of(lists).observe("chat")
