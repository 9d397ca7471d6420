"""Starts stand-in engines as processes for a test and ends them with it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
T = TypeVar("T")


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, check: Callable[[], T], seconds: float = 30.0) -> T:
    """The first truthy value of `check()`; fails the test, saying what it waited for, after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.02)
    return value


class RunningEngine:
    """A stand-in engine as a process. `kill()` is kill -9; `start()` starts it again on the same port."""

    def __init__(self, variant: str, *arguments: str, port: int | None = None) -> None:
        self.variant = variant
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._client = httpx.Client(
            base_url=self.url, timeout=30, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and returns when it listens."""
        command = [sys.executable, "-m", "tests.standins.engine", "--port", str(self.port)]
        command += ["--variant", self.variant, *self._arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        wait_until(f"the stand-in {self.variant} listens", self._listens, START_SECONDS)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the stand-in {self.variant} ended while it started"
        try:
            self._client.get("/health")
        except httpx.TransportError:
            return False
        return True

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Ends it as kill -9 does; nothing happens when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def control(self, **values: Any) -> None:
        """Changes its behaviour now (see `tests.standins.engine.Behaviour`)."""
        self._client.post("/control", json=values).raise_for_status()

    def counts(self) -> dict[str, int]:
        """Requests that reached it: requests, completed, failed, aborted."""
        counts: dict[str, int] = self._client.get("/control").json()["counts"]
        return counts


@contextmanager
def running_engine(variant: str, *arguments: str) -> Iterator[RunningEngine]:
    """A stand-in engine for the time of a with block; `arguments` are its command line's."""
    engine = RunningEngine(variant, *arguments)
    try:
        engine.start()
        yield engine
    finally:
        engine.kill()
