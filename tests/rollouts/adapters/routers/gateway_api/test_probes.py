"""What probes find of gateways that do as they say, and of others."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from controlplane.kernel.errors import Rejected, Unavailable
from rollouts.adapters.clusters.kubernetes.errors import Denied, Terminal
from rollouts.adapters.routers.gateway_api.implementations import EVERY_TRAIT, IMPLEMENTATIONS
from rollouts.adapters.routers.gateway_api.probes import (
    GatewayProbe,
    mirror_finding,
    probe_endpoint,
    zero_finding,
)
from rollouts.adapters.routers.gateway_api.references import route_name
from rollouts.domain.capabilities import Capability
from rollouts.domain.trials import GatewayTrait, TrialFinding
from rollouts.models.endpoints import NAME_PATTERN
from tests.rollouts.adapters.routers.gateway_api.cluster import MemoryRoutes
from tests.rollouts.adapters.routers.gateway_api.routes import PLACE, V1, V2, service

ENDPOINT = probe_endpoint("a1b2")
PROBE = route_name(ENDPOINT)


class Gateway:
    """A gateway that serves the probe's route, well unless told otherwise."""

    def __init__(self, *, leak: float = 0.0, ignores_header: bool = False, mirrors_all: bool = False) -> None:
        self.routes = MemoryRoutes()
        self.leak, self.ignores_header, self.mirrors_all = leak, ignores_header, mirrors_all
        self.rng = random.Random(7)
        self.inferences = {V1: 0, V2: 0}
        self.answers = True

    def ask(self, host: str, forced: str) -> str:
        if not self.answers:
            raise Unavailable("nobody answers")
        if forced and not self.ignores_header:
            return forced
        return V2 if self.rng.random() < self.leak else V1

    def infer(self, host: str, forced: str) -> str:
        found = self.ask(host, forced)
        self.inferences[found] += 1
        filters = self.routes.split(self.routes.documents[PROBE]).get("filters", [])
        for one in filters:
            fraction = one["requestMirror"]["fraction"]
            part = fraction["numerator"] / fraction["denominator"]
            if self.mirrors_all or self.rng.random() < part:
                self.inferences[one["requestMirror"]["backendRef"]["name"]] += 1
        return found

    def probe(self, received: Callable[[str], int] | None = None) -> dict[GatewayTrait, TrialFinding]:
        backends = (service(V1), service(V2))
        probe = GatewayProbe(
            self.routes, PLACE, ENDPOINT, backends, ask=self.ask, infer=self.infer,
            received=received or self.inferences.__getitem__, sleep=lambda seconds: None, patience_seconds=1.0,
        )  # fmt: skip
        return {one.trait: one for one in probe.run()}


def shown(found: dict[GatewayTrait, TrialFinding]) -> set[GatewayTrait]:
    return {trait for trait, one in found.items() if one.holds}


def test_run__good_gateway__shows_all() -> None:
    assert shown(Gateway().probe()) == {
        GatewayTrait.KEEPS_ZERO,
        GatewayTrait.HEADER_WINS,
        GatewayTrait.MIRRORS_A_PART,
    }


def test_run__requests_leak_to_weight_zero__is_found_in_numbers() -> None:
    found = Gateway(leak=0.05).probe()[GatewayTrait.KEEPS_ZERO]
    assert not found.holds
    assert "of 200 requests" in found.words


def test_run__header_is_ignored__is_found() -> None:
    found = Gateway(ignores_header=True).probe()[GatewayTrait.HEADER_WINS]
    assert (found.holds, found.words[:7]) == (False, "0 of 20")


def test_run__all_is_mirrored__is_found() -> None:
    found = Gateway(mirrors_all=True).probe()[GatewayTrait.MIRRORS_A_PART]
    assert (found.holds, found.words) == (False, "400 of 400 requests were mirrored, where 100 were to be")


def test_run__mirror__is_taken_off_behind_it() -> None:
    gateway = Gateway()
    gateway.probe()
    assert "filters" not in gateway.routes.split(gateway.routes.documents[PROBE])


def test_run__route_never_in_force__is_unavailable() -> None:
    gateway = Gateway()
    gateway.routes.looks = False
    with pytest.raises(Unavailable, match="in vain until the gateway has the probe's route in force"):
        gateway.probe()


def test_run__gateway_refuses_the_route__tells_its_words() -> None:
    gateway = Gateway()
    gateway.routes.verdict = {"accepted": "False", "reason": "NotAllowedByListeners"}
    with pytest.raises(Unavailable, match="NotAllowedByListeners"):
        gateway.probe()


def test_run__gateway_refuses_at_first__is_waited_for() -> None:
    gateway = Gateway()
    gateway.routes.verdict = {"accepted": "False", "reason": "BackendNotFound"}
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            gateway.routes.verdict = {}
            gateway.routes.look(PROBE)

    probe = GatewayProbe(
        gateway.routes, PLACE, ENDPOINT, (service(V1), service(V2)), ask=gateway.ask, infer=gateway.infer,
        received=gateway.inferences.__getitem__, sleep=sleep,
    )  # fmt: skip
    assert all(one.holds for one in probe.run())


def refusing(gateway: Gateway, error: Exception) -> Gateway:
    """Whose API server says this to a route with a mirror."""
    write = gateway.routes.write

    def refuses(document: Any, *, resource_version: str) -> Any:
        if "filters" in gateway.routes.split(document):
            raise error
        return write(document, resource_version=resource_version)

    gateway.routes.write = refuses  # type: ignore[method-assign]
    return gateway


def test_run__api_server_takes_no_mirror__is_found_and_the_rest_too() -> None:
    gateway = refusing(Gateway(), Terminal("unknown field fraction"))
    found = gateway.probe()
    assert shown(found) == {GatewayTrait.KEEPS_ZERO, GatewayTrait.HEADER_WINS}
    assert "unknown field fraction" in found[GatewayTrait.MIRRORS_A_PART].words


def test_run__role_lacks_a_verb__refutes_nothing() -> None:
    with pytest.raises(Denied):
        refusing(Gateway(), Denied("no update of httproutes")).probe()


def test_run__nobody_answers__is_unavailable() -> None:
    gateway = Gateway()
    gateway.answers = False
    with pytest.raises(Unavailable, match="in vain until the gateway answers"):
        gateway.probe()


def test_run__name_of_the_route__is_that_of_no_endpoint_of_users() -> None:
    assert re.fullmatch(NAME_PATTERN, ENDPOINT) is None
    assert PROBE != ENDPOINT
    assert route_name(probe_endpoint("c3d4")) != PROBE


def test_run__route_of_somebody_else_has_the_name__is_left_alone() -> None:
    gateway = Gateway()
    gateway.probe()
    theirs = gateway.routes.documents[PROBE]
    theirs["metadata"]["labels"]["headgate.dev/installation"] = "another"
    before = copy.deepcopy(theirs)
    with pytest.raises(Rejected, match="belongs to somebody else"):
        gateway.probe()
    assert gateway.routes.documents[PROBE] == before


def test_findings__nothing_was_sent__show_nothing() -> None:
    assert not zero_finding(V2, {}).holds
    assert not mirror_finding(0, 0, 0.25).holds


@pytest.mark.parametrize(
    ("mirrored", "holds"), [(0, False), (47, False), (49, True), (100, True), (151, True), (153, False)]
)
def test_mirror_finding__binomial_noise__is_allowed_and_no_more(mirrored: int, holds: bool) -> None:
    assert mirror_finding(400, mirrored, 0.25).holds is holds


def test_capabilities__forced_variant__is_one_where_the_header_wins_and_nothing_falls_back() -> None:
    gateway = IMPLEMENTATIONS["Envoy Gateway"]
    assert gateway.capabilities(EVERY_TRAIT) == {Capability.FORCED_VARIANT}
    assert gateway.capabilities(EVERY_TRAIT - {GatewayTrait.HEADER_WINS}) == frozenset()
