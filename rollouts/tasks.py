"""Tasks: thin, each calls one service. A tick that is lost costs nothing, the next one sees the same database.

What may hang or takes long shares neither queue nor worker with the loop, and not with another kind that may hang
(`CELERY_TASK_ROUTES`).
"""

from __future__ import annotations

from datetime import datetime

from celery import shared_task
from django.conf import settings

from controlplane.kernel.clock import MESSAGE_SECONDS
from controlplane.passes.services import one_run
from controlplane.passes.ticks import Ticks
from controlplane.timekeeping.database_clock import CLOCK
from controlplane.web.health import beat
from registry.wiring import model_store
from rollouts.domain.lifecycle.states import Phase
from rollouts.models import Rollout
from rollouts.services.errands.fetching import fetch_files, versions_to_fetch
from rollouts.services.errands.gateway_trials import claim_gateways, look_at_gateway
from rollouts.services.errands.housekeeping import HOUSEKEEPING, keep_house
from rollouts.services.errands.probe_rounds import claim_rounds, run_round
from rollouts.services.errands.write_backs import WRITE_BACKS, keep_mlflow_true
from rollouts.services.loop.glances import Glances, report_routers
from rollouts.services.loop.reconcile import reconcile_after_click, reconcile_endpoints
from rollouts.services.loop.restored import report_restored
from rollouts.wake import APART_SECONDS, LOOP, probe_soon, wake
from rollouts.wiring import worlds

TICKS = Ticks(seconds=settings.HEADGATE.tick_seconds / 2)
LOOKS = Ticks(seconds=APART_SECONDS / 2)
GLANCES = Glances()
CONCURRENT_ENDPOINTS = 4
ONE_RUN_SECONDS = 60.0  # so long a run keeps others of its kind away


@shared_task(name="rollouts.reconcile")
def reconcile() -> None:
    """One tick: every endpoint that nobody holds, several at a time. Ticks that piled up while this worker was away are
    left out."""
    LOOP.run_here()
    if not TICKS.may_begin():
        return
    reconcile_endpoints(worlds=worlds(), clock=CLOCK, threads=CONCURRENT_ENDPOINTS, glances=GLANCES)
    beat(name="worker", now=CLOCK.now())
    report_restored(now=CLOCK.now())
    report_routers(glances=GLANCES, now=CLOCK.now())


@shared_task(name="rollouts.reconcile_changed")
def reconcile_changed() -> None:
    """A look between two ticks, because a cluster said that something changed. Those that piled up are one."""
    if LOOKS.may_begin():
        reconcile_endpoints(worlds=worlds(), clock=CLOCK, threads=CONCURRENT_ENDPOINTS, glances=GLANCES)
        probe_soon()


@shared_task(name="rollouts.reconcile_endpoint")
def reconcile_endpoint_now(endpoint_id: int) -> None:
    """A wake-up after a click; the next tick would do the same."""
    reconcile_after_click(endpoint_id=endpoint_id, worlds=worlds())


@shared_task(name="rollouts.probe")
def probe() -> None:
    """Begins a round for every rollout whose probes are due, each as a task, and tells that this worker lives."""
    beat(name="probes", now=CLOCK.now())
    for rollout_id, claimed_until in claim_rounds(now=CLOCK.now()):
        probe_round.apply_async((rollout_id, claimed_until.isoformat()), expires=MESSAGE_SECONDS)


@shared_task(name="rollouts.probe_round")
def probe_round(rollout_id: int, claimed_until: str) -> None:
    """One round of one rollout, which may wait for an engine that hangs."""
    until = datetime.fromisoformat(claimed_until)
    run_round(rollout_id=rollout_id, claimed_until=until, worlds=worlds())
    before_traffic = Rollout.objects.filter(pk=rollout_id, phase=Phase.PROVISIONING.value)
    for endpoint_id in before_traffic.values_list("endpoint_id", flat=True):
        wake(endpoint_id)  # what was proven is what it waits for


@shared_task(name="rollouts.try_gateways")
def try_gateways() -> None:
    """Looks at the gateways of clusters, each as a task: one that was not tried yet, or is another one by now, is."""
    for name, claimed_until in claim_gateways(worlds=worlds(), now=CLOCK.now()):
        try_gateway.apply_async((name, claimed_until.isoformat()), expires=MESSAGE_SECONDS)


@shared_task(name="rollouts.try_gateway")
def try_gateway(cluster: str, claimed_until: str) -> None:
    """The gateway of one cluster, which may hang for as long as a trial may take."""
    until = datetime.fromisoformat(claimed_until)
    look_at_gateway(cluster=cluster, claimed_until=until, worlds=worlds())


@shared_task(name="rollouts.fetch")
def fetch() -> None:
    """Begins to fetch the files that launches wait for, each version as a task, and tells that this worker lives."""
    beat(name="files", now=CLOCK.now())
    for version_id in versions_to_fetch(now=CLOCK.now()):
        fetch_version_files.apply_async((version_id,), expires=MESSAGE_SECONDS)


@shared_task(name="rollouts.fetch_files")
def fetch_version_files(version_id: int) -> None:
    """The files of one version, which may be large and come slowly."""
    fetch_files(version_id=version_id, worlds=worlds())


@shared_task(name="rollouts.write_back")
def write_back() -> None:
    """Keeps MLflow's aliases and tags true to what serves, and tells that this worker lives."""
    beat(name="errands", now=CLOCK.now())
    with one_run(name=WRITE_BACKS, clock=CLOCK, seconds=ONE_RUN_SECONDS) as mine:
        if mine:
            keep_mlflow_true(store=model_store(), clock=CLOCK)


@shared_task(name="rollouts.sweep")
def sweep_old() -> None:
    """Prunes what has a retention, packs old evidence, and keeps the routers' logs within bounds."""
    with one_run(name=HOUSEKEEPING, clock=CLOCK, seconds=ONE_RUN_SECONDS) as mine:
        if mine:
            keep_house(clock=CLOCK, evidence_days=settings.HEADGATE.evidence_days, worlds=worlds())
