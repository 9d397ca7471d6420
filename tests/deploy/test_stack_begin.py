"""What starts a program of the stack ends what the one before it left behind, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.stack.begin import PROGRAM_MARK
from rollouts.adapters.clusters.machine import end_marked, is_alive

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import subprocess, sys, time
worker = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(worker.pid, flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.e2e  # real processes


class Begun:
    """A program that starts a worker in a session of its own."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-m", "deploy.stack.begin", sys.executable, "-c", SERVER],
            cwd=ROOT, env={**os.environ, PROGRAM_MARK: mark}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = []
        while not (line := self.process.stdout.readline()).strip().isdigit():
            self.said.append(line)
        self.worker = int(line)

    def close(self) -> None:
        self.process.kill()
        end_marked(PROGRAM_MARK, self.mark, grace_seconds=0)
        self.process.communicate()


@pytest.fixture
def mark(tmp_path: Path) -> str:
    return f"{tmp_path}:mlflow"


@pytest.fixture
def first(mark: str) -> Iterator[Begun]:
    begun = Begun(mark)
    yield begun
    begun.close()


def test_program_killed__its_worker_is_ended_before_the_next_one__and_told(first: Begun, mark: str) -> None:
    first.process.kill()
    first.process.wait()
    assert is_alive(first.worker)
    second = Begun(mark)
    try:
        assert not is_alive(first.worker)
        assert (
            f"ended what the process before left running: process {first.worker} (sleep 600)"
            in second.said[0]
        )
    finally:
        second.close()


def test_another_program__and_the_same_of_another_stack__are_left_alone(first: Begun, mark: str) -> None:
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    for other in (mark.replace("mlflow", "web"), f"/elsewhere{mark}"):
        second = Begun(other)
        try:
            assert second.said == []
            assert is_alive(first.worker)
        finally:
            second.close()


def test_program__has_the_id_that_supervisord_started(first: Begun) -> None:
    assert b"sleep" in Path(f"/proc/{first.process.pid}/cmdline").read_bytes()
