"""The stack as real processes: up, up again, kill -9, down. MLflow is said to be elsewhere, to be quicker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controlplane.kernel.clock import SystemClock
from rollouts.adapters.clusters.local import LocalCluster
from rollouts.adapters.clusters.machine import end_processes, processes_marked, stat_of
from rollouts.adapters.clusters.supervisord import Supervisor
from rollouts.ports import WorkloadSpec
from tests.rollouts.adapters.clusters.machine_room import STANDIN, land, until_ready
from tests.standins.running import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"envoy", "web", "worker", "probes", "files", "errands", "beat"}

pytestmark = [pytest.mark.needs("envoy"), pytest.mark.e2e, pytest.mark.timeout(900)]


class Stack:
    """`python -m deploy.stack` on a run folder and ports of its own."""

    def __init__(self) -> None:
        self.run_dir = Path(tempfile.mkdtemp(prefix="hg-", dir="/tmp"))
        self.web_port, self.gateway_port = free_port(), free_port()
        self.variables = {
            "HEADGATE_RUN_DIR": str(self.run_dir),
            "HEADGATE_WEB_PORT": str(self.web_port),
            "HEADGATE_GATEWAY_PORT": str(self.gateway_port),
            "HEADGATE_MLFLOW_URL": "http://mlflow.invalid",
        }
        self.supervisor = Supervisor(self.run_dir / "supervisor.sock")

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADGATE_", "DJANGO_"))}
        return {**kept, **self.variables}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deploy.stack", *arguments],
            cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    def up(self) -> str:
        done = self.run("up")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pids(self) -> dict[str, int]:
        return {info.name: info.pid for info in self.supervisor.programs().values()}

    def marked(self) -> list[int]:
        return processes_marked("HEADGATE_STACK", str(self.run_dir))

    def web_answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.web_port}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self.run("down")
        end_processes(self.marked(), grace_seconds=0)
        shutil.rmtree(self.run_dir)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack()
    try:
        stack.up()
        yield stack
    finally:
        stack.close()


@pytest.fixture
def own_stack() -> Iterator[Stack]:
    stack = Stack()
    yield stack
    stack.close()


def test_up__everything_is_ready__and_status_says_so(stack: Stack) -> None:
    shown = stack.run("status")
    assert shown.returncode == 0, shown.stdout
    assert {line.split()[0] for line in shown.stdout.splitlines()} == NAMES
    assert all(line.split()[1] == "RUNNING" for line in shown.stdout.splitlines())
    assert stack.web_answers()
    assert httpx.get(f"http://127.0.0.1:{stack.gateway_port}/", timeout=5).status_code == 404


def test_up__again__leaves_what_runs_alone(stack: Stack) -> None:
    before = stack.pids()
    said = stack.up()
    assert stack.pids() == before
    assert "static files" not in said, "nothing changed, so nothing is collected again"


def test_up__a_setting_changed__restarts_with_it(stack: Stack) -> None:
    before = stack.pids()
    stack.variables["HEADGATE_FEEDBACK_SECONDS"] = "61"
    stack.up()
    after = stack.pids()
    assert set(after) == NAMES
    assert after["web"] != before["web"]
    assert b"HEADGATE_FEEDBACK_SECONDS=61" in Path(f"/proc/{after['web']}/environ").read_bytes()


def test_web_killed__is_started_again(stack: Stack) -> None:
    before = stack.pids()["web"]
    os.kill(before, signal.SIGKILL)
    wait_until("another web process runs", lambda: stack.pids()["web"] not in (0, before), 60)
    wait_until("it answers", stack.web_answers, 120)


def test_every_program_killed__is_started_again__and_nothing_of_before_is_left(stack: Stack) -> None:
    before, manager = stack.pids(), stack.supervisor.pid()
    old = {pid: stat.started for pid in stack.marked() if pid != manager and (stat := stat_of(pid))}
    for name in NAMES:
        os.kill(before[name], signal.SIGKILL)

    def all_new() -> bool:
        now = stack.supervisor.programs()
        return all(now[name].state == "RUNNING" and now[name].pid != before[name] for name in NAMES)

    wait_until("all run again", all_new, 120)
    wait_until("the web process answers", stack.web_answers, 120)
    left = [pid for pid, started in old.items() if (stat := stat_of(pid)) and stat.started == started]
    assert left == []
    for name, pid in stack.pids().items():
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert f"HEADGATE_PROGRAM={stack.run_dir}:{name}".encode() in variables


def test_run_dir__is_closed_to_others(stack: Stack) -> None:
    rights = {path.name: stat_mode(path) for path in [stack.run_dir, *stack.run_dir.iterdir()]}
    assert {name for name, mode in rights.items() if mode & 0o067} == set()


def stat_mode(path: Path) -> int:
    return path.lstat().st_mode & 0o777 if not path.is_symlink() else 0


def test_users_of_a_demo_that_was_killed__down_ends_them(own_stack: Stack) -> None:
    demo = own_stack.run_dir / "demo"
    for folder in (own_stack.run_dir / "log", demo / "models"):
        folder.mkdir(parents=True)
    (demo / "token.json").write_text(json.dumps({"token": "hg_x"}))
    (demo / "models" / "traffic.jsonl").write_text(
        json.dumps({"messages": [], "max_tokens": 1, "expected": ""})
    )
    start = (
        "from deploy.demo.telling import *;"
        " print(start_traffic({'endpoint': 'x', 'requests_per_second': 1}, Stage('http://127.0.0.1:9')).pid)"
    )
    users = subprocess.run(
        [sys.executable, "-c", start],
        cwd=ROOT,
        env=own_stack.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    wait_until("the users ask", (demo / "traffic.json").exists)
    assert own_stack.marked() == [int(users.stdout)]
    done = own_stack.run("down")
    assert own_stack.marked() == []
    assert f"ended process {users.stdout.strip()} (" in done.stdout


def test_up__port_taken__says_so_and_starts_nothing(stack: Stack, own_stack: Stack) -> None:
    own_stack.variables["HEADGATE_WEB_PORT"] = str(stack.web_port)
    done = own_stack.run("up")
    assert done.returncode == 1
    assert f"Port {stack.web_port} of web is taken by process {stack.pids()['web']}" in done.stderr
    assert own_stack.marked() == []


def test_status__nothing_runs__says_how_to_start(own_stack: Stack) -> None:
    done = own_stack.run("status")
    assert done.returncode == 3
    assert "python -m deploy.stack up" in done.stdout


def test_down__nothing_runs__is_fine(own_stack: Stack) -> None:
    assert own_stack.run("down").returncode == 0


def engine_of(stack: Stack, http: httpx.Client) -> tuple[LocalCluster, WorkloadSpec]:
    (stack.run_dir / "engines.json").write_text(json.dumps({"standin": {"argv": STANDIN}}))
    files = stack.run_dir / "models" / ".incoming-1"
    files.mkdir(parents=True, exist_ok=True)
    (files / "model.safetensors").write_bytes(b"weights")
    manifest = land(files, files.parent)
    first = 20_000 + (os.getpid() + 250) % 500 * 20
    cluster = LocalCluster(
        stack.run_dir, stack.run_dir / "supervisor.sock", Path(sys.executable), files.parent,
        range(first, first + 20), 50, SystemClock(), http,
    )  # fmt: skip
    return cluster, WorkloadSpec("chat-v1-aaaa", "chat", "models:/m-1", manifest, engine="standin")


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as client:
        yield client


def test_supervisord_killed__up_starts_one_of_each_and_the_engines_too__down_ends_all(
    stack: Stack, http: httpx.Client
) -> None:
    cluster, spec = engine_of(stack, http)
    cluster.ensure(spec, token=1)
    before = until_ready(cluster)
    old = set(stack.marked())
    os.kill(stack.supervisor.pid(), signal.SIGKILL)
    wait_until("the process manager is gone", lambda: not stack.supervisor.is_up())
    assert stack.web_answers(), "what runs goes on without its manager"
    said = stack.up()
    assert "without a manager" in said
    assert set(stack.pids()) == {*NAMES, "engine-chat-v1-aaaa"}
    assert not old & set(stack.marked()), "nothing of before is left"
    after = until_ready(cluster)
    assert after.started_at != before.started_at

    os.kill(stack.supervisor.pid(), signal.SIGKILL)
    assert stack.run("down").returncode == 0
    assert stack.marked() == []
    assert not stack.web_answers()


def test_up_in_the_foreground__interrupted__leaves_nothing_running(own_stack: Stack, stack: Stack) -> None:
    for name in ("static", "static.digest"):  # collected a minute ago by the other one
        source = stack.run_dir / name
        if source.is_dir():
            shutil.copytree(source, own_stack.run_dir / name)
        else:
            shutil.copy(source, own_stack.run_dir / name)
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.stack", "up", "--foreground"],
        cwd=ROOT, env=own_stack.environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    assert own_stack.marked() != [], lines
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(90) == 130
    process.stdout.close()
    assert "Nothing of the stack runs." in rest
    assert own_stack.marked() == []


def test_up__while_another_is_at_work__is_refused(own_stack: Stack) -> None:
    holder = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX);"
        " print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(own_stack.run_dir / "stack.lock")],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        began = time.monotonic()
        done = own_stack.run("up")
        process.kill()
    assert done.returncode == 1
    assert "Another" in done.stderr
    assert time.monotonic() - began < 60
