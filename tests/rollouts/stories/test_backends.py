"""The loop passes backends on unread: whatever a cluster gives out reaches the router, and no evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollouts.adapters.backends import ADDRESS
from rollouts.domain.lifecycle.effects import SetTraffic
from rollouts.models import Effect, EffectState, Evidence, LoopDecision
from rollouts.ports import Backend
from tests.rollouts.memory_world import MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]

SERVICE = "service"  # a kind of which only its own cluster and router know what it means


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path)


def test_cluster_that_gives_out_names__a_whole_rollout_runs_without_an_address(w: MemoryWorld) -> None:
    w.cluster.backend_kind, w.router.kinds = SERVICE, frozenset({SERVICE})
    w.serve()
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    name = w.variant(2).name
    assert w.router.routes["triage"].backends[-1] == Backend(name, SERVICE, name=name)
    assert w.lost == 0


def test_router_that_does_not_know_the_kind__the_endpoint_says_so_and_nothing_is_published(
    w: MemoryWorld,
) -> None:
    w.cluster.backend_kind = SERVICE
    for _ in range(6):
        w.tick()
    assert "does not know backends of kind 'service'" in w.endpoint.router_problem
    assert w.router.routes == {}


def test_candidate_of_a_kind_that_the_router_does_not_know__is_said_in_every_turn_until_it_is_mended(
    w: MemoryWorld,
) -> None:
    """Nobody but the loop knows of this refusal: the router was not even asked."""
    w.serve()
    w.cluster.backend_kind = SERVICE
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run(lambda: "does not know backends of kind 'service'" in w.rollout.reason)
    for _ in range(10):
        w.tick()
        for said in (w.endpoint.router_problem, w.rollout.reason):
            assert "does not know backends of kind 'service'" in said
    waiting = Effect.objects.get(kind=SetTraffic.kind, state=EffectState.PENDING)
    assert waiting.problem.startswith("This router cannot reach"), "its own words, and nothing before them"
    w.router.kinds = frozenset({ADDRESS, SERVICE})
    w.run(lambda: w.rollout.phase == "progressing")
    assert w.endpoint.router_problem == ""
    assert w.lost == 0


def test_evidence__of_a_whole_rollout__holds_no_address(w: MemoryWorld) -> None:
    w.serve()
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    addresses = [one.address for one in w.router.routes["triage"].backends if one.kind == ADDRESS]
    assert len(addresses) == 2
    intervals = list(Evidence.objects.values_list("interval", "situation", "decision", "verdicts"))
    decisions = list(LoopDecision.objects.values_list("situation", "decision"))
    assert intervals
    assert decisions
    kept = json.dumps([intervals, decisions])
    for address in addresses:
        assert address not in kept
        assert address.partition(":")[0] not in kept
