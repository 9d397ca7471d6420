"""The router of the Gateway API on an API server in memory."""

from __future__ import annotations

import copy
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, Rejected, StaleWriter, Unavailable
from rollouts.adapters.routers.gateway_api.objects import GatewayPlace
from rollouts.adapters.routers.gateway_api.proofs import USUAL_SECONDS
from rollouts.adapters.routers.gateway_api.reading import RouteRead, read_route
from rollouts.adapters.routers.gateway_api.router import TRIES, TRUCE_SECONDS, GatewayRouter
from rollouts.adapters.routers.gateway_api.user import ServedAnswer
from rollouts.domain.capabilities import Capability
from rollouts.ports import Backend, ObservedRoute, Route
from tests.rollouts.adapters.clusters.kubernetes.told import MemoryTokens
from tests.rollouts.adapters.routers.gateway_api.cluster import MemoryRoutes
from tests.rollouts.adapters.routers.gateway_api.routes import PLACE, V1, V2, service, two
from tests.standins.running import wait_until

FORCED = frozenset({Capability.FORCED_VARIANT})


@pytest.fixture
def routes() -> MemoryRoutes:
    return MemoryRoutes()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def router(routes: MemoryRoutes, clock: ManualClock) -> GatewayRouter:
    return GatewayRouter(routes, PLACE, clock, lambda: FORCED, routes.served, MemoryTokens())


def observed(router: GatewayRouter) -> ObservedRoute:
    found = router.observe("chat")
    assert found is not None
    return found


def test_apply__new_route__is_observed_in_force(router: GatewayRouter) -> None:
    generation = router.apply(two(500), token=1)
    assert observed(router) == ObservedRoute(
        endpoint="chat",
        shares={V1: 9_500, V2: 500},
        healthy=frozenset({V1, V2}),
        named=frozenset({V1, V2}),
        generation=generation,
        accepted=generation,
    )


def test_apply__same_route_again__writes_nothing(router: GatewayRouter, routes: MemoryRoutes) -> None:
    first = router.apply(two(500), token=1)
    writes = routes.writes
    assert router.apply(two(500), token=1) == first
    assert routes.writes == writes


def test_apply__same_route_with_a_newer_token__notes_it_and_keeps_the_generation(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(500), token=1)
    assert router.apply(two(500), token=2) == first
    assert routes.notes()["headgate.dev/fencing-token"] == "2"
    assert observed(router).settled


def test_apply__accepted_and_not_looked_at__the_route_before_is_in_force(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(500), token=1)
    routes.looks = False
    second = router.apply(two(700), token=1)
    seen = observed(router)
    assert (seen.generation, seen.accepted, seen.settled) == (first, second, False)
    assert seen.shares == {V1: 9_500, V2: 500}
    routes.look("chat")
    assert router.apply(two(700), token=1) == second
    assert (observed(router).generation, observed(router).shares[V2]) == (second, 700)


def test_apply__two_routes_before_the_gateway_looks__the_first_is_never_in_force(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(500), token=1)
    routes.looks = False
    router.apply(two(700), token=1)
    router.apply(two(900), token=1)
    assert (observed(router).generation, observed(router).shares[V2]) == (first, 500)


def test_apply__first_route_not_looked_at__nothing_is_in_force(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    routes.looks = False
    accepted = router.apply(two(500), token=1)
    seen = observed(router)
    assert (seen.generation, seen.accepted, seen.shares, seen.named) == (0, accepted, {}, frozenset())


def test_apply__the_gateways_say_that_they_have_it_and_a_proxy_does_not__is_not_in_force(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    """As after a restart of the gateway's controller, until its proxies have come back to it."""
    first = router.apply(two(500), token=1)
    routes.follows = False
    second = router.apply(two(700), token=1)
    assert router.apply(two(700), token=1) == second
    assert (observed(router).generation, observed(router).accepted) == (first, second)
    assert observed(router).shares == {V1: 9_500, V2: 500}
    routes.follow("chat")
    assert router.apply(two(700), token=1) == second
    assert (observed(router).settled, observed(router).shares[V2]) == (True, 700)


def test_apply__a_proxy_was_seen_to_serve_it__is_asked_no_more(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=1)
    router.apply(two(700), token=1)
    assert routes.asked == [("chat.models.example.com", V1)] * 2
    for _ in range(3):
        router.apply(two(700), token=1)
        observed(router)
        router.observe_all()
    assert len(routes.asked) == 2


def test_observe__the_proof_was_made_by_another_worker__is_in_force(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock
) -> None:
    router.apply(two(500), token=1)
    another = GatewayRouter(routes, PLACE, clock, lambda: FORCED, routes.served, MemoryTokens())
    assert observed(another) == observed(router)
    assert observed(another).settled


def test_apply__a_variant_gets_its_first_share__only_when_it_answers_itself_by_that_route(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(0), token=1)
    routes.answers = {V1}
    second = router.apply(two(500), token=1)
    assert router.apply(two(500), token=1) == second
    assert routes.weights() == {V1: 1_000_000, V2: 1}
    assert (observed(router).generation, observed(router).shares) == (first, {V1: 10_000})
    routes.answers = {V1, V2}
    assert router.apply(two(500), token=1) == second
    assert routes.weights() == {V1: 9_500, V2: 500}
    assert (observed(router).generation, observed(router).settled) == (second, True)


def test_apply__a_variant_loses_its_share__its_reference_goes_when_a_proxy_has_the_route(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=1)
    routes.follows = False
    router.apply(two(0), token=1)
    router.apply(two(0), token=1)
    assert routes.weights() == {V1: 1_000_000, V2: 1}
    routes.follow("chat")
    router.apply(two(0), token=1)
    assert routes.weights() == {V1: 10_000, V2: 0}
    assert not observed(router).settled  # the proxy has the route before
    routes.follow("chat")
    router.apply(two(0), token=1)
    assert observed(router).settled


def test_apply__rollback_while_a_promotion_is_on_its_way__overtakes_it_at_once(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(5_000), token=1)
    routes.looks = False
    promoted = router.apply(two(10_000), token=1)
    assert routes.weights() == {V1: 1, V2: 1_000_000}
    back = router.apply(two(0), token=1)
    assert routes.weights() == {V1: 1_000_000, V2: 1}
    assert back > promoted
    assert observed(router).accepted == back


def test_apply__every_generation_on_a_way_of_several_writes__is_one_number(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(0), token=1)
    routes.follows = False
    seen = set()
    for _ in range(3):
        seen.add(router.apply(two(10_000), token=1))
        assert observed(router).generation == first
        routes.follow("chat")
    seen.add(router.apply(two(10_000), token=1))
    (generation,) = seen
    assert (observed(router).generation, observed(router).accepted) == (generation, generation)
    assert routes.weights() == {V1: 0, V2: 10_000}


def test_apply__whose_share_ends_has_no_backend_any_more__does_not_hold_up_the_others(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(10_000), token=1)
    routes.follows = False
    router.apply(Route("chat", {V1: 10_000}, (service(V1),), V1), token=1)
    assert routes.weights() == {V1: 10_000}


def test_apply__gateway_cannot_be_reached_from_here__says_so_after_a_while(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock
) -> None:
    router.apply(two(500), token=1)
    routes.answers = set()
    router.apply(two(700), token=1)
    clock.advance(USUAL_SECONDS - 1)
    router.apply(two(700), token=1)
    clock.advance(2)
    with pytest.raises(Unavailable, match=r"no proxy is seen to serve it.*HTTP 503 for chat") as told:
        router.apply(two(700), token=1)
    assert "chat.models.example.com" in told.value.fix
    assert observed(router).shares[V2] == 500


def test_apply__gateway_hangs__waits_a_moment_only(routes: MemoryRoutes, clock: ManualClock) -> None:
    answers = threading.Event()

    def served(host: str, variant: str) -> ServedAnswer:
        assert answers.wait(30)
        return routes.served(host, variant)

    router = GatewayRouter(routes, PLACE, clock, lambda: FORCED, served, MemoryTokens())
    began = time.monotonic()
    generation = router.apply(two(500), token=1)
    assert time.monotonic() - began < 10
    assert not observed(router).settled
    answers.set()
    wait_until("it is proven", lambda: router.apply(two(500), token=1) and observed(router).settled)
    assert observed(router).generation == generation


def test_observe__gateway_refuses_later__is_told_in_its_words(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(500), token=1)
    routes.verdict = {"resolved": "False", "reason": "BackendNotFound", "message": "Service x not found"}
    router.apply(two(700), token=1)
    seen = observed(router)
    assert seen.generation == first
    assert "BackendNotFound: Service x not found" in seen.rejected


def test_observe__refused_after_it_was_served__is_in_force_and_told(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    """Somebody deletes a variant's Service: its part of the requests fails, and the split is the same."""
    router.apply(two(0), token=1)
    generation = router.apply(two(500), token=1)
    routes.verdict = {"resolved": "False", "reason": "BackendNotFound", "message": "Service x not found"}
    routes.look("chat")
    seen = observed(router)
    assert (seen.generation, seen.accepted) == (generation, generation)
    assert seen.shares == {V1: 9_500, V2: 500}
    assert "BackendNotFound: Service x not found" in seen.rejected


def test_apply__api_server_refuses__keeps_the_route_and_its_words(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(500), token=1)
    routes.refuse = "spec.rules: too many"
    with pytest.raises(Rejected, match="too many"):
        router.apply(two(700), token=1)
    seen = observed(router)
    assert (seen.generation, seen.accepted, seen.shares[V2], seen.rejected) == (
        first, first, 500, "spec.rules: too many",
    )  # fmt: skip


def test_apply__every_write_is_refused__tells_the_words_of_the_first(
    router: GatewayRouter, routes: MemoryRoutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.apply(two(500), token=1)
    words = iter(["no weights on Fridays", "no notes either"])

    def refuse(document: object, *, resource_version: str) -> None:
        said = next(words)
        raise Rejected(f"refused: {said}", extra={"words": said})

    monkeypatch.setattr(routes, "write", refuse)
    with pytest.raises(Rejected, match="no weights on Fridays"):
        router.apply(two(700), token=1)


@pytest.mark.parametrize("candidate_bp", [500, 600])
def test_apply__taken_after_a_refusal__clears_its_words(
    router: GatewayRouter, routes: MemoryRoutes, candidate_bp: int
) -> None:
    router.apply(two(500), token=1)
    routes.refuse = "no"
    with pytest.raises(Rejected):
        router.apply(two(600), token=1)
    routes.refuse = ""
    router.apply(two(candidate_bp), token=1)
    assert (observed(router).rejected, observed(router).shares[V2]) == ("", candidate_bp)


def test_apply__older_token__is_stale_and_changes_nothing(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=5)
    with pytest.raises(StaleWriter) as refused:
        router.apply(two(10_000), token=4)
    assert refused.value.extra["newest"] == 5
    assert routes.weights() == {V1: 9_500, V2: 500}


def test_apply__newer_writer_comes_between__the_older_one_is_stale(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock
) -> None:
    router.apply(two(500), token=1)
    newer = GatewayRouter(routes, PLACE, clock, lambda: FORCED, routes.served, MemoryTokens())
    routes.before_write = lambda: newer.apply(two(0), token=3)
    with pytest.raises(StaleWriter):
        router.apply(two(10_000), token=2)
    assert routes.weights() == {V1: 10_000, V2: 0}


def test_apply__somebody_writes_every_time__gives_up_and_changes_nothing(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=1)
    labelled = 0

    def label() -> None:
        nonlocal labelled
        labelled += 1
        document = dict(routes.documents["chat"])
        document["metadata"] = {
            **document["metadata"],
            "labels": {**document["metadata"]["labels"], "x": str(labelled)},
        }
        routes._write(document, document["metadata"]["resourceVersion"], "labeller")
        routes.before_write = label

    routes.before_write = label
    with pytest.raises(Unavailable, match=f"changed by others {TRIES} times"):
        router.apply(two(700), token=1)
    assert labelled == TRIES
    assert routes.weights()[V2] == 500


def test_apply__labels_and_annotations_of_others__stay(router: GatewayRouter, routes: MemoryRoutes) -> None:
    router.apply(two(500), token=1)
    routes.documents["chat"]["metadata"]["labels"]["team"] = "a"
    routes.notes()["theirs"] = "b"
    router.apply(two(700), token=2)
    assert routes.documents["chat"]["metadata"]["labels"]["team"] == "a"
    assert routes.notes()["theirs"] == "b"


def test_apply__route_of_somebody_else__is_left_alone(router: GatewayRouter, routes: MemoryRoutes) -> None:
    router.apply(two(500), token=1)
    routes.documents["chat"]["metadata"]["labels"]["headgate.dev/installation"] = "another"
    with pytest.raises(Rejected, match="belongs to somebody else"):
        router.apply(two(700), token=1)
    assert routes.weights()[V2] == 500
    assert router.observe_all() == {}


def test_apply__no_route__is_refused_before_anything_is_asked(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    routes.down = True
    pools = tuple(Backend(variant, "inference-pool", name=variant) for variant in (V1, V2))
    with pytest.raises(InvalidInput, match="does not know backends of kind 'inference-pool'"):
        router.apply(replace(two(500), backends=pools), token=1)


def test_observe__weights_by_another_hand__are_what_is_in_force(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(500), token=1)
    routes.edit("chat", {V1: 1, V2: 1})
    seen = observed(router)
    assert seen.shares == {V1: 5_000, V2: 5_000}
    assert seen.generation == first + 1
    assert seen.rejected == ""


def test_observe__another_hand_and_the_gateway_did_not_look__ours_is_in_force(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(500), token=1)
    routes.looks = False
    routes.edit("chat", {V1: 1, V2: 1})
    assert (observed(router).generation, observed(router).shares[V2]) == (first, 500)


def test_apply__after_another_hand__writes_over_it_once(router: GatewayRouter, routes: MemoryRoutes) -> None:
    router.apply(two(500), token=1)
    routes.edit("chat", {V1: 1, V2: 1})
    router.apply(two(0), token=1)
    assert observed(router).shares == {V1: 10_000}
    assert routes.notes()["headgate.dev/overruled"].startswith("kubectl-edit ")


def test_apply__the_other_owner_comes_again__is_told_and_not_fought(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock
) -> None:
    router.apply(two(500), token=1)
    routes.edit("chat", {V1: 1, V2: 1}, "argocd-controller")
    router.apply(two(0), token=1)
    routes.edit("chat", {V1: 1, V2: 1}, "argocd-controller")
    with pytest.raises(Rejected, match="argocd-controller changes the route again and again"):
        router.apply(two(0), token=1)
    assert routes.weights() == {V1: 1, V2: 1}
    clock.advance(TRUCE_SECONDS + 1)
    router.apply(two(0), token=1)
    assert routes.weights() == {V1: 10_000, V2: 0}


def test_apply__another_hand_set_what_is_wanted__is_taken_over(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=1)
    routes.edit("chat", {V1: 5_000, V2: 5_000})
    generation = router.apply(two(5_000), token=1)
    assert generation == observed(router).generation
    router.apply(two(0), token=1)
    assert "headgate.dev/overruled" not in routes.notes()


def test_claim__newer_token__is_remembered_and_shuts_out_the_older_writer(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(500), token=5)
    assert router.claim("chat", token=7) == 7
    with pytest.raises(StaleWriter):
        router.apply(two(700), token=6)
    assert observed(router).generation == first
    assert router.claim("chat", token=3) == 7


def test_claim__weights_by_another_hand__leaves_them(router: GatewayRouter, routes: MemoryRoutes) -> None:
    router.apply(two(500), token=5)
    routes.edit("chat", {V1: 1, V2: 1})
    router.claim("chat", token=7)
    assert routes.weights() == {V1: 1, V2: 1}
    assert observed(router).shares[V2] == 5_000


def test_claim__endpoint_without_a_route__is_the_callers_own(router: GatewayRouter) -> None:
    assert router.claim("nobody", token=3) == 3


def test_claim__of_a_route__asks_for_nothing_and_writes_nothing(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=5)
    asked, writes = list(routes.asked_for), routes.writes
    assert [router.claim("chat", token=token) for token in (7, 8, 3)] == [7, 8, 8]
    assert (routes.asked_for, routes.writes) == (asked, writes)


def test_claim__token_of_the_last_writer__is_known_to_whoever_was_told_nothing(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock
) -> None:
    router.apply(two(500), token=5)
    another = GatewayRouter(routes, PLACE, clock, lambda: FORCED, routes.served, MemoryTokens())
    assert another.claim("chat", token=3) == 5


@pytest.mark.parametrize("document", [{}, {"metadata": {"labels": {}}}], ids=repr)
def test_claim__route_of_somebody_else__is_the_callers_own(
    router: GatewayRouter, routes: MemoryRoutes, document: dict[str, Any]
) -> None:
    routes.documents["chat"] = document
    assert router.claim("chat", token=3) == 3


def test_observe__again_and_again__asks_the_api_server_for_nothing(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=5)
    asked = list(routes.asked_for)
    for _ in range(3):
        observed(router)
        router.observe_all()
        assert router.observe("nobody") is None
    assert routes.asked_for == asked


def test_observe_all__routes_that_did_not_change__are_not_read_again(
    router: GatewayRouter, routes: MemoryRoutes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reads(document: Any, place: GatewayPlace) -> RouteRead:
        read.append(document["metadata"]["name"])
        return read_route(document, place)

    for name in ("chat", "mail"):
        router.apply(replace(two(500), endpoint=name), token=5)
    router.observe_all()
    monkeypatch.setattr("rollouts.adapters.routers.gateway_api.router.read_route", reads)
    before = router.observe_all()
    routes.edit("mail", {V1: 1, V2: 1})
    after = router.observe_all()
    assert read == ["mail"]
    assert (after["chat"], after["mail"].shares) == (before["chat"], {V1: 5_000, V2: 5_000})


def test_observe__unknown_endpoint__is_none(router: GatewayRouter) -> None:
    assert router.observe("nobody") is None


def test_observe__service_without_ready_endpoints__is_not_healthy(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=1)
    routes.ready = frozenset({V1, "somebody-else"})
    assert observed(router).healthy == {V1}


def test_observe_all__one_route_is_odd__the_others_are_there(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=1)
    router.apply(replace(two(700), endpoint="mail"), token=1)
    routes.documents["mail"]["spec"]["rules"][0]["backendRefs"][0]["weight"] = "many"
    assert router.observe_all() == {"chat": observed(router)}
    with pytest.raises(Unavailable, match="cannot be understood"):
        router.observe("mail")


def test_observe__api_server_away__is_unavailable(router: GatewayRouter, routes: MemoryRoutes) -> None:
    router.apply(two(500), token=1)
    routes.down = True
    for call in (lambda: router.observe("chat"), router.observe_all, lambda: router.apply(two(0), token=1)):
        with pytest.raises(Unavailable):
            call()


def test_counted__places__are_those_of_the_split_and_no_other_rule(router: GatewayRouter) -> None:
    router.apply(two(500), token=1)
    found = router.counted()["chat"]
    assert (found.route, found.namespace, found.places) == ("chat", "team-a", {(0, 0): V1, (0, 1): V2})
    assert found.services == {V1: V1, V2: V2}


def test_counted__other_weights__count_on(router: GatewayRouter, clock: ManualClock) -> None:
    router.apply(two(500), token=1)
    since = router.counted()["chat"].since
    clock.advance(60)
    router.apply(two(700), token=1)
    assert router.counted()["chat"].since == since == pytest.approx(clock.now().timestamp() - 60)


def test_counted__a_variant_more__begins_anew(router: GatewayRouter, clock: ManualClock) -> None:
    router.apply(two(500), token=1)
    clock.advance(60)
    three = replace(two(500), backends=(*two(500).backends, service("chat-v0-0000")))
    router.apply(three, token=1)
    found = router.counted()["chat"]
    assert found.since == pytest.approx(clock.now().timestamp())
    assert found.places[0, 2] == "chat-v0-0000"


def add_to_split(routes: MemoryRoutes, manager: str = "kubectl-edit", **more: object) -> None:
    """Somebody adds to the rule of the split what we did not write there."""
    document = copy.deepcopy(routes.documents["chat"])
    routes.split(document).update(more)
    routes._write(document, document["metadata"]["resourceVersion"], manager)


def turn_backends(routes: MemoryRoutes) -> None:
    document = copy.deepcopy(routes.documents["chat"])
    routes.split(document)["backendRefs"].reverse()
    routes._write(document, document["metadata"]["resourceVersion"], "kubectl-edit")


def test_apply__another_hand_added_to_the_rules__is_written_over_and_not_taken_for_ours(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=1)
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "elsewhere.example"}}
    add_to_split(routes, filters=[redirect])
    router.apply(two(500), token=1)
    assert "filters" not in routes.split(routes.documents["chat"])
    assert observed(router).settled
    assert routes.notes()["headgate.dev/overruled"].startswith("kubectl-edit ")


def test_apply__another_hand_took_its_change_back__needs_no_write_of_the_spec(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    first = router.apply(two(500), token=1)
    routes.edit("chat", {V1: 1, V2: 1})
    routes.edit("chat", {V1: 9_500, V2: 500})
    assert router.apply(two(500), token=1) == first + 2
    writes = routes.writes
    assert router.apply(two(500), token=1) == first + 2
    assert routes.writes == writes


def test_apply__written_as_it_was_already__is_ours_with_the_generation_that_there_is(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    """A default that an API server gives and that nobody here knows: what is written over it changes nothing."""
    router.apply(two(500), token=1)
    routes.default = {"retry": {"attempts": 0}}
    add_to_split(routes, retry={"attempts": 0})
    generation = router.apply(two(500), token=1)
    assert observed(router).accepted == generation
    writes = routes.writes
    assert router.apply(two(500), token=1) == generation
    assert routes.writes == writes


def test_apply__overruled_by_a_clock_that_was_wrong__is_no_truce_for_a_day(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock
) -> None:
    router.apply(two(500), token=1)
    routes.edit("chat", {V1: 1, V2: 1})
    routes.notes()["headgate.dev/overruled"] = f"kubectl-edit {clock.now().timestamp() + 86_400}"
    router.apply(two(0), token=1)
    assert routes.weights() == {V1: 10_000, V2: 0}


def test_counted__backends_stand_elsewhere_and_no_gateway_has_them_yet__is_not_counted(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    """Until then the gateway counts by the places of before: they would be those of another variant."""
    router.apply(two(500), token=1)
    routes.looks = False
    router.apply(replace(two(500), backends=(*two(500).backends, service("chat-v0-0000"))), token=1)
    assert router.counted() == {}
    routes.look("chat")
    assert router.counted()["chat"].places[0, 2] == "chat-v0-0000"


def test_counted__other_weights_that_no_gateway_has_yet__count_on(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=1)
    routes.looks = False
    router.apply(two(700), token=1)
    assert router.counted()["chat"].places == {(0, 0): V1, (0, 1): V2}


def test_counted__backends_turned_by_another_hand__are_not_counted_until_it_is_ours(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock
) -> None:
    router.apply(two(500), token=1)
    turn_backends(routes)
    assert router.counted() == {}
    turn_backends(routes)  # and back: what was counted meanwhile is another variant's all the same
    clock.advance(60)
    router.apply(two(500), token=1)
    assert router.counted()["chat"].since == pytest.approx(clock.now().timestamp())


def test_counted__a_gateway_takes_the_places_late__counts_from_then(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock
) -> None:
    router.apply(two(500), token=1)
    routes.looks = False
    router.apply(replace(two(500), backends=(*two(500).backends, service("chat-v0-0000"))), token=1)
    assert router.counted() == {}
    clock.advance(120)
    routes.look("chat")
    since = router.counted()["chat"].since
    assert since == pytest.approx(clock.now().timestamp())
    clock.advance(60)
    assert router.counted()["chat"].since == since


def test_observe_all__copy_of_a_route__is_not_taken_for_it(
    router: GatewayRouter, routes: MemoryRoutes
) -> None:
    router.apply(two(500), token=1)
    twin = copy.deepcopy(routes.documents["chat"])
    twin["metadata"]["name"] = "restored"
    for reference, weight in zip(routes.split(twin)["backendRefs"], (0, 1), strict=True):
        reference["weight"] = weight
    routes.documents["restored"] = twin
    assert router.observe_all() == {"chat": observed(router)}
    assert observed(router).shares[V2] == 500
