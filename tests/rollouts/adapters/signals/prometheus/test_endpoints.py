"""For whom a gateway's processes have endpoints, out of a real Prometheus; and a share that begins by it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import HeadgateError, Unavailable
from rollouts.adapters.routers.gateway_api.counted import CountedRoute, EndpointsAnswer
from rollouts.adapters.routers.gateway_api.router import GatewayRouter
from rollouts.adapters.signals.prometheus.endpoints import PrometheusEndpoints
from rollouts.adapters.signals.prometheus.processes import GatewayProcesses
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.prometheus.templates import ENVOY_GATEWAY
from tests.rollouts.adapters.clusters.kubernetes.told import MemoryTokens
from tests.rollouts.adapters.routers.gateway_api.cluster import MemoryRoutes
from tests.rollouts.adapters.routers.gateway_api.routes import PLACE, V1, V2, two
from tests.rollouts.adapters.signals.prometheus.pods import FIRST, SECOND, Counted, envoy_gateway
from tests.standins.prometheus import SCRAPE_SECONDS, Exporter, RunningPrometheus, running_prometheus
from tests.standins.running import wait_until

pytestmark = pytest.mark.needs("prometheus")

STALE_SECONDS = 4.0
JOBS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "gateways": {
        "/gw-a": {"namespace": "edge", "pod": "gw-a"},
        "/gw-b": {"namespace": "edge", "pod": "gw-b"},
        "/stranger": {"namespace": "team-x", "pod": "stranger"},
    },
}
FORCED = "httproute/team-a/chat/rule/2/backend/0"
ROUTE = CountedRoute("chat", "team-a", {(0, 1): V2}, {}, since=0.0)
WITHOUT = "gw-b has no endpoints for " + V2


class Room:
    """A Prometheus with what it scrapes."""

    def __init__(self, prometheus: RunningPrometheus, exporter: Exporter) -> None:
        self.prometheus = prometheus
        self.exporter = exporter

    @property
    def endpoints(self) -> PrometheusEndpoints:
        server = PrometheusServer(self.prometheus.url)
        processes = GatewayProcesses(
            server, ENVOY_GATEWAY, SystemClock(), namespaces=["edge"], stale_seconds=STALE_SECONDS
        )
        return PrometheusEndpoints(server, ENVOY_GATEWAY, processes)

    def say(self, pod: str, **endpoints: float) -> None:
        """How many endpoints a process has from now on for what stands at the first, the second and a forced place."""
        places = {
            "first": FIRST,
            "second": SECOND,
            "forced": FORCED,
            "other": "httproute/team-a/x/rule/0/backend/1",
        }
        clusters = {places[name]: Counted(endpoints=number) for name, number in endpoints.items()}
        self.exporter.pages[f"/{pod}"] = envoy_gateway(clusters)

    def answer(self, route: CountedRoute = ROUTE) -> EndpointsAnswer | str:
        """What is answered, or what is raised in words."""
        try:
            return self.endpoints.lacking(route)
        except HeadgateError as error:
            return error.message

    def until(self, answer: EndpointsAnswer, route: CountedRoute = ROUTE) -> None:
        wait_until(f"it answers {answer}", lambda: self.answer(route) == answer)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), JOBS) as (prometheus, exporter):
        yield Room(prometheus, exporter)


@pytest.fixture
def room(running: Room) -> Room:
    """Nothing is left of an earlier test."""
    running.exporter.pages.clear()
    time.sleep(2 * SCRAPE_SECONDS)  # what was there is stale now
    return running


def test_lacking__all_have_endpoints__nobody_lacks_any(room: Room) -> None:
    room.say("gw-a", first=1, second=2)
    room.say("gw-b", first=1, second=1)
    room.until(EndpointsAnswer())


@pytest.mark.parametrize(
    "second", [{"first": 1, "second": 0}, {"first": 1, "forced": 1}], ids=["none", "no such cluster"]
)
def test_lacking__one_of_two_has_none_for_the_variant__is_named(room: Room, second: dict[str, float]) -> None:
    room.say("gw-a", first=1, second=1)
    room.say("gw-b", **second)
    room.until(EndpointsAnswer(WITHOUT, seen=True))


def test_lacking__process_that_has_nothing_of_the_route__is_not_asked_for_it(room: Room) -> None:
    """It may be another Gateway's in the same namespace."""
    room.say("gw-a", first=1, second=1)
    room.say("gw-b", other=1)
    room.until(EndpointsAnswer())


def test_lacking__pod_of_another_namespace_plays_a_gateway__changes_nothing(room: Room) -> None:
    room.say("gw-a", first=1, second=1)
    room.say("stranger", first=1, second=0)
    room.until(EndpointsAnswer())
    time.sleep(2 * SCRAPE_SECONDS)
    assert room.answer() == EndpointsAnswer()


def test_lacking__scraped_before_the_route_was_written__counts_for_nothing(room: Room) -> None:
    room.say("gw-a", first=1, second=1)
    room.until(EndpointsAnswer())
    soon = replace(ROUTE, since=SystemClock().now().timestamp() + 3 * SCRAPE_SECONDS)
    answer = room.answer(soon)
    assert isinstance(answer, EndpointsAnswer)
    assert (answer.words.startswith("gw-a was not scraped since ("), answer.seen) == (True, False)
    room.until(EndpointsAnswer(), soon)


def test_lacking__no_process_says_anything_of_the_route__nobody_can_say(room: Room) -> None:
    room.say("gw-a", other=1)
    wait_until("it is scraped", lambda: "says which endpoints chat has" in str(room.answer()))
    assert ENVOY_GATEWAY.endpoints in str(room.answer())


def test_lacking__nothing_is_scraped__nobody_can_say(room: Room) -> None:
    with pytest.raises(Unavailable, match="no fresh series of Envoy Gateway"):
        room.endpoints.lacking(ROUTE)


def test_lacking__a_number_of_endpoints_that_is_none__nobody_can_say(room: Room) -> None:
    room.say("gw-a", first=1, second=float("nan"))
    wait_until("it is scraped", lambda: "membership_healthy" in str(room.answer()))
    with pytest.raises(Unavailable):
        room.endpoints.lacking(ROUTE)


def test_share__one_of_two_proxies_gets_its_endpoints_late__waits_for_it_and_begins(room: Room) -> None:
    room.say("gw-a", first=1, forced=1)
    room.say("gw-b", first=1, forced=1)
    routes = MemoryRoutes()
    router = GatewayRouter(
        routes,
        PLACE,
        SystemClock(),
        lambda: frozenset(),
        routes.served,
        MemoryTokens(),
        endpoints=room.endpoints.lacking,
    )

    def settled(candidate_bp: int) -> bool:
        router.apply(two(candidate_bp), token=1)
        seen = router.observe("chat")
        return seen is not None and seen.settled

    wait_until("it is in force", lambda: settled(0))
    room.say("gw-a", first=1, second=1, forced=1)
    room.say("gw-b", first=1, second=0, forced=1)
    until = time.monotonic() + 6 * SCRAPE_SECONDS
    while time.monotonic() < until:
        assert not settled(500)
        assert routes.weights() == {V1: 1_000_000, V2: 1}
    room.say("gw-b", first=1, second=1, forced=1)
    wait_until("its share has begun", lambda: settled(500))
    assert routes.weights() == {V1: 9_500, V2: 500}
