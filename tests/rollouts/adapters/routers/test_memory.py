"""The router in memory without what not every router can do."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from controlplane.kernel.clock import ManualClock
from rollouts.adapters.backends import at_address
from rollouts.adapters.routers.memory import MemoryRouter
from rollouts.domain.capabilities import EVERY_CAPABILITY, Capability
from rollouts.ports import Route

HALF = Route(
    endpoint="chat",
    shares={"v1": 5_000, "v2": 5_000},
    backends=(at_address("v1", "127.0.0.1", 1), at_address("v2", "127.0.0.1", 2)),
    fallback="v1",
)


def router_without(missing: Capability) -> MemoryRouter:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    made = MemoryRouter(clock, random.Random(7), can=EVERY_CAPABILITY - {missing})
    made.apply(HALF, token=1)
    return made


def test_send__no_fallback_and_a_dead_variant__is_lost_and_counts_as_its_failure() -> None:
    router = router_without(Capability.FALLBACK)
    router.engine("v2").alive = False
    seen = [router.send("chat") for _ in range(100)]
    assert {(one.status, one.assigned) for one in seen} == {(200, "v1"), (503, "v2")}
    arms = router.arms("chat", list(HALF.backends))
    assert arms["v2"].failed == sum(one.status == 503 for one in seen)
    assert arms["v2"].fallbacks == 0


def test_send__no_forced_variant__is_split_as_every_request_is() -> None:
    router = router_without(Capability.FORCED_VARIANT)
    assert {router.send("chat", forced="v2").answered for _ in range(50)} == {"v1", "v2"}


@pytest.mark.parametrize("missing", Capability)
def test_capabilities__are_what_it_was_made_with(missing: Capability) -> None:
    assert router_without(missing).capabilities() == EVERY_CAPABILITY - {missing}
