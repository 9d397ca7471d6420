"""Leases: one worker at a time reconciles an endpoint, by one compare-and-set that every database knows.

`now` is the database's time (`controlplane.timekeeping`), so that workers on machines whose clocks differ agree. No
clock is trusted with more than waiting: whoever takes a lease too early takes it with a larger token, and the worker
before can write nothing any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Case, DateTimeField, F, Q, QuerySet, Value, When

from controlplane.kernel.errors import StaleWriter
from controlplane.timekeeping.claims import free
from rollouts.models import Endpoint

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


def claim_endpoint(*, endpoint_id: int, owner: str, now: datetime) -> Lease | None:
    """The lease, or None while another worker holds it. A lease that ran out may be taken by anyone."""
    current = Endpoint.objects.filter(pk=endpoint_id).values_list("fencing_token", flat=True).first()
    if current is None:
        return None
    taken = Endpoint.objects.filter(nobody_holds(now=now), pk=endpoint_id, fencing_token=current).update(
        lease_owner=owner,
        lease_until=now + LEASE,
        fencing_token=F("fencing_token") + 1,
        next_look_at=now,  # empty again: somebody asked for a look while this one was under way
    )
    return Lease(endpoint_id, owner, current + 1) if taken else None


def hold(lease: Lease, *, now: datetime) -> None:
    """Extends the lease; call it inside each transaction that writes. Raises StaleWriter when it was lost."""
    if not _mine(lease).update(lease_until=now + LEASE):
        raise _lost(lease)


def release(lease: Lease, *, now: datetime, looks_at: datetime | None = None) -> None:
    """Gives the lease back, so that it is free at once whatever any clock shows; nothing happens when it was lost.

    looks_at    when the endpoint, which was looked at now, is looked at again; None when it could not be: at once then.
                Whoever asked for a look meanwhile (`look_soon`) gets it
    """
    mine = _mine(lease)
    if looks_at is None:
        mine.update(lease_until=None, lease_owner="", next_look_at=None)
        return
    asked = When(next_look_at__isnull=True, then=Value(None))
    later = Case(asked, default=Value(looks_at), output_field=DateTimeField())
    mine.update(lease_until=None, lease_owner="", reconciled_at=now, next_look_at=later)


def look_soon(**endpoints: object) -> None:
    """Has the loop look at these endpoints (a filter; none: all of them) in its next tick, or once more after the look
    that is under way. Call it in the transaction of whatever there is to see."""
    Endpoint.objects.filter(**endpoints).update(next_look_at=None)


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
