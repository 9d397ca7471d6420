"""Routes by the client of an API server that answers what a test tells it. All else is tried on a real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.kernel.errors import Rejected
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.errors import UnknownKind
from rollouts.adapters.routers.gateway_api.api import RouteMoved
from rollouts.adapters.routers.gateway_api.kubernetes import KubernetesRoutes
from tests.rollouts.adapters.clusters.kubernetes.api_server import ScriptedServer, scripted_server, status

ROUTE: dict[str, Any] = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "chat", "namespace": "team-a"},
    "spec": {},
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def routes(server: ScriptedServer) -> KubernetesRoutes:
    return KubernetesRoutes(KubernetesClient(server.api_client, "team-a"), "8d1f2c")


@pytest.mark.parametrize(
    "answer",
    [
        status(409, "the object has been modified", "Conflict"),
        status(404, 'httproutes.gateway.networking.k8s.io "chat" not found', "NotFound", name="chat"),
    ],
    ids=["changed", "deleted"],
)
def test_write__route_that_is_not_as_it_was_read__has_moved(
    routes: KubernetesRoutes, server: ScriptedServer, answer: tuple[int, Any]
) -> None:
    server.answers = [answer]
    with pytest.raises(RouteMoved):
        routes.write(ROUTE, resource_version="41")


def test_write__cluster_without_the_gateway_api__is_refused(
    routes: KubernetesRoutes, server: ScriptedServer
) -> None:
    server.answers = [(404, "404 page not found\n")]
    with pytest.raises(Rejected) as refused:
        routes.write(ROUTE, resource_version="41")
    assert isinstance(refused.value, UnknownKind)


def slice_of(name: str, endpoints: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "endpoints": endpoints,
    }


def test_ready_services__pods_that_end_and_still_answer__are_not_ready(
    routes: KubernetesRoutes, server: ScriptedServer
) -> None:
    ending = {"conditions": {"ready": False, "serving": True, "terminating": True}}
    slices = [
        slice_of("ending", [ending]),
        slice_of("one-of-two", [ending, {"conditions": {"ready": True}}]),
        slice_of("says-nothing", [{"conditions": {"ready": None}}, {"conditions": None}]),
        slice_of("empty", None),
        {"metadata": {"name": "of-no-service"}, "endpoints": [{}]},
    ]
    server.answers = [(200, {"metadata": {"resourceVersion": "7"}, "items": slices})]
    assert routes.ready_services() == {"one-of-two", "says-nothing"}
