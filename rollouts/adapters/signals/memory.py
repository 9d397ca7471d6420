"""Signals of the data plane in memory."""

from __future__ import annotations

from collections.abc import Collection

from rollouts.adapters.routers.memory import MemoryRouter
from rollouts.ports import Backend, EngineReading, SignalReading


class MemorySignals:
    """A SignalSource that reads a MemoryRouter's counters and its engines."""

    def __init__(self, router: MemoryRouter) -> None:
        self._router = router

    def read(self, endpoint: str, backends: Collection[Backend]) -> SignalReading:
        engines: dict[str, EngineReading] = {}
        broken: dict[str, str] = {}
        arms = self._router.arms(endpoint, list(backends))
        for backend in backends:
            engine = self._router.engine(backend.variant)
            if engine.alive and engine.metrics:
                engines[backend.variant] = EngineReading(0.0, 0.0, 0.0, engine.tokens, engine.started_at)
            else:
                address = f"http://{backend.host}:{backend.port}/metrics"
                broken[backend.variant] = f"{address} cannot be read: Connection refused"
        return SignalReading(
            at=self._router.clock.now().timestamp(),
            router_started_at=self._router.started_at,
            arms=arms,
            engines=engines,
            broken=broken,
        )
