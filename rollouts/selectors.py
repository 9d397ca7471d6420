"""Reads of rollouts. Each says what it fetches along, so that lists cost the same at any length."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import OuterRef, QuerySet, Subquery

from controlplane.kernel.errors import InvalidInput, NotFound
from rollouts.domain.states import ACTIVE
from rollouts.models import Endpoint, Evidence, GatePolicyVersion, GlobalStop, HistoryEvent, Rollout, Variant

ACTIVE_PHASES = tuple(sorted(phase.value for phase in ACTIVE))


def all_endpoints() -> QuerySet[Endpoint]:
    """Endpoints by name, with model, policy, golden set and variants; `active_rollout` is a number or None."""
    active = Rollout.objects.filter(endpoint=OuterRef("pk"), phase__in=ACTIVE_PHASES).values("id")[:1]
    return Endpoint.objects.select_related(
        "cluster",
        "model",
        "gate_policy",
        "golden_set",
        "stable__version",
        "stable__workload",
        "previous__version",
        "previous__workload",
    ).annotate(active_rollout=Subquery(active))


def endpoint_named(name: str) -> Endpoint:
    """One of `all_endpoints`. Raises NotFound."""
    endpoint = all_endpoints().filter(name=name).first()
    if endpoint is None:
        raise NotFound(
            f"There is no endpoint {name!r}.",
            code="endpoint-not-found",
            fix="GET /api/v1/endpoints lists them.",
        )
    return endpoint


def variants_of(endpoint: Endpoint) -> QuerySet[Variant]:
    """Its variants, newest first, with version and workload."""
    return endpoint.variants.select_related("version", "workload").order_by("-id")


def all_rollouts(
    *, endpoint: str = "", phases: Collection[str] = (), active: bool = False
) -> QuerySet[Rollout]:
    """Rollouts, newest first, with endpoint, both variants and versions, policy, arms and who started it.

    `endpoint` by name, `phases` any of, `active` only those not decided. An unknown endpoint: NotFound.
    """
    found = Rollout.objects.select_related(
        "endpoint", "baseline__version", "candidate__version", "gate_policy", "created_by"
    ).prefetch_related("arms__variant")
    if endpoint:
        if not Endpoint.objects.filter(name=endpoint).exists():
            raise NotFound(f"There is no endpoint {endpoint!r}.", code="endpoint-not-found")
        found = found.filter(endpoint__name=endpoint)
    if phases:
        found = found.filter(phase__in=phases)
    if active:
        found = found.filter(phase__in=ACTIVE_PHASES)
    return found.order_by("-id")


def rollout_numbered(rollout_id: int) -> Rollout:
    """One of `all_rollouts`. Raises NotFound."""
    rollout = all_rollouts().filter(pk=rollout_id).first()
    if rollout is None:
        raise NotFound(f"There is no rollout #{rollout_id}.", code="rollout-not-found")
    return rollout


def history_of(*, endpoint: Endpoint | None = None, rollout: Rollout | None = None) -> QuerySet[HistoryEvent]:
    """What happened to an endpoint (its rollouts included) or to a rollout, newest first."""
    events = HistoryEvent.objects.select_related("endpoint")
    if endpoint is not None:
        events = events.filter(endpoint=endpoint)
    if rollout is not None:
        events = events.filter(rollout=rollout)
    return events.order_by("-id")


def evidence_of(rollout: Rollout, *, after: int = -1) -> QuerySet[Evidence]:
    """Its intervals of evidence with an index above `after`, oldest first."""
    return Evidence.objects.filter(rollout=rollout, index__gt=after).order_by("index")


def policy_referenced(reference: str) -> GatePolicyVersion:
    """The policy `name@version`, or the newest version of `name`. Raises InvalidInput naming `gate_policy`."""
    name, at, version = reference.partition("@")
    found = GatePolicyVersion.objects.filter(name=name).order_by("-version")
    if at:
        found = found.filter(version=int(version)) if version.isdecimal() else found.none()
    policy = found.first()
    if policy is None:
        known = sorted({str(row) for row in GatePolicyVersion.objects.all()[:10]})
        raise InvalidInput(
            f"There is no gate policy {reference!r}.",
            field="gate_policy",
            fix=f"Known: {', '.join(known) or 'none yet'}.",
            code="unknown-gate-policy",
        )
    return policy


def global_stop() -> GlobalStop:
    """The global stop as it is, with who set it; an unsaved one that is off before it was ever used."""
    return GlobalStop.objects.select_related("by").filter(pk=1).first() or GlobalStop(pk=1)
