"""What is known of the traffic that a gate policy will see: an endpoint's last 24 hours."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef, QuerySet

from rollouts.domain.gates.latency import timed_against
from rollouts.domain.gates.outlook import USUAL_STEPS, ExpectedTraffic
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.record.intervals import Completions, LatencyCounts, Outcomes
from rollouts.domain.strategies import is_known, strategy_of
from rollouts.domain.traffic import ended_share
from rollouts.models import Endpoint, Feedback, FeedbackState, MinuteSample, Rollout
from rollouts.services.loop.samples import completions_with, outcomes_with

WINDOW = timedelta(hours=24)


def traffic_for(*, endpoint: Endpoint | None, policy: GatePolicy, now: datetime) -> ExpectedTraffic:
    """The measured numbers for the gates of `policy`: 2 queries, at most one row a minute and variant.

    The rate is that of the minutes in which anything was asked. Errors and slow requests are the stable variant's:
    a bad candidate of yesterday says nothing about the baseline. Without an endpoint or traffic nothing is measured.
    """
    if endpoint is None:
        return ExpectedTraffic()
    rows = MinuteSample.objects.filter(endpoint=endpoint, minute__gte=now - WINDOW, requests__gt=0).order_by()
    seconds: dict[datetime, float] = defaultdict(float)
    requests = stable_requests = stable_errors = 0
    ended: dict[str, int] = {}
    said: dict[str, int] = {}
    over: dict[tuple[str, float], int] = defaultdict(int)
    totals: dict[tuple[str, float], int] = defaultdict(int)
    needed = {(gate.signal, gate.slo_seconds) for gate in policy.gates if gate.signal and gate.slo_seconds}
    columns = "minute", "variant_id", "requests", "errors", "seconds", "latency", "outcomes", "completions"
    for minute, variant_id, asked, errors, lasted, latency, outcomes, completions in rows.values_list(
        *columns
    ):
        requests += asked
        seconds[minute] = max(seconds[minute], lasted)
        if variant_id != endpoint.stable_id:
            continue
        stable_requests += asked
        stable_errors += errors
        ended = outcomes_with(ended, Outcomes.from_json(outcomes) if outcomes else None)
        said = completions_with(said, Completions.from_json(completions) if completions else None)
        for signal, slo_seconds in needed:
            if signal not in latency:
                continue
            timed = timed_against(LatencyCounts.from_json(latency[signal]), slo_seconds)
            if timed is not None:
                over[signal, slo_seconds] += timed.over
                totals[signal, slo_seconds] += timed.trials
    measured_seconds = sum(seconds.values())
    if not requests or not measured_seconds:
        return ExpectedTraffic()
    rates: dict[str, float] = {}
    how_ended = Outcomes.from_json(ended) if ended else None
    how_completed = Completions.from_json(said) if said else None
    for gate in policy.gates:
        share = ended_share(gate, how_ended, how_completed)
        if share is not None:
            rates[gate.key] = share
        slo = (gate.signal or "", gate.slo_seconds or 0.0)
        if gate.kind == "error_rate" and stable_requests:
            rates[gate.key] = stable_errors / stable_requests
        elif gate.kind == "latency_slo" and totals.get(slo):
            rates[gate.key] = over[slo] / totals[slo]
        elif gate.kind == "feedback" and stable_requests > stable_errors:
            down = _thumbs_down(endpoint, now)
            if down is not None:
                rates[gate.key] = min(1.0, down / (stable_requests - stable_errors))
    return ExpectedTraffic(
        source=f"{endpoint.name}, the last 24 h",
        requests_per_second=requests / measured_seconds,
        base_rates=rates,
    )


def with_traffic(now: datetime) -> QuerySet[Endpoint]:
    """Endpoints by name, those with traffic in the last 24 hours first: the first is the best source of numbers."""
    measured = MinuteSample.objects.filter(endpoint=OuterRef("pk"), minute__gte=now - WINDOW, requests__gt=0)
    return Endpoint.objects.annotate(measured=Exists(measured)).order_by("-measured", "name")


def steps_for(*, endpoint: Endpoint | None, requests_per_second: float) -> tuple[tuple[int, float], ...]:
    """What the newest rollout's strategy expects of the next plan like its own, else the steps of a usual canary. Each
    lasts as long as its time and its requests take.
    """
    newest = Rollout.objects.filter(endpoint=endpoint).order_by("-id").first() if endpoint else None
    if newest is None or not is_known(newest.parsed_plan):
        return USUAL_STEPS
    plan = newest.parsed_plan
    return tuple(strategy_of(plan).expected_steps(plan, requests_per_second)) or USUAL_STEPS


def _thumbs_down(endpoint: Endpoint, now: datetime) -> int | None:
    """Verified thumbs down of the stable variant's answers; None when nobody rated any."""
    assert endpoint.stable is not None
    rated = Feedback.objects.filter(
        endpoint=endpoint,
        state=FeedbackState.VERIFIED,
        answered_at__gte=now - WINDOW,
        assigned=endpoint.stable.name,
        variant=endpoint.stable.name,
    ).values_list("up", flat=True)
    ups = list(rated)
    return sum(not up for up in ups) if ups else None
