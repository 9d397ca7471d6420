"""A router of several processes: one that restarts voids its own part of an interval, and people are told how much."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollouts.models import Evidence
from rollouts.services.evidence.replay import replay_whole
from rollouts.ui.endpoint.outcomes import beside_words
from tests.rollouts.memory_world import LONG_PLAN, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """The router has three processes."""
    world = MemoryWorld(tmp_path)
    for name in ("x", "y", "z"):
        world.router.start(name)
    world.router.stop("router")
    world.serve()
    return world


def progressing(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.next_interval >= 2)


def newest(w: MemoryWorld) -> Evidence:
    found = Evidence.objects.filter(rollout=w.rollout).order_by("-index").first()
    assert found is not None
    return found


def after_next_interval(w: MemoryWorld) -> Evidence:
    index = newest(w).index
    w.run(lambda: newest(w).index > index)
    return newest(w)


def test_one_process_restarted__the_interval_counts_what_the_others_did(w: MemoryWorld) -> None:
    progressing(w)
    whole = after_next_interval(w).interval
    w.router.restart("y")
    part = after_next_interval(w).interval
    assert "unseen" not in whole
    assert part["unseen"] == {"y": "restarted: its counters began again"}
    assert part["unseen_share"] == pytest.approx(1 / 3, abs=0.15)
    assert part["missing"] == {}
    share = part["arms"]["baseline"]["arrived"] / whole["arms"]["baseline"]["arrived"]
    assert 0.3 < share < 0.95
    assert "unseen" not in after_next_interval(w).interval


def test_one_process_restarted__the_endpoint_says_how_much_was_not_counted(w: MemoryWorld) -> None:
    assert "were not counted" not in beside_words(w.endpoint, w.now)
    w.router.restart("y")
    w.run_for(6)
    assert "of the last 24 hours' traffic were not counted" in beside_words(w.endpoint, w.now)


def test_all_processes_restarted__the_interval_has_no_data_and_says_why(w: MemoryWorld) -> None:
    progressing(w)
    w.router.restart()
    void = after_next_interval(w).interval
    assert void["arms"] == {}
    assert void["missing"]["router"].startswith(
        "3 of 3 processes of the router were not counted: x restarted"
    )


def test_processes_that_restart_all_the_time__a_good_candidate_is_promoted_and_replays_the_same(
    w: MemoryWorld,
) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    for tick in range(150):
        if tick % 5 == 4:
            w.router.restart("xyz"[tick % 3])
        w.tick()
        if w.rollout.phase == "succeeded":
            break
    assert w.rollout.phase == "succeeded"
    assert any("unseen" in row.interval for row in Evidence.objects.filter(rollout=w.rollout))
    assert replay_whole(rollout=w.rollout).outcome == "identical"


@pytest.mark.parametrize("names", [("x", "y", "z"), ("",)], ids=["one by one", "all at once"])
def test_candidate_that_hangs_while_processes_restart__is_not_promoted(
    w: MemoryWorld, names: tuple[str, ...]
) -> None:
    """Each restart takes requests with it that would never have ended: the router holds few, and none has failed."""
    w.start(2)
    w.behave(2, accuracy=1.0, hang_rate=0.3)
    for tick in range(60):
        if tick % 5 == 4:
            w.router.restart(names[tick % len(names)])
        w.tick()
    assert w.rollout.phase == "progressing"
    assert "were lost when the router restarted" in json.dumps(newest(w).verdicts)
    assert replay_whole(rollout=w.rollout).outcome == "identical"


def test_ratings_of_an_interval_that_was_not_wholly_counted__count_for_no_other_answers(
    w: MemoryWorld,
) -> None:
    """Users rate half of all answers; counted for the answers of other processes, they would seem to rate more."""
    w.users_rate({1: 0.5, 2: 0.5})
    w.start(2, plan=LONG_PLAN)
    w.behave(2, accuracy=1.0)
    w.run(lambda: w.rollout.phase == "progressing")
    for _ in range(10):
        w.router.restart("y")
        w.run_for(4)
    rows = [row.interval for row in Evidence.objects.filter(rollout=w.rollout)]
    assert sum("unseen" in row for row in rows) >= 8
    fed = [arm for row in rows for arm in row["arms"].values()]
    answers, ratings = sum(arm["answers"] for arm in fed), sum(arm["ratings"] for arm in fed)
    assert answers > 400
    assert ratings / answers == pytest.approx(0.5, abs=0.05)
