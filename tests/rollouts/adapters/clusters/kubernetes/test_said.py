"""What was worked out of a variant is said again, whatever its state, until something changed of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from rollouts.adapters.clusters.kubernetes.said import as_of
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.secrets import SecretFile
from rollouts.ports import WorkloadStatus
from tests.rollouts.adapters.clusters.kubernetes.memory import MemoryObjects
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of
from tests.rollouts.adapters.clusters.kubernetes.watched import (
    DEPLOYMENT,
    NAME,
    SPEC,
    STARTED,
    a_cluster_that_watches,
    a_pod,
    is_whole,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Counted:
    """A cluster, and how often it worked something out."""

    def __init__(self, server: MemoryObjects, *, secrets: Path = Path("/nonexistent")) -> None:
        self.server = server
        self.clock = ManualClock(NOW)
        self.cluster = a_cluster_that_watches(server, secrets=secrets, clock=self.clock)
        self.times = 0
        anew = self.cluster._status_anew

        def counted(*words: Any) -> Any:
            self.times += 1
            return anew(*words)

        self.cluster._status_anew = counted

    def launched(self) -> Counted:
        self.cluster.ensure(SPEC, token=1)
        self.times = 0
        return self

    @property
    def status(self) -> WorkloadStatus:
        found: WorkloadStatus = self.cluster.statuses()[NAME]
        return found


@pytest.fixture
def server() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def counted(server: MemoryObjects) -> Counted:
    return Counted(server).launched()


def well(server: MemoryObjects) -> None:
    a_pod(server)
    is_whole(server)


def changed_by_hand(server: MemoryObjects) -> None:
    well(server)
    body = copy.deepcopy(server.objects[DEPLOYMENT])
    body["spec"]["template"]["spec"]["containers"][0]["image"] = "another"
    server.keep(body)


def without_room(server: MemoryObjects) -> None:
    a_pod(server)
    pod = server.objects["Pod", f"{NAME}-0"]
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    server.keep({**pod, "status": {"phase": "Pending", "conditions": [unplaced]}})


def failing(server: MemoryObjects) -> None:
    a_pod(server, "CUDA out of memory", restarts=4)


def without_a_workload(server: MemoryObjects) -> None:
    del server.objects[DEPLOYMENT]


def comparing_files(server: MemoryObjects) -> None:
    a_pod(server)
    pod = copy.deepcopy(server.objects["Pod", f"{NAME}-0"])
    running = {"startedAt": "2026-01-01T23:59:00Z"}
    pod["status"] |= {
        "conditions": [],
        "containerStatuses": [],
        "initContainerStatuses": [{"name": "verify", "restartCount": 0, "state": {"running": running}}],
    }
    server.keep(pod)


STATES: dict[str, tuple[Callable[[MemoryObjects], None], Callable[[WorkloadStatus], bool]]] = {
    "well": (well, lambda one: one.phase is WorkloadPhase.READY and not one.message),
    "changed by hand": (changed_by_hand, lambda one: "image" in one.drift),
    "without room": (without_room, lambda one: "0/3 nodes" in one.message),
    "failing": (failing, lambda one: one.phase is WorkloadPhase.FAILED),
    "without a workload": (without_a_workload, lambda one: one.phase is WorkloadPhase.ABSENT),
    "comparing files": (comparing_files, lambda one: "compares its files" in one.message),
}


@pytest.mark.parametrize("state", STATES)
def test_statuses__nothing_changed__is_worked_out_once_whatever_its_state(
    counted: Counted, state: str
) -> None:
    make, is_so = STATES[state]
    make(counted.server)
    first = counted.status
    assert is_so(first)
    for _ in range(5):
        assert counted.status == first
    assert counted.times == 1


@pytest.mark.parametrize("state", STATES)
def test_statuses__its_pod_changed__is_worked_out_anew_whatever_its_state(
    counted: Counted, state: str
) -> None:
    kept = counted.server.objects[DEPLOYMENT]
    STATES[state][0](counted.server)
    workload = counted.server.objects.get(DEPLOYMENT)
    counted.status  # noqa: B018 - said once
    if workload is None:
        counted.server.keep(kept)
    a_pod(counted.server, restarts=1)
    assert counted.status.restarts == 1
    assert counted.times == 2


def test_statuses__another_variant_changed__leaves_this_one(counted: Counted) -> None:
    failing(counted.server)
    counted.status  # noqa: B018 - said once
    counted.cluster.ensure(spec_of(variant="chat-v8", endpoint="other"), token=1)
    before = counted.times
    counted.cluster.statuses()
    assert counted.times == before + 1
    counted.cluster.statuses()
    assert counted.times == before + 1


def test_statuses__pod_is_gone__is_seen_at_once(counted: Counted) -> None:
    well(counted.server)
    assert counted.status.ready == 1
    del counted.server.objects["Pod", f"{NAME}-0"]
    assert counted.status.ready == 0


def test_statuses__cluster_warns_of_its_pod__is_seen_at_once(counted: Counted) -> None:
    a_pod(counted.server)
    pod = copy.deepcopy(counted.server.objects["Pod", f"{NAME}-0"])
    pod["status"]["conditions"] = []
    counted.server.keep(pod)
    assert counted.status.message == ""
    counted.server.keep(
        {
            "kind": "Event",
            "metadata": {"name": "e1", "creationTimestamp": STARTED},
            "type": "Warning",
            "message": "the probe failed",
            "involvedObject": {"kind": "Pod", "name": f"{NAME}-0"},
        }
    )
    assert counted.status.message == "the probe failed"


def test_statuses__files_are_compared__are_said_to_come_until_now(counted: Counted) -> None:
    comparing_files(counted.server)
    for _ in range(3):
        assert counted.status.files_at == counted.clock.now().timestamp()
        counted.clock.advance(60)
    assert counted.times == 1


def test_statuses__files_are_compared_for_an_hour__come_no_longer(counted: Counted) -> None:
    comparing_files(counted.server)
    counted.clock.advance(2 * 3600)
    began = datetime(2026, 1, 1, 23, 59, tzinfo=UTC).timestamp()
    assert counted.status.files_at == began + 3600


def test_statuses__last_words_while_a_secret_cannot_be_read__are_not_kept(
    server: MemoryObjects, tmp_path: Path
) -> None:
    """They may hold it, and could not be freed of it."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    path = folder / "hub"
    path.touch(mode=0o600)
    path.write_text("sentinel-of-the-hub")
    counted = Counted(server, secrets=folder)
    counted.cluster.ensure(spec_of(environment={"TOKEN": SecretFile("hub")}), token=1)
    counted.times = 0
    a_pod(server, "Error: sentinel-of-the-hub was refused", restarts=4)
    path.rename(folder / "away")
    for _ in range(2):
        counted.status  # noqa: B018 - said, and worked out each time
    assert counted.times == 2
    (folder / "away").rename(path)
    assert "sentinel" not in counted.status.message
    path.write_text("another-one-by-now")
    assert "sentinel" not in counted.status.message


def test_as_of__files_that_were_fetched_before__count_where_they_came_later() -> None:
    status = WorkloadStatus("v", WorkloadPhase.STARTING, files_at=50.0)
    assert as_of(status, 40.0, None).files_at == 40.0
    assert as_of(status, 60.0, None) is status
    assert as_of(status, 60.0, 70.0).files_at == 70.0
    assert as_of(WorkloadStatus("v", WorkloadPhase.STARTING), 60.0, None).files_at is None
