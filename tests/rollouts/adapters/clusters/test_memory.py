"""The in-memory cluster's own script; what both clusters promise is in test_contract.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Refused, Unavailable
from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.ports import WorkloadSpec


def spec(variant: str = "chat-v1-aaaa", start_seconds: float = 600) -> WorkloadSpec:
    return WorkloadSpec(
        variant=variant,
        endpoint="chat",
        source="models:/m-1",
        manifest=Manifest.of([ManifestEntry("model.safetensors", 1, "0" * 64)]),
        start_seconds=start_seconds,
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


def test_ensure__before_ready_after__is_starting_then_ready(clock: ManualClock) -> None:
    cluster = MemoryCluster(clock, ready_after=30)
    cluster.ensure(spec(), token=1)
    assert cluster.statuses()["chat-v1-aaaa"].phase is WorkloadPhase.STARTING
    clock.advance(30)
    assert cluster.statuses()["chat-v1-aaaa"].is_ready


def test_ensure__slower_than_start_seconds__fails_with_timeout(clock: ManualClock) -> None:
    cluster = MemoryCluster(clock, ready_after=30)
    cluster.ensure(spec(start_seconds=10), token=1)
    clock.advance(11)
    status = cluster.statuses()["chat-v1-aaaa"]
    assert (status.phase, status.reason) == (WorkloadPhase.FAILED, FailureReason.TIMEOUT)


def test_kill__ready_workload__is_unready_then_ready_with_a_new_start(clock: ManualClock) -> None:
    cluster = MemoryCluster(clock)
    cluster.ensure(spec(), token=1)
    before = cluster.statuses()["chat-v1-aaaa"]
    cluster.kill("chat-v1-aaaa")
    down = cluster.statuses()["chat-v1-aaaa"]
    clock.advance(2)
    after = cluster.statuses()["chat-v1-aaaa"]
    assert (before.phase, down.phase, after.phase) == (
        WorkloadPhase.READY,
        WorkloadPhase.UNREADY,
        WorkloadPhase.READY,
    )
    assert after.started_at is not None
    assert before.started_at is not None
    assert after.started_at > before.started_at
    assert after.restarts == 1


def test_fail__running_workload__fails_now_and_again_until_mended(clock: ManualClock) -> None:
    cluster = MemoryCluster(clock)
    cluster.ensure(spec(), token=1)
    cluster.fail("chat-v1-aaaa", FailureReason.NO_MEMORY, "no room for the KV cache")
    cluster.ensure(spec(), token=1)
    status = cluster.statuses()["chat-v1-aaaa"]
    assert (status.phase, status.reason, status.message) == (
        WorkloadPhase.FAILED,
        FailureReason.NO_MEMORY,
        "no room for the KV cache",
    )
    cluster.mend("chat-v1-aaaa")
    cluster.ensure(spec(), token=1)
    assert cluster.statuses()["chat-v1-aaaa"].is_ready


def test_ensure__no_room__is_refused_and_changes_nothing(clock: ManualClock) -> None:
    cluster = MemoryCluster(clock, room=1)
    cluster.ensure(spec(), token=1)
    with pytest.raises(Refused, match="no room"):
        cluster.ensure(spec("chat-v2-bbbb"), token=1)
    assert set(cluster.statuses()) == {"chat-v1-aaaa"}


def test_drain__requests_never_end__stops_at_the_deadline(clock: ManualClock) -> None:
    cluster = MemoryCluster(clock, drain_seconds=60)
    cluster.ensure(spec(), token=1)
    cluster.statuses()
    cluster.set_in_flight("chat-v1-aaaa", 3)
    cluster.drain("chat-v1-aaaa", "chat", token=1)
    assert cluster.statuses()["chat-v1-aaaa"].in_flight == 3
    clock.advance(60)
    assert cluster.statuses() == {}


def test_statuses__outage__raises_unavailable(clock: ManualClock) -> None:
    cluster = MemoryCluster(clock)
    cluster.outage = "the machine is away"
    with pytest.raises(Unavailable, match="the machine is away"):
        cluster.statuses()


def test_kill__one_of_three_replicas__the_others_answer_and_it_comes_back(clock: ManualClock) -> None:
    cluster = MemoryCluster(clock)
    cluster.ensure(replace(spec(), replicas=3), token=1)
    before = cluster.statuses()["chat-v1-aaaa"]
    cluster.kill("chat-v1-aaaa", replicas=1, down_seconds=5)
    down = cluster.statuses()["chat-v1-aaaa"]
    clock.advance(5)
    after = cluster.statuses()["chat-v1-aaaa"]
    assert [(one.phase, one.ready, one.desired) for one in (before, down, after)] == [
        (WorkloadPhase.READY, 3, 3),
        (WorkloadPhase.READY, 2, 3),
        (WorkloadPhase.READY, 3, 3),
    ]
    assert (after.restarts, after.started_at != before.started_at) == (1, True)


def test_allow__fewer_replicas__no_more_are_ready_until_it_is_lifted(clock: ManualClock) -> None:
    cluster = MemoryCluster(clock, ready_after=5)
    cluster.allow("chat-v1-aaaa", most_ready=2)
    cluster.ensure(replace(spec(), replicas=3), token=1)
    clock.advance(60)
    assert cluster.statuses()["chat-v1-aaaa"].ready == 2
    cluster.allow("chat-v1-aaaa", most_ready=0)
    assert cluster.statuses()["chat-v1-aaaa"].phase is WorkloadPhase.UNREADY
    cluster.allow("chat-v1-aaaa", most_ready=3)
    assert cluster.statuses()["chat-v1-aaaa"].ready == 3
