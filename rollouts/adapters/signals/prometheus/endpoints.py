"""For whom the processes of a gateway have endpoints, by what Prometheus scraped of each.

- Only processes that have something of the route count: others in the same namespace may be of another Gateway, and one
  that does not have the route sends nobody anywhere by it.
- One that has it must have been scraped since the route was written: what it said before may be of a variant that had
  the place then.
- Of a process whose scrapes fail Prometheus says nothing: it is left out. Where none is left, nobody can say.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from controlplane.kernel.errors import InvalidInput, Unavailable
from controlplane.kernel.foreign import ODD_ANSWER
from rollouts.adapters.routers.gateway_api.counted import CountedRoute, EndpointsAnswer
from rollouts.adapters.signals.exposition import Sample
from rollouts.adapters.signals.prometheus.counting import Target, scraped_of
from rollouts.adapters.signals.prometheus.processes import GatewayProcesses, ScrapedProcesses
from rollouts.adapters.signals.prometheus.queries import selected
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.prometheus.templates import GatewayTemplate

EndpointCounts = Mapping[
    tuple[int, int], float
]  # how many endpoints each place (rule, backend) of a route has


class PrometheusEndpoints:
    """See the module. The template names a gauge of endpoints, and places in a route as the label of its arms."""

    def __init__(
        self, server: PrometheusServer, template: GatewayTemplate, processes: GatewayProcesses
    ) -> None:
        self._server = server
        self._template = template
        self._processes = processes
        self._pattern = re.compile(template.arm_pattern)

    def lacking(self, route: CountedRoute) -> EndpointsAnswer:
        """Which processes have no endpoints for the variants at these places, or were not scraped since
        `route.since`. Raises Unavailable when nobody can say, and as `PrometheusServer` does."""
        processes = self._processes.read()
        query = selected(self._template, [self._template.endpoints], route.namespace, [route])
        try:
            found = self._by_process(self._server.vector(query, at=processes.now), processes, route)
        except InvalidInput as error:
            if error.code != ODD_ANSWER:
                raise
            raise Unavailable(error.message, fix="See what the gateway says of itself.") from error
        if not found:
            raise Unavailable(
                f"No process of {self._template.name} that Prometheus scrapes says which endpoints {route.route} has"
                f" ({self._template.endpoints}).",
                fix="See whether all of the gateway's pods are scraped, and whether their metrics are left out.",
            )
        said = [line for target in sorted(found) for line in _of_one(target, found[target], processes, route)]
        return EndpointsAnswer("; ".join(words for words, _ in said), any(seen for _, seen in said))

    def _by_process(
        self, samples: list[Sample], processes: ScrapedProcesses, route: CountedRoute
    ) -> Mapping[Target, EndpointCounts]:
        found: dict[Target, dict[tuple[int, int], float]] = defaultdict(dict)
        for sample in samples:
            scraped = scraped_of(sample, self._template, processes.found)
            match = self._pattern.fullmatch(sample.labels.get(self._template.arm_label, ""))
            if scraped is None or match is None or match["route"] != route.route:
                continue
            found[scraped.target][int(match["rule"]), int(match["backend"])] = sample.amount
        return found


def _of_one(
    target: Target, places: EndpointCounts, processes: ScrapedProcesses, route: CountedRoute
) -> Iterator[tuple[str, bool]]:
    """(what one process lacks, whether that was seen)"""
    scraped = processes.found[target]
    if scraped.at <= route.since + processes.late:
        age = max(0.0, processes.now - scraped.at)
        yield f"{scraped.name} was not scraped since ({age:.0f} s ago)", False
        return
    for place, variant in sorted(route.places.items()):
        if not places.get(place):
            yield f"{scraped.name} has no endpoints for {variant}", True
