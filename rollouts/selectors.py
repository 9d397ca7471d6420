"""Typed reads, each with a constant number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Prefetch, QuerySet

from controlplane.kernel.errors import NotFound
from rollouts.domain.states import ACTIVE, Phase
from rollouts.models import Arm, Effect, Endpoint, Evidence, HistoryEvent, MinuteSample, Rollout, Variant, Workload

ACTIVE_PHASES = tuple(sorted(phase.value for phase in ACTIVE))


def rollouts() -> QuerySet[Rollout]:
    """Rollouts with all that a row or a page shows, newest first: 2 queries whatever their number."""
    return (
        Rollout.objects.select_related(
            "endpoint__cluster",
            "endpoint__model",
            "baseline__version__model",
            "candidate__version__model",
            "baseline__workload",
            "candidate__workload",
            "gate_policy",
            "created_by",
        )
        .prefetch_related(Prefetch("arms", queryset=Arm.objects.select_related("variant__version")))
        .order_by("-id")
    )


def find_rollout(rollout_id: int) -> Rollout:
    """One rollout with all that its page shows. Raises NotFound."""
    found = rollouts().filter(pk=rollout_id).first()
    if found is None:
        raise NotFound(f"There is no rollout #{rollout_id}.", code="rollout-not-found")
    return found


def endpoints() -> QuerySet[Endpoint]:
    """Endpoints with their variants, workloads and the rollouts that are active or watched: 4 queries."""
    current = Rollout.objects.filter(phase__in=ACTIVE_PHASES) | Rollout.objects.filter(
        phase=Phase.SUCCEEDED.value, watching=True
    )
    return Endpoint.objects.select_related(
        "cluster", "model", "gate_policy", "golden_set", "stable__version", "stable__workload", "previous"
    ).prefetch_related(
        Prefetch(
            "rollouts",
            queryset=current.select_related("baseline__version", "candidate__version").order_by("-id"),
            to_attr="current_rollouts",
        ),
        Prefetch(
            "variants",
            queryset=Variant.objects.filter(workload__wanted=True).select_related("version", "workload"),
            to_attr="running_variants",
        ),
    )


def find_endpoint(name: str) -> Endpoint:
    """One endpoint with all that its page shows. Raises NotFound."""
    found = endpoints().filter(name=name).first()
    if found is None:
        raise NotFound(f"There is no endpoint {name!r}.", code="endpoint-not-found")
    return found


def workloads_of(endpoint: Endpoint) -> Sequence[Workload]:
    """Workloads that are wanted or still there, the stable one first."""
    rows = Workload.objects.filter(variant__endpoint=endpoint).exclude(wanted=False, phase="absent")
    found = rows.select_related("variant__version").order_by("-variant__created_at")
    return sorted(found, key=lambda workload: workload.variant_id != endpoint.stable_id)


def history_of(*, rollout: Rollout | None = None, endpoint: Endpoint | None = None, limit: int = 50) -> Sequence[HistoryEvent]:
    """What happened, newest first."""
    rows = HistoryEvent.objects.select_related("rollout")
    if rollout is not None:
        rows = rows.filter(rollout=rollout)
    if endpoint is not None:
        rows = rows.filter(endpoint=endpoint)
    return list(rows[:limit])


def evidence_of(rollout: Rollout, *, after_index: int = -1, limit: int = 5_000) -> Sequence[Evidence]:
    """Rows of evidence in order, those after `after_index` only."""
    return list(Evidence.objects.filter(rollout=rollout, index__gt=after_index).order_by("index")[:limit])


def samples_of(endpoint: Endpoint, *, since: datetime) -> Sequence[MinuteSample]:
    """Minutes of all variants of an endpoint, in order of time."""
    return list(
        MinuteSample.objects.filter(endpoint=endpoint, minute__gte=since).select_related("variant__version").order_by("minute")
    )


def waiting_effects(endpoint: Endpoint) -> Sequence[Effect]:
    """Effects that are not done yet, oldest first, with what held them up."""
    return list(Effect.objects.filter(endpoint=endpoint, state="pending").order_by("id"))
