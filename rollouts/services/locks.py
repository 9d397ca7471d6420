"""The order of locks, for everything that changes an endpoint or a rollout: the endpoint, then its rollouts, then the
rest (arms, effects, workloads).

Two who take them in two orders wait for each other until the database ends one of them. The loop holds the endpoint
(its lease) before it looks at the rollout; so does every command.

Several endpoints are locked in the order of their numbers. An UPDATE of many rows locks them as it comes upon them, so
whoever changes many endpoints in one statement takes them from `in_order`.

Rows are locked against changes, not against rows that refer to them (FOR NO KEY UPDATE): history, effects and feedback
are written beside it.
"""

from __future__ import annotations

from django.db.models import QuerySet

from controlplane.kernel.errors import NotFound
from rollouts.models import Endpoint, Rollout, Workload
from rollouts.selectors import GOES_ON


def locked_endpoints() -> QuerySet[Endpoint]:
    """Endpoints, each locked when it is read. Inside a transaction, before any rollout of it is locked."""
    return Endpoint.objects.select_for_update(of=("self",), no_key=True)


def in_order(endpoints: QuerySet[Endpoint]) -> QuerySet[Endpoint]:
    """The same endpoints for an update of all in one statement: none is changed before it and those with smaller
    numbers are locked. Inside a transaction."""
    rows = endpoints.order_by("pk").select_for_update(no_key=True).values("pk")
    return Endpoint.objects.filter(pk__in=rows)


def lock_endpoints_of(rows: QuerySet[Workload]) -> list[int]:
    """Locks the endpoints of these workloads, in their order; returns their numbers. Inside a transaction, before any
    of the workloads is changed."""
    numbers = rows.order_by().values("variant__endpoint")
    endpoints = Endpoint.objects.filter(pk__in=numbers).order_by("pk")
    return list(endpoints.select_for_update(no_key=True).values_list("pk", flat=True))


def lock_rollouts_of(endpoint_id: int) -> None:
    """Locks the rollouts of an endpoint that go on, in the order of their numbers. Inside a transaction that holds the
    endpoint, before its workloads or effects are changed by what may end a rollout afterwards. 1 query."""
    rows = Rollout.objects.filter(GOES_ON, endpoint=endpoint_id).order_by("pk")
    list(rows.select_for_update(no_key=True).values_list("pk", flat=True))


def lock_rollout(rollout_id: int) -> Rollout:
    """The rollout with all that a decision needs, it and its endpoint locked. Raises NotFound."""
    endpoint = Rollout.objects.filter(pk=rollout_id).values_list("endpoint", flat=True).first()
    if endpoint is None:
        raise NotFound(f"There is no rollout #{rollout_id}.", code="rollout-not-found")
    locked_endpoints().only("pk").get(pk=endpoint)
    return (
        Rollout.objects.select_for_update(of=("self",), no_key=True)
        .select_related("endpoint", "baseline__version", "candidate__version", "gate_policy")
        .get(pk=rollout_id)
    )
