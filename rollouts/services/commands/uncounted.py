"""Counts the ratings that count for nobody, so that a flood of them is seen."""

from __future__ import annotations

from datetime import datetime

from django.db.models import F

from rollouts.domain.uncounted import Uncounted
from rollouts.models import Endpoint, UncountedRatings


def count_uncounted(*, endpoint: Endpoint, more: Uncounted, now: datetime) -> None:
    """Adds to the hour of `now`. Safe beside others that add to the same hour; writes nothing when there is nothing."""
    if not more.total:
        return
    hour = now.replace(minute=0, second=0, microsecond=0)
    row, _ = UncountedRatings.objects.get_or_create(endpoint=endpoint, hour=hour)
    UncountedRatings.objects.filter(pk=row.pk).update(
        unverifiable=F("unverifiable") + more.unverifiable,
        forced=F("forced") + more.forced,
        refused=F("refused") + more.refused,
    )
