"""The local cluster on a real supervisord with stand-in engines: what the shared contract does not say."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from controlplane.kernel.errors import InvalidInput, Refused, Unavailable
from rollouts.adapters.clusters.folder import EngineFolder, Launch
from rollouts.adapters.clusters.local import LocalCluster
from rollouts.adapters.clusters.machine import available_memory_mb, processes_marked, stat_of
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.images import Image
from rollouts.domain.limits import Limits
from rollouts.ports import WorkloadSpec
from tests.rollouts.adapters.addresses import port_of, url_of
from tests.rollouts.adapters.clusters.machine_room import (
    FAMILY,
    ROOT,
    MachineRoom,
    below,
    children_of,
    pid_of,
    status,
    until_failed,
    until_ready,
)
from tests.standins.running import RunningEngine, wait_until

pytestmark = pytest.mark.e2e  # a real supervisord and real processes

PLAIN = [sys.executable, "-m", "tests.standins.engine", "--port", "{port}", "--variant", "somebody-else"]
OTHER_NAME = [*PLAIN, "--served-model-name", "somebody-else"]
EARLIER = [*PLAIN, "--served-model-name", "{variant}", "{endpoint}"]  # as an earlier version launched engines
# Lives, and never listens.
SHY = [sys.executable, "-c", "import time; time.sleep(600)", "{port}"]


@pytest.fixture(scope="module")
def room() -> Iterator[MachineRoom]:
    engines = {
        "wrong-name": OTHER_NAME, "plain": PLAIN, "earlier": EARLIER, "shy": SHY, "family": FAMILY,
    }  # fmt: skip
    room = MachineRoom({name: {"argv": argv} for name, argv in engines.items()})
    yield room
    room.close()


def control(room: MachineRoom, cluster: LocalCluster, variant: str, **values: object) -> None:
    seen = status(cluster, variant)
    assert seen is not None
    url = f"{url_of(seen)}/control"
    wait_until("the engine listens", lambda: port_answers(port_of(seen)))
    room.http.post(url, json=values, timeout=30).raise_for_status()


def port_answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- adopting -----------------------------------------------------------------------------------------------


def test_new_cluster__engine_runs_already__adopts_it(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant), token=1)
    before = until_ready(cluster, variant)
    other = room.cluster()
    assert other.statuses()[variant] == before
    other.ensure(room.spec(variant), token=2)
    assert other.statuses()[variant] == before


def test_statuses__supervisord_lost_the_program__puts_it_back(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant), token=1)
    until_ready(cluster, variant)
    name = f"engine-{variant}"
    room.supervisor.stop(name)
    wait_until("it has stopped", lambda: room.supervisor.programs()[name].state == "STOPPED")
    room.supervisor.remove(name)
    again = until_ready(cluster, variant)
    assert again.phase is WorkloadPhase.READY


def test_cluster__one_record_unreadable__leaves_the_others_alone(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant), token=1)
    until_ready(cluster, variant)
    broken = room.run_dir / "engines" / "other-v1-bbbb.json"
    broken.write_text("{")
    try:
        statuses = cluster.statuses()
        assert statuses[variant].is_ready
        assert statuses["other-v1-bbbb"].phase is WorkloadPhase.FAILED
        assert "cannot be read" in statuses["other-v1-bbbb"].message
        assert cluster.launched("other-v1-bbbb") is None
        cluster.ensure(room.spec("third-v1-cccc"), token=1)
        until_ready(cluster, "third-v1-cccc")
    finally:
        broken.unlink()


# --- ready --------------------------------------------------------------------------------------------------


def test_healthy_engine__that_answers_no_completion__is_not_ready(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, behaviour={"error_rate": 1.0}), token=1)

    def answers_first() -> bool:
        seen = status(cluster, variant)
        assert seen is not None
        assert seen.phase is WorkloadPhase.STARTING
        return "first completion" in seen.message

    wait_until("it is healthy", answers_first)
    time.sleep(0.3)
    assert status(cluster, variant).phase is WorkloadPhase.STARTING  # type: ignore[union-attr]
    control(room, cluster, variant, error_rate=0.0)
    until_ready(cluster, variant)


def test_engine__that_serves_another_name__fails_with_its_words(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, engine="wrong-name"), token=1)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.BAD_MODEL
    assert f"The model `{variant.split('-')[0]}` does not exist" in seen.message
    wait_until("it was stopped", lambda: not processes_of(room, variant))


@pytest.mark.parametrize("engine", ["plain", "earlier"])
def test_engine__whose_fingerprint_is_another__is_known_by_its_process_or_its_name(
    room: MachineRoom, cluster: LocalCluster, variant: str, engine: str
) -> None:
    cluster.ensure(room.spec(variant, engine=engine), token=1)
    until_ready(cluster, variant)


def test_engine__that_never_listens_and_a_stranger_does__fails_with_the_port(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, engine="shy"), token=1)
    wait_until("it was launched", lambda: processes_of(room, variant))
    port = port_of(cluster.statuses()[variant])
    stranger = RunningEngine("stranger", port=port)
    try:
        stranger.start()
        seen = until_failed(cluster, variant)
    finally:
        stranger.kill()
    assert seen.reason is FailureReason.PORT_TAKEN
    assert f"another program answered on port {port}, not {variant}" in seen.message


def test_ready_engine__that_turns_unhealthy__is_unready_until_it_recovers(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant), token=1)
    before = until_ready(cluster, variant)
    control(room, cluster, variant, healthy=False)
    assert status(cluster, variant).phase is WorkloadPhase.UNREADY  # type: ignore[union-attr]
    control(room, cluster, variant, healthy=True)
    assert until_ready(cluster, variant).started_at == before.started_at


# --- failing ------------------------------------------------------------------------------------------------


def test_file_changed_while_it_runs__restart__refuses_and_names_the_file(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    spec = room.spec(variant)
    cluster.ensure(spec, token=1)
    until_ready(cluster, variant)
    (room.folder(spec) / "model.safetensors").write_bytes(b"weights of somebody else entirely")
    os.kill(pid_of(room, variant), signal.SIGKILL)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.TAMPERED_FILE
    assert "model.safetensors" in seen.message
    written = json.loads((room.run_dir / "engines" / f"{variant}.failure.json").read_text())
    assert (written["reason"], written["file"]) == ("tampered-file", "model.safetensors")
    assert not processes_of(room, variant)


def test_model_that_does_not_load__fails_at_once_and_shows_the_log(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    words = "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge"
    cluster.ensure(room.spec(variant, arguments={"fail": words}), token=1)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.BAD_MODEL
    assert words in seen.message
    assert seen.restarts == 0
    assert words in cluster.log_tail(variant)


def test_engine_that_never_starts__for_no_known_reason__is_a_crash_loop_after_two_tries(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, arguments={"fail": "RuntimeError: nobody has seen this"}), token=1)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.CRASH_LOOP
    assert "2 times" in seen.message
    assert "exit status 1" in seen.message
    assert "RuntimeError: nobody has seen this" in seen.message


def test_engine_killed_again_and_again__is_a_crash_loop_that_names_the_signal(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant), token=1)
    for _ in range(3):
        until_ready(cluster, variant)
        os.kill(pid_of(room, variant), signal.SIGKILL)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.CRASH_LOOP
    assert "terminated by SIGKILL" in seen.message


def test_engine_slower_than_start_seconds__is_stopped_with_timeout(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, arguments={"load-seconds": 60}, start_seconds=0.5), token=1)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.TIMEOUT
    assert "0.5 s" in seen.message
    wait_until("it was stopped", lambda: not processes_of(room, variant))


@pytest.mark.parametrize("python", ["/no/such/python", sys.executable])
def test_missing_engine__fails_with_the_command_that_installs_it(
    room: MachineRoom, cluster: LocalCluster, variant: str, python: str
) -> None:
    without = room.cluster(engine_python=Path(python))
    without.ensure(room.spec(variant, engine="vllm"), token=1)
    seen = until_failed(without, variant)
    assert seen.reason is FailureReason.NO_ENGINE
    assert "python3 -m deploy.bootstrap --vllm" in seen.message


# --- refusing -----------------------------------------------------------------------------------------------


def test_ensure__too_little_memory__is_refused_with_numbers_and_remedy(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    with pytest.raises(Refused, match=r"10000000 MB and \d+ MB are free") as caught:
        room.cluster(memory_mb=10_000_000).ensure(room.spec(variant), token=1)
    assert caught.value.code == "no-memory"
    assert "HEADGATE_ENGINE_MEMORY_MB" in caught.value.fix
    assert variant not in cluster.statuses()


def test_ensure__more_memory_asked_for_than_engines_usually_take__is_what_must_be_free(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    with pytest.raises(Refused, match=r"10000000 MB and \d+ MB are free"):
        cluster.ensure(room.spec(variant, resources={"memory_mb": 10_000_000}), token=1)
    assert variant not in cluster.statuses()


def test_ensure__resources__are_remembered_with_the_launch(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, resources={"memory_mb": 60, "gpu": 1}), token=1)
    launched = room.cluster().launched(variant)
    assert launched is not None
    assert launched.resources == {"memory_mb": 60, "gpu": 1}


def test_limits__are_memory_and_one_engine_a_variant(cluster: LocalCluster) -> None:
    assert cluster.limits() == Limits(resources=frozenset({"memory_mb"}))


def test_ensure__memory_promised_to_one_that_loads__is_not_given_twice(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    big = room.cluster(memory_mb=int(available_memory_mb() * 0.6))
    big.ensure(room.spec(variant, arguments={"load-seconds": 60}), token=1)
    with pytest.raises(Refused, match="for engines that still load"):
        big.ensure(room.spec(f"other-{variant}"), token=1)


def test_ensure__port_of_a_stranger__takes_another(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        narrow = room.cluster(ports=range(taken, taken + 1))
        with pytest.raises(Refused, match="HEADGATE_ENGINE_PORTS") as caught:
            narrow.ensure(room.spec(variant), token=1)
    assert caught.value.code == "no-port"
    narrow.ensure(room.spec(variant), token=1)
    assert port_of(until_ready(narrow, variant)) == taken


def test_launcher__port_taken_after_it_was_chosen__names_who_has_it(
    room: MachineRoom, tmp_path: Path
) -> None:
    folder = EngineFolder(tmp_path)
    folder.prepare()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        spec = room.spec("chat-v9-ffff", engine="vllm")
        launch = Launch(
            spec,
            room.folder(spec),
            port,
            0.0,
            Path(sys.executable),
            tmp_path,
            tmp_path / "none",
        )
        folder.write("chat-v9-ffff", "json", launch.to_json())
        path = str(folder.file("chat-v9-ffff", "json"))
        done = subprocess.run(
            [sys.executable, "-m", "rollouts.adapters.clusters.launcher", path],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    failure = folder.failure("chat-v9-ffff")
    assert done.returncode == 78, done.stderr
    assert failure is not None
    assert failure.reason is FailureReason.PORT_TAKEN
    assert f"process {os.getpid()}" in failure.message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"replicas": 2}, "replicas"),
        ({"image": Image("registry.example/vllm", "v1")}, "image"),
        ({"accelerators": Accelerators(1, "nvidia.com/gpu")}, "accelerators"),
        ({"variant": "a/../b"}, "variant"),
        ({"engine": "none"}, "engine"),
    ],
)
def test_ensure__spec_that_cannot_run_here__names_the_field(
    room: MachineRoom, cluster: LocalCluster, change: dict[str, object], field: str
) -> None:
    spec: WorkloadSpec = replace(room.spec("chat-v1-eeee"), **change)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput) as caught:
        cluster.ensure(spec, token=1)
    assert caught.value.field == field


def test_run_folder__that_a_configuration_cannot_hold__is_refused(room: MachineRoom, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="HEADGATE_RUN_DIR"):
        room.cluster(run_dir=tmp_path / "with space")


# --- draining -----------------------------------------------------------------------------------------------


def test_drain__control_plane_killed__goes_on_in_the_next_one(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant), token=1)
    until_ready(cluster, variant)
    cluster.drain(variant, variant.split("-")[0], token=1)
    other = room.cluster()
    wait_until("the next one has removed it", lambda: variant not in other.statuses())
    left = {path.name for path in (room.run_dir / "engines").iterdir() if variant in path.name}
    assert left == {f"{variant}.log"}
    assert f"engine-{variant}" not in room.supervisor.programs()


def test_drain__request_that_never_ends__is_cut_at_the_deadline(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    impatient = room.cluster(drain_seconds=1.0)
    impatient.ensure(room.spec(variant, behaviour={"tokens": 10_000, "token_ms": 100}), token=1)
    seen = until_ready(impatient, variant)
    question = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
    with room.http.stream("POST", f"{url_of(seen)}/v1/chat/completions", json=question, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        began = time.monotonic()
        impatient.drain(variant, variant.split("-")[0], token=1)
        wait_until("it is gone", lambda: variant not in impatient.statuses(), 60)
        assert time.monotonic() - began >= 1.0
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)


# --- an engine of many processes ---------------------------------------------------------------------------


def family_of(room: MachineRoom, variant: str) -> dict[int, int]:
    """All processes below the program of supervisord and itself, by id and start."""
    keeper = room.supervisor.programs()[f"engine-{variant}"].pid
    return {pid: stat.started for pid in below(keeper) if (stat := stat_of(pid))}


def left_of(family: dict[int, int]) -> list[int]:
    stats = {pid: stat_of(pid) for pid in family}
    return [pid for pid, stat in stats.items() if stat and stat.alive and stat.started == family[pid]]


def test_first_process_killed__nothing_of_the_tree_is_left_beside_the_new_one(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, engine="family"), token=1)
    neighbour = f"other-{variant}"
    cluster.ensure(room.spec(neighbour, engine="family"), token=1)
    before = until_ready(cluster, variant)
    until_ready(cluster, neighbour)
    old, others = family_of(room, variant), family_of(room, neighbour)
    assert len(old) == 5, "two keepers, the first process, its core and an orphan"
    os.kill(pid_of(room, variant), signal.SIGKILL)
    wait_until("it is not ready", lambda: not cluster.statuses()[variant].is_ready)
    after = until_ready(cluster, variant)
    assert after.started_at != before.started_at
    assert left_of(old) == []
    assert len(family_of(room, variant)) == 5
    assert set(left_of(others)) == set(others), "the tree of another engine is not touched"
    said = "\n".join(cluster.log_tail(variant, 200))
    assert "terminated by SIGKILL" in said
    assert "ended what was left of it, python" in said

    new = family_of(room, variant)
    cluster.drain(variant, variant.split("-")[0], token=1)
    wait_until("it is gone", lambda: variant not in cluster.statuses(), 60)
    assert left_of(new) == []


def test_both_keepers_killed__the_next_launch_ends_what_has_the_mark_and_says_so(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant), token=1)
    until_ready(cluster, variant)
    old = family_of(room, variant)
    outer = room.supervisor.programs()[f"engine-{variant}"].pid
    left_over = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={"HEADGATE_ENGINE": str(room.run_dir / "engines" / f"{variant}.json")},
    )
    try:
        keepers = (outer, *children_of(outer))
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in keepers:
                os.kill(pid, number)
        assert left_over.wait(60) == -signal.SIGTERM
    finally:
        left_over.kill()
        left_over.wait()
    until_ready(cluster, variant)
    assert left_of(old) == []
    said = "\n".join(cluster.log_tail(variant, 200))
    assert "ended what the engine before left running" in said
    assert f"process {left_over.pid} (" in said


# --- supervisord --------------------------------------------------------------------------------------------


def test_supervisord_killed__cluster_is_unavailable_then_engines_start_anew() -> None:
    room = MachineRoom()
    try:
        cluster = room.cluster()
        spec = room.spec("chat-v1-aaaa")
        cluster.ensure(spec, token=1)
        before = until_ready(cluster)
        room.kill()
        with pytest.raises(Unavailable, match="prepare_cluster"):
            cluster.statuses()
        with pytest.raises(Unavailable):
            cluster.ensure(room.spec("chat-v2-bbbb"), token=1)
        assert port_answers(port_of(before)), "an engine serves on without its supervisord"
        room.start()
        after = wait_until("it runs anew", lambda: newer(cluster, before.started_at), 60)
        assert after
        assert set(cluster.statuses()) == {"chat-v1-aaaa"}
        assert len(processes_of(room, "chat-v1-aaaa")) == 3, "two keepers and an engine"
    finally:
        room.close()


def newer(cluster: LocalCluster, started_at: float | None) -> bool:
    seen = status(cluster)
    return seen is not None and seen.is_ready and seen.started_at != started_at


def processes_of(room: MachineRoom, variant: str) -> list[int]:
    return processes_marked("HEADGATE_ENGINE", str(room.run_dir / "engines" / f"{variant}.json"))
