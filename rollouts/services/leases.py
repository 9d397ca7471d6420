"""Leases: one worker at a time reconciles an endpoint, by one compare-and-set that every database knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import F, Q

from controlplane.kernel.errors import StaleWriter
from rollouts.models import Endpoint

LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for an endpoint. `token` is larger than every token before it."""

    endpoint_id: int
    owner: str
    token: int


def claim_endpoint(*, endpoint_id: int, owner: str, now: datetime) -> Lease | None:
    """The lease, or None while another worker holds it. A lease that ran out may be taken by anyone."""
    current = Endpoint.objects.filter(pk=endpoint_id).values_list("fencing_token", flat=True).first()
    if current is None:
        return None
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=now)
    taken = Endpoint.objects.filter(free, pk=endpoint_id, fencing_token=current).update(
        lease_owner=owner,
        lease_until=now + timedelta(seconds=LEASE_SECONDS),
        fencing_token=F("fencing_token") + 1,
    )
    return Lease(endpoint_id, owner, current + 1) if taken else None


def hold(lease: Lease, *, now: datetime) -> None:
    """Extends the lease; call it inside each transaction that writes. Raises StaleWriter when it was lost."""
    kept = Endpoint.objects.filter(
        pk=lease.endpoint_id, fencing_token=lease.token, lease_owner=lease.owner
    ).update(lease_until=now + timedelta(seconds=LEASE_SECONDS))
    if not kept:
        raise StaleWriter(
            f"Another worker took over endpoint {lease.endpoint_id}.", fix="Nothing to do: it goes on there."
        )


def release(lease: Lease, *, now: datetime, reconciled: bool = False) -> None:
    """Gives the lease back, and notes that the endpoint was looked at; nothing happens when it was lost."""
    mine = Endpoint.objects.filter(pk=lease.endpoint_id, fencing_token=lease.token, lease_owner=lease.owner)
    if reconciled:
        mine.update(lease_until=now, lease_owner="", reconciled_at=now)
    else:
        mine.update(lease_until=now, lease_owner="")
