"""Prometheus metrics. Counters of requests live in this process; what concerns rollouts is read at the
scrape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from controlplane.timekeeping.database_clock import CLOCK
from controlplane.web.models import Heartbeat

MetricSource = Callable[[], Iterable[Metric]]
LATENCY_EDGES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_registry = CollectorRegistry()
ProcessCollector(registry=_registry)
PlatformCollector(registry=_registry)
_requests = Counter(
    "headgate_http_requests",
    "Requests answered by this web process",
    ["view", "method", "status"],
    registry=_registry,
)
_seconds = Histogram(
    "headgate_http_request_seconds",
    "Seconds until the response began",
    ["view"],
    buckets=LATENCY_EDGES,
    registry=_registry,
)


class _Sources(Collector):
    """Asks every registered source at the scrape, so that a scrape shows the database as it is."""

    def __init__(self) -> None:
        self.sources: list[MetricSource] = []

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        for source in self.sources:
            yield from source()


_sources = _Sources()
_registry.register(_sources)


def add_source(source: MetricSource) -> None:
    """`source()` yields metric families at every scrape. Registering one twice has no effect."""
    if source not in _sources.sources:
        _sources.sources.append(source)


def count_request(*, view: str, method: str, status: int, seconds: float) -> None:
    """Counts one answered request."""
    known = method if method in KNOWN_METHODS else "OTHER"
    _requests.labels(view, known, str(status)).inc()
    _seconds.labels(view).observe(max(0.0, seconds))


def exposition() -> bytes:
    """Everything in Prometheus' text format."""
    return generate_latest(_registry)


def _heartbeats() -> Iterable[Metric]:
    now = CLOCK.now()
    age = GaugeMetricFamily(
        "headgate_part_age_seconds",
        "Seconds since a part last reported; below 0: a clock jumped",
        labels=["part"],
    )
    ok = GaugeMetricFamily("headgate_part_ok", "1 when the part's last report was good", labels=["part"])
    for row in Heartbeat.objects.all():
        age.add_metric([row.name], (now - row.at).total_seconds())
        ok.add_metric([row.name], float(row.ok))
    return [age, ok]


add_source(_heartbeats)
