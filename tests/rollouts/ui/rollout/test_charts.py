"""Series for the charts: what was measured, nothing invented, and only what is new."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from controlplane.access.actors import HEADGATE
from rollouts.domain.record.asked import AskedCounts
from rollouts.domain.record.intervals import Completions, LatencyCounts, Outcomes
from rollouts.domain.record.numbers import NumberReading
from rollouts.models import Evidence, Rollout
from rollouts.services.policies.versions import define_gate_policy
from rollouts.ui.rollout.charts import MOST_POINTS
from tests import factories

pytestmark = pytest.mark.django_db


def chart(client: Client, path: str, **query: Any) -> dict[str, Any]:
    response = client.get(path, query)
    assert response.status_code == 200
    found: dict[str, Any] = json.loads(response.content)
    return found


def test_traffic__progressing__is_measured_then_planned(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/traffic")
    candidate, baseline = data["values"]
    assert [arm["arm"] for arm in data["arms"]] == [1, 0]
    assert len(data["t"]) == 24
    assert (candidate[0], candidate[-1]) == (5, 25)
    assert all(c + b == 100 for c, b in zip(candidate, baseline, strict=True))
    assert data["plan"]["v"] == [25, 50, 100, 100]
    assert data["plan"]["t"] == sorted(data["plan"]["t"])
    assert [mark["label"] for mark in data["marks"]] == ["5%", "25%", "now"]
    assert data["label"] == "Traffic share over time. v2 has 25% of the traffic."


def test_traffic__decided__has_no_plan(engineer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/traffic")
    assert data["plan"] is None
    assert data["marks"][-1]["label"] == "back"


def test_latency__share_over_the_objective__is_that_of_the_counts(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/ttft")
    first = rollout.evidence.order_by("index")[0].interval["arms"]["baseline"]["latency"]["ttft"]
    over = dict(map(tuple, first["over"]))[0.25]
    assert data["values"][0][0] == round(100 * over / first["total"], 3)
    verdict = next(v for v in rollout.verdicts["verdicts"] if v["key"] == "ttft")
    assert data["limit"] == round(100 * (1.5 * verdict["baseline"] + 0.05), 3)


@pytest.mark.parametrize(
    ("kind", "percent"),
    [("error_rate", 4.0), ("refused", 10.0), ("abandoned", 6.0), ("empty", 20.0), ("truncated", 5.0)],
)
def test_endings__of_a_gate__are_the_share_that_the_gate_counts(
    engineer: Client, kind: str, percent: float
) -> None:
    rollout = gated(kind)
    row = rollout.evidence.order_by("index")[0]
    row.interval["arms"]["candidate"] |= {
        "arrived": 100,
        "outcomes": Outcomes(75, 8, 2, 0, 3, 1, 4, 2, running=5).to_json(),
        "completions": Completions(80, empty=16, truncated=4).to_json(),
    }
    row.save()
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/{kind}")
    assert data["values"][1][0] == percent


@pytest.mark.parametrize("kind", ["refused", "abandoned", "empty", "truncated"])
def test_endings__not_counted_then__are_no_zeros(engineer: Client, kind: str) -> None:
    rollout = gated(kind)
    row = rollout.evidence.order_by("index")[0]
    for arm in row.interval["arms"].values():
        del arm["outcomes"], arm["completions"]
    row.save()
    assert chart(engineer, f"/rollouts/{rollout.pk}/charts/{kind}")["values"][1][0] is None


def test_own_counters__of_a_gate__are_the_share_that_it_counts_and_no_zero_where_there_is_none(
    engineer: Client,
) -> None:
    queries = {"bad_query": 'bad{v="{{variant}}"}', "all_query": 'all{v="{{variant}}"}'}
    rollout = gated("counter_ratio", **queries)
    gate = rollout.policy.gate("counter_ratio")
    assert gate.counters is not None
    row = rollout.evidence.order_by("index")[0]
    row.interval["arms"]["candidate"]["asked"] = {gate.counters.digest: AskedCounts(6, 40).to_json()}
    row.interval["arms"]["baseline"]["asked"] = {gate.counters.digest: AskedCounts(why="absent").to_json()}
    row.save()
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/counter_ratio")
    assert data["values"][1][0] == 15.0
    assert data["values"][0][0] is None
    assert "Share of events" in data["label"]


def test_number__of_a_gate_with_a_fixed_limit__is_its_worst_with_the_limit_and_no_zero(
    engineer: Client,
) -> None:
    more = {"query": 'n{v="{{variant}}"}', "limit": 85, "direction": "at_most", "weight": 0}
    rollout = gated("metric_limit", **more)
    number = rollout.policy.gate("metric_limit").number
    assert number is not None
    row = rollout.evidence.order_by("index")[0]
    row.interval["arms"]["candidate"]["numbers"] = {number.digest: NumberReading(90.2, 1.0).to_json()}
    row.interval["arms"]["baseline"]["numbers"] = {number.digest: NumberReading(why="absent").to_json()}
    row.save()
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/metric_limit")
    assert data["values"][1][0] == 90.2
    assert data["values"][0][0] is None
    assert data["limit"] == 85
    assert "metric_limit, at most 85, over time" in data["label"]


def test_latency__who_left_after_the_objective__is_over_it(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    row = rollout.evidence.order_by("index")[0]
    row.interval["arms"]["candidate"]["latency"]["ttft"] = LatencyCounts(
        10, {0.25: 1}, left=15, left_over={0.25: 10}
    ).to_json()
    row.save()
    assert chart(engineer, f"/rollouts/{rollout.pk}/charts/ttft")["values"][1][0] == 55.0


def gated(kind: str, **more: Any) -> Rollout:
    """A rollout whose policy has one more gate, of that kind."""
    rollout = factories.rollout_progressing()
    body = rollout.gate_policy.policy.to_json()
    part = 1 if kind == "metric_limit" else 2
    body["gates"] = [{**gate, "weight": gate["weight"] / part} for gate in body["gates"]]
    limit = {} if kind == "metric_limit" else {"delta": 0.1, "weight": 0.5}
    body["gates"].append({"key": kind, "kind": kind, **limit, **more})
    rollout.gate_policy = define_gate_policy(
        actor=HEADGATE, name="more", body=body, now=factories.right_now()
    )
    rollout.save()
    return rollout


def test_scores__mean_so_far__with_the_limit_below_the_baseline(engineer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/quality")
    pairs = [
        pair for row in rollout.evidence.order_by("index") for pair in row.interval["pairs"]["candidate"]
    ]
    assert data["values"][1][-1] == round(sum(pair[2] for pair in pairs) / len(pairs), 4)
    assert data["limit"] == pytest.approx(data["values"][0][-1] - 0.05, abs=1e-4)
    assert data["whole"]


def test_since__last_point__brings_only_what_came_after(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    path = f"/rollouts/{rollout.pk}/charts/ttft"
    whole = chart(engineer, path)
    rest = chart(engineer, path, since=whole["t"][-4])
    assert rest["t"] == whole["t"][-3:]
    assert rest["limit"] == whole["limit"]
    assert chart(engineer, path, since=whole["t"][-1])["t"] == []


def test_arm_not_measured__value__is_null_and_never_zero(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    row = Evidence.objects.filter(rollout=rollout).order_by("index")[3]
    del row.interval["arms"]["candidate"]
    row.save()
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/errors")
    assert data["values"][1][3] is None
    assert data["values"][0][3] is not None


def test_long_rollout__points__stay_few(engineer: Client) -> None:
    rollout = factories.rollout_progressing(intervals=300)
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/traffic")
    assert data["bucket"] == 10
    assert 100 < len(data["t"]) <= MOST_POINTS


def test_nothing_measured__chart__is_empty(engineer: Client) -> None:
    rollout = factories.rollout_pending()
    data = chart(engineer, f"/rollouts/{rollout.pk}/charts/ttft")
    assert data["t"] == []
    assert data["limit"] is None
    assert data["label"].endswith("v1 no data, v2 no data.")


@pytest.mark.parametrize("name", ["nothing", "traffic2"])
def test_chart__unknown__is_not_found(engineer: Client, name: str) -> None:
    rollout = factories.rollout_pending()
    assert engineer.get(f"/rollouts/{rollout.pk}/charts/{name}").status_code == 404


def test_since__no_number__is_refused(engineer: Client) -> None:
    rollout = factories.rollout_pending()
    assert engineer.get(f"/rollouts/{rollout.pk}/charts/traffic?since=noon").status_code == 400


# --- endpoints ------------------------------------------------------------------------------------------------


def test_endpoint__requests__are_a_second(engineer: Client) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=60)
    data = chart(engineer, "/endpoints/triage/charts/requests")
    first = endpoint.samples.order_by("minute")[0]
    assert data["values"][0][0] == round(first.requests / 60, 2)
    assert data["arms"] == [{"arm": 0, "name": "all variants", "fill": True}]


def test_endpoint__long_history__is_taken_together(engineer: Client) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=600)
    data = chart(engineer, "/endpoints/triage/charts/errors")
    assert data["bucket"] == 5
    assert 118 <= len(data["t"]) <= 121


def test_endpoint__active_rollout__draws_the_candidate_apart(engineer: Client) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=10)
    rollout = factories.rollout_progressing(of=endpoint)
    sample = endpoint.samples.order_by("-minute")[0]
    sample.pk, sample.variant, sample.ready = None, rollout.candidate, 1.0
    sample.save()
    data = chart(engineer, "/endpoints/triage/charts/ready")
    assert [arm["name"] for arm in data["arms"]] == ["stable", "candidate"]
    assert data["values"][1][-1] == 1
    assert data["values"][1][0] is None


@pytest.mark.parametrize("name", ["ttft", "kv-cache", "tokens", "ready", "errors", "requests"])
def test_endpoint__every_chart__answers_without_data(engineer: Client, name: str) -> None:
    factories.endpoint()
    assert chart(engineer, f"/endpoints/triage/charts/{name}")["t"] == []


def test_endpoint__minute_under_way__is_left_out(engineer: Client) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=3, now=factories.right_now() + timedelta(minutes=1))
    assert len(chart(engineer, "/endpoints/triage/charts/requests")["t"]) == 2
