"""What of its rollout's past an interval needs: probes that no interval used yet, and earlier intervals with their
ratings, once the time for these is over. Read for a batch of rollouts at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F, Q

from rollouts.models import Evidence, ProbeResult, Rollout
from rollouts.services.commands.feedback import Rating, ratings_between

MOST_AT_ONCE = 200  # intervals of a rollout: after a long standstill the others follow in the next intervals
USUAL_DELAY = timedelta(minutes=10)  # ratings of older intervals are asked for by themselves


@dataclass(frozen=True, slots=True)
class RatedInterval:
    """An interval that ended long enough ago: the ratings of its answers are in. `interval` as it is kept."""

    index: int
    ended_at: float
    interval: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Past:
    """Of one rollout.

    probes      that no interval used yet
    rated       the intervals whose time for ratings is over, from the one before the first that was not fed; None when
                they are to be read one by one (some of them are packed)
    ratings     those of `rated`; None when they are to be asked for
    """

    probes: tuple[ProbeResult, ...] = ()
    rated: tuple[RatedInterval, ...] | None = None
    ratings: tuple[Rating, ...] | None = None


def read_pasts(rollouts: Sequence[Rollout], *, ripe_before: datetime) -> dict[int, Past]:
    """By rollout. 3 queries at most, whatever their number.

    ripe_before     intervals that ended until then are rated
    """
    probes: dict[int, list[ProbeResult]] = defaultdict(list)
    waiting = ProbeResult.objects.filter(rollout__in=rollouts, interval__isnull=True)
    for probe in waiting.select_related("example"):
        probes[probe.rollout_id].append(probe)
    rated = _rated(rollouts, ripe_before)
    ratings = _ratings(rollouts, rated, ripe_before)
    return {
        rollout.pk: Past(tuple(probes[rollout.pk]), rated.get(rollout.pk), ratings.get(rollout.pk))
        for rollout in rollouts
    }


def _rated(rollouts: Sequence[Rollout], ripe_before: datetime) -> dict[int, tuple[RatedInterval, ...]]:
    """Only of rollouts whose rows are all there: the first one needed is always read, so that it is missed."""
    first = F("rollout__feedback_interval")
    rows = Evidence.objects.filter(
        Q(ended_at__lte=ripe_before) | Q(index__lte=first),
        rollout__in=rollouts,
        index__gte=first - 1,
        index__lt=first + MOST_AT_ONCE,
    ).order_by("rollout", "index")
    found: dict[int, list[RatedInterval]] = defaultdict(list)
    for number, index, ended_at, interval in rows.values_list("rollout", "index", "ended_at", "interval"):
        found[number].append(RatedInterval(index, ended_at.timestamp(), interval))
    whole: dict[int, tuple[RatedInterval, ...]] = {}
    for rollout in rollouts:
        needed = max(0, rollout.feedback_interval - 1)
        kept = [row for row in found[rollout.pk] if row.index >= needed]
        all_there = [row.index for row in kept] == list(range(needed, needed + len(kept)))
        if not all_there or (rollout.next_interval > needed and not kept):
            continue
        whole[rollout.pk] = tuple(row for row in kept if row.ended_at <= ripe_before.timestamp())
    return whole


def _ratings(
    rollouts: Sequence[Rollout], rated: dict[int, tuple[RatedInterval, ...]], ripe_before: datetime
) -> dict[int, tuple[Rating, ...]]:
    """By rollout, of those whose rated intervals are as old as usual."""
    endpoint_of: dict[int, int] = {}
    starts: list[float] = []
    oldest = (ripe_before - USUAL_DELAY).timestamp()
    for rollout in rollouts:
        rows = rated.get(rollout.pk, ())
        if rows and rows[0].interval["started_at"] >= oldest:
            endpoint_of[rollout.pk] = rollout.endpoint_id
            starts.append(rows[0].interval["started_at"])
    if not starts:
        return {}
    start = datetime.fromtimestamp(min(starts), tz=UTC)
    found = ratings_between(endpoint_ids=set(endpoint_of.values()), start=start, end=ripe_before)
    return {rollout: found[endpoint] for rollout, endpoint in endpoint_of.items()}
