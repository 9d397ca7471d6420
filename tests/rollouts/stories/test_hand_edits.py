"""What somebody changes of an engine in its cluster: it is said, left as it is, and nothing is promoted on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controlplane.access.models import User
from controlplane.kernel.errors import Refused
from rollouts import selectors
from rollouts.domain.bandits import BanditState
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.gates.family import GatesState
from rollouts.domain.variants import ServingSpec
from rollouts.evidence import evidence_rows
from rollouts.ports import WorkloadStatus
from rollouts.services.evidence.replay import replay_whole
from rollouts.ui.endpoint import page as endpoint_page
from rollouts.ui.rollout import page as rollout_page
from tests.rollouts.memory_world import BANDIT, ERRORS, MemoryWorld

pytestmark = [pytest.mark.django_db, pytest.mark.story]

ALTERED = "the image of engine is other:2, launched was vllm:1, by kubectl-edit"
BY_HAND = "Changed by hand: the arguments of engine (by kubectl-edit)."
FEWER = "Changed by hand: 1 replica is asked for instead of 2 (by kubectl)."


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """A canary of version 2 with two replicas was asked for."""
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=30).serve()
    w.start(2, serving=ServingSpec(replicas=2))
    w.behave(2)
    return w


@pytest.fixture
def moving(w: MemoryWorld) -> MemoryWorld:
    """It has its first share."""
    w.run(lambda: w.shares().get(2) == 2_500)
    return w


def notes_of(w: MemoryWorld) -> list[tuple[str, str]]:
    user = User.objects.get(username="mara")
    page = endpoint_page.build(name="triage", user=user, worlds=w.worlds, now=w.now)
    return [(note.strong, note.words) for note in page.drifts]


def test_drift__engine_changed_by_hand__is_said_on_both_pages_and_launched_by_nobody(
    moving: MemoryWorld,
) -> None:
    w = moving
    name = w.variant(2).name
    before = w.cluster.statuses()[name].started_at
    w.cluster.change(name, BY_HAND)
    w.run_for(4)
    assert notes_of(w) == [("v2 is not as it was launched.", BY_HAND)]
    rollout = selectors.find_rollout(w.rollout.pk)
    page = rollout_page.build(
        rollout=rollout, user=User.objects.get(username="mara"), now=w.now, stop_on=False
    )
    assert [note.words for note in page.drifts] == [BY_HAND]
    assert w.cluster.statuses()[name].started_at == before


def test_drift__set_back__is_said_no_more(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.change(w.variant(2).name, BY_HAND)
    w.run_for(4)
    w.cluster.change(w.variant(2).name, "")
    w.run_for(4)
    assert notes_of(w) == []


def test_drift__scaled_to_fewer_by_hand__is_not_promoted_until_all_are_back(moving: MemoryWorld) -> None:
    w = moving
    name = w.variant(2).name
    w.cluster.change(name, FEWER, replicas=1)
    w.run_for(120)
    assert (w.rollout.phase, w.shares()) == ("progressing", {1: 7_500, 2: 2_500})
    assert "1 of 2 replicas is ready" in w.rollout.reason
    assert w.lost == 0
    w.cluster.change(name, "", replicas=2)
    w.run_to("succeeded")


# --- something else runs than what was asked for ----------------------------------------------------------------------


def alter(w: MemoryWorld, number: int, words: str = ALTERED) -> None:
    """Somebody changes what runs of a version; empty words undo it."""
    w.cluster.change(w.variant(number).name, words and f"Changed by hand: {words}.", altered=words)


def intervals(w: MemoryWorld) -> list[Mapping[str, Any]]:
    return [row.interval for row in evidence_rows(w.rollout.pk)]


def passing(w: MemoryWorld) -> float:
    """The evidence for a PASS of the only gate."""
    return GatesState.from_json(w.rollout.gates_state).tested[0].passing.log_e


@pytest.mark.parametrize("number", [1, 2], ids=["baseline", "candidate"])
def test_altered__midway__holds_says_why_and_goes_on_when_it_is_undone(
    moving: MemoryWorld, number: int
) -> None:
    w = moving
    alter(w, number)
    w.run(lambda: w.rollout.pause_reason == "changed", limit=3)
    assert w.rollout.reason == (
        f"v{number} does not run as it was asked for (changed: {ALTERED}): held at 25%."
    )
    w.run_for(120)
    assert (w.rollout.phase, w.shares()) == ("paused", {1: 7_500, 2: 2_500})
    alter(w, number, "")
    w.run_to("succeeded")
    assert w.lost == 0
    assert replay_whole(rollout=w.rollout).outcome == "identical"


def test_altered__intervals_since_then__prove_nothing_good_and_are_no_exposure(moving: MemoryWorld) -> None:
    w = moving
    alter(w, 2)
    w.run(lambda: bool(intervals(w)) and "altered" in intervals(w)[-1], limit=4)
    before, requests = passing(w), w.rollout.step_requests
    w.run_for(60)
    since = [one for one in intervals(w) if "altered" in one]
    assert all(one["altered"] == ["candidate"] for one in since)
    assert sum(one["seconds"] for one in since) >= 60
    assert (passing(w), w.rollout.step_requests) == (before, requests)


def test_altered__for_a_moment_within_an_interval__that_interval_does_not_count(moving: MemoryWorld) -> None:
    """Somebody undoes it before the interval is over, and the loop has looked in between."""
    w = moving
    count = len(intervals(w))
    w.run(lambda: len(intervals(w)) > count, seconds=0.5)
    count = len(intervals(w))
    alter(w, 2)
    w.tick(0.5)
    alter(w, 2, "")
    w.tick(0.5)
    assert len(intervals(w)) == count
    w.run(lambda: len(intervals(w)) > count, seconds=0.5)
    assert intervals(w)[-1]["altered"] == ["candidate"]
    w.run(lambda: len(intervals(w)) > count + 1, seconds=0.5)
    assert "altered" not in intervals(w)[-1]


def test_altered__candidate_that_gets_worse_by_it__is_rolled_back_all_the_same(moving: MemoryWorld) -> None:
    w = moving
    alter(w, 2)
    w.run(lambda: w.rollout.phase == "paused", limit=3)
    w.behave(2, error_rate=0.6)
    w.run_to("rolled-back", limit=60)
    assert w.shares() == {1: 10_000}


def test_altered__person_who_wants_to_go_on__is_told_what_to_do_and_may_roll_back(
    moving: MemoryWorld,
) -> None:
    w = moving
    alter(w, 2)
    w.run(lambda: w.rollout.phase == "paused", limit=3)
    for command in (w.resume, w.promote):
        with pytest.raises(Refused, match="v2 does not run as it was asked for") as refused:
            command()
        assert refused.value.code == "changed-by-hand"
    w.roll_back()
    w.run_to("rolled-back")


def test_altered__baseline__a_person_may_promote_without_the_comparison(moving: MemoryWorld) -> None:
    w = moving
    alter(w, 1)
    w.run(lambda: w.rollout.phase == "paused", limit=3)
    w.promote()
    w.run_to("succeeded")


def test_altered__cluster_that_cannot_be_read__is_no_reason_to_go_on(moving: MemoryWorld) -> None:
    w = moving
    alter(w, 2)
    w.run(lambda: w.rollout.phase == "paused", limit=3)
    w.cluster.outage = "away"
    w.run_for(20)
    assert (w.rollout.phase, w.rollout.pause_reason) == ("paused", "changed")
    assert intervals(w)[-1]["altered"] == ["candidate"]


def test_altered__before_a_split_that_waits_is_published__it_is_not_published(moving: MemoryWorld) -> None:
    w = moving
    w.router.down = True
    w.promote()
    w.run_for(2)
    alter(w, 2)
    w.router.down = False
    w.run_for(20)
    assert w.shares() == {1: 7_500, 2: 2_500}
    alter(w, 2, "")
    w.run_to("succeeded")


def test_altered__while_it_launches__gets_no_traffic_until_it_is_undone(w: MemoryWorld) -> None:
    w.run(lambda: w.variant(2).name in w.cluster.statuses())
    alter(w, 2)
    w.run_for(15)
    assert w.shares() == {1: 10_000}
    assert "Ready to start, but v2 does not run as it was asked for" in w.rollout.reason
    alter(w, 2, "")
    w.run(lambda: w.shares().get(2) == 2_500)


def test_altered__serving_variant__can_still_be_replaced(tmp_path: Path) -> None:
    """It holds at the first share, for there is nothing to compare with, until a person promotes."""
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=30).serve()
    alter(w, 1)
    w.start(2)
    w.behave(2)
    w.run(lambda: w.rollout.phase == "paused")
    assert w.shares() == {1: 7_500, 2: 2_500}
    w.promote()
    w.run_to("succeeded")


def test_altered__promoted_one_during_the_watch__keeps_the_old_one_warm(moving: MemoryWorld) -> None:
    w = moving
    w.run_to("succeeded")
    alter(w, 2)
    w.run_for(60)
    assert w.rollout.watching
    assert w.workload(1).phase == "ready"
    alter(w, 2, "")
    w.run(lambda: not w.rollout.watching)


def test_altered__arm_of_a_bandit__the_race_holds_and_its_answers_teach_nothing(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=60).serve()
    w.start(2, others=(3,), plan=BANDIT)
    w.users_rate({1: 0.3, 2: 0.05, 3: 0.3})
    w.run_to("progressing")
    alter(w, 2)
    w.run(lambda: w.rollout.pause_reason == "changed", limit=3)
    shares = w.shares()
    w.run_for(60)
    assert (w.rollout.phase, w.shares()) == ("paused", shares)
    learner = BanditState.from_json(w.rollout.gates_state).learner
    assert learner.scored("candidate-2") > 5 * learner.scored("candidate")
    alter(w, 2, "")
    w.run_to("promoting", "succeeded", limit=300)
    assert w.rollout.candidate == w.variant(2)
    assert replay_whole(rollout=w.rollout).outcome == "identical"


# --- what somebody deletes --------------------------------------------------------------------------------------------


def test_workload__deleted_by_hand__is_launched_again(moving: MemoryWorld) -> None:
    w = moving
    name = w.variant(1).name
    w.cluster.lose(name)
    w.run(lambda: name in w.cluster.statuses())
    w.run(lambda: w.workload(1).phase == "ready")
    assert w.lost == 0  # the candidate, which no gate blames, answered meanwhile


def test_workload__of_the_candidate_deleted_by_hand__is_launched_again_too(moving: MemoryWorld) -> None:
    w = moving
    name = w.variant(2).name
    w.cluster.lose(name)
    w.run(lambda: name in w.cluster.statuses(), limit=5)


def test_workload__that_its_cluster_tells_as_absent__is_launched_again(
    moving: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = moving
    name = w.variant(1).name
    statuses = w.cluster.statuses

    def told() -> dict[str, WorkloadStatus]:
        absent = WorkloadStatus(name, WorkloadPhase.ABSENT, message="Somebody deleted it.")
        return {name: absent, **statuses()}

    w.cluster.lose(name)
    monkeypatch.setattr(w.cluster, "statuses", told)
    w.run(lambda: name in statuses(), limit=5)
