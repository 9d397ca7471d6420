"""All request logs: in memory, over Envoy's access log, and over what a gateway sends, in each store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from controlplane.kernel.clock import SystemClock
from rollouts.adapters.request_log.otlp.file_store import FileAnswers
from rollouts.adapters.request_log.otlp.redis_store import RedisAnswers
from rollouts.ports import Backend, RequestLog, Route
from tests.fixtures.redis_server import RunningRedis
from tests.rollouts.adapters.data_plane import MemoryPlane, Seen
from tests.rollouts.adapters.request_log.gateway_plane import GatewayPlane


class Accepts(Protocol):
    """The part of a router that these tests use."""

    def apply(self, route: Route, *, token: int) -> int: ...


class Logged(Protocol):
    """The part of a data plane that these tests use; a gateway has no fallback and no admin."""

    @property
    def router(self) -> Accepts: ...
    @property
    def request_log(self) -> RequestLog: ...
    def backend(self, variant: str) -> Backend: ...
    def send(self, endpoint: str, number: int, *, forced: str = "", stream: bool = False) -> list[Seen]: ...
    def kill(self, variant: str) -> None: ...
    def change(self, variant: str, *, refused: int = 0) -> None: ...
    def reset(self) -> None: ...


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RunningRedis]:
    with RunningRedis() as running:
        yield running


@pytest.fixture
def redis(redis_server: RunningRedis) -> RunningRedis:
    """A Redis server that runs and is empty."""
    redis_server.client.flushall()
    return redis_server


@pytest.fixture(scope="session")
def running_gateway(redis_server: RunningRedis) -> Iterator[GatewayPlane]:
    plane = GatewayPlane(RedisAnswers(redis_server.url))
    yield plane
    plane.close()


@pytest.fixture(scope="session")
def running_gateway_with_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayPlane]:
    folder: Path = tmp_path_factory.mktemp("answered")
    plane = GatewayPlane(FileAnswers(folder, SystemClock()))
    yield plane
    plane.close()


@pytest.fixture
def gateway(running_gateway: GatewayPlane) -> GatewayPlane:
    """The gateway with its requests in Redis, everything well."""
    running_gateway.reset()
    return running_gateway


@pytest.fixture(
    params=[
        "memory",
        pytest.param("envoy", marks=pytest.mark.needs("envoy")),
        pytest.param("running_gateway", marks=pytest.mark.needs("envoy", "redis")),
        pytest.param("running_gateway_with_files", marks=pytest.mark.needs("envoy")),
    ]
)
def logged(request: pytest.FixtureRequest) -> Logged:
    """All of them, one after the other."""
    plane: Logged = MemoryPlane() if request.param == "memory" else request.getfixturevalue(request.param)
    plane.reset()
    return plane
