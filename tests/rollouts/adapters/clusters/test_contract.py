"""What every Cluster promises: the one in memory, and the local one on a real supervisord."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, Refused, StaleWriter, TamperedFile
from controlplane.sealing.keys import KeyRing, new_key
from registry.domain.manifest import take_manifest, verify_folder
from rollouts.adapters.clusters.machine import all_pids
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.adapters.clusters.secrets import SecretStore
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.belongings import LaunchFound
from rollouts.domain.capacity.findings import Room
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.images import Image
from rollouts.domain.secrets import SealedSecret, SecretFile
from rollouts.ports import OPENAI_API, Cluster, PlannedLaunches, WorkloadSpec, WorkloadStatus
from tests.rollouts.adapters.addresses import port_of, url_of
from tests.rollouts.adapters.clusters.machine_room import MachineRoom, first_process
from tests.standins.running import wait_until

numbers = count(1)
OLD, NEW = new_key(), new_key()
in_force = [OLD]


def keys() -> KeyRing:
    return KeyRing(in_force)


class Bench(Protocol):
    """A cluster, and hands that do to its workloads what the contract does not."""

    cluster: Cluster

    def spec(self, endpoint: str) -> WorkloadSpec: ...
    def folder(self, spec: WorkloadSpec) -> Path: ...
    def wait(self, what: str, check: Callable[[], bool]) -> None: ...
    def kill(self, variant: str) -> None: ...
    def broken(self, spec: WorkloadSpec) -> WorkloadSpec: ...
    def mended(self, spec: WorkloadSpec) -> WorkloadSpec: ...
    def request_inside(self, status: WorkloadStatus) -> Callable[[], None]: ...
    def variable_of_engine(self, variant: str, name: str) -> str: ...
    def prints(self, variant: str, line: str) -> None: ...
    def stored(self, variant: str) -> str: ...


class MemoryBench:
    def __init__(self, folder: Path, *, fetch_seconds: float | None = None) -> None:
        self.top = folder
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.memory = MemoryCluster(
            self.clock,
            ready_after=2.0,
            verify=lambda source, manifest: verify_folder(Path(source), manifest),
            fetch_seconds=fetch_seconds,
            secrets=SecretStore(folder / "secrets", keys),
        )
        self.cluster: Cluster = self.memory

    def spec(self, endpoint: str) -> WorkloadSpec:
        folder = self.top / endpoint
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        return WorkloadSpec(f"{endpoint}-v1-aaaa", endpoint, str(folder), take_manifest(folder))

    def folder(self, spec: WorkloadSpec) -> Path:
        return Path(spec.source)

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

    def variable_of_engine(self, variant: str, name: str) -> str:
        return self.memory.environments[variant][name]

    def prints(self, variant: str, line: str) -> None:
        self.memory.print(variant, line)

    def stored(self, variant: str) -> str:
        secret = self.memory._workloads[variant].spec.environment["MODEL_LICENCE"]
        assert isinstance(secret, SealedSecret)
        return secret.sealed


class LocalBench:
    def __init__(self, room: MachineRoom) -> None:
        self.room = room
        self.cluster: Cluster = room.cluster(keys=keys)

    def spec(self, endpoint: str) -> WorkloadSpec:
        return self.room.spec(f"{endpoint}-v1-aaaa")

    def folder(self, spec: WorkloadSpec) -> Path:
        return self.room.folder(spec)

    def wait(self, what: str, check: Callable[[], bool]) -> None:
        wait_until(what, check, 60)

    def kill(self, variant: str) -> None:
        keeper = self.room.supervisor.programs()[f"engine-{variant}"].pid
        os.kill(first_process(keeper), signal.SIGKILL)

    def broken(self, spec: WorkloadSpec) -> WorkloadSpec:
        return replace(spec, arguments={"fail": "ValueError: No available memory for the cache blocks."})

    def mended(self, spec: WorkloadSpec) -> WorkloadSpec:
        return spec

    def request_inside(self, status: WorkloadStatus) -> Callable[[], None]:
        """A stream of 100 tokens in the engine; what is returned reads it to its end."""
        url = url_of(status)
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

    def variable_of_engine(self, variant: str, name: str) -> str:
        program = self.room.supervisor.programs()[f"engine-{variant}"]
        mark = f"HEADGATE_ENGINE={self.room.run_dir}/engines/{variant}.json".encode()
        for pid in {program.pid, *all_pids()}:
            with suppress(OSError):
                found = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                if mark in found:
                    return dict(one.decode().split("=", 1) for one in found if one)[name]
        raise AssertionError(f"no process of {variant}")

    def prints(self, variant: str, line: str) -> None:
        with (self.room.run_dir / "engines" / f"{variant}.log").open("a") as log:
            log.write(line + "\n")

    def stored(self, variant: str) -> str:
        record = json.loads((self.room.run_dir / "engines" / f"{variant}.json").read_text())
        return str(record["environment"]["MODEL_LICENCE"]["secret"]["sealed"])


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


@pytest.fixture(params=["memory", "memory that fetches", pytest.param("local", marks=pytest.mark.e2e)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    if request.param.startswith("memory"):
        return MemoryBench(tmp_path, fetch_seconds=3.0 if "fetches" in request.param else None)
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
    assert status.backend is not None
    assert status.backend.variant == spec.variant
    assert port_of(status) > 0
    assert status.started_at is not None


def test_ensure__already_running__changes_nothing(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    before = bench.cluster.statuses()[spec.variant]
    bench.cluster.ensure(spec, token=5)
    assert bench.cluster.statuses()[spec.variant] == before


def test_ensure__two_variants__have_two_addresses(bench: Bench, endpoint: str) -> None:
    one, two = running(bench, endpoint), running(bench, endpoint + "b")
    statuses = bench.cluster.statuses()
    assert port_of(statuses[one.variant]) != port_of(statuses[two.variant])


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


def test_ensure__file_has_another_size__starts_no_engine_and_names_the_file(
    bench: Bench, endpoint: str
) -> None:
    spec = bench.spec(endpoint)
    (bench.folder(spec) / "model.safetensors").write_bytes(b"other weights, same name, another size")
    if not bench.cluster.fetches_files():
        with pytest.raises(TamperedFile) as caught:
            bench.cluster.ensure(spec, token=5)
        assert caught.value.path == "model.safetensors"
        assert phase(bench, spec.variant) is WorkloadPhase.ABSENT
        return
    bench.cluster.ensure(spec, token=5)
    until(bench, spec.variant, WorkloadPhase.FAILED)
    status = bench.cluster.statuses()[spec.variant]
    assert (status.reason, status.started_at) == (FailureReason.TAMPERED_FILE, None)
    assert "model.safetensors" in status.message


def test_status__cluster_that_fetches__says_until_when_files_came_and_no_other_does(
    bench: Bench, endpoint: str
) -> None:
    """The time of a launch begins there: an engine is not too slow because its files are many."""
    spec = bench.spec(endpoint)
    bench.cluster.ensure(spec, token=5)
    until(bench, spec.variant, WorkloadPhase.READY)
    assert (bench.cluster.statuses()[spec.variant].files_at is not None) == bench.cluster.fetches_files()


def test_ensure__file_of_the_same_size_changed__no_engine_starts(bench: Bench, endpoint: str) -> None:
    spec = bench.spec(endpoint)
    weights = bench.folder(spec) / "model.safetensors"
    weights.write_bytes(bytes(byte ^ 1 for byte in weights.read_bytes()))
    try:
        bench.cluster.ensure(spec, token=5)
    except TamperedFile:
        assert phase(bench, spec.variant) is WorkloadPhase.ABSENT
        return
    until(bench, spec.variant, WorkloadPhase.FAILED)
    status = bench.cluster.statuses()[spec.variant]
    assert (status.reason, status.started_at) == (FailureReason.TAMPERED_FILE, None)
    assert "model.safetensors" in status.message


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


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"replicas": 65}, "replicas"),
        ({"image": Image("registry.example/other", "v1")}, "image"),
        ({"accelerators": Accelerators(1, "other.example/gpu")}, "accelerators"),
    ],
)
def test_ensure__more_than_its_limits_allow__names_the_field_and_starts_nothing(
    bench: Bench, endpoint: str, asked: dict[str, Any], field: str
) -> None:
    spec = replace(bench.spec(endpoint), **asked)
    with pytest.raises(InvalidInput) as caught:
        bench.cluster.ensure(spec, token=5)
    assert caught.value.field.startswith(field)
    assert phase(bench, spec.variant) is WorkloadPhase.ABSENT


def test_launched__tells_what_was_asked_for(bench: Bench, endpoint: str) -> None:
    assert bench.cluster.launched(f"{endpoint}-v1-000000") is None
    spec = running(bench, endpoint)
    found = bench.cluster.launched(spec.variant)
    assert found is not None
    assert (found.variant, found.source, found.manifest, dict(found.arguments)) == (
        spec.variant,
        spec.source,
        spec.manifest,
        dict(spec.arguments),
    )


def test_token__of_another_endpoint__does_not_count(bench: Bench, endpoint: str) -> None:
    bench.cluster.drain("absent", endpoint + "b", token=100)
    bench.cluster.ensure(bench.spec(endpoint), token=1)
    assert phase(bench, f"{endpoint}-v1-aaaa") is not WorkloadPhase.ABSENT


def launches(bench: Bench, variant: str) -> LaunchFound | None:
    return next((one for one in bench.cluster.belongings().launches if one.variant == variant), None)


def found(bench: Bench, spec: WorkloadSpec) -> LaunchFound | None:
    """The launch as the cluster tells of it; None where it keeps no account of launches (it says nothing then)."""
    one = launches(bench, spec.variant)
    assert one is not None or bench.cluster.belongings().launches == ()
    return one


def test_belongings__launch__is_told_with_its_endpoint_and_age(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    one = found(bench, spec)
    if one is not None:
        assert (one.endpoint, one.unknown_since, one.ending, one.by_hand) == (endpoint, None, False, "")
        assert one.made_at is not None
        assert spec.variant in one.where


def test_take_away__launch_as_it_was_seen__ends_it(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    one = found(bench, spec)
    if one is not None:
        bench.cluster.mark_unknown(one, 1_000.0)
        marked = found(bench, spec)
        assert marked is not None
        assert marked.unknown_since == 1_000.0
        assert bench.cluster.take_away(marked)
        until(bench, spec.variant, WorkloadPhase.ABSENT)
        assert not bench.cluster.take_away(marked)


def test_take_away__asked_for_since_it_was_seen__leaves_it_running(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    one = found(bench, spec)
    if one is not None:
        bench.cluster.mark_unknown(one, 1_000.0)
        marked = found(bench, spec)
        assert marked is not None
        bench.cluster.ensure(spec, token=5)
        assert not bench.cluster.take_away(marked)
        again = found(bench, spec)
        assert again is not None
        assert again.unknown_since is None
        assert phase(bench, spec.variant) is WorkloadPhase.READY


def test_mark_unknown__taken_off__is_as_it_was(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    one = found(bench, spec)
    if one is not None:
        bench.cluster.mark_unknown(one, 1_000.0)
        bench.cluster.mark_unknown(one, 2_000.0)  # as it was seen before: nothing happens
        marked = found(bench, spec)
        assert marked is not None
        assert marked.unknown_since == 1_000.0
        bench.cluster.mark_unknown(marked, None)
        again = found(bench, spec)
        assert again is not None
        assert again.unknown_since is None
        assert phase(bench, spec.variant) is WorkloadPhase.READY


def test_drain__absent_variant__does_nothing(bench: Bench, endpoint: str) -> None:
    bench.cluster.drain(f"{endpoint}-v1-aaaa", endpoint, token=5)
    assert phase(bench, f"{endpoint}-v1-aaaa") is WorkloadPhase.ABSENT


def test_scale_in__absent_variant_and_one_that_nothing_scales__changes_nothing(
    bench: Bench, endpoint: str
) -> None:
    bench.cluster.hold_scale_in(f"{endpoint}-v1-aaaa", endpoint, on=True, token=5)
    spec = running(bench, endpoint)
    bench.cluster.hold_scale_in(spec.variant, endpoint, on=True, token=5)
    assert bench.cluster.statuses()[spec.variant].scale_in_held is None


def test_scale_in__old_token__is_stale(bench: Bench, endpoint: str) -> None:
    spec = running(bench, endpoint)
    with pytest.raises(StaleWriter):
        bench.cluster.hold_scale_in(spec.variant, endpoint, on=True, token=4)


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
    assert (after.restarts, port_of(after)) == (1, port_of(before))
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


def test_options__known_engine__has_typed_arguments_and_variables(bench: Bench) -> None:
    options = bench.cluster.options("vllm")
    chosen = options.choose({"max_model_len": 256, "enforce-eager": True}, {"OMP_NUM_THREADS": "2"})
    assert dict(chosen.arguments) == {"max-model-len": 256, "enforce-eager": True}
    assert dict(chosen.variables) == {"OMP_NUM_THREADS": "2"}


def test_options__unknown_engine__is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="no-such") as caught:
        bench.cluster.options("no-such")
    assert caught.value.field == "engine"


def test_capacity__engines_planned__are_judged_with_figures_and_nothing_is_started(
    bench: Bench, endpoint: str
) -> None:
    if isinstance(bench, MemoryBench):
        bench.memory.memory = (10_000, 1)
    spec = bench.spec(endpoint)
    small, huge = replace(spec, resources={"memory_mb": 1}), replace(spec, resources={"memory_mb": 10**9})
    (fits,) = bench.cluster.capacity(PlannedLaunches((small,), nobody_reads))
    (short,) = bench.cluster.capacity(PlannedLaunches((small, huge), nobody_reads))
    assert (fits.room, short.room) == (Room.ENOUGH, Room.SHORT)
    assert "2 more engines need 1,000,000,0" in short.title
    assert phase(bench, spec.variant) is WorkloadPhase.ABSENT


def test_capacity__nothing_planned__says_nothing(bench: Bench) -> None:
    if isinstance(bench, MemoryBench):
        bench.memory.memory = (10_000, 1)
    assert bench.cluster.capacity(PlannedLaunches((), nobody_reads)) == ()


def nobody_reads(variant: str) -> bytes:
    raise AssertionError(f"this cluster has no use for the config.json of {variant}")


def test_engines__all_are_named_in_order_and_have_options(bench: Bench) -> None:
    names = bench.cluster.engines()
    assert "vllm" in names
    assert list(names) == sorted(names)
    assert [bench.cluster.options(name).engine for name in names] == list(names)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"arguments": {"scheduler-cls": "evil.Scheduler"}}, "arguments.scheduler-cls"),
        ({"environment": {"BASH_ENV": "/tmp/x"}}, "environment.BASH_ENV"),
        ({"engine": "no-such"}, "engine"),
    ],
)
def test_ensure__what_the_engine_does_not_allow__names_the_field_and_starts_nothing(
    bench: Bench, endpoint: str, change: dict[str, Any], field: str
) -> None:
    spec = replace(bench.spec(endpoint), **change)
    with pytest.raises(InvalidInput) as caught:
        bench.cluster.ensure(spec, token=5)
    assert caught.value.field == field
    assert phase(bench, spec.variant) is WorkloadPhase.ABSENT


def test_api__unknown_engine__is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="no-such") as caught:
        bench.cluster.api("no-such")
    assert caught.value.field == "engine"


# --- secrets --------------------------------------------------------------------------------------------------

LICENCE = "the licence of sentinel"


def with_secret(bench: Bench, endpoint: str) -> WorkloadSpec:
    secret = SealedSecret(KeyRing([OLD]).seal(LICENCE), "9f2c")
    return replace(bench.spec(endpoint), environment={"MODEL_LICENCE": secret})


@pytest.fixture
def both_keys() -> Iterator[None]:
    in_force[:] = [NEW, OLD]
    yield
    in_force[:] = [OLD]


def test_ensure__secret__reaches_the_engine_and_no_log(bench: Bench, endpoint: str) -> None:
    spec = with_secret(bench, endpoint)
    bench.cluster.ensure(spec, token=5)
    until(bench, spec.variant, WorkloadPhase.READY)
    assert bench.variable_of_engine(spec.variant, "MODEL_LICENCE") == LICENCE
    bench.prints(spec.variant, f"my environment: MODEL_LICENCE={LICENCE}")
    assert "[hidden]" in bench.cluster.log_tail(spec.variant, 1)[0]
    assert "sentinel" not in "".join(bench.cluster.log_tail(spec.variant))


def test_ensure__key_or_file_is_missing__is_refused_saying_which_and_stops_no_other(
    bench: Bench, endpoint: str
) -> None:
    lost = SealedSecret(KeyRing([NEW]).seal(LICENCE), "9f2c")
    for secret in (lost, SecretFile("no-such-file")):
        spec = replace(bench.spec(f"{endpoint}{len(repr(secret))}"), environment={"MODEL_LICENCE": secret})
        with pytest.raises(Refused) as caught:
            bench.cluster.ensure(spec, token=5)
        assert caught.value.code == "no-secret"
        assert "MODEL_LICENCE" in str(caught.value) or "no-such-file" in str(caught.value)
        assert phase(bench, spec.variant) is WorkloadPhase.ABSENT
    running(bench, endpoint)


def test_renew_secrets__new_key__is_used_once_and_the_engine_goes_on(
    bench: Bench, endpoint: str, both_keys: None
) -> None:
    spec = with_secret(bench, endpoint)
    bench.cluster.ensure(spec, token=5)
    until(bench, spec.variant, WorkloadPhase.READY)
    before = bench.cluster.statuses()[spec.variant]
    assert bench.cluster.renew_secrets() >= 1
    assert KeyRing([NEW]).open(bench.stored(spec.variant), what="it") == LICENCE
    assert bench.cluster.renew_secrets() == 0
    assert bench.cluster.statuses()[spec.variant] == before
    in_force[:] = [NEW]
    bench.kill(spec.variant)
    bench.wait("it runs again", lambda: bench.cluster.statuses()[spec.variant].restarts == 1)
    until(bench, spec.variant, WorkloadPhase.READY)
