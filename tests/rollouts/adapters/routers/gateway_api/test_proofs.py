"""Nobody gets a first share before all proxies have endpoints for them: the router on an API server in memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Unavailable
from rollouts.adapters.routers.gateway_api.counted import CountedRoute, EndpointsAnswer
from rollouts.adapters.routers.gateway_api.endpoints import BLIND_SECONDS
from rollouts.adapters.routers.gateway_api.proofs import NO_ENDPOINTS, ROUNDED_SECONDS, USUAL_SECONDS
from rollouts.adapters.routers.gateway_api.router import GatewayRouter
from rollouts.domain.capabilities import Capability
from rollouts.ports import ObservedRoute, Route
from tests.rollouts.adapters.clusters.kubernetes.told import MemoryTokens
from tests.rollouts.adapters.routers.gateway_api.cluster import MemoryRoutes
from tests.rollouts.adapters.routers.gateway_api.routes import PLACE, V1, V2, service, two

FORCED = frozenset({Capability.FORCED_VARIANT})
BEGINS = {V1: 1_000_000, V2: 1}


class Counting:
    """Whoever counts the endpoints of two proxies. `away`: it does not answer."""

    def __init__(self) -> None:
        self.without: dict[str, set[str]] = {"edge-0": set(), "edge-1": set()}
        self.away = False
        self.asked: list[CountedRoute] = []

    def lacking(self, route: CountedRoute) -> EndpointsAnswer:
        self.asked.append(route)
        if self.away:
            raise Unavailable("Prometheus does not answer.")
        lack = [
            f"{proxy} has no endpoints for {variant}"
            for proxy, without in self.without.items()
            for variant in sorted(without & set(route.places.values()))
        ]
        return EndpointsAnswer("; ".join(lack), bool(lack))


@pytest.fixture
def routes() -> MemoryRoutes:
    return MemoryRoutes()


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def router(routes: MemoryRoutes, clock: ManualClock, counting: Counting) -> GatewayRouter:
    return made(routes, clock, counting)


def made(routes: MemoryRoutes, clock: ManualClock, counting: Counting) -> GatewayRouter:
    return GatewayRouter(
        routes, PLACE, clock, lambda: FORCED, routes.served, MemoryTokens(), endpoints=counting.lacking
    )


def observed(router: GatewayRouter) -> ObservedRoute:
    found = router.observe("chat")
    assert found is not None
    return found


def begin(router: GatewayRouter, clock: ManualClock, seconds: float = 0.0) -> Unavailable | None:
    """Has V2 begin; then asks again, as the loop does, after so many seconds. What it was told."""
    router.apply(two(500), token=1)
    clock.advance(seconds)
    try:
        router.apply(two(500), token=1)
    except Unavailable as told:
        return told
    return None


def test_apply__one_of_two_proxies_has_no_endpoints__the_share_begins_when_it_has(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock, counting: Counting
) -> None:
    first = router.apply(two(0), token=1)
    counting.without["edge-1"] = {V2}
    assert begin(router, clock, USUAL_SECONDS - 1) is None
    assert routes.weights() == BEGINS
    assert (observed(router).generation, observed(router).shares) == (first, {V1: 10_000})
    counting.without["edge-1"] = set()
    second = router.apply(two(500), token=1)
    assert routes.weights() == {V1: 9_500, V2: 500}
    assert (observed(router).generation, observed(router).settled) == (second, True)


def test_apply__a_proxy_has_no_endpoints_for_a_while__says_which_for_whom_and_how_long(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock, counting: Counting
) -> None:
    router.apply(two(0), token=1)
    counting.without["edge-1"] = {V2}
    told = begin(router, clock, 40)
    assert told is not None
    assert "was written 40 s ago" in told.message
    assert f"edge-1 has no endpoints for {V2}" in told.message
    assert "edge-0" not in told.message
    assert (told.code, "restart it" in told.fix) == (NO_ENDPOINTS, True)


def test_apply__a_share_begins__only_its_place_is_asked_for_and_nothing_older_counts(
    router: GatewayRouter, clock: ManualClock, counting: Counting
) -> None:
    router.apply(two(0), token=1)
    counting.asked.clear()
    written = clock.now().timestamp()
    router.apply(two(500), token=1)
    (asked,) = counting.asked
    assert (asked.route, asked.namespace, asked.places) == ("chat", PLACE.namespace, {(0, 1): V2})
    assert asked.since == written + ROUNDED_SECONDS


@pytest.mark.parametrize("candidate_bp", [700, 0, 10_000], ids=["grows", "ends", "is all"])
def test_apply__who_has_a_share_gets_another__nobody_counts(
    router: GatewayRouter, routes: MemoryRoutes, counting: Counting, candidate_bp: int
) -> None:
    router.apply(two(500), token=1)
    counting.asked.clear()
    counting.away = True
    router.apply(two(candidate_bp), token=1)
    assert observed(router).settled
    assert (observed(router).shares.get(V2, 0), counting.asked) == (candidate_bp, [])


def test_apply__rollback_while_a_share_waits_to_begin__is_made_at_once(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock, counting: Counting
) -> None:
    router.apply(two(0), token=1)
    counting.without["edge-1"] = {V2}
    begin(router, clock)
    counting.away = True
    router.apply(two(0), token=1)
    assert routes.weights() == {V1: 10_000, V2: 0}
    assert observed(router).settled


def test_apply__first_route_of_an_endpoint__is_in_force_when_all_proxies_have_endpoints(
    router: GatewayRouter, counting: Counting
) -> None:
    counting.without["edge-0"] = {V1}
    alone = Route("chat", {V1: 10_000}, (service(V1),), V1)
    router.apply(alone, token=1)
    assert (observed(router).generation, observed(router).shares) == (0, {})
    counting.without["edge-0"] = set()
    router.apply(alone, token=1)
    assert (observed(router).settled, observed(router).shares) == (True, {V1: 10_000})


def test_apply__nobody_says_which_endpoints_there_are__goes_on_by_the_forced_request_after_a_while(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock, counting: Counting
) -> None:
    """A rollback to a variant without a share must not wait for a Prometheus that is away."""
    router.apply(two(0), token=1)
    counting.away = True
    told = begin(router, clock, BLIND_SECONDS - 1)
    assert told is not None
    assert "Prometheus does not answer" in told.message
    assert routes.weights() == BEGINS
    clock.advance(2)
    router.apply(two(500), token=1)
    assert routes.weights() == {V1: 9_500, V2: 500}


def test_apply__a_lack_was_seen_and_then_nobody_says__waits_in_every_worker(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock, counting: Counting
) -> None:
    router.apply(two(0), token=1)
    counting.without["edge-1"] = {V2}
    begin(router, clock)
    counting.away = True
    another = made(routes, clock, counting)
    for _ in range(3):
        clock.advance(BLIND_SECONDS)
        with pytest.raises(Unavailable, match="nobody can say"):
            another.apply(two(500), token=1)
    assert routes.weights() == BEGINS


def test_apply__variant_does_not_answer_itself__whoever_counts_is_not_asked(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock, counting: Counting
) -> None:
    router.apply(two(0), token=1)
    counting.asked.clear()
    routes.answers = {V1}
    begin(router, clock)
    assert (counting.asked, routes.weights()) == ([], BEGINS)


def test_apply__written_by_a_clock_that_was_wrong__does_not_wait_until_it_shows_that_time(
    router: GatewayRouter, routes: MemoryRoutes, clock: ManualClock, counting: Counting
) -> None:
    router.apply(two(0), token=1)
    counting.without["edge-1"] = {V2}
    begin(router, clock)
    counting.asked.clear()
    an_hour_ago = ManualClock(clock.now() - timedelta(hours=1))
    made(routes, an_hour_ago, counting).apply(two(500), token=1)
    assert [asked.since for asked in counting.asked] == [0.0]
