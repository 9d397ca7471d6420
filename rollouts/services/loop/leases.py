"""Leases: one worker at a time reconciles an endpoint, by one compare-and-set that every database knows.

`now` is the database's time (`controlplane.timekeeping`), so that workers on machines whose clocks differ agree. No
clock is trusted with more than waiting: whoever takes a lease too early takes it with a larger token, and the worker
before can write nothing any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Case, DateTimeField, F, Q, QuerySet, Value, When

from controlplane.kernel.errors import StaleWriter
from controlplane.timekeeping.claims import free
from rollouts.models import Endpoint
from rollouts.services.locks import in_order

LEASE_SECONDS = 60.0
LEASE = timedelta(seconds=LEASE_SECONDS)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for an endpoint. `token` is larger than every token before it."""

    endpoint_id: int
    owner: str
    token: int


def nobody_holds(*, now: datetime) -> Q:
    """Endpoints whose lease was given back, ran out, or ends later than any lease that was taken by this clock."""
    return free("lease_until", now=now, lifetime=LEASE)


def claim_endpoints(*, endpoint_ids: Collection[int], owner: str, now: datetime) -> list[Lease]:
    """The leases of those that no other worker holds, in the order of their numbers. 3 queries in a transaction.

    A lease that ran out may be taken by anyone.

    owner   a name that nobody had before: what has it afterwards was taken here
    """
    held = {"lease_owner": owner, "pk__in": endpoint_ids}
    with transaction.atomic():
        # In one order, and without those that another worker takes at this moment: no two wait for each other.
        rows = Endpoint.objects.filter(nobody_holds(now=now), pk__in=endpoint_ids).order_by("pk")
        mine = list(rows.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True))
        Endpoint.objects.filter(nobody_holds(now=now), pk__in=mine).update(
            lease_owner=owner,
            lease_until=now + LEASE,
            fencing_token=F("fencing_token") + 1,
            next_look_at=now,  # empty again: somebody asked for a look while this one was under way
        )
        taken = Endpoint.objects.filter(**held).order_by("pk").values_list("pk", "fencing_token")
        return [Lease(number, owner, token) for number, token in taken]


def hold(lease: Lease, *, now: datetime) -> None:
    """Extends the lease; call it inside each transaction that writes. Raises StaleWriter when it was lost."""
    if not _mine(lease).update(lease_until=now + LEASE):
        raise _lost(lease)


def hold_together(leases: Sequence[Lease], *, now: datetime) -> list[Lease]:
    """Extends leases of one owner, and returns those that were not lost; call it inside a transaction that writes.

    Their endpoints are locked in the order of their numbers. 2 queries.
    """
    if not leases:
        return []
    numbers, owner = [lease.endpoint_id for lease in leases], leases[0].owner
    rows = Endpoint.objects.filter(pk__in=numbers, lease_owner=owner).order_by("pk")
    tokens = dict(rows.select_for_update(no_key=True).values_list("pk", "fencing_token"))
    held = [lease for lease in leases if tokens.get(lease.endpoint_id) == lease.token]
    Endpoint.objects.filter(pk__in=[lease.endpoint_id for lease in held]).update(lease_until=now + LEASE)
    return held


def release(leases: Mapping[Lease, datetime | None], *, now: datetime) -> None:
    """Gives leases of one owner back, so that they are free at once whatever any clock shows; nothing happens to those
    that were lost. 1 query.

    leases  with when the endpoint, which was looked at now, is looked at again; None when it could not be: at once
            then. Whoever asked for a look meanwhile (`look_soon`) gets it
    """
    if not leases:
        return
    owner = next(iter(leases)).owner
    numbers = [lease.endpoint_id for lease in leases]
    # What has this owner was taken with these leases: the name was never used before.
    looks = [
        When(pk=lease.endpoint_id, next_look_at__isnull=False, then=Value(moment))
        for lease, moment in leases.items()
        if moment is not None
    ]
    seen = [lease.endpoint_id for lease, moment in leases.items() if moment is not None]
    with transaction.atomic(savepoint=False):
        in_order(Endpoint.objects.filter(pk__in=numbers, lease_owner=owner)).update(
            lease_until=None,
            lease_owner="",
            reconciled_at=Case(When(pk__in=seen, then=Value(now)), default=F("reconciled_at"))
            if len(seen) < len(numbers)
            else now,
            next_look_at=Case(*looks, default=Value(None), output_field=DateTimeField()),
        )


def look_soon(**endpoints: object) -> None:
    """Has the loop look at these endpoints (a filter; none: all of them) in its next tick, or once more after the look
    that is under way. Call it in the transaction of whatever there is to see."""
    with transaction.atomic(savepoint=False):
        in_order(Endpoint.objects.filter(**endpoints)).update(next_look_at=None)


def raise_token(lease: Lease, *, above: int) -> None:
    """Makes the next lease's token larger than `above`, which is larger than this one's, and gives this one back.

    Raises StaleWriter when it was lost.
    """
    if not _mine(lease).update(fencing_token=above, lease_until=None, lease_owner="", next_look_at=None):
        raise _lost(lease)


def _mine(lease: Lease) -> QuerySet[Endpoint]:
    """The endpoint while the lease is held; nothing once it was lost."""
    return Endpoint.objects.filter(pk=lease.endpoint_id, fencing_token=lease.token, lease_owner=lease.owner)


def _lost(lease: Lease) -> StaleWriter:
    return StaleWriter(
        f"Another worker took over endpoint {lease.endpoint_id}.", fix="Nothing to do: it goes on there."
    )
