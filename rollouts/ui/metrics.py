"""What `/metrics` says of rollouts: gauges, read from the database at every scrape."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Count, Max
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from controlplane.timekeeping.database_clock import CLOCK
from controlplane.web import metrics
from rollouts import selectors
from rollouts.domain.lifecycle.states import Phase
from rollouts.models import Arm, Effect, EffectState, Endpoint, Rollout


def register() -> None:
    """Called once when the app starts."""
    metrics.add_source(rollout_metrics)


def rollout_metrics() -> Iterable[Metric]:
    """Rollouts by phase, requests by arm, open effects, age of the last look, the global stop."""
    phases = GaugeMetricFamily("headgate_rollouts", "Rollouts by phase", labels=["phase"])
    counted = dict(Rollout.objects.order_by().values_list("phase").annotate(n=Count("id")))
    for phase in Phase:
        phases.add_metric([phase.value], counted.get(phase.value, 0))
    requests = CounterMetricFamily(
        "headgate_rollout_requests",
        "Requests of the newest rollout, by assigned arm",
        labels=["endpoint", "arm"],
    )
    failed = CounterMetricFamily(
        "headgate_rollout_failed_requests",
        "Of those, errors that reached the user",
        labels=["endpoint", "arm"],
    )
    newest = Rollout.objects.order_by().values("endpoint").annotate(newest=Max("id")).values("newest")
    for arm in Arm.objects.filter(rollout__in=newest).select_related("rollout__endpoint"):
        labels = [arm.rollout.endpoint.name, arm.name]
        requests.add_metric(labels, arm.requests)
        failed.add_metric(labels, arm.failed)
    age = GaugeMetricFamily(
        "headgate_endpoint_reconciled_age_seconds",
        "Seconds since the loop looked at an endpoint; below 0: a clock jumped",
        labels=["endpoint"],
    )
    now = CLOCK.now()
    for name, at in Endpoint.objects.exclude(reconciled_at=None).values_list("name", "reconciled_at"):
        age.add_metric([name], (now - at).total_seconds() if at else 0.0)
    effects = GaugeMetricFamily("headgate_open_effects", "Effects written and not yet in force")
    effects.add_metric([], Effect.objects.filter(state=EffectState.PENDING).count())
    stop = GaugeMetricFamily("headgate_global_stop", "1 while the global stop is on")
    stop.add_metric([], float(selectors.global_stop().on))
    return [phases, requests, failed, age, effects, stop]
