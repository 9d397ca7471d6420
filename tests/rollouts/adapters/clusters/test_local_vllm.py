"""The local cluster with the real vLLM: a tiny model that serves, one that cannot be loaded, and one that
is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rollouts.adapters.clusters.engines.template import OF_THE_MACHINE
from rollouts.adapters.clusters.engines.vllm import VLLM
from rollouts.adapters.clusters.launcher import KEEP_THE_MARK, MARK
from rollouts.adapters.clusters.local import LocalCluster
from rollouts.adapters.clusters.machine import command_of, listener_is_marked, processes_marked, stat_of
from rollouts.adapters.signals.vllm import VllmMetrics
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.record.readings import EngineReading
from rollouts.ports import OPENAI_API, WorkloadSpec
from tests.rollouts.adapters.addresses import port_of, url_of
from tests.rollouts.adapters.clusters.machine_room import ROOT, MachineRoom, below, first_process, land
from tests.standins.running import wait_until

ENGINE_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
MAKE_MODEL = """
import sys, torch
from pathlib import Path
from deploy.demo.models import train
torch.manual_seed(7)
tokenizer = train.make_tokenizer()
train.save(train.make_model(tokenizer), tokenizer, Path(sys.argv[1]))
"""
SECONDS = 280.0
BASE_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "PYTHONNOUSERSITE", "HEADGATE_ENGINE", "HEADGATE_STACK")

pytestmark = [pytest.mark.needs("vllm"), pytest.mark.e2e, pytest.mark.whole, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Llama with its tokenizer: it loads and answers, nobody asks what."""
    folder = tmp_path_factory.mktemp("model")
    subprocess.run([str(ENGINE_PYTHON), "-c", MAKE_MODEL, str(folder)], cwd=ROOT, check=True, timeout=120)
    (folder / "chat.jinja").write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    return folder


@pytest.fixture
def room() -> Iterator[MachineRoom]:
    room = MachineRoom()
    yield room
    room.close()


@pytest.fixture
def cluster(room: MachineRoom) -> LocalCluster:
    return room.cluster(engine_python=ENGINE_PYTHON, memory_mb=2500, stop_seconds=10)


def spec_of(room: MachineRoom, model: Path) -> WorkloadSpec:
    """A copy of the model lies where the room's clusters look for it."""
    files = room.run_dir / "versions" / ".incoming"
    shutil.copytree(model, files)
    return WorkloadSpec(
        variant="chat-v1-aaaa",
        endpoint="chat",
        source="models:/m-1",
        manifest=land(files, files.parent),
        arguments={
            "max-model-len": 256,
            "enforce-eager": True,
            # Some virtual machines claim instructions for bfloat16 (AMX) and end the engine that uses them (SIGILL).
            "dtype": "float32",
            "kv-cache-memory-bytes": "256M",
            "enable-prefix-caching": False,
            "override-generation-config": {"top_k": 50},
            "chat-template": "chat.jinja",
        },
        environment={"VLLM_LOGGING_LEVEL": "INFO"},
        start_seconds=SECONDS,
    )


def settled(cluster: LocalCluster) -> WorkloadPhase | None:
    seen = cluster.statuses().get("chat-v1-aaaa")
    return seen.phase if seen and seen.phase in (WorkloadPhase.READY, WorkloadPhase.FAILED) else None


def test_real_engine__tiny_model__answers_by_the_endpoints_name_only_and_drains(
    room: MachineRoom, cluster: LocalCluster, model: Path
) -> None:
    cluster.ensure(spec_of(room, model), token=1)
    wait_until("vLLM is ready", lambda: settled(cluster), SECONDS)
    seen = cluster.statuses()["chat-v1-aaaa"]
    assert seen.is_ready, (seen.message, cluster.log_tail("chat-v1-aaaa"))
    question = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    url = f"{url_of(seen)}/v1/chat/completions"
    answer = room.http.post(url, json=question, timeout=60).json()
    assert (answer["model"], answer["system_fingerprint"]) == ("chat", "chat-v1-aaaa")
    streamed = room.http.post(url, json={**question, "stream": True}, timeout=60).text
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert {chunk["model"] for chunk in chunks} == {"chat"}
    assert "chat-v1-aaaa" in {chunk.get("system_fingerprint") for chunk in chunks}
    refused = room.http.post(url, json={**question, "model": "chat-v1-aaaa"}, timeout=60)
    assert refused.status_code == 404
    assert "`chat-v1-aaaa` does not exist" in refused.json()["error"]["message"]
    mark = str(room.run_dir / "engines" / "chat-v1-aaaa.json")
    assert (
        listener_is_marked(port_of(seen), MARK, mark) is True
    )  # known by its process too, had it no fingerprint
    environment = Path(f"/proc/{room.supervisor.programs()['engine-chat-v1-aaaa'].pid}/environ").read_text()
    names = {one.partition("=")[0] for one in environment.split("\0") if one}
    assert names <= {
        *BASE_VARIABLES,
        *KEEP_THE_MARK,
        *OF_THE_MACHINE,
        *VLLM.environment,
        *VLLM.cpu_environment,
        "VLLM_LOGGING_LEVEL",
    }
    for path in OPENAI_API.other:
        assert room.http.request("OPTIONS", f"{url_of(seen)}{path}").status_code != 404, path
    cluster.drain("chat-v1-aaaa", "chat", token=1)
    wait_until("it is gone", lambda: not cluster.statuses(), 60)


def test_real_engine__weights_cut_short__is_a_bad_model_with_its_log(
    room: MachineRoom, cluster: LocalCluster, model: Path, tmp_path: Path
) -> None:
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    cluster.ensure(spec_of(room, tmp_path), token=1)
    wait_until("vLLM has given up", lambda: settled(cluster), SECONDS)
    seen = cluster.statuses()["chat-v1-aaaa"]
    assert (seen.phase, seen.reason) == (WorkloadPhase.FAILED, FailureReason.BAD_MODEL), seen.message
    assert "safetensor" in seen.message.lower()
    assert any("safetensor" in line.lower() for line in cluster.log_tail("chat-v1-aaaa", lines=500))


@pytest.fixture(scope="module")
def serving(model: Path) -> Iterator[tuple[MachineRoom, LocalCluster]]:
    """An engine that serves. vLLM's API server starts a core as a process of its own, on a CPU too."""
    room = MachineRoom()
    try:
        cluster = room.cluster(engine_python=ENGINE_PYTHON, memory_mb=2500, stop_seconds=10, drain_seconds=0)
        cluster.ensure(spec_of(room, model), token=1)
        wait_until("vLLM is ready", lambda: settled(cluster), SECONDS)
        seen = cluster.statuses()["chat-v1-aaaa"]
        assert seen.is_ready, (seen.message, cluster.log_tail("chat-v1-aaaa"))
        yield room, cluster
    finally:
        room.close()


def test_real_engine__completions__are_counted_by_how_they_ended_and_those_left_are_not(
    serving: tuple[MachineRoom, LocalCluster],
) -> None:
    """The names that signals/vllm reads; also what it says that cannot be seen."""
    room, cluster = serving
    seen = cluster.statuses()["chat-v1-aaaa"]
    assert seen.backend is not None
    backends = [seen.backend]
    url = f"{url_of(seen)}/v1/chat/completions"

    def said() -> EngineReading:
        engines, broken = VllmMetrics().read(backends)
        assert broken == {}
        return engines["chat-v1-aaaa"]

    question = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "ignore_eos": True}

    def ask(**values: object) -> httpx.Response:
        return room.http.post(url, json={**question, **values}, timeout=60)

    before = said()  # warm-up asks the engine too
    assert ask(max_tokens=3).json()["choices"][0]["finish_reason"] == "length"
    assert ask(max_tokens=1).json()["choices"][0]["finish_reason"] == "length"
    assert ask(max_tokens=1_000_000).status_code == 400  # a refusal is no completion
    with room.http.stream("POST", url, json={**question, "max_tokens": 200, "stream": True}) as stream:
        next(stream.iter_lines())
    wait_until("the stream that was left has ended", lambda: said().running == 0)
    after = said()
    ended = {reason: count - before.endings[reason] for reason, count in after.endings.items()}
    assert set(ended) == {"stop", "length", "abort", "error", "repetition"}
    assert {reason: count for reason, count in ended.items() if count} == {"length": 2}
    assert before.empty is not None
    assert after.empty == before.empty + 1
    assert after.generated_tokens >= before.generated_tokens + 4


def test_real_engine__first_process_killed__nothing_of_it_is_left_beside_the_new_one(
    serving: tuple[MachineRoom, LocalCluster],
) -> None:
    room, cluster = serving
    mark = str(room.run_dir / "engines" / "chat-v1-aaaa.json")

    def tree() -> dict[int, int]:
        """All with the mark, by id and start."""
        return {pid: stat.started for pid in processes_marked(MARK, mark) if (stat := stat_of(pid))}

    def keeper() -> int:
        return room.supervisor.programs()["engine-chat-v1-aaaa"].pid

    old, old_keeper = tree(), keeper()
    cores = [pid for pid in old if command_of(pid).startswith("VLLM::EngineCore")]
    assert cores, [command_of(pid) for pid in old]
    assert MARK.encode() in Path(f"/proc/{cores[0]}/environ").read_bytes(), "the mark outlives the title"
    os.kill(first_process(old_keeper), signal.SIGKILL)
    wait_until("another one is launched", lambda: keeper() not in (0, old_keeper), 60)
    first_process(keeper())
    assert not set(old.items()) & set(tree().items())
    assert set(tree()) <= set(below(keeper())), "all that runs is of the new tree"
    assert "ended what was left of it" in "\n".join(cluster.log_tail("chat-v1-aaaa", 1000))
    wait_until(
        "it has a core again",
        lambda: any(command_of(pid).startswith("VLLM::EngineCore") for pid in tree()),
        SECONDS,
    )
    cluster.drain("chat-v1-aaaa", "chat", token=1)
    wait_until("it is gone", lambda: not cluster.statuses(), 60)
    assert tree() == {}
