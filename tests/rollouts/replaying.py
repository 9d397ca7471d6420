"""A rollout of a world in memory that is over, and its replay."""

from __future__ import annotations

from rollouts.models import Rollout
from rollouts.services.evidence.replay import replay_whole
from rollouts.services.evidence.report import ReplayReport
from tests.rollouts.memory_world import MemoryWorld


def replayed(w: MemoryWorld) -> ReplayReport:
    return replay_whole(
        rollout=Rollout.objects.select_related("endpoint", "gate_policy").get(pk=w.rollout.pk)
    )


def assert_identical(w: MemoryWorld) -> ReplayReport:
    report = replayed(w)
    assert report.outcome == "identical", (report.first, report.first_other)
    assert (report.promise, report.kept) == ("identical", True)
    assert report.intervals == w.rollout.next_interval > 0
    assert report.decisions == w.rollout.next_decision > 0
    return report


def promoted(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")


def over(w: MemoryWorld) -> None:
    promoted(w)
    w.run(lambda: not w.rollout.watching)
