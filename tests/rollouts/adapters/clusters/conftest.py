"""A cluster in the machine room of the module (its fixture `room`), and names for what runs there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from rollouts.adapters.clusters.local import LocalCluster
from tests.rollouts.adapters.clusters.machine_room import MachineRoom
from tests.standins.running import wait_until

numbers = count(1)


@pytest.fixture
def cluster(room: MachineRoom) -> Iterator[LocalCluster]:
    """A cluster whose workloads are gone afterwards."""
    cluster = room.cluster()
    yield cluster
    for variant in cluster.statuses():
        cluster.drain(variant, variant.split("-")[0], token=1_000)
    hurry = room.cluster(drain_seconds=0.0)
    wait_until("all workloads are gone", lambda: not hurry.statuses(), 60)


@pytest.fixture
def variant() -> str:
    """A name that no other test has."""
    return f"chat{next(numbers)}-v1-aaaa"
