"""Who listens on a port, and which processes are ours: real sockets and real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rollouts.adapters.clusters import machine
from rollouts.adapters.clusters.machine import (
    end_marked,
    end_processes,
    is_alive,
    listener_is_marked,
    processes_marked,
)
from tests.standins.running import free_port, wait_until

MARK = "HEADGATE_TEST_MARK"
LISTEN = """
import socket, sys, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
s.listen()
print("listens", flush=True)
time.sleep(600)
"""


@contextmanager
def listener(port: int, mark: str, host: str = "127.0.0.1") -> Iterator[None]:
    """A process that listens on the port, with the mark in its environment."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTEN, host, str(port)],
        env={**os.environ, MARK: mark},
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listens\n"
        yield
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_listener_is_marked__a_marked_process__is_ours(port: int, host: str) -> None:
    with listener(port, "mine", host):
        assert listener_is_marked(port, MARK, "mine") is True


@pytest.mark.parametrize("mark", ["other", "min", "mine2"])
def test_listener_is_marked__another_process__is_not(port: int, mark: str) -> None:
    with listener(port, mark):
        assert listener_is_marked(port, MARK, "mine") is False


def test_listener_is_marked__a_stranger_shares_the_port__is_not(port: int) -> None:
    with listener(port, "mine"), listener(port, "other"):
        assert listener_is_marked(port, MARK, "mine") is False


def test_listener_is_marked__a_stranger_on_another_address__does_not_count(port: int) -> None:
    with listener(port, "mine"), socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.2", port))
        stranger.listen()
        assert listener_is_marked(port, MARK, "mine") is True


def test_listener_is_marked__nobody_listens__is_unknown(port: int) -> None:
    wait_until("nobody listens", lambda: listener_is_marked(port, MARK, "mine") is None)


# --- processes by their mark --------------------------------------------------------------------------------

# It shows a title of its own where its environment was, as setproctitle does.
TITLED = """
import ctypes, time
start, end = (int(open("/proc/self/stat").read().rpartition(")")[2].split()[n]) for n in (47, 48))
ctypes.memset(start, 0, end - start)
print("up", flush=True)
time.sleep(600)
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {TITLED!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def parent_and_child(mark: str) -> Iterator[tuple[int, int]]:
    """A process with the mark, and its child, which has overwritten it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], env={**os.environ, MARK: mark}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        yield process.pid, child
    finally:
        end_processes([process.pid, child], grace_seconds=0)
        process.communicate()


def test_processes_marked__a_child_without_the_mark__belongs_to_its_parent() -> None:
    with parent_and_child("mine") as (parent, child), parent_and_child("mine2"):
        assert MARK.encode() not in Path(f"/proc/{child}/environ").read_bytes()
        assert processes_marked(MARK, "mine") == sorted((parent, child))


def test_end_marked__ends_all_of_it_and_nothing_else() -> None:
    with parent_and_child("mine") as mine, parent_and_child("other") as other:
        ended = end_marked(MARK, "mine", grace_seconds=5)
        assert {process.pid for process in ended} == set(mine)
        assert all(is_alive(pid) for pid in other)
        assert not any(is_alive(pid) for pid in mine)


def test_end_marked__calls_from_a_marked_process__spares_it() -> None:
    code = f"""
from rollouts.adapters.clusters.machine import end_marked
print(end_marked({MARK!r}, "mine", grace_seconds=0))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, MARK: "mine"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_end_processes__id_was_given_to_another_process_meanwhile__leaves_that_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with parent_and_child("stranger") as (stranger, _):
        real = machine.stat_of(stranger)
        assert real is not None
        # At the first look the id belonged to a process that was started earlier.
        looks = iter([replace(real, started=real.started - 1)])
        monkeypatch.setattr(machine, "stat_of", lambda pid: next(looks, real))
        end_processes([stranger], grace_seconds=0.2)
        monkeypatch.undo()
        assert is_alive(stranger)
