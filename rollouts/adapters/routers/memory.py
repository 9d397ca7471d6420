"""A data plane in memory: routes, engines and requests, for tests and for trying rollouts without processes.

It keeps the contract of the real one: requests are drawn by weight, a dead engine's requests are answered
by the fallback and blamed on the assigned arm, forced requests are in no arm, and counters begin again at
a restart. `send` plays the user. The engines are `MemoryEngine`s that a test changes as it likes.
"""

from __future__ import annotations

import random
import uuid
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import NotFound, Rejected, StaleWriter, Unavailable
from rollouts.adapters.routers.checks import check_route
from rollouts.adapters.routers.envoy_config import EDGES as EDGES
from rollouts.ports import ArmReading, Backend, HistogramReading, LoggedRequest, ObservedRoute, Route

Messages = tuple[Mapping[str, str], ...]


@dataclass
class MemoryEngine:
    """How a variant's engine behaves. Change it at any time.

    alive              False: connections are refused
    healthy            False: it fails its health check (but would answer)
    error_rate         share of requests answered with HTTP 500
    stream_error_rate  share of requests that break after their first token
    ttft_seconds, duration_seconds  medians; `spread` is the sigma of their lognormal noise
    answer             the text for the messages asked
    metrics            False: its /metrics cannot be read
    """

    alive: bool = True
    healthy: bool = True
    error_rate: float = 0.0
    stream_error_rate: float = 0.0
    ttft_seconds: float = 0.02
    duration_seconds: float = 0.1
    spread: float = 0.2
    answer: Callable[[Messages], str] = lambda messages: messages[-1]["content"] if messages else ""
    metrics: bool = True
    started_at: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class MemoryResponse:
    """What the user saw. `broken`: the stream ended in an error."""

    request_id: str
    status: int
    assigned: str
    answered: str
    text: str = ""
    ttft_seconds: float = 0.0
    duration_seconds: float = 0.0
    broken: bool = False


@dataclass
class _Counters:
    """One arm's counters since the router started."""

    arrived: int = 0
    answered: int = 0
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failed: int = 0
    fallbacks: int = 0
    abandoned: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    statuses: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    histograms: dict[str, list[int]] = field(
        default_factory=lambda: {signal: [0] * (len(edges) + 1) for signal, edges in EDGES.items()}
    )

    def measure(self, signal: str, seconds: float) -> None:
        self.histograms[signal][bisect_left(EDGES[signal], seconds)] += 1

    def reading(self) -> ArmReading:
        latency = {
            signal: HistogramReading(EDGES[signal], tuple(accumulate(counts[:-1])), sum(counts))
            for signal, counts in self.histograms.items()
        }
        return ArmReading(
            arrived=self.arrived,
            answered=self.answered,
            refused=dict(self.refused),
            failed=self.failed,
            fallbacks=self.fallbacks,
            abandoned=dict(self.abandoned),
            statuses=dict(self.statuses),
            latency=latency,
        )


class MemoryRouter:
    """A TrafficRouter in memory, with the traffic itself.

    clock   tells when requests happen and when the router started
    rng     draws arms and failures
    refuse  words with which the next routes are refused; empty: they are accepted
    down    the router does not answer at all
    """

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.clock = clock
        self.rng = rng
        self.refuse = ""
        self.down = False
        self.started_at = clock.now().timestamp()
        self.routes: dict[str, Route] = {}
        self.log: dict[str, LoggedRequest] = {}
        self._engines: dict[str, MemoryEngine] = {}
        self._counters: dict[tuple[str, str], _Counters] = {}
        self._tokens: dict[str, int] = {}
        self._rejected: dict[str, str] = {}
        self._version = 0

    # --- TrafficRouter ------------------------------------------------------------------

    def apply(self, route: Route, *, token: int) -> None:
        check_route(route)
        self._admit(route.endpoint, token)
        if self.refuse:
            self._rejected[route.endpoint] = self.refuse
            raise Rejected(
                f"The router refuses the routes: {self.refuse}",
                fix="The last good configuration stays in force. Mend the cause it names.",
                extra={"words": self.refuse},
            )
        self._rejected.pop(route.endpoint, None)
        if self.routes.get(route.endpoint) != route:
            self.routes[route.endpoint] = route
            self._version += 1

    def observe(self, endpoint: str) -> ObservedRoute | None:
        self._require_up()
        route = self.routes.get(endpoint)
        if route is None:
            return None
        return ObservedRoute(
            endpoint=endpoint,
            shares={variant: share for variant, share in route.shares.items() if share},
            healthy=frozenset(b.variant for b in route.backends if self._usable(b.variant)),
            version=str(self._version),
            rejected=self._rejected.get(endpoint, ""),
        )

    def remove(self, endpoint: str, *, token: int) -> None:
        self._admit(endpoint, token)
        if self.routes.pop(endpoint, None) is not None:
            self._version += 1

    # --- the traffic --------------------------------------------------------------------

    def engine(self, variant: str) -> MemoryEngine:
        """The engine of a variant; a good one until it is changed."""
        return self._engines.setdefault(variant, MemoryEngine(started_at=self.clock.now().timestamp()))

    def restart(self) -> None:
        """The router's process ends and starts again: routes stay, counters begin again."""
        self.started_at = self.clock.now().timestamp()
        self._counters.clear()

    def send(
        self, endpoint: str, *, forced: str = "", messages: Messages = (), abort: bool = False
    ) -> MemoryResponse:
        """One user's request. `abort`: the user leaves before the answer is complete.

        Raises Unavailable when the router is down, NotFound for an unknown endpoint or forced variant.
        """
        self._require_up()
        route = self.routes.get(endpoint)
        if route is None:
            raise NotFound(f"No such endpoint: {endpoint}.")
        variants = [backend.variant for backend in route.backends]
        if forced:
            if forced not in variants:
                raise NotFound(f"No such variant: {forced}. Endpoint {endpoint} has: {', '.join(variants)}.")
            return self._answer(endpoint, "", forced if self._usable(forced) else "", messages)
        shares = [route.shares.get(variant, 0) for variant in variants]
        assigned = self.rng.choices(variants, shares)[0]
        counters = self._counters.setdefault((endpoint, assigned), _Counters())
        counters.arrived += 1
        if abort:
            counters.abandoned["before"] += 1
            return MemoryResponse(self._new_id(), 0, assigned, "")
        response = self._answer(endpoint, assigned, self._chosen(assigned, route.fallback), messages)
        elsewhere = response.status < 500 and not response.broken and response.answered != assigned
        failed = response.broken or response.status >= 500
        counters.statuses[f"{response.status // 100}xx"] += 1
        counters.fallbacks += elsewhere
        counters.failed += failed
        counters.answered += not failed and not elsewhere
        if response.status == 200 and not response.broken and not elsewhere:
            counters.measure("ttft", response.ttft_seconds)
            counters.measure("duration", response.duration_seconds)
        return response

    def arms(self, endpoint: str, backends: list[Backend]) -> dict[str, ArmReading]:
        """The counters of the endpoint's arms, zero for a backend without requests."""
        self._require_up()
        found = {backend.variant: _Counters() for backend in backends}
        found |= {variant: c for (name, variant), c in self._counters.items() if name == endpoint}
        return {variant: counters.reading() for variant, counters in found.items()}

    def _answer(self, endpoint: str, assigned: str, variant: str, messages: Messages) -> MemoryResponse:
        """What the variant's engine answers; "" is nobody."""
        if not variant:
            return MemoryResponse(self._new_id(), 503, assigned, "")
        engine = self.engine(variant)
        failed = self.rng.random() < engine.error_rate
        broken = not failed and self.rng.random() < engine.stream_error_rate
        noise = self.rng.lognormvariate(0, engine.spread)
        text = "" if failed else engine.answer(messages)
        engine.tokens += len(text.split())
        response = MemoryResponse(
            request_id=self._new_id(),
            status=500 if failed else 200,
            assigned=assigned,
            answered=variant,
            text=text,
            ttft_seconds=engine.ttft_seconds * noise,
            duration_seconds=engine.duration_seconds * noise,
            broken=broken,
        )
        self.log[response.request_id] = LoggedRequest(
            response.request_id, endpoint, assigned, variant, response.status, self.clock.now().timestamp()
        )
        return response

    def _chosen(self, assigned: str, fallback: str) -> str:
        """Who answers: the assigned variant, else the fallback, which is tried even when unhealthy."""
        if assigned != fallback and self._usable(assigned):
            return assigned
        return fallback if self.engine(fallback).alive else ""

    def _usable(self, variant: str) -> bool:
        engine = self.engine(variant)
        return engine.alive and engine.healthy

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def _require_up(self) -> None:
        if self.down:
            raise Unavailable("The router does not answer.", fix="See whether it runs.")

    def _admit(self, endpoint: str, token: int) -> None:
        self._require_up()
        newest = self._tokens.get(endpoint, token)
        if token < newest:
            raise StaleWriter(
                f"Token {token} is older than {newest}, the newest that wrote the route of {endpoint}.",
                fix="Another worker took over; nothing needs to be done.",
            )
        self._tokens[endpoint] = token
