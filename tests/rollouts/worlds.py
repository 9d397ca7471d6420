"""Worlds for tests: of exactly these clusters."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from controlplane.kernel.clock import Clock, SystemClock
from registry.adapters.model_stores.memory import MemoryModelStore
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.adapters.probers.memory import MemoryProber
from rollouts.adapters.request_log.memory import MemoryRequestLog
from rollouts.adapters.routers.memory import MemoryRouter
from rollouts.adapters.signals.memory import MemorySignals
from rollouts.services.world import World, Worlds


def world_in_memory(clock: Clock, name: str = "here", **changes: Any) -> World:
    """A cluster in memory without any endpoint."""
    router = MemoryRouter(clock, random.Random(7))
    parts: dict[str, Any] = {
        "name": name,
        "cluster": MemoryCluster(clock),
        "router": router,
        "signals": MemorySignals(router),
        "request_log": MemoryRequestLog(router),
        "prober": MemoryProber(router),
        "store": MemoryModelStore(),
        "models_dir": Path("/nonexistent"),
        "clock": clock,
        "edges": {"ttft": (0.1, 0.25, 0.5), "duration": (1.0, 2.5)},
        "endpoint_url": lambda endpoint: f"http://{name}/{endpoint}",
    }
    return World(**{**parts, **changes})


def worlds_of(*worlds: World) -> Worlds:
    """The worlds of a database that knows these clusters; at least one."""
    by_name = {world.name: world for world in worlds}
    return Worlds(tuple(by_name), by_name.__getitem__, worlds[0].clock)


def nothing_wrong() -> Worlds:
    """The worlds of pages that only ask which cluster cannot be used: none of them. No query."""
    return Worlds((), _nobody_asks, SystemClock())


def _nobody_asks(name: str) -> World:
    raise AssertionError(f"nobody asks for {name}")
