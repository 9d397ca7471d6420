"""What somebody changes of an engine in its cluster: it is said, left as it is, and nothing is promoted on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.access.models import User
from rollouts import selectors
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.variants import ServingSpec
from rollouts.ports import WorkloadStatus
from rollouts.ui.endpoint import page as endpoint_page
from rollouts.ui.rollout import page as rollout_page
from tests.rollouts.memory_world import ERRORS, MemoryWorld

pytestmark = [pytest.mark.django_db, pytest.mark.story]

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
