"""Who listens on a port: real sockets and real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rollouts.adapters.clusters.machine import listener_is_marked
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
