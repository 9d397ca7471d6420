"""Each capability tried by requests: what a router does, whatever it declares.

A trial asks by the port alone, as Headgate does: what no route can ask for, no router is found to do. Whoever gives
routes a new field, say for copies of requests, has the trial ask by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from rollouts.domain.capabilities import Capability
from rollouts.ports import Backend, TrafficRouter
from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, Seen, route

# A router that draws at random sends so many requests to one of two variants with equal shares once in 5e11 trials.
REQUESTS = 40


class Tried(Protocol):
    """The part of a data plane that the trials use."""

    @property
    def router(self) -> TrafficRouter: ...
    def backend(self, variant: str) -> Backend: ...
    def send(self, endpoint: str, number: int, *, forced: str = "") -> list[Seen]:
        """Requests of one caller: from one address, with the same headers, and with the cookies that it was given."""
        ...

    def received(self, variant: str) -> int: ...
    def kill(self, variant: str) -> None: ...


def falls_back(plane: Tried, endpoint: str) -> bool:
    """Whether somebody answers for a dead variant that has all the traffic."""
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.kill(CANDIDATE)
    return {(one.status, one.answered) for one in plane.send(endpoint, 5)} == {(200, BASELINE)}


def forces(plane: Tried, endpoint: str) -> bool:
    """Whether a variant without a share answers a request that names it, and no other request."""
    plane.router.apply(route(plane, endpoint, 0), token=1)
    named = {one.answered for one in plane.send(endpoint, 5, forced=CANDIDATE)}
    return named == {CANDIDATE} and {one.answered for one in plane.send(endpoint, 5)} == {BASELINE}


def mirrors(plane: Tried, endpoint: str) -> bool:
    """Whether the engine of a variant without a share gets requests that another one answered."""
    plane.router.apply(route(plane, endpoint, 0), token=1)
    before = plane.received(CANDIDATE), plane.received(BASELINE)
    assert {one.answered for one in plane.send(endpoint, REQUESTS)} == {BASELINE}
    assert plane.received(BASELINE) - before[1] >= REQUESTS, "what reaches an engine is counted"
    return plane.received(CANDIDATE) > before[0]


def keeps_callers(plane: Tried, endpoint: str) -> bool:
    """Whether one caller stays at one of two variants with equal shares."""
    plane.router.apply(route(plane, endpoint, 5_000), token=1)
    return len({one.answered for one in plane.send(endpoint, REQUESTS)}) == 1


TRIALS: Mapping[Capability, Callable[[Tried, str], bool]] = {
    Capability.FALLBACK: falls_back,
    Capability.FORCED_VARIANT: forces,
    Capability.MIRROR: mirrors,
    Capability.STICKY: keeps_callers,
}
