"""What every router promises, on the real Envoy Gateway: the contract's own tests, as far as they need no fallback.

A gateway answers for no dead variant, and a request forced to an unknown variant is answered by the split: the tests
of those stay out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import Unavailable
from rollouts.adapters.routers.gateway_api.proofs import NOT_SERVED
from rollouts.adapters.routers.gateway_api.router import GatewayRouter
from rollouts.domain.capabilities import Capability
from rollouts.ports import Backend, Route
from tests.kubernetes.edge import CAN, V1, V2, Edge, edge_in
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.objects import PATIENCE_SECONDS
from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, Seen
from tests.rollouts.adapters.routers import test_contract as contract
from tests.rollouts.adapters.routers.trials import TRIALS
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]
assert (BASELINE, CANDIDATE) == (V1, V2)
_numbers = count(1)

test_apply__new_route__is_observed_in_force = contract.test_apply__new_route__is_observed_in_force
test_apply__returns_the_generation_that_observe_says_is_in_force = (
    contract.test_apply__returns_the_generation_that_observe_says_is_in_force
)
test_apply__same_route_again__keeps_its_generation = (
    contract.test_apply__same_route_again__keeps_its_generation
)
test_apply__route_of_another_endpoint__changes_no_generation_of_this_one = (
    contract.test_apply__route_of_another_endpoint__changes_no_generation_of_this_one
)
test_apply__rejected_route__leaves_the_generation_in_force = (
    contract.test_apply__rejected_route__leaves_the_generation_in_force
)
test_observe__names_every_variant_that_a_request_can_reach = (
    contract.test_observe__names_every_variant_that_a_request_can_reach
)
test_observe__after_a_restart_of_the_router__is_of_the_same_generation = (
    contract.test_observe__after_a_restart_of_the_router__is_of_the_same_generation
)
test_apply__new_shares__replace_the_old_ones = contract.test_apply__new_shares__replace_the_old_ones
test_apply__backend_of_an_unknown_kind__is_refused_in_a_sentence = (
    contract.test_apply__backend_of_an_unknown_kind__is_refused_in_a_sentence
)
test_apply__older_token__is_stale_and_changes_nothing = (
    contract.test_apply__older_token__is_stale_and_changes_nothing
)
test_claim__newer_token__is_remembered_and_shuts_out_the_older_writer = (
    contract.test_claim__newer_token__is_remembered_and_shuts_out_the_older_writer
)
test_claim__older_token__answers_the_newest_and_leaves_it = (
    contract.test_claim__older_token__answers_the_newest_and_leaves_it
)
test_apply__token_of_another_endpoint__does_not_count = (
    contract.test_apply__token_of_another_endpoint__does_not_count
)
test_observe_all__is_what_is_observed_of_each = contract.test_observe_all__is_what_is_observed_of_each
test_observe__unknown_endpoint__is_none = contract.test_observe__unknown_endpoint__is_none
test_apply__router_refuses__says_why_and_the_last_good_route_serves = (
    contract.test_apply__router_refuses__says_why_and_the_last_good_route_serves
)
test_apply__accepted_after_a_refusal__clears_it = contract.test_apply__accepted_after_a_refusal__clears_it
test_router__down__is_unavailable_and_serves_the_same_after_its_start = (
    contract.test_router__down__is_unavailable_and_serves_the_same_after_its_start
)
test_traffic__split__is_within_binomial_noise_and_every_response_says_who = (
    contract.test_traffic__split__is_within_binomial_noise_and_every_response_says_who
)
test_traffic__forced_variant__answers_even_with_a_share_of_zero = (
    contract.test_traffic__forced_variant__answers_even_with_a_share_of_zero
)


class PatientRouter(GatewayRouter):
    """Returns from `apply` once the route is in force, as the contract's tests expect it of every router."""

    def apply(self, route: Route, *, token: int) -> int:
        return wait_until(
            f"{route.endpoint} is in force", lambda: self._applied(route, token), PATIENCE_SECONDS
        )

    def _applied(self, route: Route, token: int) -> int:
        """Asks once more, as the loop does, also when the proxies are late; the generation when it is in force, else 0.

        A new cluster of Envoy Gateway's may miss its endpoints for as long as Envoy waits for them (15 s).
        """
        try:
            generation = super().apply(route, token=token)
        except Unavailable as error:
            if error.code != NOT_SERVED:
                raise
            return 0
        seen = self.observe(route.endpoint)
        return generation if seen is not None and seen.settled else 0


@dataclass
class GatewayPlane:
    """The part of a data plane that these tests use. To stop the router is to kill the API server: Envoy serves on."""

    edge: Edge
    refuses: bool = False
    killed: set[str] = field(default_factory=set)

    @property
    def router(self) -> GatewayRouter:
        place = replace(self.edge.place, timeout="soon") if self.refuses else self.edge.place
        edge = self.edge
        return PatientRouter(edge.routes, place, SystemClock(), lambda: CAN, edge.user.served, edge.tokens)

    def backend(self, variant: str) -> Backend:
        return Backend(variant, "service", name=variant)

    def send(self, endpoint: str, number: int, *, forced: str = "", **how: Any) -> list[Seen]:
        host = self.edge.place.host(endpoint)
        if not self.killed:
            wait_until("the gateway serves it", lambda: self.edge.answers(endpoint), PATIENCE_SECONDS)
        return [self._seen(host, forced) for _ in range(number)]

    def _seen(self, host: str, forced: str) -> Seen:
        try:
            answered = self.edge.user.infer(host, forced)
        except Unavailable:
            return Seen(503, "", "", "", True)
        return Seen(200, "" if forced else answered, answered, "", True)

    def received(self, variant: str) -> int:
        return self.edge.received(variant)

    def kill(self, variant: str) -> None:
        self.edge.cluster.scale(variant, 0)
        self.killed.add(variant)

    def revive(self) -> None:
        """Brings back whom this test killed."""
        while self.killed:
            self.edge.cluster.scale(self.killed.pop(), 1)

    def refuse(self) -> str:
        self.refuses = True
        return "timeouts"

    def accept(self) -> None:
        self.refuses = False

    def stop_router(self) -> None:
        self.edge.lab.kill("kube-apiserver")

    def start_router(self) -> None:
        self.edge.lab.restart("kube-apiserver")


@pytest.fixture(scope="module")
def edge(kubernetes_lab: KubernetesLab) -> Iterator[Edge]:
    with edge_in(kubernetes_lab, "gateway-contract") as made:
        yield made


@pytest.fixture
def plane(edge: Edge) -> Iterator[GatewayPlane]:
    made = GatewayPlane(edge)
    yield made
    made.revive()


@pytest.fixture
def endpoint() -> str:
    return f"kept{next(_numbers)}"


@pytest.mark.parametrize("capability", Capability)
def test_capability__tried_on_the_gateway__is_declared_if_and_only_if_it_does_it(
    plane: GatewayPlane, endpoint: str, capability: Capability
) -> None:
    assert TRIALS[capability](plane, endpoint) is (capability in plane.router.capabilities())
