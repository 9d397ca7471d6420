"""A recorded rollout is done again, byte by byte; what was changed afterwards is found and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from rollouts.models import Rollout
from rollouts.services.replay import replay_whole
from rollouts.services.replay_report import ReplayReport
from tests.rollouts.memory_world import LONG_PLAN, MemoryWorld

pytestmark = pytest.mark.django_db


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path).serve()


def replayed(w: MemoryWorld) -> ReplayReport:
    return replay_whole(rollout=Rollout.objects.select_related("endpoint", "gate_policy").get(pk=w.rollout.pk))


def assert_identical(w: MemoryWorld) -> ReplayReport:
    report = replayed(w)
    assert report.outcome == "identical", (report.first, report.first_other)
    assert (report.promise, report.kept) == ("identical", True)
    assert report.intervals == w.rollout.next_interval > 0
    assert report.decisions == w.rollout.next_decision > 0
    return report


# --- the stories, again ---------------------------------------------------------------------------------------------


def test_promoted__through_every_step_and_the_watch__is_identical(w: MemoryWorld) -> None:
    w.start(2, plan=LONG_PLAN)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    w.run(lambda: not w.rollout.watching)
    report = assert_identical(w)
    assert "identical" in report.sentence


def test_rolled_back_by_quality__is_identical(w: MemoryWorld) -> None:
    w.start(3)
    w.behave(3, accuracy=0.1)
    w.run_to("rolled-back")
    assert_identical(w)
