"""Before any user is sent to a candidate it answers a forced request; the loop waits for that, not for the request."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollouts.models import Arm, Endpoint
from rollouts.services.errands.proofs import PROOF_LIFETIME, prove_candidates
from tests.rollouts.memory_world import MemoryWorld

pytestmark = pytest.mark.django_db


@pytest.fixture
def routed(tmp_path: Path) -> MemoryWorld:
    """The candidate is ready and routed at 0%, and nobody has asked it yet."""
    w = MemoryWorld(tmp_path, ready_after=0.0).serve()
    w.start(2)
    for _ in range(6):
        w.clock.advance(1)
        w.sync_engines()
        w.turn()
        w.run_files()
        if w.variant(2).name in w.router.routes["triage"].shares or "routed at 0%" in w.rollout.reason:
            break
    w.sync_engines()
    w.turn()
    assert "waiting until it answers a test request" in w.rollout.reason
    return w


def prove(w: MemoryWorld, **world: Any) -> int:
    return prove_candidates(rollout_id=w.rollout.pk, world=replace(w.world, **world))


def test_turn__candidate_is_routed_at_zero__asks_nobody_and_waits(routed: MemoryWorld) -> None:
    routed.calls.names.clear()
    routed.turn()
    assert "prober.ask" not in routed.calls.names
    assert routed.rollout.phase == "provisioning"


def test_prove__answers__the_loop_looks_and_moves_traffic(routed: MemoryWorld) -> None:
    assert prove(routed) == 1
    assert routed.endpoint.next_look_at is None
    routed.turn()
    assert routed.rollout.phase == "progressing"


def test_prove__does_not_answer__traffic_stays(routed: MemoryWorld) -> None:
    routed.engine(2).error_rate = 1.0
    assert prove(routed) == 0
    routed.turn()
    assert routed.rollout.phase == "provisioning"


def test_prove__answered_a_moment_ago__is_not_asked_again(routed: MemoryWorld) -> None:
    assert prove(routed) == 1
    assert prove(routed) == 0


@pytest.mark.parametrize(
    "older", ["than its lifetime", "than the clock knows", "than the route", "than the process"]
)
def test_proof__too_old__proves_nothing(routed: MemoryWorld, older: str) -> None:
    prove(routed)
    routed.clock.advance(1)
    if older == "than its lifetime":
        Arm.objects.exclude(name="baseline").update(proven_at=routed.now - PROOF_LIFETIME)
    elif older == "than the clock knows":
        Arm.objects.exclude(name="baseline").update(proven_at=routed.now + timedelta(hours=1))
    elif older == "than the route":
        Endpoint.objects.update(applied={**routed.endpoint.applied, "fallback": "another"})
    else:
        routed.cluster.kill(routed.variant(2).name, down_seconds=0.0)
        routed.clock.advance(1)
        routed.sync_engines()
    routed.turn()
    assert routed.rollout.phase == "provisioning"


def test_prove__route_was_not_published_yet__nobody_is_asked(routed: MemoryWorld) -> None:
    endpoint = routed.endpoint
    Endpoint.objects.update(applied={**endpoint.applied, "backends": []})
    routed.calls.names.clear()
    assert prove(routed) == 0
    assert "prober.ask" not in routed.calls.names
