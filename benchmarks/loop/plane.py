"""A data plane in memory whose counters are a function of time: it costs next to nothing and never runs out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.kernel.clock import Clock
from rollouts.adapters.backends import at_address
from rollouts.adapters.routers.envoy_config import DURATION_EDGES, TTFT_EDGES
from rollouts.domain.belongings import FoundThere, LaunchFound
from rollouts.domain.capabilities import Capability
from rollouts.domain.capacity.findings import CapacityFinding
from rollouts.domain.engine_options import EngineOptions
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.limits import Limits
from rollouts.domain.record.asked import CounterAnswer
from rollouts.domain.record.readings import (
    ROUTER,
    ArmReading,
    CountedKind,
    EngineReading,
    Failures,
    HistogramReading,
    SignalReading,
    TargetReading,
)
from rollouts.ports import (
    OPENAI_API,
    Backend,
    CounterQuestion,
    EngineApi,
    LoggedRequest,
    ObservedRoute,
    PlannedLaunches,
    Route,
    WorkloadStatus,
)

PER_SECOND = 20.0  # requests of an endpoint with traffic
FAILED, SLOW = 0.01, 0.04


@dataclass(slots=True)
class Plane:
    """All ports that a turn needs. `busy`: names of endpoints with traffic."""

    busy: frozenset[str]
    clock: Clock
    routes: dict[str, ObservedRoute] = field(default_factory=dict)
    engines_seen: dict[str, WorkloadStatus] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock.now().timestamp()

    def add(self, endpoint: str, shares: Mapping[str, int]) -> None:
        """An endpoint whose variants are all ready."""
        self.routes[endpoint] = ObservedRoute(endpoint, dict(shares), frozenset(shares))
        for variant in shares:
            self.engines_seen[variant] = WorkloadStatus(
                variant,
                WorkloadPhase.READY,
                at_address(variant, "127.0.0.1", 18_000),
                1,
                1,
                started_at=self.began - 3_600,
            )

    # --- cluster ---------------------------------------------------------------------------------------------------

    def statuses(self) -> Mapping[str, WorkloadStatus]:
        return self.engines_seen

    def claim(self, endpoint: str, *, token: int) -> int:
        self.tokens[endpoint] = max(token, self.tokens.get(endpoint, token))
        return self.tokens[endpoint]

    def ensure(self, spec: Any, *, token: int) -> None:
        """Everything runs already."""

    def adoptable(self, server: str, endpoint: str) -> int:
        """Nobody asks."""
        return 1

    def drain(self, variant: str, endpoint: str, *, token: int) -> None:
        self.engines_seen = {name: one for name, one in self.engines_seen.items() if name != variant}

    def fetches_files(self) -> bool:
        return True

    def launched(self, variant: str) -> None:
        return None

    def belongings(self) -> FoundThere:
        return FoundThere()

    def mark_unknown(self, launch: LaunchFound, since: float | None) -> None:
        """It finds no launch to be marked."""

    def take_away(self, launch: LaunchFound) -> bool:
        return False

    def hold_scale_in(self, variant: str, endpoint: str, *, on: bool, token: int) -> None:
        """Nothing scales its engines."""

    def log_tail(self, variant: str, lines: int = 50) -> tuple[str, ...]:
        return ()

    def api(self, engine: str) -> EngineApi:
        return OPENAI_API

    def options(self, engine: str) -> EngineOptions:
        return EngineOptions(engine)

    def engines(self) -> tuple[str, ...]:
        return ("vllm",)

    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.FALLBACK, Capability.FORCED_VARIANT})

    def limits(self) -> Limits:
        return Limits(frozenset(), 1)

    def capacity(self, planned: PlannedLaunches) -> tuple[CapacityFinding, ...]:
        return ()

    def secret_files(self) -> tuple[str, ...]:
        return ()

    def renew_secrets(self) -> int:
        return 0

    # --- router ----------------------------------------------------------------------------------------------------

    def apply(self, route: Route, *, token: int) -> int:
        shares = {name: bp for name, bp in route.shares.items() if bp}
        healthy = frozenset(backend.variant for backend in route.backends)
        self.routes[route.endpoint] = ObservedRoute(route.endpoint, shares, healthy, named=healthy)
        return 0

    def observe(self, endpoint: str) -> ObservedRoute | None:
        return self.routes.get(endpoint)

    def observe_all(self) -> Mapping[str, ObservedRoute]:
        return self.routes

    # --- signals ---------------------------------------------------------------------------------------------------

    def read_all(self, backends: Mapping[str, Collection[Backend]]) -> Mapping[str, SignalReading]:
        return {endpoint: self._read(endpoint, known) for endpoint, known in backends.items()}

    def _read(self, endpoint: str, backends: Collection[Backend]) -> SignalReading:
        now = self.clock.now().timestamp()
        total = PER_SECOND * (now - self.began) if endpoint in self.busy else 0.0
        route = self.routes[endpoint]
        arms = {
            backend.variant: _arm(int(total * route.shares.get(backend.variant, 0) / 10_000))
            for backend in backends
        }
        engines = {backend.variant: EngineReading(2.0, 0.0, 0.2, 0) for backend in backends}
        return SignalReading(now, {ROUTER: TargetReading(self.began, arms)}, engines)

    def queries(self, endpoint: str, backend: Backend) -> Mapping[CountedKind, str]:
        return {}

    def read_counters(
        self, questions: Collection[CounterQuestion]
    ) -> Mapping[CounterQuestion, CounterAnswer]:
        return {one: CounterAnswer(why="there are none") for one in questions}

    def failures(self) -> Mapping[str, Mapping[str, Failures]]:
        ended = int(PER_SECOND * (self.clock.now().timestamp() - self.began))
        return {endpoint: {ROUTER: Failures(ended, int(FAILED * ended))} for endpoint in self.busy}

    # --- log -------------------------------------------------------------------------------------------------------

    def find(self, request_ids: Collection[str]) -> Mapping[str, LoggedRequest]:
        return {}

    def rotate(self) -> bool:
        return False


def _arm(arrived: int) -> ArmReading:
    failed = int(FAILED * arrived)
    answered = arrived - failed
    return ArmReading(
        arrived=arrived,
        answered=answered,
        failed=failed,
        statuses={"2xx": answered, "5xx": failed},
        latency={"ttft": _histogram(TTFT_EDGES, answered), "duration": _histogram(DURATION_EDGES, answered)},
    )


def _histogram(edges: tuple[float, ...], total: int) -> HistogramReading:
    fast = int((1 - SLOW) * total)
    return HistogramReading(edges, tuple(fast if edge < 1.0 else total for edge in edges), total)
