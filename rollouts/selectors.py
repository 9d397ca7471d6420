"""Typed reads, each with a constant number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from django.db.models import CharField, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Cast, Coalesce

from controlplane.kernel.errors import InvalidInput, NotFound
from controlplane.passes.models import ItemTrouble
from registry.models import Alias, AliasMove
from registry.selectors import last_read
from rollouts.domain.lifecycle.states import ACTIVE, Phase
from rollouts.evidence import evidence_rows, with_newest
from rollouts.models import (
    Arm,
    Cluster,
    Endpoint,
    Evidence,
    GatePolicyVersion,
    GlobalStop,
    HistoryEvent,
    Rollout,
    UncountedRatings,
    Variant,
    Workload,
)

DAY = timedelta(hours=24)
WRITE_BACKS = "write-backs to MLflow"  # the pass that keeps MLflow true, as people read it
TURNS = "turns of the loop"  # the pass that looks at endpoints, as people read it
POLICIES_NAMED = 10  # versions, in an error about an unknown one
ACTIVE_PHASES = tuple(sorted(phase.value for phase in ACTIVE))
# A rollout that is active, or still watched.
GOES_ON = Q(phase__in=ACTIVE_PHASES) | Q(phase=Phase.SUCCEEDED.value, watching=True)


def rollouts() -> QuerySet[Rollout]:
    """Rollouts with all that a row or a page shows, newest first: 2 queries whatever their number."""
    return (
        with_newest(Rollout.objects.all())
        .select_related(
            "endpoint__cluster",
            "endpoint__model",
            "endpoint__stable__version__model",
            "endpoint__previous",
            "baseline__version__model",
            "candidate__version__model",
            "baseline__workload",
            "candidate__workload",
            "gate_policy",
            "created_by",
        )
        .prefetch_related(
            Prefetch("arms", queryset=Arm.objects.select_related("variant__version", "variant__workload"))
        )
        .annotate(**_in_mlflow("endpoint__"), **turn_trouble("endpoint__"))
        .order_by("-id")
    )


def _in_mlflow(endpoint: str) -> dict[str, Subquery | Coalesce]:
    """What MLflow was last read to have for an endpoint, and why it cannot be told more: no query of their own.

    alias_number     the version that the endpoint's alias points to, None when it is not there
    alias_read_at    when MLflow was last read to say so
    asked_number, asked_at    another version than the one that serves, to which the alias was asked to move without an
                     answer yet, and when: that request may still arrive
    untold_error, untold_since, untold_until    the words, the first failure and the next try of a write-back
    """
    alias = Alias.objects.filter(model=OuterRef(f"{endpoint}model"), name=OuterRef(f"{endpoint}alias"))
    waiting = AliasMove.objects.filter(
        model=OuterRef(f"{endpoint}model"), alias=OuterRef(f"{endpoint}alias"), moved_at=None
    )
    asked = waiting.exclude(version=OuterRef(f"{endpoint}stable__version")).order_by("-asked_at", "-id")
    key = Cast(OuterRef(f"{endpoint}pk"), CharField())
    trouble = ItemTrouble.objects.filter(pass_name=WRITE_BACKS, item=key)
    return {
        "alias_number": Subquery(alias.values("version__number")[:1]),
        "asked_number": Subquery(asked.values("version__number")[:1]),
        "asked_at": Subquery(asked.values("asked_at")[:1]),
        "alias_read_at": last_read(f"{endpoint}model__"),
        "untold_error": Subquery(trouble.values("error")[:1]),
        "untold_since": Subquery(trouble.values("first_failed_at")[:1]),
        "untold_until": Subquery(trouble.values("next_attempt_at")[:1]),
    }


def turn_trouble(endpoint: str) -> dict[str, Subquery]:
    """Why the loop cannot work on an endpoint (`turn_error`) and since when (`turn_since`), None while it can: no query
    of their own. `endpoint`: how its columns begin, such as `endpoint__`."""
    trouble = ItemTrouble.objects.filter(pass_name=TURNS, item=Cast(OuterRef(f"{endpoint}pk"), CharField()))
    return {
        "turn_error": Subquery(trouble.values("error")[:1]),
        "turn_since": Subquery(trouble.values("first_failed_at")[:1]),
    }


def find_rollout(rollout_id: int) -> Rollout:
    """One rollout with all that its page shows. Raises NotFound."""
    found = rollouts().filter(pk=rollout_id).first()
    if found is None:
        raise NotFound(f"There is no rollout #{rollout_id}.", code="rollout-not-found")
    return found


def current_rollout(endpoint_id: int) -> Rollout | None:
    """The rollout that the loop moves: the active one, else the one that is still watched. 1 query."""
    rows = Rollout.objects.filter(GOES_ON, endpoint=endpoint_id).select_related(
        "baseline__version", "candidate__version", "gate_policy"
    )
    return max(rows, key=lambda rollout: (rollout.is_active, rollout.pk), default=None)


def endpoints() -> QuerySet[Endpoint]:
    """Endpoints with their variants, workloads and the rollouts that are active or watched: 4 queries."""
    current = Rollout.objects.filter(GOES_ON)
    return (
        Endpoint.objects.select_related(
            "cluster",
            "model",
            "gate_policy",
            "golden_set",
            "stable__version__model",
            "stable__workload",
            "previous",
        )
        .annotate(**_in_mlflow(""), **turn_trouble(""))
        .prefetch_related(
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
    )


def find_endpoint(name: str) -> Endpoint:
    """One endpoint with all that its page shows. Raises NotFound."""
    return _named(endpoints(), name)


def _named(rows: QuerySet[Endpoint], name: str) -> Endpoint:
    found = rows.filter(name=name).first()
    if found is None:
        raise NotFound(f"There is no endpoint {name!r}.", code="endpoint-not-found")
    return found


def endpoints_with_ratings(*, now: datetime) -> QuerySet[Endpoint]:
    """`endpoints()`, each with its ratings of the last day that did not count: 1 query more."""
    hours = UncountedRatings.objects.filter(hour__gt=now - DAY, hour__lte=now)
    return endpoints().prefetch_related(Prefetch("uncounted_hours", queryset=hours))


def find_endpoint_with_ratings(name: str, *, now: datetime) -> Endpoint:
    """One of `endpoints_with_ratings`. Raises NotFound."""
    return _named(endpoints_with_ratings(now=now), name)


def evidence_of(rollout: Rollout, *, after_index: int = -1, limit: int = 5_000) -> Sequence[Evidence]:
    """Rows of evidence in order, those after `after_index` only; packed ones too, as they were written."""
    rows = islice(evidence_rows(rollout.pk, first=after_index + 1), limit)
    return [
        Evidence(
            rollout=rollout,
            index=row.index,
            ended_at=datetime.fromtimestamp(row.ended_at, tz=UTC),
            interval=row.interval,
            situation=row.situation,
            verdicts=row.verdicts,
            decision=row.decision,
            digest=row.digest,
        )
        for row in rows
    ]


def rollouts_where(*, endpoint: str = "", phase: str = "", active: bool = False) -> QuerySet[Rollout]:
    """`rollouts()` of one endpoint, in one phase, or those not decided yet. Raises NotFound (endpoint)."""
    found = rollouts()
    if endpoint:
        found = found.filter(endpoint=find_endpoint(endpoint))
    if phase:
        found = found.filter(phase=phase)
    if active:
        found = found.filter(phase__in=ACTIVE_PHASES)
    return found


def variants_of(endpoint: Endpoint) -> QuerySet[Variant]:
    """All variants of an endpoint, newest first: 1 query."""
    return Variant.objects.filter(endpoint=endpoint).select_related("version", "workload").order_by("-id")


def drifting(cluster: str) -> QuerySet[Workload]:
    """What runs on this cluster and is not as it was launched: 1 query."""
    rows = Workload.objects.filter(variant__endpoint__cluster__name=cluster, wanted=True).exclude(drift="")
    return rows.select_related("variant__endpoint").order_by("variant__endpoint__name", "variant__name")


def history(*, rollout: Rollout | None = None, endpoint: Endpoint | None = None) -> QuerySet[HistoryEvent]:
    """What happened to one of them, newest first, for pages by key: 1 query."""
    rows = HistoryEvent.objects.order_by("-id")
    return rows.filter(rollout=rollout) if rollout is not None else rows.filter(endpoint=endpoint)


def gate_policies() -> QuerySet[GatePolicyVersion]:
    """All versions of all gate policies, newest first."""
    return GatePolicyVersion.objects.order_by("-id")


def find_gate_policy(reference: str, *, field: str = "gate_policy") -> GatePolicyVersion:
    """`name@version`, or the newest version of `name`. Raises InvalidInput naming `field`."""
    name, at, version = reference.partition("@")
    found = GatePolicyVersion.objects.filter(name=name).order_by("-version")
    if at:
        # Nobody has a version of more digits, and Python reads no number of thousands of them.
        found = (
            found.filter(version=int(version)) if version.isdecimal() and len(version) < 10 else found.none()
        )
    policy = found.first()
    if policy is None:
        known = ", ".join(str(row) for row in gate_policies()[:POLICIES_NAMED]) or "none yet"
        more = gate_policies().count() - POLICIES_NAMED
        known += f" and {more} older" if more > 0 else ""
        raise InvalidInput(
            f"There is no gate policy {reference!r}.",
            field=field,
            fix=f"Known: {known}.",
            code="unknown-gate-policy",
        )
    return policy


def global_stop() -> GlobalStop:
    """The global stop, with who set it; one that is off when it was never used."""
    return GlobalStop.objects.select_related("by").filter(pk=1).first() or GlobalStop(pk=1)


def find_cluster(name: str) -> Cluster:
    """A cluster by name. Raises InvalidInput (field cluster)."""
    cluster = Cluster.objects.filter(name=name).first()
    if cluster is None:
        known = ", ".join(Cluster.objects.values_list("name", flat=True)) or "none yet"
        raise InvalidInput(f"There is no cluster {name!r}.", field="cluster", fix=f"Known: {known}.")
    return cluster
