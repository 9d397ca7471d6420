"""Engines that answer with a part of their replicas: every page that shows them says so."""

from __future__ import annotations

import pytest
from django.test import Client

from rollouts.models import Arm, Endpoint, Rollout, Workload
from tests import factories
from tests.factories import bandits

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
WORDS = "2 of 3 replicas are ready."


def short_of_replicas(rollout: Rollout) -> None:
    Workload.objects.filter(variant=rollout.candidate).update(phase="ready", ready=2, desired=3)


def test_page_of_a_bandit__arm_is_short_of_replicas__says_so(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(now=NOW)
    arm = rollout.arms.get(name="candidate-2")
    Workload.objects.filter(variant=arm.variant).update(phase="ready", ready=2, desired=3)
    text = engineer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert f"{arm.variant.version.label}: {WORDS}" in text


def test_pages__candidate_with_traffic_is_short_of_replicas__say_so(engineer: Client) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    short_of_replicas(rollout)
    Arm.objects.filter(rollout=rollout, name="candidate").update(observed_bp=500)
    for url in (f"/rollouts/{rollout.pk}", f"/endpoints/{rollout.endpoint.name}"):
        text = engineer.get(url).content.decode()
        assert f"v2: {WORDS}" in text, url
    assert "2 of 3 ready" in text


def test_page__the_cluster_says_why_a_replica_is_away__so_does_the_page(engineer: Client) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    short_of_replicas(rollout)
    Workload.objects.filter(variant=rollout.candidate).update(message="0 of 3 nodes have a free GPU.")
    Arm.objects.filter(rollout=rollout, name="candidate").update(observed_bp=500)
    text = engineer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert "Its cluster says: 0 of 3 nodes have a free GPU." in text


def test_page__candidate_gets_no_traffic_yet__leaves_it_to_the_rollouts_own_sentence(
    engineer: Client,
) -> None:
    rollout = factories.rollout_launching(now=NOW)
    short_of_replicas(rollout)
    assert WORDS not in engineer.get(f"/rollouts/{rollout.pk}").content.decode()


def test_page__rollout_is_over__says_nothing_of_what_runs_now(engineer: Client) -> None:
    rollout = factories.rollout_rolled_back(now=NOW)
    short_of_replicas(rollout)
    assert WORDS not in engineer.get(f"/rollouts/{rollout.pk}").content.decode()


def test_page__stable_variant_is_short_of_replicas__says_so_and_nothing_of_its_share(
    engineer: Client,
) -> None:
    endpoint = factories.endpoint(now=NOW)
    Endpoint.objects.filter(pk=endpoint.pk).update(observed_shares={endpoint.stable.name: 10_000})  # type: ignore[union-attr]
    Workload.objects.filter(variant=endpoint.stable).update(phase="ready", ready=1, desired=2)
    text = engineer.get(f"/endpoints/{endpoint.name}").content.decode()
    assert "v1: 1 of 2 replicas is ready." in text
    assert "It gets no more traffic" not in text
