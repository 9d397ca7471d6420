"""Signals of a router in memory that has several processes, as a gateway with replicas."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from controlplane.kernel.clock import ManualClock
from rollouts.adapters.backends import at_address
from rollouts.adapters.routers.memory import MemoryRouter
from rollouts.adapters.signals.memory import MemorySignals
from rollouts.domain.record.counters import counts_between
from rollouts.domain.record.readings import SignalReading
from rollouts.ports import Route
from tests.rollouts.adapters.readings import read_one

BACKENDS = (at_address("v1", "127.0.0.1", 1), at_address("v2", "127.0.0.1", 2))
HALF = Route("chat", {"v1": 5_000, "v2": 5_000}, BACKENDS, "v1")


class Replicas:
    """A router of three processes, and its users."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.router = MemoryRouter(self.clock, random.Random(7), targets=("x", "y", "z"))
        self.signals = MemorySignals(self.router)
        self.router.apply(HALF, token=1)

    def send(self, number: int) -> None:
        for _ in range(number):
            self.router.send("chat")

    def read(self) -> SignalReading:
        self.clock.advance(5)
        return read_one(self.signals, "chat", BACKENDS)


def arrived(reading: SignalReading) -> dict[str, int]:
    return {name: sum(arm.arrived for arm in one.arms.values()) for name, one in reading.targets.items()}


def test_read__several_targets__each_counts_its_own_and_together_they_count_all() -> None:
    made = Replicas()
    made.send(300)
    counted = arrived(made.read())
    assert sum(counted.values()) == 300
    assert min(counted.values()) > 50
    found = made.signals.failures()["chat"]
    assert {name: one.ended for name, one in found.items()} == counted


def test_read__one_target_restarted__counts_anew_and_the_others_go_on() -> None:
    made = Replicas()
    made.send(300)
    before = made.read()
    made.router.restart("y")
    made.send(60)
    after = made.read()
    started = {name: one.started_at for name, one in after.targets.items()}
    assert [name for name, at in started.items() if at != before.targets[name].started_at] == ["y"]
    counted = counts_between(before, after, {})
    lived_on = {name: arrived(after)[name] - arrived(before)[name] for name in ("x", "z")}
    assert sum(arm.arrived for arm in counted.arms.values()) == sum(lived_on.values())


def test_read__target_that_comes_and_one_that_goes__are_there_and_gone() -> None:
    made = Replicas()
    made.router.stop("x")
    made.router.start("w")
    made.send(10)
    assert set(made.read().targets) == {"w", "y", "z"}
