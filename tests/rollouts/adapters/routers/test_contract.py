"""What every TrafficRouter promises, on the one in memory and on the real Envoy."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

from controlplane.kernel.errors import InvalidInput, Rejected, StaleWriter, Unavailable
from rollouts.adapters.backends import at_address
from rollouts.domain.capabilities import Capability
from rollouts.ports import Backend, EngineApi, ObservedRoute
from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, Plane, arms, route
from tests.rollouts.adapters.routers.trials import TRIALS
from tests.standins.running import wait_until

BOTH = frozenset({BASELINE, CANDIDATE})


def observed(plane: Plane, endpoint: str) -> ObservedRoute:
    found = plane.router.observe(endpoint)
    assert found is not None
    return found


def counted(plane: Plane, endpoint: str, number: int) -> bool:
    """Whether so many requests have ended, as the counters say."""
    return sum(arm.ended for arm in arms(plane, endpoint).values()) == number


def test_apply__new_route__is_observed_in_force(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=1)
    seen = observed(plane, endpoint)
    assert seen.shares == {BASELINE: 9500, CANDIDATE: 500}
    assert seen.healthy == BOTH
    assert seen.rejected == ""


def test_apply__returns_the_generation_that_observe_says_is_in_force(plane: Plane, endpoint: str) -> None:
    first = plane.router.apply(route(plane, endpoint, 500), token=1)
    seen = observed(plane, endpoint)
    assert (seen.generation, seen.accepted, seen.settled) == (first, first, True)
    second = plane.router.apply(route(plane, endpoint, 600), token=1)
    assert second > first
    assert (observed(plane, endpoint).generation, plane.router.observe_all()[endpoint].generation) == (
        second,
    ) * 2


def test_apply__same_route_again__keeps_its_generation(plane: Plane, endpoint: str) -> None:
    first = plane.router.apply(route(plane, endpoint, 500), token=1)
    before = observed(plane, endpoint)
    assert plane.router.apply(route(plane, endpoint, 500), token=2) == first
    assert observed(plane, endpoint) == before


def test_apply__route_of_another_endpoint__changes_no_generation_of_this_one(
    plane: Plane, endpoint: str
) -> None:
    first = plane.router.apply(route(plane, endpoint, 500), token=1)
    plane.router.apply(route(plane, endpoint + "x", 700), token=1)
    assert (observed(plane, endpoint).generation, observed(plane, endpoint).settled) == (first, True)


def test_apply__rejected_route__leaves_the_generation_in_force(plane: Plane, endpoint: str) -> None:
    first = plane.router.apply(route(plane, endpoint, 500), token=1)
    plane.refuse()
    with pytest.raises(Rejected):
        plane.router.apply(route(plane, endpoint, 600), token=1)
    plane.accept()
    seen = observed(plane, endpoint)
    assert (seen.generation, seen.accepted, seen.shares[CANDIDATE]) == (first, first, 500)


def test_observe__names_every_variant_that_a_request_can_reach(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    assert observed(plane, endpoint).named == BOTH
    alone = replace(route(plane, endpoint, 0), backends=(plane.backend(BASELINE),))
    plane.router.apply(alone, token=1)
    assert observed(plane, endpoint).named == {BASELINE}


def test_observe__after_a_restart_of_the_router__is_of_the_same_generation(
    plane: Plane, endpoint: str
) -> None:
    first = plane.router.apply(route(plane, endpoint, 500), token=1)
    plane.stop_router()
    plane.start_router()
    assert observed(plane, endpoint).generation == first


def test_apply__new_shares__replace_the_old_ones(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=1)
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    assert observed(plane, endpoint).shares == {CANDIDATE: 10_000}


def test_apply__candidate_without_backend_any_more__is_no_longer_known(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    alone = replace(route(plane, endpoint, 0), backends=(plane.backend(BASELINE),))
    plane.router.apply(alone, token=1)
    assert plane.send(endpoint, 1, forced=CANDIDATE)[0].status == 404
    assert observed(plane, endpoint).healthy == {BASELINE}


def test_apply__backend_of_an_unknown_kind__is_refused_in_a_sentence(plane: Plane, endpoint: str) -> None:
    pools = tuple(Backend(variant, "inference-pool", name=variant) for variant in (BASELINE, CANDIDATE))
    with pytest.raises(InvalidInput, match="does not know backends of kind 'inference-pool'") as refusal:
        plane.router.apply(replace(route(plane, endpoint, 500), backends=pools), token=1)
    assert refusal.value.field == "route.backends"
    assert plane.router.observe(endpoint) is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"shares": {BASELINE: 9000, CANDIDATE: 999}}, "route.shares"),
        ({"shares": {BASELINE: 10_500, CANDIDATE: -500}}, "route.shares"),
        ({"shares": {BASELINE: 9000, "chat-v9-cccc": 1000}}, "route.shares"),
        ({"fallback": "chat-v9-cccc"}, "route.fallback"),
        ({"rescuers": ("chat-v9-cccc",)}, "route.rescuers"),
        ({"api": EngineApi(())}, "route.api"),
        ({"api": EngineApi(("/v1/x",), ("/v1/.*",))}, "route.api"),
        ({"backends": (at_address(BASELINE, "host", 0), at_address(CANDIDATE, "host", 1))}, "route.backends"),
        ({"backends": (at_address(BASELINE, "host", 1), at_address(BASELINE, "host", 2))}, "route.backends"),
        ({"endpoint": "no/slash"}, "route.endpoint"),
    ],
)  # fmt: skip
def test_apply__impossible_route__is_refused_with_the_field(
    plane: Plane, endpoint: str, change: dict[str, object], field: str
) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=1)
    with pytest.raises(InvalidInput) as refused:
        plane.router.apply(replace(route(plane, endpoint, 700), **change), token=1)  # type: ignore[arg-type]
    assert refused.value.field == field
    assert observed(plane, endpoint).shares == {BASELINE: 9500, CANDIDATE: 500}


def test_apply__older_token__is_stale_and_changes_nothing(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=5)
    with pytest.raises(StaleWriter):
        plane.router.apply(route(plane, endpoint, 10_000), token=4)
    assert observed(plane, endpoint).shares == {BASELINE: 9500, CANDIDATE: 500}


def test_claim__newer_token__is_remembered_and_shuts_out_the_older_writer(
    plane: Plane, endpoint: str
) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=5)
    assert plane.router.claim(endpoint, token=7) == 7
    with pytest.raises(StaleWriter) as refused:
        plane.router.apply(route(plane, endpoint, 700), token=6)
    assert refused.value.extra["newest"] == 7
    assert observed(plane, endpoint).shares == {BASELINE: 9500, CANDIDATE: 500}


def test_claim__older_token__answers_the_newest_and_leaves_it(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=5)
    assert plane.router.claim(endpoint, token=3) == 5
    plane.router.apply(route(plane, endpoint, 700), token=5)


def test_apply__token_of_another_endpoint__does_not_count(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=5)
    plane.router.apply(route(plane, endpoint + "x", 700), token=1)
    assert observed(plane, endpoint + "x").shares[CANDIDATE] == 700


def test_observe_all__is_what_is_observed_of_each(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 2_500), token=1)
    other = replace(route(plane, endpoint, 10_000), endpoint=f"{endpoint}-b")
    plane.router.apply(other, token=1)
    found = plane.router.observe_all()
    assert found[endpoint] == observed(plane, endpoint)
    assert found[other.endpoint] == observed(plane, other.endpoint)
    assert found[endpoint].shares == {BASELINE: 7_500, CANDIDATE: 2_500}


def test_observe_all__dead_candidate__is_not_among_the_healthy(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 5_000), token=1)
    plane.kill(CANDIDATE)
    wait_until("it is seen", lambda: plane.router.observe_all()[endpoint].healthy == {BASELINE})


def test_observe__unknown_endpoint__is_none(plane: Plane) -> None:
    assert plane.router.observe("nobody") is None


def test_apply__router_refuses__says_why_and_the_last_good_route_serves(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=1)
    before = observed(plane, endpoint)
    word = plane.refuse()
    with pytest.raises(Rejected, match=f"(?i){word}"):
        plane.router.apply(route(plane, endpoint, 600), token=1)
    seen = observed(plane, endpoint)
    assert word in seen.rejected.lower()
    assert replace(seen, rejected="") == before
    assert plane.send(endpoint, 3)[-1].status == 200


def test_apply__accepted_after_a_refusal__clears_it(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=1)
    plane.refuse()
    with pytest.raises(Rejected):
        plane.router.apply(route(plane, endpoint, 600), token=1)
    plane.accept()
    plane.router.apply(route(plane, endpoint, 600), token=1)
    seen = observed(plane, endpoint)
    assert (seen.shares[CANDIDATE], seen.rejected) == (600, "")


def test_router__down__is_unavailable_and_serves_the_same_after_its_start(
    plane: Plane, endpoint: str
) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=1)
    plane.stop_router()
    with pytest.raises(Unavailable):
        plane.router.observe(endpoint)
    with pytest.raises(Unavailable):
        plane.router.apply(route(plane, endpoint, 600), token=1)
    plane.start_router()
    assert observed(plane, endpoint).shares == {BASELINE: 9500, CANDIDATE: 500}
    assert plane.send(endpoint, 1)[0].status == 200


def test_traffic__split__is_within_binomial_noise_and_every_response_says_who(
    plane: Plane, endpoint: str
) -> None:
    plane.router.apply(route(plane, endpoint, 2500), token=1)
    number = 400
    seen = plane.send(endpoint, number)
    assert {s.status for s in seen} == {200}
    assert all(s.assigned == s.answered for s in seen)
    drawn = Counter(s.assigned for s in seen)
    assert set(drawn) == BOTH
    # six standard deviations: wrong once in 500 million runs
    assert abs(drawn[CANDIDATE] - number / 4) < 6 * math.sqrt(number * 0.25 * 0.75)


@pytest.mark.parametrize("capability", Capability)
def test_capability__tried_on_the_router__is_declared_if_and_only_if_it_does_it(
    plane: Plane, endpoint: str, capability: Capability
) -> None:
    assert TRIALS[capability](plane, endpoint) is (capability in plane.router.capabilities())


def test_traffic__forced_variant__answers_even_with_a_share_of_zero(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    seen = plane.send(endpoint, 5, forced=CANDIDATE)
    assert [(s.status, s.answered, s.assigned) for s in seen] == [(200, CANDIDATE, "")] * 5
    assert {s.answered for s in plane.send(endpoint, 20)} == {BASELINE}


def test_traffic__forced_variant_unknown__is_404(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    assert plane.send(endpoint, 1, forced="chat-v9-cccc")[0].status == 404


def test_traffic__dead_candidate__is_answered_by_the_fallback(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.kill(CANDIDATE)
    seen = plane.send(endpoint, 20)
    assert {(s.status, s.assigned, s.answered) for s in seen} == {(200, CANDIDATE, BASELINE)}
    wait_until("its health check fails", lambda: observed(plane, endpoint).healthy == {BASELINE})


def test_traffic__dead_baseline_without_rescuers__is_answered_by_nobody(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.kill(BASELINE)
    assert {s.status for s in plane.send(endpoint, 5)} == {503}


def test_traffic__dead_baseline_with_a_rescuer__is_answered_by_it(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 5000, rescuers=(CANDIDATE,)), token=1)
    plane.kill(BASELINE)
    seen = plane.send(endpoint, 60)
    assert {(s.status, s.answered) for s in seen} == {(200, CANDIDATE)}
    drawn = Counter(s.assigned for s in seen)
    assert set(drawn) == BOTH  # who was drawn stays as it was
    wait_until("all are counted", lambda: counted(plane, endpoint, 60))
    found = arms(plane, endpoint)
    baseline, candidate = found[BASELINE], found[CANDIDATE]
    assert (baseline.arrived, baseline.fallbacks, baseline.answered) == (drawn[BASELINE], drawn[BASELINE], 0)
    assert (candidate.arrived, candidate.fallbacks, candidate.answered) == (
        drawn[CANDIDATE],
        0,
        drawn[CANDIDATE],
    )


def test_traffic__dead_candidate_that_would_be_a_rescuer__is_answered_by_the_fallback(
    plane: Plane, endpoint: str
) -> None:
    plane.router.apply(route(plane, endpoint, 10_000, rescuers=(CANDIDATE,)), token=1)
    plane.kill(CANDIDATE)
    assert {(s.status, s.assigned, s.answered) for s in plane.send(endpoint, 20)} == {
        (200, CANDIDATE, BASELINE)
    }


def test_traffic__both_dead__fails_in_the_arm_that_was_drawn(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 5000, rescuers=(CANDIDATE,)), token=1)
    plane.kill(BASELINE)
    plane.kill(CANDIDATE)
    seen = plane.send(endpoint, 40)
    assert {s.status for s in seen} == {503}
    drawn = Counter(s.assigned for s in seen)
    wait_until("all are counted", lambda: counted(plane, endpoint, 40))
    found = arms(plane, endpoint)
    for variant in BOTH:
        assert (found[variant].failed, found[variant].fallbacks) == (drawn[variant], 0)


def test_traffic__rescuer_taken_away__answers_no_longer(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0, rescuers=(CANDIDATE,)), token=1)
    plane.kill(BASELINE)
    assert {s.answered for s in plane.send(endpoint, 10)} == {CANDIDATE}
    plane.router.apply(route(plane, endpoint, 0), token=1)
    assert {s.status for s in plane.send(endpoint, 10)} == {503}


def test_traffic__baseline_comes_back__answers_itself_again(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0, rescuers=(CANDIDATE,)), token=1)
    plane.change(BASELINE, healthy=False)
    wait_until("another answers", lambda: {s.answered for s in plane.send(endpoint, 10)} == {CANDIDATE})
    assert BASELINE not in observed(plane, endpoint).healthy
    plane.change(BASELINE)
    wait_until("it answers itself", lambda: {s.answered for s in plane.send(endpoint, 10)} == {BASELINE})
    assert BASELINE in observed(plane, endpoint).healthy


def test_traffic__baseline_fails_its_health_check_only__still_answers(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.change(BASELINE, healthy=False)
    wait_until("its health check fails", lambda: BASELINE not in observed(plane, endpoint).healthy)
    assert {(s.status, s.answered) for s in plane.send(endpoint, 5)} == {(200, BASELINE)}


def test_traffic__candidate_fails_its_health_check__is_answered_by_the_fallback(
    plane: Plane, endpoint: str
) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.change(CANDIDATE, healthy=False)
    wait_until("its health check fails", lambda: observed(plane, endpoint).healthy == {BASELINE})
    assert {(s.status, s.assigned, s.answered) for s in plane.send(endpoint, 5)} == {
        (200, CANDIDATE, BASELINE)
    }
