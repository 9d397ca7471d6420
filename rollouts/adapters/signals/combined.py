"""The router's counters and the engines' gauges in one reading."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Protocol

from controlplane.kernel.errors import HeadgateError
from rollouts.domain.record.asked import CounterAnswer
from rollouts.domain.record.readings import CountedKind, EngineReading, Failures, SignalReading
from rollouts.ports import Backend, CounterQuestion, SignalSource


class EngineMetrics(Protocol):
    """Reads engines: (readings, reasons why there is none), both by variant. It raises nothing."""

    def read(
        self, backends: Collection[Backend]
    ) -> tuple[Mapping[str, EngineReading], Mapping[str, str]]: ...

    def query(self, backend: Backend) -> str:
        """What is asked for its counts of answers, as a person may ask it by hand."""
        ...


class CombinedSignals:
    """A SignalSource. The router's counters must be readable; an engine that is not is named in `broken`."""

    def __init__(self, router: SignalSource, engines: EngineMetrics) -> None:
        self._router = router
        self._engines = engines

    def queries(self, endpoint: str, backend: Backend) -> Mapping[CountedKind, str]:
        """See the port."""
        of_engine = {CountedKind.COMPLETIONS: self._engines.query(backend)}
        return {**self._router.queries(endpoint, backend), **of_engine}

    def read_counters(
        self, questions: Collection[CounterQuestion]
    ) -> Mapping[CounterQuestion, CounterAnswer]:
        """See the port."""
        return self._router.read_counters(questions)

    def failures(self) -> Mapping[str, Mapping[str, Failures]]:
        """See the port."""
        return self._router.failures()

    def read_all(
        self, backends: Mapping[str, Collection[Backend]]
    ) -> Mapping[str, SignalReading | HeadgateError]:
        """See the port."""
        found = dict(self._router.read_all(backends))
        every = [backend for known in backends.values() for backend in known]
        engines, broken = self._engines.read(every)
        for endpoint, reading in found.items():
            if isinstance(reading, SignalReading):
                own = {backend.variant for backend in backends[endpoint]}
                found[endpoint] = replace(
                    reading,
                    engines={name: one for name, one in engines.items() if name in own},
                    broken={**reading.broken, **{name: why for name, why in broken.items() if name in own}},
                )
        return found
