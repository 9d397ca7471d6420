"""Two engines behind the lab's gateway, with the router of the Gateway API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import httpx
import kubernetes

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import Unavailable
from controlplane.outbound.clients import local_client
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.routers.gateway_api.implementations import EVERY_TRAIT, IMPLEMENTATIONS
from rollouts.adapters.routers.gateway_api.kubernetes import KubernetesRoutes
from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace
from rollouts.adapters.routers.gateway_api.router import GatewayRouter
from rollouts.adapters.routers.gateway_api.user import GatewayUser
from rollouts.ports import Backend, EngineApi, Route
from tests.kubernetes.gateway import GATEWAY, NAMESPACE
from tests.kubernetes.lab import ENVOY, KubernetesLab
from tests.kubernetes.objects import PATIENCE_SECONDS, PORT, Cluster, namespace
from tests.kubernetes.users import Users
from tests.rollouts.adapters.clusters.kubernetes.told import MemoryTokens
from tests.standins.running import wait_until

V1, V2 = "chat-v1-aaaa", "chat-v2-bbbb"
MODEL = "chat"  # all engines serve it, too
API = EngineApi(("/v1/chat/completions",), ("/health",))
METRICS_PORT = 19003
# What the product says of the implementation that the lab runs.
CAN = IMPLEMENTATIONS["Envoy Gateway"].capabilities(EVERY_TRAIT)


@dataclass
class Edge:
    """Two engines behind the gateway, and a router."""

    lab: KubernetesLab
    cluster: Cluster
    routes: KubernetesRoutes
    place: GatewayPlace
    user: GatewayUser
    tokens: MemoryTokens = field(default_factory=MemoryTokens)

    @cached_property
    def router(self) -> GatewayRouter:
        return self.router_at(self.place)

    def router_at(self, place: GatewayPlace) -> GatewayRouter:
        return GatewayRouter(self.routes, place, SystemClock(), lambda: CAN, self.user.served, self.tokens)

    def route(self, endpoint: str, candidate_bp: int, second: str = V2) -> Route:
        shares = {V1: 10_000 - candidate_bp, V2: candidate_bp}
        backends = (Backend(V1, "service", name=V1), Backend(V2, "service", name=second))
        return Route(endpoint, shares, backends, V1, api=API)

    def apply(self, route: Route, token: int = 1) -> int:
        """Applies it again and again, as the loop does, until it is in force."""
        return wait_until(f"{route} is in force", lambda: self.applied(route, token), PATIENCE_SECONDS)

    def applied(self, route: Route, token: int = 1) -> int:
        """Applies it once; its generation when it is in force, else 0. A proxy that comes late is no reason to stop."""
        try:
            generation = self.router.apply(route, token=token)
        except Unavailable:
            return 0
        return generation if self.settled(route.endpoint) else 0

    def settled(self, endpoint: str) -> bool:
        seen = self.router.observe(endpoint)
        return seen is not None and seen.settled

    def rejected(self, endpoint: str) -> str:
        """What is said against the newest route of the endpoint."""
        seen = self.router.observe(endpoint)
        return "" if seen is None else seen.rejected

    def users(self, endpoint: str) -> Users:
        """Who sends inferences to the endpoint, from the beginning of a with block to its end."""
        return Users(self.lab.gateway_url, self.place.host(endpoint), MODEL)

    def answers(self, endpoint: str, forced: str = "") -> str:
        """Who answers; "" while nobody does."""
        try:
            return self.user.ask(self.place.host(endpoint), forced)
        except Unavailable:
            return ""

    def address(self, variant: str) -> str:
        """Of the one pod of a variant."""
        (pod,) = self.cluster.pods(variant)
        return f"{pod['status']['podIP']}:{PORT}"

    def received(self, variant: str) -> int:
        """Inferences that reached its engine, by the engine's own count."""
        found = httpx.get(f"http://{self.address(variant)}/control", trust_env=False).json()
        return int(found["counts"]["requests"])

    def change(self, variant: str, **behaviour: Any) -> None:
        """Changes how its engine behaves (see `tests.standins.engine.Behaviour`)."""
        where = f"http://{self.address(variant)}/control"
        httpx.post(where, json=behaviour, trust_env=False).raise_for_status()

    def version(self, endpoint: str) -> str:
        document = self.routes.get(endpoint)
        assert document is not None
        return str(document["metadata"]["resourceVersion"])


def open_metrics(lab: KubernetesLab) -> str:
    """Starts Envoy again with its metrics open to this process; returns where they are, as host:port/path.

    Envoy Gateway gives an Envoy of a host a port that only its own machine reaches. In a cluster they are open.
    """
    command, environment = lab._commands[ENVOY]
    closed = "address: 127.0.0.1\n      port_value: 0\n"
    opened = f"address: 0.0.0.0\n      port_value: {METRICS_PORT}\n"
    if any(closed in argument for argument in command):
        lab._commands[ENVOY] = ([argument.replace(closed, opened) for argument in command], environment)
        lab.kill(ENVOY)
        lab.restart(ENVOY)
    where = f"{urlsplit(lab.gateway_url).hostname}:{METRICS_PORT}/stats/prometheus"

    def answers() -> bool:
        try:
            return "envoy_server_uptime" in httpx.get(f"http://{where}", trust_env=False).text
        except httpx.TransportError:
            return False

    wait_until("Envoy says its metrics", answers, PATIENCE_SECONDS)
    return where


@contextmanager
def edge_in(lab: KubernetesLab, name: str) -> Iterator[Edge]:
    """In a namespace of this name, for the time of a with block."""
    with namespace(lab, name) as cluster:
        for variant in (V1, V2):
            cluster.run(variant, args=["model", "--served-model-name", variant, MODEL, f"--port={PORT}"])
        for variant in (V1, V2):
            cluster.wait_until_available(variant)
        client = KubernetesClient(
            lambda: kubernetes.config.new_client_from_config(str(lab.kubeconfig)), cluster.namespace
        )
        place = GatewayPlace(
            cluster.namespace, (GatewayParent(GATEWAY, NAMESPACE),), f"{name}.test", "lab", PORT
        )
        with local_client(base_url=lab.gateway_url) as user:
            yield Edge(lab, cluster, KubernetesRoutes(client, "lab"), place, GatewayUser(user, model=MODEL))
