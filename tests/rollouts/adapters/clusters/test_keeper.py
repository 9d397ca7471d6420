"""The keeper of an engine's tree, on real processes that do all they can to be lost."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rollouts.adapters.clusters import keeper
from rollouts.adapters.clusters.machine import end_marked, stat_of, tree_memory_mb
from tests.rollouts.adapters.clusters.machine_room import below, children_of, first_process
from tests.standins.family import CORE_MB
from tests.standins.running import ROOT, wait_until

pytestmark = pytest.mark.e2e  # real processes

FAMILY = """
import os, time
from tests.standins.family import start_core
core = start_core()
print("up", flush=True)
time.sleep(600)
"""
MARK = "HEADGATE_TEST_KEEPER"


class Kept:
    """A keeper over `python -c CODE`; `tree` are all its processes when it began to serve, by id and start."""

    def __init__(self, code: str, *orders: str, mark: str = "mine") -> None:
        self.process = subprocess.Popen(
            [
                sys.executable, "-I", "-S", str(keeper.__file__), "stop_seconds=1", *orders, "--",
                sys.executable, "-c", code,
            ],
            cwd=ROOT, env={**os.environ, MARK: mark}, stdout=subprocess.PIPE, text=True,
            process_group=0,
        )  # fmt: skip

    def until_up(self) -> dict[int, int]:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"
        self.tree = {pid: stat.started for pid in below(self.process.pid) if (stat := stat_of(pid))}
        return self.tree

    @property
    def engine(self) -> int:
        return first_process(self.process.pid)

    @property
    def inner(self) -> int:
        (inner,) = children_of(self.process.pid)
        return inner

    def left(self) -> list[int]:
        """What still lives of the tree."""
        seen = {pid: stat_of(pid) for pid in self.tree}
        return [pid for pid, stat in seen.items() if stat and stat.alive and stat.started == self.tree[pid]]

    def wait(self) -> tuple[int, str]:
        """Its return code, as subprocess has it, and the rest of what it said."""
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture
def family() -> Iterator[Kept]:
    kept = Kept(FAMILY)
    assert len(kept.until_up()) == 5, "two keepers, the first process, its core and an orphan"
    yield kept
    for pid in kept.left():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    kept.process.communicate(timeout=60)


def run(code: str, *orders: str) -> tuple[int, str]:
    return Kept(code, *orders).wait()


# --- the tree ends as one -----------------------------------------------------------------------------------


def test_engine_killed__nothing_of_it_is_left__and_the_keeper_ended_by_the_same_signal(family: Kept) -> None:
    os.kill(family.engine, signal.SIGKILL)
    code, said = family.wait()
    assert code == -signal.SIGKILL
    assert family.left() == []
    assert "terminated by SIGKILL" in said
    assert "ended what was left of it" in said


def test_inner_keeper_killed__nothing_is_left(family: Kept) -> None:
    os.kill(family.inner, signal.SIGKILL)
    code, _ = family.wait()
    assert code == -signal.SIGKILL
    assert family.left() == []


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_outer_keeper_killed__also_with_its_group_as_supervisord_does__nothing_is_left(
    family: Kept, kill: Callable[[int, int], None]
) -> None:
    kill(family.process.pid, signal.SIGKILL)
    wait_until("all of the tree has ended", lambda: not family.left())
    assert "its keeper was killed" in family.wait()[1]


def test_both_keepers_killed_at_once__what_is_left_is_found_by_its_mark(family: Kept) -> None:
    kept = Kept(FAMILY.replace("start_core()", "start_core(os.environ)"), mark="another")
    try:
        kept.until_up()
        keepers = (kept.process.pid, kept.inner)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in keepers:
                os.kill(pid, number)
        wait_until("the engine's first process has ended with its keeper", lambda: len(kept.left()) == 2)
        ended = end_marked(MARK, "another", grace_seconds=0)
        assert len(ended) == 2
        assert kept.left() == []
        assert len(family.left()) == 5, "nothing of another mark was touched"
    finally:
        for pid in kept.left():
            os.kill(pid, signal.SIGKILL)
        kept.wait()


@pytest.mark.parametrize("ending", ["raise SystemExit(3)", "import os; os.abort()"])
def test_engine_ends_by_itself__keeper_ends_the_same_way(ending: str) -> None:
    alone = subprocess.run([sys.executable, "-c", ending], capture_output=True, check=False)
    assert run(ending)[0] == alone.returncode


def test_sigterm__engine_ends_in_its_own_way__and_is_asked_once(family: Kept) -> None:
    code = """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print("up", flush=True)
while not asked:
    time.sleep(0.01)
time.sleep(0.2)
print(f"asked {len(asked)}", flush=True)
sys.exit(4)
"""
    kept = Kept(code)
    kept.until_up()
    for _ in range(3):
        kept.process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    ended, said = kept.wait()
    assert (ended, said) == (4, "asked 1\n")
    assert len(family.left()) == 5, "a family next door is nobody's business"


def test_sigterm__ignored_by_the_engine__killed_after_stop_seconds(family: Kept) -> None:
    os.kill(family.engine, signal.SIGSTOP)
    began = time.monotonic()
    family.process.send_signal(signal.SIGTERM)
    code, said = family.wait()
    assert code == -signal.SIGKILL
    assert family.left() == []
    assert "it did not end within 1 s" in said
    assert 1.0 <= time.monotonic() - began < 20


def test_orphans_that_end__are_reaped(family: Kept) -> None:
    code = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.1)
        os._exit(0)
    os.wait()
print("up", flush=True)
time.sleep(600)
"""
    kept = Kept(code)
    kept.until_up()

    def zombies() -> list[int]:
        return [pid for pid in kept.tree if (stat := stat_of(pid)) and not stat.alive]

    wait_until("all orphans have ended", lambda: len(kept.left()) == 3)
    wait_until("no zombie is left", lambda: not zombies())
    kept.process.kill()
    kept.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_temporary_folder__goes_with_the_engine__also_when_the_outer_keeper_is_killed(
    tmp_path: Path, number: int
) -> None:
    folder = tmp_path / "temporary"
    (folder / "inner").mkdir(parents=True)
    kept = Kept("import time; print('up', flush=True); time.sleep(600)", f"temporary={folder}")
    kept.until_up()
    assert folder.exists()
    kept.process.send_signal(number)
    kept.wait()
    wait_until("it is gone", lambda: not folder.exists())


def test_tree_memory__counts_what_left_its_session(family: Kept) -> None:
    assert tree_memory_mb(family.process.pid) >= 2 * CORE_MB
    assert tree_memory_mb(1 << 22) == 0, "no such process"


# --- what an engine starts with -------------------------------------------------------------------------------


def test_engine__starts_with_little_rights_and_undisturbed_signals() -> None:
    code = """
import json, os, resource, signal
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "new_privileges": status["NoNewPrivs"].strip(), "blocked": int(status["SigBlk"], 16),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "data": resource.getrlimit(resource.RLIMIT_DATA), "oom": int(open("/proc/self/oom_score_adj").read()),
    "umask": os.umask(0), "open": sorted(map(int, os.listdir("/proc/self/fd")))[:3],
}))
"""
    seen = json.loads(run(code, "memory_mb=2000")[1])
    files = min(keeper.OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert seen == {
        "new_privileges": "1",
        "blocked": 0,
        "core": [0, 0],
        "files": [files, files],
        "data": [2000 << 20, 2000 << 20],
        "oom": keeper.OOM_SCORE,
        "umask": 0o077,
        "open": [0, 1, 2],
    }


def test_engine__that_takes_more_memory_than_it_may__is_told_by_the_kernel() -> None:
    code = "try:\n    bytearray(300 << 20)\nexcept MemoryError:\n    print('MemoryError')"
    assert run(code, "memory_mb=200") == (0, "MemoryError\n")
    assert run(code, "memory_mb=900") == (0, "")


def test_program__that_cannot_be_started__says_why(tmp_path: Path) -> None:
    program = tmp_path / "engine"
    program.write_text("neither a program nor a script")
    program.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(keeper.__file__), "stop_seconds=1", "--", str(program)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == keeper.CANNOT_START
    assert f"{program} cannot be started: [Errno 8] Exec format error" in done.stdout
