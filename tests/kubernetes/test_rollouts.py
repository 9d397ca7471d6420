"""Whole rollouts on a whole Kubernetes, under traffic: the real loop, Gateway API, Envoy Gateway and Prometheus."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from controlplane.timekeeping.database_clock import CLOCK
from rollouts.domain.lifecycle.plan import canary
from rollouts.models import Endpoint, Rollout
from rollouts.services.commands.start import start_rollout
from rollouts.services.policies.versions import define_gate_policy
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.town import ENDPOINT, Town, town_in

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(900),
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes", "prometheus"),
]

PER_SECOND = 100.0
PLAN = replace(
    canary((25, 50), hold_seconds=8, min_requests=100, watch_seconds=8),
    launch_seconds=120,
    no_data_seconds=60,
)
SIGMAS = 5.0
_numbers = count(1)


@pytest.fixture
def town(kubernetes_lab: KubernetesLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    with town_in(kubernetes_lab, f"town{next(_numbers)}", tmp_path, monkeypatch) as found:
        yield found


def start(town: Town, version: int) -> Rollout:
    return start_rollout(
        endpoint=Endpoint.objects.get(name=ENDPOINT), version_number=version, plan=PLAN,
        worlds=town.worlds, actor=town.manager, now=CLOCK.now(),
    )  # fmt: skip


def ended(rollout: Rollout) -> Rollout:
    return Rollout.objects.get(pk=rollout.pk)


def share_now(candidate: str) -> int:
    rollout = Rollout.objects.get(candidate__name=candidate)
    return int(rollout.endpoint.observed_shares.get(candidate, 0))


def test_canary__good_version_under_traffic__is_promoted_and_nothing_is_lost(town: Town) -> None:
    baseline = Endpoint.objects.get(name=ENDPOINT).stable
    assert baseline is not None
    with town.users.coming(PER_SECOND):
        rollout = start(town, 2)
        candidate = rollout.candidate.name
        town.until("half of the traffic is moved", lambda: share_now(candidate) == 5_000)
        assert town.weights() == {baseline.name: 5_000, candidate: 5_000}
        before = town.users.seen()
        town.until("some requests came", lambda: (town.users.seen() - before).total() > 400)
        drawn = town.users.seen() - before
        town.until("it is over", lambda: ended(rollout).phase in ("succeeded", "rolled-back"))
        town.until("the old engine is gone", lambda: baseline.name not in town.world.cluster.statuses())
    assert ended(rollout).phase == "succeeded", ended(rollout).reason
    assert town.users.lost == []
    noise = SIGMAS * math.sqrt(drawn.total() * 0.25)
    assert abs(drawn[candidate] - drawn.total() / 2) <= noise
    assert town.weights() == {candidate: 10_000}


def test_canary__worse_answers_under_traffic__rolled_back_by_quality_and_nothing_is_lost(town: Town) -> None:
    baseline = Endpoint.objects.get(name=ENDPOINT).stable
    assert baseline is not None
    town.change(baseline.name, answers={"*": "yes"})
    with town.users.coming(PER_SECOND):
        rollout = start(town, 3)
        candidate = rollout.candidate.name
        town.until("its engine is ready", lambda: share_now(candidate) > 0)
        town.change(candidate, answers={"*": "no"})
        town.until("it is over", lambda: ended(rollout).phase in ("succeeded", "rolled-back"))
        town.until("its engine is gone", lambda: candidate not in town.world.cluster.statuses())
    assert (ended(rollout).phase, ended(rollout).cause) == ("rolled-back", "gate:quality"), ended(
        rollout
    ).reason
    assert town.users.lost == []
    assert town.weights() == {baseline.name: 10_000}


def test_canary__worse_share_of_a_teams_own_counters__rolled_back_by_that_gate(town: Town) -> None:
    """Asked of real pods by their names, through the real Prometheus: answers that the engine itself says it cut."""
    endpoint = Endpoint.objects.get(name=ENDPOINT)
    answers = 'vllm:request_success_total{namespace="{{namespace}}",pod=~"{{pods}}"'
    gates = [
        {"key": "errors", "kind": "error_rate", "delta": 0.05, "weight": 0.2},
        {
            "key": "cut", "kind": "counter_ratio", "delta": 0.05, "weight": 0.8,
            "bad_query": f'{answers},finished_reason="length"}}', "all_query": f"{answers}}}",
        },
    ]  # fmt: skip
    endpoint.gate_policy = define_gate_policy(
        actor=town.manager, name="own", body={"gates": gates}, now=CLOCK.now()
    )
    endpoint.save()
    with town.users.coming(PER_SECOND):
        rollout = start(town, 3)
        candidate = rollout.candidate.name
        town.until("its engine is ready", lambda: share_now(candidate) > 0)
        town.change(candidate, tokens=8, limit_tokens=4)
        town.until("it is over", lambda: ended(rollout).phase in ("succeeded", "rolled-back"))
    assert (ended(rollout).phase, ended(rollout).cause) == ("rolled-back", "gate:cut"), ended(rollout).reason
    assert "of the candidate's events were bad" in ended(rollout).reason
    assert town.users.lost == []


def test_canary__api_server_and_prometheus_killed_midway__waits_and_is_promoted_afterwards(
    town: Town,
) -> None:
    with town.users.coming(PER_SECOND):
        rollout = start(town, 2)
        candidate = rollout.candidate.name
        town.until("the first step has traffic", lambda: share_now(candidate) == 2_500)
        town.lab.kill("kube-apiserver")
        town.prometheus.kill()
        town.blind = True
        away_until = time.monotonic() + 2 * PLAN.steps[0].hold_seconds
        town.until("both were away for longer than a step lasts", lambda: time.monotonic() > away_until)
        waiting = Rollout.objects.get(pk=rollout.pk)
        assert (waiting.phase, waiting.step_index) == ("progressing", 0), waiting.reason
        assert share_now(candidate) == 2_500
        town.lab.restart("kube-apiserver")
        town.prometheus.start()
        town.blind = False
        town.until("it is over", lambda: ended(rollout).phase in ("succeeded", "rolled-back"))
    assert ended(rollout).phase == "succeeded", ended(rollout).reason
    assert town.users.lost == []
