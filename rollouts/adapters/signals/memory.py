"""Signals of the data plane in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.routers.memory import MemoryRouter
from rollouts.domain.record.asked import AskedReading, CounterAnswer, ProcessCounters
from rollouts.domain.record.numbers import NumberQuery, NumberReading
from rollouts.domain.record.readings import CountedKind, EngineReading, Failures, SignalReading
from rollouts.ports import Backend, CounterQuestion


class MemorySignals:
    """A SignalSource that reads a MemoryRouter's counters and its engines.

    outage  why it cannot be read; empty: it can
    """

    def __init__(self, router: MemoryRouter) -> None:
        self._router = router
        self.outage = ""

    def queries(self, endpoint: str, backend: Backend) -> Mapping[CountedKind, str]:
        """See the port."""
        return {kind: f"{kind.value} of {backend.variant} at {endpoint}" for kind in CountedKind}

    def read_counters(
        self, questions: Collection[CounterQuestion]
    ) -> Mapping[CounterQuestion, CounterAnswer]:
        """See the port. An engine counts under the expressions as they stand in the policy (`MemoryEngine.counted`,
        and `numbers`)."""
        return {one: self._answer(one) for one in questions}

    def _answer(self, question: CounterQuestion) -> CounterAnswer:
        variant, queries = question.backend.variant, question.asks.expressions
        engine, now = self._router.engine(variant), self._router.clock.now().timestamp()
        if self.outage:
            return CounterAnswer(why=f"the counters cannot be read: {self.outage}", queries=queries)
        if isinstance(question.asks, NumberQuery):
            if not engine.alive or question.asks.expression not in engine.numbers:
                return CounterAnswer(why=f"its query has no fresh series of {variant}", queries=queries)
            number = NumberReading(engine.numbers[question.asks.expression], now)
            return CounterAnswer(queries=queries, number=number)
        for name, query in zip(("bad_query", "all_query"), queries, strict=True):
            if not engine.alive or query not in engine.counted:
                return CounterAnswer(why=f"its {name} has no fresh series of {variant}", queries=queries)
        bad, every = ({query: engine.counted[query]} for query in queries)
        processes = {f"{variant}-{engine.started_at:.3f}": ProcessCounters(bad, every)}
        return CounterAnswer(AskedReading(now, processes), queries=queries)

    def failures(self) -> Mapping[str, Mapping[str, Failures]]:
        """See the port."""
        self._can_be_read()
        self._router.observe_all()  # which is unavailable when the router is
        found = {}
        for endpoint in self._router.routes:
            found[endpoint] = {
                name: Failures(
                    sum(arm.ended + arm.aborted for arm in target.arms.values()),
                    sum(arm.errors for arm in target.arms.values()),
                )
                for name, target in self._router.counted(endpoint).items()
            }
        return found

    def read_all(self, backends: Mapping[str, Collection[Backend]]) -> Mapping[str, SignalReading]:
        """See the port."""
        self._can_be_read()
        return {endpoint: self._read(endpoint, known) for endpoint, known in backends.items()}

    def _can_be_read(self) -> None:
        if self.outage:
            raise Unavailable(f"The counters cannot be read: {self.outage}.", fix="It is tried again.")

    def _read(self, endpoint: str, backends: Collection[Backend]) -> SignalReading:
        engines: dict[str, EngineReading] = {}
        broken: dict[str, str] = {}
        targets = self._router.counted(endpoint, backends)
        for backend in backends:
            engine = self._router.engine(backend.variant)
            if engine.alive and engine.metrics:
                engines[backend.variant] = EngineReading(
                    running=0.0,
                    waiting=0.0,
                    kv_cache_share=0.0,
                    generated_tokens=engine.tokens,
                    started_at=engine.started_at,
                    endings=dict(engine.endings),
                    empty=engine.empty,
                )
            else:
                address = backend.address or backend.name
                broken[backend.variant] = f"http://{address}/metrics cannot be read: Connection refused"
        return SignalReading(
            at=self._router.clock.now().timestamp(),
            targets=targets,
            engines=engines,
            broken=broken,
        )
