"""Adds up the series of a gateway: by process, endpoint and arm. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.kernel.foreign import number_of
from rollouts.adapters.routers.gateway_api.counted import CountedRoute
from rollouts.adapters.signals.exposition import Sample
from rollouts.adapters.signals.prometheus.templates import (
    ClassSums,
    CounterTerm,
    GatewayTemplate,
    HistogramTerm,
)
from rollouts.domain.record.readings import ArmReading, HistogramReading

Target = tuple[str, ...]  # the values of a template's labels of targets


@dataclass(frozen=True, slots=True)
class Scraped:
    """A process of the gateway as Prometheus saw it last.

    labels      that all of its series from this scrape have
    at          when it was scraped
    started_at  when the process started, None when nobody says it
    """

    target: Target
    labels: Mapping[str, str]
    at: float
    started_at: float | None = None

    @property
    def name(self) -> str:
        """For people: a pod's name, and never an address."""
        return self.target[-1]


@dataclass(slots=True)
class CountedSeries:
    """Series of the arms by process, endpoint and variant. One that belongs to no arm, or to no known process, is left
    out; so is one of a second scrape of the same process."""

    found: dict[tuple[Target, str], dict[str, list[Sample]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    @classmethod
    def of(
        cls,
        series: Iterable[Sample],
        template: GatewayTemplate,
        targets: Mapping[Target, Scraped],
        routes: Mapping[str, CountedRoute],
    ) -> CountedSeries:
        sorted_out = cls()
        arms = _Arms(template, routes)
        for sample in series:
            target = scraped_of(sample, template, targets)
            if target is None:
                continue
            endpoint, variant = arms.of(sample.labels)
            if variant:
                sorted_out.found[target.target, endpoint][variant].append(sample)
        return sorted_out

    def of_endpoint(self, target: Target, endpoint: str) -> Mapping[str, Sequence[Sample]]:
        """By variant; empty when this process has counted nothing for the endpoint."""
        return self.found.get((target, endpoint), {})


class _Arms:
    """Whose a series is."""

    def __init__(self, template: GatewayTemplate, routes: Mapping[str, CountedRoute]) -> None:
        self._label = template.arm_label
        self._pattern = re.compile(template.arm_pattern)
        self._by_route = {one.route: (endpoint, one) for endpoint, one in routes.items()}
        self._by_service = {
            service: (endpoint, variant)
            for endpoint, one in routes.items()
            for service, variant in one.services.items()
        }

    def of(self, labels: Mapping[str, str]) -> tuple[str, str]:
        """(endpoint, variant); two empty strings for a series of no arm."""
        match = self._pattern.fullmatch(labels.get(self._label, ""))
        if match is None:
            return "", ""
        said = match.groupdict()
        if "service" in said:
            return self._by_service.get(said["service"], ("", ""))
        endpoint, route = self._by_route.get(said["route"], ("", None))
        place = int(said["rule"]), int(said["backend"])
        return (endpoint, route.places.get(place, "")) if route is not None else ("", "")


def target_of(labels: Mapping[str, str], template: GatewayTemplate) -> Target:
    return tuple(labels.get(name, "") for name in template.target)


def scraped_of(
    sample: Sample, template: GatewayTemplate, targets: Mapping[Target, Scraped]
) -> Scraped | None:
    """Which process counted it; None for one that is not known, and for a second scrape of the same process."""
    found = targets.get(target_of(sample.labels, template))
    return found if found is not None and found.labels.items() <= sample.labels.items() else None


def arm_of(series: Iterable[Sample], template: GatewayTemplate) -> ArmReading:
    """The reading of one arm at one process. Raises InvalidInput for a series that is no count."""
    by_metric: dict[str, list[Sample]] = defaultdict(list)
    for sample in series:
        by_metric[sample.name].append(sample)
    failed = _largest(template.failed, by_metric)
    request = _largest(template.refused_request, by_metric)
    rate = _largest(template.refused_rate, by_metric)
    left = _largest(template.abandoned, by_metric)
    running = _largest(template.running, by_metric)
    others = failed + request + rate + left + running
    if template.answered:
        answered = _largest(template.answered, by_metric)
    else:
        ended = max(0, _largest(template.arrived, by_metric) - others)
        answered = min(ended, _largest(template.succeeded, by_metric))
    latency = {signal: _histogram(by_metric, term) for signal, term in template.latency.items()}
    return ArmReading(
        arrived=others + answered,
        answered=answered,
        refused={"request": request, "rate": rate, "gateway": 0},
        failed=failed,
        abandoned={"before": 0, "midway": left},
        unheld=_largest(template.unheld, by_metric),
        statuses={},
        latency={signal: found for signal, found in latency.items() if found is not None},
    )


def _largest(sums: ClassSums, found: Mapping[str, Sequence[Sample]]) -> int:
    """The largest of the sums, 0 where there are none, or where all are below 0."""
    return max(0, *(sum(_term(term, found) for term in one) for one in sums), 0)


def _term(term: CounterTerm, found: Mapping[str, Sequence[Sample]]) -> int:
    return term.sign * sum(
        sample.count for sample in found.get(term.metric, ()) if term.matches(sample.labels)
    )


def _histogram(found: Mapping[str, Sequence[Sample]], term: HistogramTerm) -> HistogramReading | None:
    """None where nothing was timed yet."""
    wanted = CounterTerm(term.metric, term.labels)
    buckets: dict[float, int] = defaultdict(int)
    for sample in found.get(f"{term.metric}_bucket", ()):
        edge = sample.labels.get("le", "")
        if wanted.matches(sample.labels) and edge != "+Inf":
            at = number_of(edge, "The metrics", "the edge of a bucket", least=0.0) / term.per_second
            buckets[at] += sample.count
    counts = [sample for sample in found.get(f"{term.metric}_count", ()) if wanted.matches(sample.labels)]
    if not counts:
        return None
    edges = tuple(sorted(buckets))
    total = sum(sample.count for sample in counts)
    return HistogramReading(edges, tuple(buckets[edge] for edge in edges), total)
