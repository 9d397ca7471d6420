"""A baseline that fails in the middle of a rollout: nothing is proven by it, nothing advances, and people are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollouts.domain.lifecycle.plan import canary
from rollouts.models import HistoryEvent
from tests.rollouts.memory_world import BANDIT, ERRORS, THUMBS, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]

HALF = canary((50,), hold_seconds=20, min_requests=200, watch_seconds=10)


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """A good candidate at half of the traffic."""
    world = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    world.start(2, plan=HALF)
    world.behave(2)
    world.run_to("progressing")
    world.run_for(2)
    return world


def passing(w: MemoryWorld) -> float:
    evidence: float = w.rollout.verdicts["verdicts"][0]["evidence_pass"]
    return evidence


def test_baseline_fails__good_candidate__gets_no_evidence_and_no_exposure_from_it(w: MemoryWorld) -> None:
    w.behave(1, error_rate=1.0)
    w.run_for(4)
    before = (passing(w), w.rollout.step_requests)
    w.run_for(20)
    assert (passing(w), w.rollout.step_requests) == before
    assert w.rollout.phase == "progressing"


def test_baseline_fails__banner_and_history_name_it_with_numbers(w: MemoryWorld) -> None:
    w.behave(1, error_rate=1.0)
    w.run(lambda: "out of order" in w.rollout.reason, limit=8)
    assert "of its" in w.rollout.reason
    assert "requests failed" in w.rollout.reason
    w.run_for(15)
    told = [title for title in w.titles() if "out of order" in title]
    assert len(told) == 1


def test_baseline_fails_and_recovers__rollout_goes_on_and_history_says_how_long(w: MemoryWorld) -> None:
    w.behave(1, error_rate=1.0)
    w.run_for(10)
    w.behave(1, error_rate=0.0)
    w.run(lambda: any("works again" in title for title in w.titles()), limit=60)
    row = HistoryEvent.objects.filter(rollout=w.rollout, title__contains="works again").get()
    assert "requests failed" in row.detail
    w.run_to("succeeded", limit=200)


def test_baseline_fails__candidate_with_many_errors__is_not_promoted_and_found_afterwards(
    w: MemoryWorld,
) -> None:
    w.behave(1, error_rate=1.0)
    w.behave(2, error_rate=0.2)
    w.run_for(40)
    assert w.rollout.phase == "progressing"
    w.behave(1, error_rate=0.0)
    w.run_to("rolled-back", limit=120)
    assert w.rollout.cause == "gate:errors"


def test_baseline_fails__bandit__keeps_its_weights_and_says_why(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS, THUMBS)).serve()
    w.start(2, others=(3,), plan=BANDIT)
    w.behave(2)
    w.behave(3)
    w.users_rate({1: 0.2, 2: 0.2, 3: 0.2})
    w.run(lambda: "reweight" in w.history(), limit=60)
    w.behave(1, error_rate=1.0)
    w.run(lambda: "out of order" in w.rollout.reason, limit=10)
    before = w.shares()
    w.run_for(15)
    assert w.rollout.phase == "progressing"
    assert w.shares() == before
