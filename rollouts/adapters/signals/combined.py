"""The router's counters and the engines' gauges in one reading."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Protocol

from rollouts.domain.readings import EngineReading, Failures, SignalReading
from rollouts.ports import Backend, SignalSource


class EngineMetrics(Protocol):
    """Reads engines: (readings, reasons why there is none), both by variant. It raises nothing."""

    def read(
        self, backends: Collection[Backend]
    ) -> tuple[Mapping[str, EngineReading], Mapping[str, str]]: ...


class CombinedSignals:
    """A SignalSource. The router's counters must be readable; an engine that is not is named in `broken`."""

    def __init__(self, router: SignalSource, engines: EngineMetrics) -> None:
        self._router = router
        self._engines = engines

    def failures(self) -> Mapping[str, Failures]:
        """See the port."""
        return self._router.failures()

    def read(self, endpoint: str, backends: Collection[Backend]) -> SignalReading:
        reading = self._router.read(endpoint, backends)
        engines, broken = self._engines.read(backends)
        return replace(reading, engines=engines, broken={**reading.broken, **broken})
