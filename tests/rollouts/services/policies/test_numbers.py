"""What is known of an endpoint's traffic for the gates of a policy: measured numbers, or none."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.record.intervals import Completions, LatencyCounts, Outcomes
from rollouts.models import Feedback, MinuteSample
from rollouts.services.policies.numbers import steps_for, traffic_for
from rollouts.services.preview.traffic import recent_traffic
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


def test_traffic_for__a_day_of_minutes__gives_rate_errors_and_slow_requests() -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(endpoint, minutes=40, now=NOW)
    policy = endpoint.gate_policy.policy
    traffic = traffic_for(endpoint=endpoint, policy=policy, now=NOW)
    rows = list(MinuteSample.objects.all())
    requests = sum(row.requests for row in rows)
    assert traffic.requests_per_second == pytest.approx(requests / (60 * len(rows)))
    assert traffic.base_rates["errors"] == sum(row.errors for row in rows) / requests
    assert traffic.base_rates["ttft"] == pytest.approx(0.04, rel=0.2)
    assert "thumbs" not in traffic.base_rates
    assert traffic.source == "triage, the last 24 h"


def test_traffic_for__how_requests_and_completions_ended__gives_the_rates_of_those_gates() -> None:
    endpoint = factories.endpoint(now=NOW)
    assert endpoint.stable is not None
    for ago in range(2):
        MinuteSample.objects.create(
            endpoint=endpoint,
            variant=endpoint.stable,
            minute=NOW - timedelta(minutes=ago),
            requests=90,
            seconds=60.0,
            latency={"ttft": LatencyCounts(80, {0.25: 8}, left=20, left_over={0.25: 10}).to_json()},
            outcomes=Outcomes(answered=80, refused_request=8, refused_rate=2, abandoned_before=10).to_json(),
            completions=Completions(50, empty=5, truncated=10, tokens=900).to_json(),
        )
    kinds = ("refused", "abandoned", "empty", "truncated")
    body = {
        "name": "p",
        "version": 1,
        "gates": [
            *({"key": kind, "kind": kind, "delta": 0.1} for kind in kinds),
            {"key": "ttft", "kind": "latency_slo", "signal": "ttft", "slo_seconds": 0.25, "delta": 0.1},
        ],
    }
    traffic = traffic_for(endpoint=endpoint, policy=GatePolicy.from_json(body), now=NOW)
    assert traffic.base_rates == {
        "refused": 0.1,
        "abandoned": 0.1,
        "empty": 0.1,
        "truncated": 0.2,
        "ttft": 18 / 90,  # who waited longer than that before leaving is over it, the others are neither
    }
    recent = recent_traffic(endpoint, NOW)
    assert [recent.base_rate(gate) for gate in GatePolicy.from_json(body).gates] == [
        0.1,
        0.1,
        0.1,
        0.2,
        18 / 90,
    ]


def test_traffic_for__candidate_beside_it__counts_the_minute_once_and_its_errors_not() -> None:
    endpoint = factories.endpoint(now=NOW)
    other = factories.variant(endpoint, 2, now=NOW)
    assert endpoint.stable is not None
    for variant, errors in ((endpoint.stable, 0), (other, 50)):
        MinuteSample.objects.create(
            endpoint=endpoint, variant=variant, minute=NOW, requests=60, errors=errors, seconds=60.0
        )
    traffic = traffic_for(endpoint=endpoint, policy=endpoint.gate_policy.policy, now=NOW)
    assert traffic.requests_per_second == 2
    assert traffic.base_rates["errors"] == 0


def test_traffic_for__older_than_a_day__is_not_measured() -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(endpoint, minutes=5, now=NOW - timedelta(hours=25))
    traffic = traffic_for(endpoint=endpoint, policy=endpoint.gate_policy.policy, now=NOW)
    assert (traffic.requests_per_second, dict(traffic.base_rates), traffic.source) == (None, {}, "")


def test_traffic_for__verified_ratings__give_the_rate_of_thumbs_down() -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(endpoint, minutes=10, now=NOW)
    assert endpoint.stable is not None
    for number, up in enumerate([True, False, False]):
        Feedback.objects.create(
            request_id=f"r{number}",
            endpoint=endpoint,
            variant=endpoint.stable.name,
            assigned=endpoint.stable.name,
            up=up,
            received_at=NOW,
            answered_at=NOW,
            state="verified",
        )
    traffic = traffic_for(endpoint=endpoint, policy=endpoint.gate_policy.policy, now=NOW)
    answered = sum(row.requests - row.errors for row in MinuteSample.objects.all())
    assert traffic.base_rates["thumbs"] == 2 / answered


def test_traffic_for__more_minutes__cost_no_more_queries() -> None:
    endpoint = factories.endpoint(now=NOW)
    policy = endpoint.gate_policy.policy
    counts = []
    for minutes in (3, 30):
        MinuteSample.objects.all().delete()
        factories.minutes_of_traffic(endpoint, minutes=minutes, now=NOW)
        with CaptureQueriesContext(connection) as captured:
            traffic_for(endpoint=endpoint, policy=policy, now=NOW)
        counts.append(len(captured))
    assert counts == [2, 2]


def test_steps_for__newest_rollout__are_its_steps() -> None:
    endpoint = factories.endpoint(now=NOW)
    assert steps_for(endpoint=endpoint, requests_per_second=1e6)[0] == (500, 600.0)
    factories.rollout_rolled_back(of=endpoint, now=NOW)
    assert steps_for(endpoint=endpoint, requests_per_second=1e6) == (
        (500, 60.0),
        (2_500, 60.0),
        (5_000, 60.0),
    )
