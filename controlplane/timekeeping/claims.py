"""Claims that run out: who holds something says until when, and a claim that cannot be right holds nothing.

The same rule for everything that is held for a while: the lease on an endpoint, a run of a pass, a version whose
manifest is taken, a call under an idempotency key. A clock that jumps back would otherwise keep a claim for as long as
it jumped: no holder ever claims for longer than `lifetime`, so a claim that ends later than that from now was made by
a clock that showed another time.

A clock that jumps forward ends claims early. That is harmless where the claim only keeps work from being done twice;
where it is not, the holder's writes carry a fencing token.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

TOLERANCE = timedelta(seconds=5)  # clocks of machines that ask the same database differ by less


def is_free(until: datetime | None, *, now: datetime, lifetime: timedelta) -> bool:
    """Whether nobody holds it: no claim, one that ran out, or one that ends later than any claim can."""
    return until is None or until <= now or until > now + lifetime + TOLERANCE


def free(field: str, *, now: datetime, lifetime: timedelta) -> Q:
    """The same as a filter over the column `field`."""
    return (
        Q(**{f"{field}__isnull": True})
        | Q(**{f"{field}__lte": now})
        | Q(**{f"{field}__gt": now + lifetime + TOLERANCE})
    )


def has_run_out(moment: datetime, *, now: datetime, lifetime: timedelta) -> bool:
    """Whether what happened at `moment` is older than `lifetime`. A moment in the future says that a clock jumped:
    nobody knows its age, and it counts as old."""
    return now - moment >= lifetime or moment > now + TOLERANCE
