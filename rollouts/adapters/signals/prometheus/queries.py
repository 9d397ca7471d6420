"""How a Prometheus is asked for what a gateway counted of some routes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rollouts.adapters.routers.gateway_api.counted import CountedRoute
from rollouts.adapters.signals.prometheus.templates import GatewayTemplate

NAMED_AT_MOST = 100  # routes in one query; of more than so many, those of the whole namespace are asked for


def query_of(
    template: GatewayTemplate, namespace: str, routes: Sequence[CountedRoute], *, timed: bool
) -> str:
    """The query for the counters of these routes, all of one namespace; `timed`: for their histograms, too."""
    metrics = list(template.counters)
    if timed:
        metrics += [
            f"{one.metric}_{part}" for one in template.latency.values() for part in ("bucket", "count")
        ]
    return selected(template, metrics, namespace, routes)


def selected(
    template: GatewayTemplate, metrics: Sequence[str], namespace: str, routes: Sequence[CountedRoute]
) -> str:
    """The query for these metrics of these routes, all of one namespace."""
    selector = (
        template.selector.replace("NAMESPACE", namespace)
        .replace("ROUTES", _one_of(route.route for route in routes))
        .replace("SERVICES", _one_of(name for route in routes for name in route.services))
    )
    return f'{{__name__=~"{"|".join(metrics)}",{selector}}}'


def _one_of(names: Iterable[str]) -> str:
    """A pattern of these names, which are of small letters, digits and dashes."""
    found = sorted(set(names))
    return "|".join(found) if len(found) <= NAMED_AT_MOST else "[a-z0-9-]+"
