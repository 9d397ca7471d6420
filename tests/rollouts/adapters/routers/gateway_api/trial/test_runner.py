"""A trial from its first object to its last, on an API server and a gateway in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Unavailable
from rollouts.adapters.clusters.kubernetes.client import CONFIG_MAP
from rollouts.adapters.clusters.kubernetes.errors import Denied, Stale, Transient
from rollouts.adapters.routers.gateway_api.implementations import IMPLEMENTATIONS
from rollouts.adapters.routers.gateway_api.probes import probe_endpoint
from rollouts.adapters.routers.gateway_api.references import route_name
from rollouts.adapters.routers.gateway_api.trial.runner import (
    LEFT_SECONDS,
    WORK_SECONDS,
    KubernetesTrials,
)
from rollouts.adapters.routers.gateway_api.user import GatewayUser
from rollouts.domain.trials import TRIED, GatewayTrait
from tests.rollouts.adapters.clusters.kubernetes.memory import MemoryObjects
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of
from tests.rollouts.adapters.routers.gateway_api.cluster import MemoryRoutes
from tests.rollouts.adapters.routers.gateway_api.routes import PLACE

NAME = "headgate-trial-a1b2"
ROUTE = route_name(probe_endpoint(NAME))
FIRST, SECOND = f"{NAME}-a", f"{NAME}-b"
START = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAY = {"metadata": {"uid": "u9", "generation": 4}, "spec": {"gatewayClassName": "edge"}}


class World:
    """An API server, and a gateway that does what its routes say.

    leaks     every second drawn request goes to the backend of weight 0
    answers   somebody answers behind the gateway
    seconds   that every request takes
    """

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        self.routes = MemoryRoutes()
        self.clock = ManualClock(START)
        self.leaks = False
        self.answers = True
        self.seconds = 0.0
        self.gateway: Mapping[str, Any] | Exception | None = GATEWAY
        self.received = {FIRST: 0, SECOND: 0}
        self.sent = 0

    def trials(self) -> KubernetesTrials:
        return KubernetesTrials(
            self.objects,
            self.routes,
            PLACE,
            profile_of(),
            IMPLEMENTATIONS["Envoy Gateway"],
            self.clock,
            gateway_of=lambda parent: self.gateway_of(),
            user=cast(GatewayUser, self),
            draw=lambda: "a1b2",
            sleep=self.rest,
            steady=lambda: self.clock.reading().steady,
        )

    def rest(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def gateway_of(self) -> Mapping[str, Any] | None:
        if isinstance(self.gateway, Exception):
            raise self.gateway
        return self.gateway

    def send(
        self, method: str, path: str, host: str, forced: str, **more: Any
    ) -> tuple[Mapping[str, str], bytes]:
        """As `GatewayUser.send`."""
        self.clock.advance(self.seconds)
        if not self.answers:
            raise Unavailable("The gateway answers HTTP 503: no healthy upstream")
        self.sent += 1
        by = forced or (SECOND if self.leaks and method == "POST" and self.sent % 2 else FIRST)
        if method == "GET":
            return {}, json.dumps({"data": [{"id": by, "received": self.received}]}).encode()
        self.received[by] += 1
        mirrors = self.routes.split(self.routes.documents[ROUTE]).get("filters", [])
        if mirrors and self.sent % 4 == 0:
            self.received[SECOND] += 1
        return {}, json.dumps({"model": by}).encode()

    @property
    def anchors(self) -> list[str]:
        """Of trials that nobody has told to end."""
        found, _ = self.objects.list(CONFIG_MAP)
        return [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]

    def leave(self, name: str, *, labels: Mapping[str, str] | None = None) -> None:
        """An anchor that is there since the start."""
        own = {"headgate.dev/installation": f"{PLACE.installation}.trial", "headgate.dev/trial": name}
        metadata = {"name": name, "labels": labels or own, "creationTimestamp": "2026-01-01T00:00:00Z"}
        self.objects.keep({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


@pytest.fixture
def world() -> World:
    return World()


def test_run__good_gateway__proves_all_and_ends_what_it_made(world: World) -> None:
    findings = world.trials().run()
    assert tuple(one.trait for one in findings if one.holds) == TRIED
    assert world.anchors == []


def test_run__every_object_and_the_route__belongs_to_the_anchor(world: World) -> None:
    world.trials().run()
    anchor = world.objects.objects["ConfigMap", NAME]["metadata"]["uid"]
    made = [one for (kind, _), one in world.objects.objects.items() if kind != "ConfigMap"]
    for one in (*made, world.routes.documents[ROUTE]):
        (owner,) = one["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("ConfigMap", NAME, anchor)
    assert {one["kind"] for one in made} == {"Deployment", "Service", "NetworkPolicy"}


def test_run__route__is_of_no_installation(world: World) -> None:
    world.trials().run()
    labels = world.routes.documents[ROUTE]["metadata"]["labels"]
    assert labels["headgate.dev/installation"] == f"{PLACE.installation}.trial"


def test_run__requests_leak_to_weight_zero__is_refuted_in_numbers(world: World) -> None:
    world.leaks = True
    zero = world.trials().run()[0]
    assert (zero.trait, zero.holds) == (GatewayTrait.KEEPS_ZERO, False)
    assert "a backend with weight 0 got 100 of 200 requests" in zero.words


def test_run__nobody_answers__says_what_the_cluster_says_of_the_pod_and_ends_it(world: World) -> None:
    world.answers = False
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: team"}
    create = world.objects.create

    def refused(body: Mapping[str, Any]) -> dict[str, Any]:
        if body["kind"] != "Deployment":
            return create(body)
        return create({**body, "status": {"conditions": [condition]}})

    world.objects.create = refused  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="exceeded quota: team"):
        world.trials().run()
    assert world.anchors == []


def test_run__everything_is_slow__is_given_up_in_time_and_ended(world: World) -> None:
    world.seconds = 5.0
    with pytest.raises(Unavailable, match="took longer than"):
        world.trials().run()
    assert (world.clock.now() - START).total_seconds() <= WORK_SECONDS + world.seconds
    assert world.anchors == []


def test_run__an_object_is_refused__ends_the_others(world: World) -> None:
    world.objects.fail_write["Deployment", NAME] = Denied("no create of deployments")
    with pytest.raises(Denied):
        world.trials().run()
    assert world.anchors == []


def test_run__cannot_be_ended_now__tells_what_was_found_all_the_same(world: World) -> None:
    world.objects.delete = raising(Transient("the API server is away"))  # type: ignore[method-assign]
    assert world.trials().run()
    assert world.anchors == [NAME]


def test_clear__what_is_old__goes_and_what_may_go_on_stays(world: World) -> None:
    world.leave("headgate-trial-old")
    world.clock.advance(LEFT_SECONDS - 1)
    assert world.trials().clear() == 0
    world.clock.advance(1)
    assert world.trials().clear() == 1
    assert world.anchors == []


@pytest.mark.parametrize(
    "labels",
    [
        {"headgate.dev/installation": PLACE.installation, "headgate.dev/trial": "x"},
        {"headgate.dev/installation": f"{PLACE.installation}.trial"},
        {"headgate.dev/installation": f"{PLACE.installation}.trial", "headgate.dev/trial": "a-copy"},
    ],
)
def test_clear__what_is_no_trial_of_ours__stays(world: World, labels: Mapping[str, str]) -> None:
    world.leave("x", labels=labels)
    world.clock.advance(LEFT_SECONDS)
    assert world.trials().clear() == 0
    assert world.anchors == ["x"]


def test_clear__somebody_else_ends_it__is_left_to_him(world: World) -> None:
    world.leave("headgate-trial-old")
    world.clock.advance(LEFT_SECONDS)
    world.objects.delete = raising(Stale("another one has this name"))  # type: ignore[method-assign]
    assert world.trials().clear() == 0


def test_gateway__changed__is_another_one(world: World) -> None:
    before = world.trials().gateway()
    assert "generation 4" in before
    world.gateway = {**GATEWAY, "metadata": {"uid": "u9", "generation": 5}}
    assert world.trials().gateway() != before


def test_gateway__role_lacks_the_verb__is_named_all_the_same(world: World) -> None:
    world.gateway = Denied("no get of gateways")
    assert PLACE.parents[0].name in world.trials().gateway()


@pytest.mark.parametrize("gateway", [None, Transient("the API server is away")])
def test_gateway__not_there_or_not_said__is_unavailable(world: World, gateway: Exception | None) -> None:
    world.gateway = gateway
    with pytest.raises(Unavailable):
        world.trials().gateway()


def raising(error: Exception) -> Any:
    def fails(*words: Any, **more: Any) -> bool:
        raise error

    return fails
