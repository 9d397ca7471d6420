"""What every Cluster promises: the one in memory, and the local one on a real supervisord."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, StaleWriter, TamperedFile
from registry.domain.manifest import take_manifest, verify_folder
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.ports import OPENAI_API, Cluster, FailureReason, WorkloadPhase, WorkloadSpec, WorkloadStatus
from tests.rollouts.adapters.clusters.machine_room import MachineRoom
from tests.standins.running import wait_until

numbers = count(1)


class Bench(Protocol):
    """A cluster, and hands that do to its workloads what the contract does not."""

    cluster: Cluster

    def spec(self, endpoint: str) -> WorkloadSpec: ...
    def wait(self, what: str, check: Callable[[], bool]) -> None: ...
    def kill(self, variant: str) -> None: ...
    def broken(self, spec: WorkloadSpec) -> WorkloadSpec: ...
    def mended(self, spec: WorkloadSpec) -> WorkloadSpec: ...
    def request_inside(self, status: WorkloadStatus) -> Callable[[], None]: ...


class MemoryBench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.memory = MemoryCluster(self.clock, ready_after=2.0, verify=verify_folder)
        self.cluster: Cluster = self.memory

    def spec(self, endpoint: str) -> WorkloadSpec:
        folder = self.folder / endpoint
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        return WorkloadSpec(f"{endpoint}-v1-aaaa", endpoint, folder, take_manifest(folder))

    def wait(self, what: str, check: Callable[[], bool]) -> None:
        for _ in range(60):
            if check():
                return
            self.clock.advance(0.5)
        raise AssertionError(f"waited 30 s of its clock in vain until {what}")

    def kill(self, variant: str) -> None:
        self.memory.kill(variant)

    def broken(self, spec: WorkloadSpec) -> WorkloadSpec:
        self.memory.fail(spec.variant, FailureReason.NO_MEMORY, "No available memory for the cache blocks")
        return spec

    def mended(self, spec: WorkloadSpec) -> WorkloadSpec:
        self.memory.mend(spec.variant)
        return spec

    def request_inside(self, status: WorkloadStatus) -> Callable[[], None]:
        self.memory.set_in_flight(status.variant, 1)
        return lambda: self.memory.set_in_flight(status.variant, 0)


class LocalBench:
    def __init__(self, room: MachineRoom) -> None:
        self.room = room
        self.cluster: Cluster = room.cluster()

    def spec(self, endpoint: str) -> WorkloadSpec:
        return self.room.spec(f"{endpoint}-v1-aaaa")

    def wait(self, what: str, check: Callable[[], bool]) -> None:
        wait_until(what, check, 60)

    def kill(self, variant: str) -> None:
        os.kill(self.room.supervisor.programs()[f"engine-{variant}"].pid, signal.SIGKILL)

    def broken(self, spec: WorkloadSpec) -> WorkloadSpec:
        return replace(spec, arguments={"fail": "ValueError: No available memory for the cache blocks."})

    def mended(self, spec: WorkloadSpec) -> WorkloadSpec:
        return spec

    def request_inside(self, status: WorkloadStatus) -> Callable[[], None]:
        """A stream of 100 tokens in the engine; what is returned reads it to its end."""
        url = f"http://{status.host}:{status.port}"
        self.room.http.post(f"{url}/control", json={"tokens": 30, "token_ms": 50}).raise_for_status()
        question = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
        request = self.room.http.build_request(
            "POST", f"{url}/v1/chat/completions", json=question, timeout=30
        )
        answer = self.room.http.send(request, stream=True)

        def finish() -> None:
            lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
            answer.close()
            said = [json.loads(line[6:])["choices"][0]["delta"].get("content") for line in lines]
            assert len([word for word in said if word]) == 30

        return finish


@contextmanager
def room_for_all() -> Iterator[MachineRoom]:
    room = MachineRoom()
    try:
        yield room
    finally:
        room.close()


@pytest.fixture(scope="module")
def room() -> Iterator[MachineRoom]:
    with room_for_all() as room:
        yield room


@pytest.fixture(params=["memory", pytest.param("local", marks=pytest.mark.e2e)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    if request.param == "memory":
        return MemoryBench(tmp_path)
    return LocalBench(request.getfixturevalue("room"))


@pytest.fixture
def endpoint() -> str:
    return f"chat{next(numbers)}"


def phase(bench: Bench, variant: str) -> WorkloadPhase:
    seen = bench.cluster.statuses().get(variant)
    return WorkloadPhase.ABSENT if seen is None else seen.phase


def until(bench: Bench, variant: str, wanted: WorkloadPhase) -> None:
    bench.wait(f"{variant} is {wanted}", lambda: phase(bench, variant) is wanted)


def running(bench: Bench, endpoint: str) -> WorkloadSpec:
    spec = bench.spec(endpoint)
    bench.cluster.ensure(spec, token=5)
    until(bench, spec.variant, WorkloadPhase.READY)
    return spec


def test_ensure__new_variant__becomes_ready_with_an_address(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    status = bench.cluster.statuses()[spec.variant]
    assert status.is_ready
    assert (status.ready, status.desired, status.restarts, status.reason) == (1, 1, 0, FailureReason.NONE)
    assert status.host
    assert status.port > 0
    assert status.started_at is not None


def test_ensure__already_running__changes_nothing(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    before = bench.cluster.statuses()[spec.variant]
    bench.cluster.ensure(spec, token=5)
    assert bench.cluster.statuses()[spec.variant] == before


def test_ensure__two_variants__have_two_addresses(bench: Bench, endpoint: str) -> None:
    one, two = running(bench, endpoint), running(bench, endpoint + "b")
    statuses = bench.cluster.statuses()
    assert statuses[one.variant].port != statuses[two.variant].port


def test_ensure__at_once_from_many_threads__starts_one(bench: Bench, endpoint: str) -> None:
    spec = bench.spec(endpoint)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            bench.cluster.ensure(spec, token=5)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(bench, spec.variant, WorkloadPhase.READY)
    assert errors == []
    assert bench.cluster.statuses()[spec.variant].restarts == 0


def test_ensure__file_changed__raises_with_its_name_and_starts_nothing(bench: Bench, endpoint: str) -> None:
    spec = bench.spec(endpoint)
    (spec.folder / "model.safetensors").write_bytes(b"other weights, same name")
    with pytest.raises(TamperedFile) as caught:
        bench.cluster.ensure(spec, token=5)
    assert caught.value.path == "model.safetensors"
    assert phase(bench, spec.variant) is WorkloadPhase.ABSENT


def test_ensure__old_token__is_stale_and_starts_nothing(bench: Bench, endpoint: str) -> None:
    spec = bench.spec(endpoint)
    bench.cluster.drain(f"{endpoint}-v0-0000", endpoint, token=9)
    with pytest.raises(StaleWriter):
        bench.cluster.ensure(spec, token=8)
    assert phase(bench, spec.variant) is WorkloadPhase.ABSENT


def test_drain__old_token__is_stale_and_leaves_it_running(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    with pytest.raises(StaleWriter):
        bench.cluster.drain(spec.variant, endpoint, token=4)
    assert phase(bench, spec.variant) is WorkloadPhase.READY


def test_claim__newer_token__is_remembered_and_an_older_one_is_answered_by_it(
    bench: Bench, endpoint: str
) -> None:
    assert bench.cluster.claim(endpoint, token=9) == 9
    assert bench.cluster.claim(endpoint, token=4) == 9
    with pytest.raises(StaleWriter) as refused:
        bench.cluster.ensure(bench.spec(endpoint), token=8)
    assert refused.value.extra["newest"] == 9


def test_launched__tells_what_was_asked_for(bench: Bench, endpoint: str) -> None:
    assert bench.cluster.launched(f"{endpoint}-v1-000000") is None
    spec = running(bench, endpoint)
    found = bench.cluster.launched(spec.variant)
    assert found is not None
    assert (found.variant, found.manifest, dict(found.arguments)) == (
        spec.variant,
        spec.manifest,
        dict(spec.arguments),
    )


def test_token__of_another_endpoint__does_not_count(bench: Bench, endpoint: str) -> None:
    bench.cluster.drain("absent", endpoint + "b", token=100)
    bench.cluster.ensure(bench.spec(endpoint), token=1)
    assert phase(bench, f"{endpoint}-v1-aaaa") is not WorkloadPhase.ABSENT


def test_drain__absent_variant__does_nothing(bench: Bench, endpoint: str) -> None:
    bench.cluster.drain(f"{endpoint}-v1-aaaa", endpoint, token=5)
    assert phase(bench, f"{endpoint}-v1-aaaa") is WorkloadPhase.ABSENT


def test_drain__nothing_inside__stops_and_removes_it(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    bench.cluster.drain(spec.variant, endpoint, token=5)
    until(bench, spec.variant, WorkloadPhase.ABSENT)


def test_drain__request_inside__waits_until_it_has_ended(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    finish = bench.request_inside(bench.cluster.statuses()[spec.variant])
    bench.cluster.drain(spec.variant, endpoint, token=5)
    status = bench.cluster.statuses()[spec.variant]
    assert (status.phase, status.in_flight) == (WorkloadPhase.DRAINING, 1)
    finish()
    until(bench, spec.variant, WorkloadPhase.ABSENT)


def test_ensure__while_draining__takes_the_drain_back(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    before = bench.cluster.statuses()[spec.variant]
    finish = bench.request_inside(before)
    bench.cluster.drain(spec.variant, endpoint, token=5)
    assert phase(bench, spec.variant) is WorkloadPhase.DRAINING
    bench.cluster.ensure(spec, token=5)
    finish()
    until(bench, spec.variant, WorkloadPhase.READY)
    assert bench.cluster.statuses()[spec.variant].started_at == before.started_at


def test_killed_engine__comes_back_as_another_process(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    before = bench.cluster.statuses()[spec.variant]
    bench.kill(spec.variant)
    bench.wait("it is seen as not ready", lambda: phase(bench, spec.variant) is WorkloadPhase.UNREADY)
    until(bench, spec.variant, WorkloadPhase.READY)
    after = bench.cluster.statuses()[spec.variant]
    assert (after.restarts, after.port) == (1, before.port)
    assert after.started_at is not None
    assert before.started_at is not None
    assert after.started_at > before.started_at


def test_engine_that_fails__says_why_and_starts_when_mended(bench: Bench, endpoint: str) -> None:
    spec = bench.spec(endpoint)
    bench.cluster.ensure(bench.broken(spec), token=5)
    until(bench, spec.variant, WorkloadPhase.FAILED)
    failed = bench.cluster.statuses()[spec.variant]
    assert failed.reason is FailureReason.NO_MEMORY
    assert "No available memory for the cache blocks" in failed.message
    assert not failed.is_ready
    bench.cluster.ensure(bench.mended(spec), token=5)
    until(bench, spec.variant, WorkloadPhase.READY)
    assert bench.cluster.statuses()[spec.variant].reason is FailureReason.NONE


def test_drain__failed_variant__removes_it(bench: Bench, endpoint: str) -> None:
    spec = bench.spec(endpoint)
    bench.cluster.ensure(bench.broken(spec), token=5)
    until(bench, spec.variant, WorkloadPhase.FAILED)
    bench.cluster.drain(spec.variant, endpoint, token=5)
    until(bench, spec.variant, WorkloadPhase.ABSENT)


def test_log_tail__of_a_running_engine__has_at_most_the_lines_asked_for(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    assert len(bench.cluster.log_tail(spec.variant, lines=1)) == 1
    assert bench.cluster.log_tail(spec.variant, lines=0) == ()


def test_log_tail__unknown_variant__is_empty(bench: Bench, endpoint: str) -> None:
    assert bench.cluster.log_tail(f"{endpoint}-v1-aaaa") == ()


def test_api__known_engine__has_its_calls(bench: Bench) -> None:
    assert bench.cluster.api("vllm") == OPENAI_API


def test_api__unknown_engine__is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="no-such") as caught:
        bench.cluster.api("no-such")
    assert caught.value.field == "engine"
