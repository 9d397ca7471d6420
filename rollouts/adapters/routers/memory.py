"""A data plane in memory: routes, engines and requests, for tests and for trying rollouts without processes.

It keeps the contract of the real one: requests are drawn by weight, a dead engine's requests are answered
by the fallback or a rescuer and blamed on the assigned arm, forced requests and calls that are no inference are in no
arm, every request ends in one class, and counters begin again at a restart. `send` plays the user, who may have little
patience. The engines are `MemoryEngine`s that a test changes as it likes.
"""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import NotFound, Rejected, StaleWriter, Unavailable
from rollouts.adapters.backends import ADDRESS
from rollouts.adapters.routers.checks import check_route
from rollouts.adapters.routers.envoy_config import EDGES as EDGES
from rollouts.adapters.routers.envoy_routes import answerers
from rollouts.adapters.routers.memory_counters import MemoryResponse as MemoryResponse
from rollouts.adapters.routers.memory_counters import TargetCounters
from rollouts.domain.capabilities import Capability
from rollouts.domain.record.readings import ROUTER, TargetReading
from rollouts.ports import Backend, LoggedRequest, ObservedRoute, Route

Messages = tuple[Mapping[str, str], ...]


def refuses_system_messages(messages: Messages) -> int:
    """As a chat template that knows no such role makes vLLM answer: with 400."""
    return 400 if any(message["role"] == "system" for message in messages) else 0


@dataclass
class MemoryEngine:
    """How a variant's engine behaves. Change it at any time.

    alive              False: connections are refused
    healthy            False: it fails its health check (but would answer)
    error_rate         share of requests answered with HTTP 500
    stream_error_rate  share of requests that break after their first token
    refuse             the status with which these messages are refused; 0: they are not
    refuse_rate        share of requests that are refused with `refuse_status`
    hang_rate          share of requests that never get a first token: they run until their users leave
    empty_rate         share of answers without a word
    length_rate        share of answers that are cut at their limit (finish reason "length")
    ttft_seconds, duration_seconds  medians; `spread` is the sigma of their lognormal noise
    answer             the text for the messages asked
    metrics            False: its /metrics cannot be read
    tokens, endings, empty  what it counted: tokens with the end of each answer, whole answers by finish reason, and
                       those without a word. Answers that users left are in none of them
    counted            counters of its own since it started, by the expression that asks for them; what is not in it has
                       no series
    numbers            its own numbers now, by the expression that asks for one
    """

    alive: bool = True
    healthy: bool = True
    error_rate: float = 0.0
    stream_error_rate: float = 0.0
    ttft_seconds: float = 0.02
    duration_seconds: float = 0.1
    refuse: Callable[[Messages], int] = lambda messages: 0
    refuse_rate: float = 0.0
    refuse_status: int = 429
    hang_rate: float = 0.0
    empty_rate: float = 0.0
    length_rate: float = 0.0
    spread: float = 0.2
    answer: Callable[[Messages], str] = lambda messages: messages[-1]["content"] if messages else ""
    metrics: bool = True
    started_at: float = 0.0
    tokens: int = 0
    endings: dict[str, int] = field(default_factory=lambda: {"stop": 0, "length": 0})
    empty: int = 0
    counted: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    def finish(self, text: str, reason: str) -> None:
        """Counts a whole answer, as vLLM does."""
        words = len(text.split())
        self.tokens += words + (reason == "stop")
        self.endings[reason] += 1
        self.empty += words == 0


CAN = frozenset({Capability.FALLBACK, Capability.FORCED_VARIANT})  # at most


class MemoryRouter:
    """A TrafficRouter in memory, with the traffic itself.

    clock   tells when requests happen and when the router started
    rng     draws arms and failures
    can     its capabilities, some of CAN
    kinds   of backends that it knows
    lag_seconds  from accepting a route to having it in force
    targets  its processes: each request goes through one of them, at random, and is counted there
    refuse  words with which the next routes are refused; empty: they are accepted
    down    the router does not answer at all
    """

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        *,
        can: frozenset[Capability] = CAN,
        kinds: frozenset[str] = frozenset({ADDRESS}),
        lag_seconds: float = 0.0,
        targets: Collection[str] = (ROUTER,),
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.can = can
        self.kinds = kinds
        self.lag_seconds = lag_seconds
        self.refuse = ""
        self.down = False
        self.routes: dict[str, Route] = {}
        self.log: dict[str, LoggedRequest] = {}
        self._engines: dict[str, MemoryEngine] = {}
        self._targets = {name: TargetCounters(clock.now().timestamp()) for name in targets}
        self._tokens: dict[str, int] = {}
        self._rejected: dict[str, str] = {}
        self._accepted: dict[str, int] = {}  # generations, by endpoint
        self.in_force: dict[str, int] = {}  # generations of `routes`
        self._waiting: dict[str, list[tuple[float, Route, int]]] = defaultdict(list)

    # --- TrafficRouter ------------------------------------------------------------------

    def apply(self, route: Route, *, token: int) -> int:
        check_route(route, kinds=self.kinds)
        self._admit(route.endpoint, token)
        if self.refuse:
            self._rejected[route.endpoint] = self.refuse
            raise Rejected(
                f"The router refuses the routes: {self.refuse}",
                fix="The last good configuration stays in force. Mend the cause it names.",
                extra={"words": self.refuse},
            )
        endpoint = route.endpoint
        self._rejected.pop(endpoint, None)
        self._settle()
        waiting = self._waiting[endpoint]
        if (waiting[-1][1] if waiting else self.routes.get(endpoint)) != route:
            self._accepted[endpoint] = self._accepted.get(endpoint, 0) + 1
            waiting.append((self._steady() + self.lag_seconds, route, self._accepted[endpoint]))
            self._settle()
        return self._accepted[endpoint]

    def claim(self, endpoint: str, *, token: int) -> int:
        self._require_up()
        self._tokens[endpoint] = max(token, self._tokens.get(endpoint, token))
        return self._tokens[endpoint]

    def observe(self, endpoint: str) -> ObservedRoute | None:
        self._require_up()
        self._settle()
        route = self.routes.get(endpoint)
        if route is None:
            return None
        return ObservedRoute(
            endpoint=endpoint,
            shares={variant: share for variant, share in route.shares.items() if share},
            healthy=frozenset(b.variant for b in route.backends if self._usable(b.variant)),
            named=frozenset(backend.variant for backend in route.backends),
            generation=self.in_force.get(endpoint, 0),
            accepted=self._accepted.get(endpoint, 0),
            rejected=self._rejected.get(endpoint, ""),
        )

    def observe_all(self) -> Mapping[str, ObservedRoute]:
        """See the port."""
        self._require_up()
        self._settle()
        found = {endpoint: self.observe(endpoint) for endpoint in self.routes}
        return {endpoint: route for endpoint, route in found.items() if route is not None}

    def capabilities(self) -> frozenset[Capability]:
        return self.can

    # --- the traffic --------------------------------------------------------------------

    def engine(self, variant: str) -> MemoryEngine:
        """The engine of a variant; a good one until it is changed."""
        return self._engines.setdefault(variant, MemoryEngine(started_at=self.clock.now().timestamp()))

    def restart(self, target: str = "") -> None:
        """A process of the router, or every one, ends and starts again: routes stay, its counters begin again."""
        for name in [target] if target else list(self._targets):
            self.start(name)

    def start(self, target: str) -> None:
        """A process of that name starts."""
        self._targets[target] = TargetCounters(self.clock.now().timestamp())

    def stop(self, target: str) -> None:
        """The process has gone, as when the router gets fewer of them."""
        del self._targets[target]

    def send(
        self,
        endpoint: str,
        *,
        forced: str = "",
        messages: Messages = (),
        abort: bool = False,
        patience_seconds: float | None = None,
    ) -> MemoryResponse:
        """One user's streamed inference. No time passes.

        patience_seconds  the user leaves when the first token takes longer, and in the middle when the whole answer
                          does; None: never, so that a request that hangs still runs
        abort             the user leaves at once

        Raises Unavailable when the router is down, NotFound for an unknown endpoint or forced variant.
        """
        route = self._route(endpoint)
        variants = [backend.variant for backend in route.backends]
        patience = 0.0 if abort else patience_seconds
        if forced and Capability.FORCED_VARIANT in self.can:
            if forced not in variants:
                self._target().turned_away[endpoint] += 1
                raise NotFound(f"No such variant: {forced}. Endpoint {endpoint} has: {', '.join(variants)}.")
            return self._answer(endpoint, "", forced if self._usable(forced) else "", messages, patience)
        shares = [route.shares.get(variant, 0) for variant in variants]
        assigned = self.rng.choices(variants, shares)[0]
        counters = self._target().arm(endpoint, assigned)
        counters.arrived += 1
        chosen = self._chosen(assigned, route)
        response = self._answer(endpoint, assigned, chosen, messages, patience)
        if response.status or response.left:
            counters.end(response, patience or 0.0)
        return response

    def call(self, endpoint: str, method: str, path: str) -> int:
        """A call that is no inference, such as GET /v1/models; returns its status. It is in no arm.

        Raises as `send` does.
        """
        api = self._route(endpoint).api
        known = (method, path) == ("GET", "/v1/models") or path in api.other
        target = self._target()
        (target.other if known else target.turned_away)[endpoint] += 1
        return 200 if known else 404

    def counted(self, endpoint: str, backends: Iterable[Backend] = ()) -> dict[str, TargetReading]:
        """The counters of the endpoint's arms by target, zero for a backend without requests."""
        self._require_up()
        variants = [backend.variant for backend in backends]
        return {name: target.reading(endpoint, variants) for name, target in self._targets.items()}

    def _target(self) -> TargetCounters:
        """The process that a request goes through. Where there is one, nothing is drawn."""
        names = sorted(self._targets)
        return self._targets[names[0] if len(names) == 1 else self.rng.choice(names)]

    def _answer(
        self, endpoint: str, assigned: str, variant: str, messages: Messages, patience: float | None
    ) -> MemoryResponse:
        """What the user gets of the variant's engine; "" is nobody."""
        if not variant:
            return MemoryResponse(self._new_id(), 503, assigned, "")
        engine = self.engine(variant)
        failed = self.rng.random() < engine.error_rate
        broken = not failed and self.rng.random() < engine.stream_error_rate
        noise = self.rng.lognormvariate(0, engine.spread)
        status = 500 if failed else self._refusal(engine, messages)
        made = MemoryResponse(self._new_id(), status or 200, assigned, variant)
        if not status:
            text = "" if self._happens(engine.empty_rate) else engine.answer(messages)
            hangs = self._happens(engine.hang_rate)
            made = replace(
                made,
                text=text,
                ttft_seconds=float("inf") if hangs else engine.ttft_seconds * noise,
                duration_seconds=float("inf") if hangs else engine.duration_seconds * noise,
                broken=broken,
            )
            made = _as_seen(made, patience)
            if made.status and not made.left and not made.broken:
                engine.finish(text, "length" if self._happens(engine.length_rate) else "stop")
        if made.status:
            self.log[made.request_id] = LoggedRequest(
                made.request_id, endpoint, assigned, variant, made.status, self.clock.now().timestamp()
            )
        return made

    def _refusal(self, engine: MemoryEngine, messages: Messages) -> int:
        return engine.refuse(messages) or (engine.refuse_status if self._happens(engine.refuse_rate) else 0)

    def _happens(self, rate: float) -> bool:
        """Draws; at 0 nothing is drawn, so that a value that is not used leaves the other draws as they are."""
        return rate > 0 and self.rng.random() < rate

    def _chosen(self, assigned: str, route: Route) -> str:
        """Who answers: the first healthy one, else the fallback, which is tried even when unhealthy."""
        if Capability.FALLBACK not in self.can:
            return assigned if self.engine(assigned).alive else ""
        for variant in answerers(route, assigned):
            if self._usable(variant):
                return variant
        return route.fallback if self.engine(route.fallback).alive else ""

    def _route(self, endpoint: str) -> Route:
        self._require_up()
        self._settle()
        if endpoint not in self.routes:
            raise NotFound(f"No such endpoint: {endpoint}.")
        return self.routes[endpoint]

    def _usable(self, variant: str) -> bool:
        engine = self.engine(variant)
        return engine.alive and engine.healthy

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    def _steady(self) -> float:
        return self.clock.reading().steady

    def _settle(self) -> None:
        """Puts in force the newest route that was accepted long enough ago; older ones are overtaken."""
        for endpoint, waiting in self._waiting.items():
            due = [one for one in waiting if one[0] <= self._steady()]
            if due:
                _, self.routes[endpoint], self.in_force[endpoint] = due[-1]
                del waiting[: waiting.index(due[-1]) + 1]

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
                extra={"newest": newest},
            )
        self._tokens[endpoint] = token


def _as_seen(made: MemoryResponse, patience: float | None) -> MemoryResponse:
    """The answer as far as its user waited for it. A stream that breaks ends with its first token."""
    end = made.ttft_seconds if made.broken else made.duration_seconds
    if patience is None:
        return replace(made, status=0, text="") if end == float("inf") else made
    if made.ttft_seconds > patience:
        return replace(made, status=0, text="", broken=False, left="before")
    return replace(made, left="midway") if end > patience else made
