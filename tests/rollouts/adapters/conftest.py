"""The data planes: one in memory, and the real one, which is started once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.rollouts.adapters.data_plane import EnvoyPlane, MemoryPlane, Plane

_numbers = count(1)


@pytest.fixture(scope="session")
def running_envoy() -> Iterator[EnvoyPlane]:
    plane = EnvoyPlane()
    yield plane
    plane.close()


@pytest.fixture
def envoy(running_envoy: EnvoyPlane) -> EnvoyPlane:
    """The real Envoy with two stand-in engines, all well."""
    running_envoy.reset()
    return running_envoy


@pytest.fixture(params=["memory", pytest.param("envoy", marks=pytest.mark.needs("envoy"))])
def plane(request: pytest.FixtureRequest) -> Plane:
    """Both data planes, one after the other."""
    if request.param == "memory":
        memory = MemoryPlane()
        memory.reset()
        return memory
    found: Plane = request.getfixturevalue("envoy")
    return found


@pytest.fixture
def endpoint() -> str:
    """An endpoint of the test's own, so that no other test's counters are in it."""
    return f"chat{next(_numbers)}"
