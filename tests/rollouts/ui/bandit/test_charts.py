"""The allocation of a bandit over time: what was observed, nothing invented, and only what is new."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from rollouts.models import Evidence, Rollout
from rollouts.ui.bandit.charts import MOST_POINTS
from tests.factories import bandits

pytestmark = pytest.mark.django_db


def chart(client: Client, rollout: Rollout, **query: Any) -> dict[str, Any]:
    response = client.get(f"/rollouts/{rollout.pk}/charts/traffic", query)
    assert response.status_code == 200
    found: dict[str, Any] = json.loads(response.content)
    return found


def lengthen(rollout: Rollout, intervals: int) -> None:
    """More rows, all with the shares of the last one."""
    last = Evidence.objects.filter(rollout=rollout).order_by("-index")[0]
    Evidence.objects.bulk_create(
        Evidence(
            rollout=rollout,
            index=last.index + i,
            ended_at=last.ended_at + timedelta(seconds=5 * i),
            interval={
                **last.interval,
                "index": last.index + i,
                "started_at": last.interval["started_at"] + 5 * i,
            },
            verdicts=last.verdicts,
            decision={},
            digest="",
        )
        for i in range(1, intervals + 1)
    )
    rollout.measured_at = last.ended_at + timedelta(seconds=5 * intervals)
    rollout.save()


def test_allocation__arms__are_stacked_candidates_first_and_sum_to_all(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.Life(bandits.LEARNING.arms, 40))
    data = chart(engineer, rollout)
    assert data["arms"] == [
        {"arm": 1, "name": "v2"},
        {"arm": 2, "name": "v3"},
        {"arm": 3, "name": "v4"},
        {"arm": 0, "name": "v1"},
    ]
    assert len(data["t"]) == 40
    assert [column[0] for column in data["values"]] == [25] * 4
    assert all(sum(column) == pytest.approx(100) for column in zip(*data["values"], strict=True))
    assert data["stack"]


def test_allocation__marks__say_when_the_burn_in_ended_and_who_left(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.LEARNING)
    marks = chart(engineer, rollout)["marks"]
    assert [mark["label"] for mark in marks] == ["burn-in ends", "v4 out", "v1 out"]
    first = rollout.evidence.filter(verdicts__burn_in=False).order_by("index")[0]
    assert marks[0]["t"] == first.ended_at.timestamp()


def test_allocation__burn_in__has_no_mark(engineer: Client) -> None:
    assert chart(engineer, bandits.rollout_bandit(life=bandits.BURN_IN))["marks"] == []


def test_allocation__router_unread__is_null_and_never_zero(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.BURN_IN)
    row = rollout.evidence.get(index=1)
    del row.interval["shares"]
    row.save()
    assert [column[1] for column in chart(engineer, rollout)["values"]] == [None] * 4


def test_allocation__arm_that_left__has_zero(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.LEARNING)
    assert chart(engineer, rollout)["values"][2][-1] == 0


def test_allocation__long__is_sampled_and_costs_the_same(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.Life(bandits.LEARNING.arms, 40))
    with CaptureQueriesContext(connection) as short:
        chart(engineer, rollout)
    lengthen(rollout, 1_200)
    with CaptureQueriesContext(connection) as long:
        data = chart(engineer, rollout)
    assert len(long) == len(short) <= 12
    assert MOST_POINTS / 2 < len(data["t"]) <= MOST_POINTS + 1
    assert data["bucket"] == round(1_240 * 5 / MOST_POINTS)


def test_allocation__since__brings_only_what_came_after(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.Life(bandits.LEARNING.arms, 40))
    whole = chart(engineer, rollout)
    rest = chart(engineer, rollout, since=whole["t"][-4])
    assert rest["t"] == whole["t"][-3:]
    assert rest["bucket"] == whole["bucket"]


def test_allocation__nothing_measured__is_empty(engineer: Client) -> None:
    data = chart(engineer, bandits.bandit_pending())
    assert data["t"] == []
    assert data["label"] == "Traffic by arm over time. Now: v1 100%, v2 0%, v3 0%, v4 0%."


def test_chart__of_a_gate__is_not_found(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.BURN_IN)
    assert engineer.get(f"/rollouts/{rollout.pk}/charts/ttft").status_code == 404


def test_endpoint_chart__bandit__draws_every_candidate_apart(engineer: Client) -> None:
    bandits.rollout_bandit(life=bandits.BURN_IN)
    data = json.loads(engineer.get("/endpoints/triage/charts/ready").content)
    assert [(arm["arm"], arm["name"]) for arm in data["arms"]] == [
        (0, "stable"),
        (1, "candidate"),
        (2, "candidate-2"),
        (3, "candidate-3"),
    ]
