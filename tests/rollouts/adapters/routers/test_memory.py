"""The router in memory without what not every router can do."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from controlplane.kernel.clock import ManualClock
from rollouts.adapters.backends import at_address
from rollouts.adapters.routers.memory import CAN, MemoryRouter
from rollouts.domain.capabilities import Capability
from rollouts.domain.record.readings import ROUTER
from rollouts.ports import Route

START = datetime(2026, 1, 1, tzinfo=UTC)
HALF = Route(
    endpoint="chat",
    shares={"v1": 5_000, "v2": 5_000},
    backends=(at_address("v1", "127.0.0.1", 1), at_address("v2", "127.0.0.1", 2)),
    fallback="v1",
)


def router_without(missing: Capability) -> MemoryRouter:
    clock = ManualClock(START)
    made = MemoryRouter(clock, random.Random(7), can=CAN - {missing})
    made.apply(HALF, token=1)
    return made


def test_send__no_fallback_and_a_dead_variant__is_lost_and_counts_as_its_failure() -> None:
    router = router_without(Capability.FALLBACK)
    router.engine("v2").alive = False
    seen = [router.send("chat") for _ in range(100)]
    assert {(one.status, one.assigned) for one in seen} == {(200, "v1"), (503, "v2")}
    arms = router.counted("chat", HALF.backends)[ROUTER].arms
    assert arms["v2"].failed == sum(one.status == 503 for one in seen)
    assert arms["v2"].fallbacks == 0


def test_send__no_forced_variant__is_split_as_every_request_is() -> None:
    router = router_without(Capability.FORCED_VARIANT)
    assert {router.send("chat", forced="v2").answered for _ in range(50)} == {"v1", "v2"}


@pytest.mark.parametrize("missing", sorted(CAN))
def test_capabilities__are_what_it_was_made_with(missing: Capability) -> None:
    assert router_without(missing).capabilities() == CAN - {missing}


def test_apply__router_that_lags__says_what_is_in_force_until_the_new_route_is() -> None:
    clock = ManualClock(START)
    router = MemoryRouter(clock, random.Random(1), lag_seconds=5)
    router.apply(HALF, token=1)
    assert router.observe("chat") is None, "the first route is accepted and not in force"
    clock.advance(5)
    alone = replace(HALF, shares={"v1": 10_000}, backends=HALF.backends[:1])
    second = router.apply(alone, token=1)
    clock.advance(4.9)
    lagging = router.observe("chat")
    assert lagging is not None
    assert (lagging.shares, lagging.named) == (HALF.shares, frozenset({"v1", "v2"}))
    assert (lagging.generation, lagging.accepted, lagging.settled) == (second - 1, second, False)
    assert {router.send("chat").assigned for _ in range(50)} == {"v1", "v2"}
    clock.advance(0.1)
    settled = router.observe("chat")
    assert settled is not None
    assert (settled.shares, settled.named, settled.settled) == (alone.shares, frozenset({"v1"}), True)


def test_apply__back_to_the_route_in_force_while_another_waits__is_a_new_generation() -> None:
    clock = ManualClock(START)
    router = MemoryRouter(clock, random.Random(1))
    first = router.apply(HALF, token=1)
    router.lag_seconds = 5
    router.apply(replace(HALF, shares={"v1": 10_000}), token=1)
    clock.advance(1)
    assert router.apply(HALF, token=1) == first + 2, "the other one is still to come into force before it"
    clock.advance(5)
    seen = router.observe("chat")
    assert seen is not None
    assert (seen.shares, seen.generation) == (HALF.shares, first + 2)
