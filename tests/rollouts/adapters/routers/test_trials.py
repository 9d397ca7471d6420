"""The trials of capabilities themselves: each finds a router that does it, and one that does not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rollouts.adapters.routers.memory import CAN, MemoryRouter
from rollouts.domain.capabilities import Capability
from tests.rollouts.adapters.data_plane import CANDIDATE, MemoryPlane, Seen
from tests.rollouts.adapters.routers.trials import TRIALS


class MirroringPlane(MemoryPlane):
    """The candidate's engine gets a copy of every request."""

    def send(self, endpoint: str, number: int, **how: Any) -> list[Seen]:
        found = super().send(endpoint, number, **how)
        for _ in range(number):
            self.router.engine(CANDIDATE).finish("a copy", "stop")
        return found


class StickyPlane(MemoryPlane):
    """The caller stays at the variant that it drew first."""

    def send(self, endpoint: str, number: int, **how: Any) -> list[Seen]:
        return super().send(endpoint, 1, **how) * number


class CannotPlane(MemoryPlane):
    """A router that only splits."""

    def __init__(self) -> None:
        super().__init__()
        self.router = MemoryRouter(self.clock, random.Random(7), can=frozenset())


DOES = {
    Capability.FALLBACK: MemoryPlane,
    Capability.FORCED_VARIANT: MemoryPlane,
    Capability.MIRROR: MirroringPlane,
    Capability.STICKY: StickyPlane,
}


def test_trials__there_is_one__for_every_capability() -> None:
    assert set(TRIALS) == set(DOES) == set(Capability)
    assert set(Capability) > CAN


@pytest.mark.parametrize("capability", Capability)
def test_trial__router_that_does_it__finds_that(capability: Capability) -> None:
    assert TRIALS[capability](DOES[capability](), "chat")


@pytest.mark.parametrize("capability", Capability)
def test_trial__router_that_only_splits__finds_nothing(capability: Capability) -> None:
    assert not TRIALS[capability](CannotPlane(), "chat")
