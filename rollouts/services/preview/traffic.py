"""What a dry run knows of an endpoint's traffic: the last hour's requests, and the last day's ratings."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Count, Max, Q, Sum

from rollouts.domain.record.intervals import Completions, LatencyCounts, Outcomes
from rollouts.domain.traffic import MeasuredTraffic, Ratings
from rollouts.models import Endpoint, Feedback, FeedbackState, MinuteSample
from rollouts.services.loop.samples import completions_with, outcomes_with

TRAFFIC_WINDOW = timedelta(hours=1)
RATINGS_WINDOW = timedelta(hours=24)


def recent_traffic(endpoint: Endpoint, now: datetime) -> MeasuredTraffic:
    """Four queries, and at most a row a minute of the last hour."""
    rows = MinuteSample.objects.filter(endpoint=endpoint, minute__gte=now - TRAFFIC_WINDOW)
    # Variants that serve at the same time share a minute: its seconds count once.
    minutes = list(
        rows.order_by("minute")
        .values("minute")
        .annotate(asked=Sum("requests"), failed=Sum("errors"), lasted=Max("seconds"))
    )
    seconds = sum(float(row["lasted"]) for row in minutes)
    requests = sum(int(row["asked"]) for row in minutes)
    latency: dict[str, LatencyCounts] = {}
    ended: dict[str, int] = {}
    said: dict[str, int] = {}
    for sample in rows.filter(variant=endpoint.stable):
        for signal, data in sample.latency.items():
            counts = LatencyCounts.from_json(data)
            latency[signal] = latency[signal].plus(counts) if signal in latency else counts
        ended = outcomes_with(ended, Outcomes.from_json(sample.outcomes) if sample.outcomes else None)
        said = completions_with(
            said, Completions.from_json(sample.completions) if sample.completions else None
        )
    return MeasuredTraffic(
        per_second=requests / seconds if seconds else 0.0,
        requests=requests,
        errors=sum(int(row["failed"]) for row in minutes),
        latency=latency,
        ratings=_recent_ratings(endpoint, now),
        outcomes=Outcomes.from_json(ended) if ended else None,
        completions=Completions.from_json(said) if said else None,
    )


def _recent_ratings(endpoint: Endpoint, now: datetime) -> Ratings:
    if endpoint.stable is None:
        return Ratings(0, 0, 0, 0.0)
    since = now - RATINGS_WINDOW
    served = MinuteSample.objects.filter(
        endpoint=endpoint, variant=endpoint.stable, minute__gte=since
    ).aggregate(asked=Sum("requests"), failed=Sum("errors"), lasted=Sum("seconds"))
    rated = Feedback.objects.filter(
        endpoint=endpoint,
        variant=endpoint.stable.name,
        received_at__gte=since,
        state__in=[FeedbackState.PENDING, FeedbackState.VERIFIED],
    ).aggregate(
        received=Count("pk"),
        down=Count("pk", filter=Q(state=FeedbackState.VERIFIED, up=False, assigned=endpoint.stable.name)),
    )
    return Ratings(
        received=int(rated["received"]),
        down=int(rated["down"]),
        answers=int(served["asked"] or 0) - int(served["failed"] or 0),
        hours=float(served["lasted"] or 0.0) / 3600,
    )
