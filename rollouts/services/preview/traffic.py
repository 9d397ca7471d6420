"""What a dry run knows of an endpoint's traffic: the last hour's requests, and the last day's ratings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Max, Q, Sum

from rollouts.domain.gates.latency import timed_against
from rollouts.domain.gates.outlook import ASSUMED_BASE_RATES
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.record.intervals import Completions, LatencyCounts, Outcomes
from rollouts.models import Endpoint, Feedback, FeedbackState, MinuteSample
from rollouts.services.loop.samples import completions_with, outcomes_with
from rollouts.services.preview.base_rates import ended_share

TRAFFIC_WINDOW = timedelta(hours=1)
RATINGS_WINDOW = timedelta(hours=24)
ASSUMED_BASE_RATE = 0.01
ENDINGS = frozenset({"refused", "abandoned", "empty", "truncated"})


@dataclass(frozen=True, slots=True)
class Ratings:
    """What users said of the stable variant's answers in the last day.

    received    ratings, those that wait for the router's log too
    down        of the verified ones, thumbs down
    answers     that the stable variant served
    hours       in which it served them
    """

    received: int
    down: int
    answers: int
    hours: float

    @property
    def per_hour(self) -> float:
        return self.received / self.hours if self.hours else 0.0

    @property
    def rated_down(self) -> float | None:
        """The share of *all* answers that was rated down; None while nobody rated one down."""
        return min(1.0, self.down / self.answers) if self.down and self.answers else None


@dataclass(frozen=True, slots=True)
class MeasuredTraffic:
    """The endpoint's last hour; latency, outcomes and completions of the stable variant only, None: not counted."""

    per_second: float
    requests: int
    errors: int
    latency: Mapping[str, LatencyCounts]
    ratings: Ratings
    outcomes: Outcomes | None = None
    completions: Completions | None = None

    @property
    def answers_per_second(self) -> float:
        return self.per_second * (1 - self.errors / self.requests) if self.requests else 0.0

    def base_rate(self, gate: GateSpec) -> float:
        """How often the gate's event happens now; assumed where nothing was measured."""
        if gate.kind == "error_rate" and self.requests:
            return self.errors / self.requests
        if gate.kind == "feedback":
            return min(0.99, self.ratings.rated_down or ASSUMED_BASE_RATE)
        if gate.kind in ENDINGS:
            share = ended_share(gate, self.outcomes, self.completions)
            return ASSUMED_BASE_RATES[gate.kind] if share is None else min(0.99, share)
        counts = self.latency.get(gate.signal or "")
        timed = None if counts is None else timed_against(counts, gate.slo_seconds or 0.0)
        if gate.kind == "latency_slo" and timed is not None and timed.trials:
            return min(0.99, timed.over / timed.trials)
        return ASSUMED_BASE_RATE


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
