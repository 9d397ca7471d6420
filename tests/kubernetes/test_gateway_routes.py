"""The router of the Gateway API on the real API server, the real Envoy Gateway and a real Envoy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from controlplane.kernel.errors import Rejected, StaleWriter, Unavailable
from rollouts.adapters.routers.gateway_api.api import RouteMoved
from rollouts.ports import Backend, Route
from tests.kubernetes.edge import API, V1, V2, Edge, edge_in
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.objects import PATIENCE_SECONDS
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]


@pytest.fixture(scope="module")
def edge(kubernetes_lab: KubernetesLab) -> Iterator[Edge]:
    with edge_in(kubernetes_lab, "gateway-routes") as made:
        yield made


def test_apply__route__is_in_force_and_each_variant_answers_itself(edge: Edge) -> None:
    generation = edge.apply(edge.route("first", 0))
    seen = edge.router.observe("first")
    assert seen is not None
    assert (seen.shares, seen.generation, seen.rejected) == ({V1: 10_000}, generation, "")
    assert seen.healthy == seen.named == {V1, V2}
    wait_until("the gateway serves it", lambda: edge.answers("first"))
    for variant in (V1, V2):
        assert edge.user.ask(edge.place.host("first"), variant) == variant
    assert edge.user.ask(edge.place.host("first"), "chat-v9-cccc") == V1


def test_apply__same_route_again__is_not_written(edge: Edge) -> None:
    first = edge.apply(edge.route("again", 500))
    version = edge.version("again")
    assert edge.router.apply(edge.route("again", 500), token=1) == first
    assert edge.version("again") == version


def test_traffic__split__is_within_binomial_noise(edge: Edge) -> None:
    edge.apply(edge.route("split", 2_500))
    wait_until("the gateway serves it", lambda: edge.answers("split"))
    number = 400
    drawn = Counter(edge.user.infer(edge.place.host("split"), "") for _ in range(number))
    assert set(drawn) == {V1, V2}
    assert abs(drawn[V2] - number / 4) < 6 * math.sqrt(number * 0.25 * 0.75)


@pytest.mark.parametrize("path", ["/metrics", "/v1/load_lora_adapter", "/v1/chat/completions/x"])
def test_traffic__call_that_is_not_declared__never_reaches_an_engine(edge: Edge, path: str) -> None:
    edge.apply(edge.route("closed", 0))
    wait_until("the gateway serves it", lambda: edge.answers("closed"))
    host = {"Host": edge.place.host("closed")}
    assert httpx.get(edge.lab.gateway_url + path, headers=host, trust_env=False).status_code == 404


def test_write__to_another_version_than_is_there__is_refused_by_the_server(edge: Edge) -> None:
    edge.apply(edge.route("moved", 500))
    document = edge.routes.get("moved")
    assert document is not None
    edge.apply(edge.route("moved", 700))
    with pytest.raises(RouteMoved):
        edge.routes.write(document, resource_version=str(document["metadata"]["resourceVersion"]))
    with pytest.raises(RouteMoved):
        edge.routes.write({**document, "metadata": {"name": "moved"}}, resource_version="")


def test_apply__older_token__is_stale(edge: Edge) -> None:
    edge.apply(edge.route("tokens", 500), token=5)
    assert edge.router.claim("tokens", token=7) == 7
    assert edge.settled("tokens")
    with pytest.raises(StaleWriter):
        edge.router.apply(edge.route("tokens", 700), token=6)


def test_apply__api_server_refuses_the_spec__tells_its_words_and_keeps_the_route(edge: Edge) -> None:
    first = edge.apply(edge.route("refused", 500))
    odd = edge.router_at(replace(edge.place, timeout="soon"))
    with pytest.raises(Rejected, match="timeouts"):
        odd.apply(edge.route("refused", 700), token=1)
    seen = edge.router.observe("refused")
    assert seen is not None
    assert (seen.generation, seen.shares[V2]) == (first, 500)
    assert "timeouts" in seen.rejected


def test_observe__backend_that_is_not_there__is_told_in_the_gateways_words(edge: Edge) -> None:
    first = edge.apply(edge.route("missing", 500))
    edge.router.apply(edge.route("missing", 700, second="nobody"), token=1)

    words = wait_until("the gateway refuses it", lambda: edge.rejected("missing"), PATIENCE_SECONDS)
    seen = edge.router.observe("missing")
    assert seen is not None
    assert (seen.generation, seen.shares[V2]) == (first, 500)
    assert "BackendNotFound" in words


def test_observe__weights_by_another_hand__are_told_and_then_served(edge: Edge) -> None:
    edge.apply(edge.route("drift", 500))
    resource: Any = edge.cluster.client.resources.get(
        api_version="gateway.networking.k8s.io/v1", kind="HTTPRoute"
    )
    change = [
        {"op": "replace", "path": f"/spec/rules/0/backendRefs/{index}/weight", "value": 1} for index in (0, 1)
    ]
    resource.patch(
        name="drift", namespace=edge.cluster.namespace, body=change, content_type="application/json-patch+json",
        field_manager="a-person",
    )  # fmt: skip
    wait_until("it is in force", lambda: edge.settled("drift"), PATIENCE_SECONDS)
    seen = edge.router.observe("drift")
    assert seen is not None
    assert seen.shares == {V1: 5_000, V2: 5_000}
    edge.apply(edge.route("drift", 0))
    document = edge.routes.get("drift")
    assert document is not None
    assert document["metadata"]["annotations"]["headgate.dev/overruled"].startswith("a-person ")


def test_gateway_controller__killed__the_route_before_is_in_force_until_a_proxy_has_the_new_one(
    edge: Edge,
) -> None:
    first = edge.apply(edge.route("killed", 500))
    with edge.users("killed") as users:
        edge.lab.kill("envoy-gateway")
        try:
            second = edge.router.apply(edge.route("killed", 10_000), token=1)
            seen = edge.router.observe("killed")
            assert seen is not None
            assert (seen.generation, seen.accepted, seen.shares[V2]) == (first, second, 500)
        finally:
            edge.lab.restart("envoy-gateway")
        assert edge.apply(edge.route("killed", 10_000)) == second
        # Not a moment later: this is what "in force" means.
        assert {edge.user.infer(edge.place.host("killed"), "") for _ in range(5)} == {V2}
    assert users.lost() == []


@pytest.mark.parametrize(
    "shares", [(0, 10_000, 0), (0, 500, 0), (500, 5_000, 10_000), (10_000, 5_000, 0)],
    ids=["all-to-another", "begins-and-ends", "promoted", "back"],
)  # fmt: skip
def test_traffic__shares_begin_and_end__loses_no_request(edge: Edge, shares: tuple[int, ...]) -> None:
    name = f"moves-{shares[0]}-{shares[1]}"
    edge.apply(edge.route(name, shares[0]))
    with edge.users(name) as users:
        for candidate_bp in shares[1:]:
            edge.apply(edge.route(name, candidate_bp))
            users.more(25)
    assert users.lost() == []


def test_traffic__variants_come_and_go__nobody_is_sent_to_one_without_a_share(edge: Edge) -> None:
    """Envoy Gateway calls backends by their places: one that moves would stand for another variant for a moment."""
    alone = Route("comes", {V1: 10_000}, (Backend(V1, "service", name=V1),), V1, api=API)
    both = edge.route("comes", 0)
    edge.apply(alone)
    before = edge.received(V2)
    with edge.users("comes") as users:
        for _ in range(3):
            edge.apply(both)
            users.more(10)
            edge.apply(alone)
            users.more(10)
    assert users.lost() == []
    assert edge.received(V2) == before


def test_traffic__a_variant_whose_service_is_not_there__costs_the_others_nothing(edge: Edge) -> None:
    third = "chat-v3-cccc"
    edge.apply(edge.route("absent", 500))
    backends = tuple(Backend(one, "service", name=one) for one in (V1, V2, third))
    with edge.users("absent") as users:
        for shares in ({V1: 9_500, V2: 500}, {V1: 5_000, third: 5_000}):
            edge.router.apply(Route("absent", shares, backends, V1, api=API), token=1)
            wait_until("the gateway refuses it", lambda: "BackendNotFound" in edge.rejected("absent"))
            users.more(50)
        edge.apply(edge.route("absent", 500))
    assert users.lost() == []


def test_api_server__killed__is_unavailable_and_everything_is_as_before(edge: Edge) -> None:
    edge.apply(edge.route("away", 500))
    before = edge.router.observe("away")
    edge.lab.kill("kube-apiserver")
    try:
        with pytest.raises(Unavailable):
            edge.router.observe("away")
        with pytest.raises(Unavailable):
            edge.router.apply(edge.route("away", 700), token=1)
        assert edge.user.infer(edge.place.host("away"), V2) == V2
    finally:
        edge.lab.restart("kube-apiserver")
    assert edge.router.observe("away") == before
