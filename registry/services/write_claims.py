"""Who may write to one model of the store at this moment: a claim that runs out, with a token that only grows.

The store knows nothing of the token: it has no compare-and-set. So a claim tells a worker whether it may begin a
request, and afterwards whether others may have written meanwhile; it cannot stop a request that is under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet

from controlplane.timekeeping.claims import free
from registry.models import Model

# Renewed right before each request. So another worker writes at the same time only if this one is stopped for so long
# between that and the request itself.
LIFETIME = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class WriteClaim:
    """The right to write to a model, for as long as its token is the newest."""

    model_id: int
    token: int


@transaction.atomic
def claim_writes(*, model_id: int, now: datetime) -> WriteClaim | None:
    """Claims the model, None while somebody else holds it. Two queries.

    The row is written before its token is read, in one transaction: nobody claims it in between.
    """
    unheld = free("write_until", now=now, lifetime=LIFETIME)
    claimed = Model.objects.filter(unheld, pk=model_id)
    if not claimed.update(write_until=now + LIFETIME, write_token=F("write_token") + 1):
        return None
    return WriteClaim(model_id, Model.objects.values_list("write_token", flat=True).get(pk=model_id))


def renew(claim: WriteClaim, *, now: datetime) -> bool:
    """Holds it for another LIFETIME; False when another worker has claimed the model since. One query.

    A claim that ran out and that nobody took is still ours: nobody else wrote.
    """
    return bool(_of(claim).update(write_until=now + LIFETIME))


def give_back(claim: WriteClaim) -> None:
    """Lets others write at once; nothing happens when the claim was lost. One query."""
    _of(claim).update(write_until=None)


def _of(claim: WriteClaim) -> QuerySet[Model]:
    return Model.objects.filter(pk=claim.model_id, write_token=claim.token)
