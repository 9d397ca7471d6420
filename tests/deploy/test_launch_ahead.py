"""The demo's next engine loads while a rollout is judged, on the real loop in a world in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.kernel.errors import Refused
from deploy.demo.launch_ahead import launch_ahead
from registry.models import Version
from rollouts.models import HistoryEvent
from tests.rollouts.memory_world import LONG_PLAN, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """Version 2 has its first traffic."""
    world = MemoryWorld(tmp_path).serve()
    world.start(2, plan=LONG_PLAN)
    world.behave(2, accuracy=1.0)
    world.run_to("progressing")
    return world


def test_launch_ahead__during_a_rollout__runs_without_traffic_and_changes_nothing(w: MemoryWorld) -> None:
    launch_ahead(endpoint_name="triage", number=3)
    w.run(lambda: w.workload(3).ready == 1)
    assert 3 not in w.shares()
    assert w.run_to("succeeded").candidate == w.variant(2)
    assert 3 not in w.shares()
    assert w.lost == 0


def test_launch_ahead__then_its_own_rollout__still_proves_it_and_moves_traffic_sooner(w: MemoryWorld) -> None:
    launch_ahead(endpoint_name="triage", number=3)
    w.run_to("succeeded")
    w.run(lambda: not w.rollout.watching)
    assert w.workload(3).ready == 1, "the end of the watch drains the old variant only"
    launched = w.calls.names.count("cluster.ensure")
    w.start(3, plan=LONG_PLAN)
    w.behave(3, accuracy=0.0)
    w.run_to("progressing", limit=3)
    assert "route read back, test request answered by the candidate" in [
        event.detail for event in HistoryEvent.objects.filter(rollout=w.rollout)
    ]
    assert w.calls.names.count("cluster.ensure") == launched
    w.run_to("rolled-back")
    w.run(lambda: w.workload(3).phase == "absent")


def test_launch_ahead__files_that_may_not_run__refused(w: MemoryWorld) -> None:
    Version.objects.filter(number=3).update(manifest_state="tampered")
    with pytest.raises(Refused):
        launch_ahead(endpoint_name="triage", number=3)
