"""Tasks: thin, each calls one service. A tick that is lost costs nothing, the next one sees the same database."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

from celery import shared_task
from django.conf import settings
from django.db import close_old_connections, connections
from django.utils import timezone

from controlplane.api.idempotency import forget_expired
from controlplane.kernel.errors import HeadgateError, Unavailable
from controlplane.web.health import beat
from rollouts.models import Rollout
from rollouts.services.packing import forget_evidence, pack_evidence
from rollouts.services.probes import PROBED, probe_rollout
from rollouts.services.reconcile import due_endpoints, reconcile_endpoint, sweep, worker_name
from rollouts.services.replay import forget_replays
from rollouts.wiring import rotate_request_log, router, world

log = logging.getLogger(__name__)

CONCURRENT_ENDPOINTS = 4


@shared_task(name="rollouts.reconcile")
def reconcile() -> None:
    """One tick: every endpoint that nobody holds, several at a time."""
    due = due_endpoints(now=timezone.now())
    with ThreadPoolExecutor(max_workers=CONCURRENT_ENDPOINTS) as pool:
        list(pool.map(_reconcile_one, due))
    beat(name="worker", now=timezone.now())
    _report_router()


@shared_task(name="rollouts.reconcile_endpoint")
def reconcile_endpoint_now(endpoint_id: int) -> None:
    """A wake-up after a click; the next tick would do the same."""
    _reconcile_one(endpoint_id)


@shared_task(name="rollouts.probe")
def probe() -> None:
    """Asks the next golden prompts for every rollout that has traffic."""
    watched_or_moving = Rollout.objects.filter(phase__in=PROBED).exclude(phase="succeeded", watching=False)
    for rollout_id in watched_or_moving.values_list("pk", flat=True):
        probe_rollout(rollout_id=rollout_id, world=world())


@shared_task(name="rollouts.sweep")
def sweep_old() -> None:
    """Prunes what has a retention, packs old evidence, and keeps the router's log within bounds."""
    sweep(now=timezone.now())
    pack_evidence(now=timezone.now())
    forget_evidence(now=timezone.now(), days=settings.HEADGATE.evidence_days)
    forget_replays(now=timezone.now())
    forget_expired(now=timezone.now())
    try:
        rotate_request_log()
    except Unavailable as error:
        log.warning("request_log.not_rotated %s", error)


def _report_router() -> None:
    try:
        router().observe("")
    except HeadgateError as error:
        beat(name="router", now=timezone.now(), ok=False, message=str(error))
    else:
        beat(name="router", now=timezone.now())


def _reconcile_one(endpoint_id: int) -> None:
    close_old_connections()
    try:
        reconcile_endpoint(endpoint_id=endpoint_id, world=world(), owner=worker_name())
    except Exception:  # the boundary of one endpoint: a defect in one must not stop the others' ticks
        log.exception("endpoint.reconcile_failed endpoint=%s", endpoint_id)
    finally:
        connections.close_all()
