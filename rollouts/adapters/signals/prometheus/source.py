"""A SignalSource that asks a Prometheus.

- A reading is as old as the oldest sample that it uses, and says so: `at` is a time of Prometheus' own clock. It
  scrapes less often than the loop looks. Two readings between the same scrapes are therefore equally old, and an
  unchanged number is not taken for "no requests". Our own clock is left out of it.
- What is absent is not there: an arm without series is in no target, a target without a fresh scrape or without a known
  start is left out. Nothing becomes zero.
- When no target can be read, that says nothing of the candidates: Unavailable, and its words name the source.
- A scrape from before the route's backends stood where they stand now may count another variant: it is left out for
  that endpoint, and the counters of what follows begin anew.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import HeadgateError, InvalidInput, Unavailable
from controlplane.kernel.foreign import ODD_ANSWER
from rollouts.adapters.routers.gateway_api.counted import CountedRoute
from rollouts.adapters.signals.exposition import Sample
from rollouts.adapters.signals.prometheus.asked import AskedCounters
from rollouts.adapters.signals.prometheus.counting import (
    CountedSeries,
    Scraped,
    Target,
    arm_of,
    target_of,
)
from rollouts.adapters.signals.prometheus.engines import PrometheusEngines
from rollouts.adapters.signals.prometheus.processes import STALE_SECONDS, GatewayProcesses
from rollouts.adapters.signals.prometheus.queries import query_of, selected
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.prometheus.templates import GatewayTemplate
from rollouts.domain.record.asked import CounterAnswer
from rollouts.domain.record.readings import CountedKind, Failures, SignalReading, TargetReading
from rollouts.ports import Backend, CounterQuestion

log = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0  # from accepting a route until every process of the gateway has it


class PrometheusSignals:
    """See the module.

    routes         how the gateway's counters name the arms, by endpoint
    gateway_namespaces  where the gateway's pods are: others say what they like, too. Empty: anywhere
    engine_namespace  where the engines' pods are; what others say of themselves there is not read
    stale_seconds  older samples are of a process that is gone or that Prometheus does not reach
    """

    def __init__(
        self,
        server: PrometheusServer,
        template: GatewayTemplate,
        routes: Callable[[], Mapping[str, CountedRoute]],
        clock: Clock,
        *,
        engine_namespace: str,
        gateway_namespaces: Collection[str] = (),
        stale_seconds: float = STALE_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._server = server
        self._template = template
        self._routes = routes
        self._processes = GatewayProcesses(
            server, template, clock, namespaces=gateway_namespaces, stale_seconds=stale_seconds
        )
        self._settle_seconds = settle_seconds
        self._engines = PrometheusEngines(server, engine_namespace, stale_seconds=stale_seconds)
        self._asked = AskedCounters(server, clock, engine_namespace, stale_seconds=stale_seconds)

    def read_all(
        self, backends: Mapping[str, Collection[Backend]]
    ) -> Mapping[str, SignalReading | HeadgateError]:
        """See the port."""
        known = self._routes()
        now, targets, late = self._targets()
        routes = {endpoint: known[endpoint] for endpoint in backends if endpoint in known}
        series = self._series(now, targets, routes, timed=True)
        every = [backend for some in backends.values() for backend in some]
        engines, broken = self._engines.read(every, now)
        found: dict[str, SignalReading | HeadgateError] = {}
        for endpoint, own in backends.items():
            if endpoint not in routes:
                found[endpoint] = _no_route(endpoint)
                continue
            names = {backend.variant for backend in own}
            reading = self._reading(endpoint, routes[endpoint], targets, series, late)
            if isinstance(reading, SignalReading):
                reading = replace(
                    reading,
                    engines={name: one for name, one in engines.items() if name in names},
                    broken={name: why for name, why in broken.items() if name in names},
                )
            found[endpoint] = reading
        return found

    def queries(self, endpoint: str, backend: Backend) -> Mapping[CountedKind, str]:
        """See the port. A latency's is that of its histogram alone."""
        route = self._routes().get(endpoint)
        if route is None:
            raise _no_route(endpoint)
        counters = query_of(self._template, route.namespace, [route], timed=False)
        found = {CountedKind.REQUESTS: counters, CountedKind.DEPARTURES: counters}
        for signal, term in self._template.latency.items():
            metrics = [f"{term.metric}_bucket", f"{term.metric}_count"]
            found[CountedKind(signal)] = selected(self._template, metrics, route.namespace, [route])
        return {**found, CountedKind.COMPLETIONS: self._engines.query(backend)}

    def read_counters(
        self, questions: Collection[CounterQuestion]
    ) -> Mapping[CounterQuestion, CounterAnswer]:
        """See the port."""
        return self._asked.read(questions)

    def failures(self) -> Mapping[str, Mapping[str, Failures]]:
        """See the port."""
        routes = self._routes()
        now, targets, late = self._targets()
        series = self._series(now, targets, routes, timed=False)
        found: dict[str, dict[str, Failures]] = defaultdict(dict)
        for endpoint, route in routes.items():
            reading = self._reading(endpoint, route, targets, series, late)
            for name, target in reading.targets.items() if isinstance(reading, SignalReading) else ():
                arms = target.arms.values()
                if arms:
                    ended = sum(arm.ended + arm.aborted for arm in arms)
                    found[endpoint][name] = Failures(ended, sum(arm.errors for arm in arms))
        return found

    # --- processes of the gateway ------------------------------------------------------------------

    def _targets(self) -> tuple[float, Mapping[Target, Scraped], float]:
        """(the server's time, the processes that it scraped lately, by how many seconds our clock is behind). Raises
        Unavailable when there is none."""
        template = self._template
        scraped = self._processes.read()
        starts = self._starts(scraped.now)
        found = {target: replace(one, started_at=starts.get(target)) for target, one in scraped.found.items()}
        usable = {target: one for target, one in found.items() if one.started_at is not None}
        if not usable:
            raise Unavailable(
                f"Prometheus does not say when the processes of {template.name} started: {template.start}.",
                fix="Have it scrape the containers' metrics (cAdvisor): else a restart of the gateway is not seen.",
            )
        for one in found.values():
            if one.started_at is None:
                log.warning("signals.start_unknown target=%s", one.name)
        return scraped.now, usable, scraped.late

    def _starts(self, now: float) -> Mapping[Target, float]:
        found: dict[Target, float] = {}
        for sample in self._server.vector(self._template.start, at=now):
            target = target_of(sample.labels, self._template)
            try:
                # a container that ended may be told for a while beside the one that follows it
                found[target] = max(sample.amount, found.get(target, 0.0))
            except InvalidInput as error:
                log.warning("signals.start_odd target=%s %s", "/".join(target), error.message)
        return found

    # --- counters ----------------------------------------------------------------------------------

    def _series(
        self,
        now: float,
        targets: Mapping[Target, Scraped],
        routes: Mapping[str, CountedRoute],
        *,
        timed: bool,
    ) -> CountedSeries:
        found: list[Sample] = []
        for namespace in sorted({route.namespace for route in routes.values()}):
            own = [route for route in routes.values() if route.namespace == namespace]
            found += self._server.vector(query_of(self._template, namespace, own, timed=timed), at=now)
        return CountedSeries.of(found, self._template, targets, routes)

    def _reading(
        self,
        endpoint: str,
        route: CountedRoute,
        targets: Mapping[Target, Scraped],
        series: CountedSeries,
        late: float,
    ) -> SignalReading | HeadgateError:
        """The endpoint's counters, `at` by the server's clock; what is wrong with them where they are odd. Where its
        backends stand is noted by our clock, which is `late` seconds behind."""
        found: dict[str, TargetReading] = {}
        at = []
        for target, scraped in targets.items():
            if scraped.at < route.since + late + self._settle_seconds or scraped.started_at is None:
                continue
            try:
                arms = {
                    variant: arm_of(samples, self._template)
                    for variant, samples in series.of_endpoint(target, endpoint).items()
                }
            except InvalidInput as error:
                if error.code != ODD_ANSWER:
                    raise
                return Unavailable(
                    f"{error.message} ({scraped.name})", fix=f"See what {scraped.name} says of itself."
                )
            name = scraped.name if scraped.name not in found else "/".join(target)
            found[name] = TargetReading(max(scraped.started_at, route.since), arms)
            at.append(scraped.at)
        if not found:
            return Unavailable(
                f"The gateway was not scraped since the backends of {endpoint} stand as they do.",
                fix="Nothing needs to be done: Prometheus does it soon.",
            )
        return SignalReading(at=min(at), targets=found)


def _no_route(endpoint: str) -> Unavailable:
    return Unavailable(
        f"The counters of {endpoint} have no name yet: it has no route of ours in force.",
        fix="Nothing needs to be done: it is read once its gateways have its route.",
    )
