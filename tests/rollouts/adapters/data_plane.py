"""Two data planes with one set of handles, so that one contract suite runs on both.

`MemoryPlane` is the in-memory adapters; `EnvoyPlane` is the real Envoy with stand-in engines as processes.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import httpx

from controlplane.kernel.clock import ManualClock, SystemClock
from controlplane.kernel.errors import NotFound
from rollouts.adapters.backends import at_address
from rollouts.adapters.probers.memory import MemoryProber
from rollouts.adapters.probers.openai import OpenAIProber
from rollouts.adapters.request_log.envoy import EnvoyRequestLog
from rollouts.adapters.request_log.memory import MemoryRequestLog
from rollouts.adapters.routers.envoy import EnvoyRouter, envoy_command
from rollouts.adapters.routers.memory import MemoryRouter, refuses_system_messages
from rollouts.adapters.signals.combined import CombinedSignals
from rollouts.adapters.signals.envoy_stats import EnvoyStats
from rollouts.adapters.signals.memory import MemorySignals
from rollouts.adapters.signals.vllm import VllmMetrics
from rollouts.domain.record.readings import ArmReading
from rollouts.ports import Backend, Prober, RequestLog, Route, SignalSource, TrafficRouter
from tests.rollouts.adapters.readings import only_target, read_one
from tests.standins.running import RunningEngine, free_port, wait_until

ENVOY = Path(sys.executable).parent / "envoy"
BASELINE, CANDIDATE = "chat-v1-aaaa", "chat-v2-bbbb"
PROMPT = ({"role": "user", "content": "hello"},)
SYSTEM_PROMPT = ({"role": "system", "content": "be brief"}, *PROMPT)


@dataclass(frozen=True)
class Seen:
    """What a user saw of one request."""

    status: int
    assigned: str
    answered: str
    request_id: str
    whole: bool


class Plane(Protocol):
    """A data plane with two engines, BASELINE and CANDIDATE."""

    @property
    def router(self) -> TrafficRouter: ...
    @property
    def signals(self) -> SignalSource: ...
    @property
    def request_log(self) -> RequestLog: ...
    @property
    def prober(self) -> Prober: ...
    def backend(self, variant: str) -> Backend: ...
    def send(
        self, endpoint: str, number: int, *, forced: str = "", stream: bool = False, system: bool = False
    ) -> list[Seen]: ...
    def abort(self, endpoint: str, number: int) -> None: ...
    def leave(self, endpoint: str, number: int, *, after: float) -> None:
        """Users of streams who leave after so many seconds, whatever came by then."""
        ...

    def wait(self, endpoint: str, number: int) -> AbstractContextManager[None]:
        """Requests that run for the time of a with block; the engines must hang."""
        ...

    def call(self, endpoint: str, method: str, path: str) -> int:
        """The status of a call that is no inference."""
        ...

    def received(self, variant: str) -> int:
        """Inferences that reached its engine so far."""
        ...

    def kill(self, variant: str) -> None: ...
    def change(
        self,
        variant: str,
        *,
        errors: float = 0,
        broken: float = 0,
        seconds: float = 0,
        rest: float = 0,
        refused: int = 0,
        refuses_system: bool = False,
        hangs: bool = False,
        empty: bool = False,
        cut_short: bool = False,
        healthy: bool = True,
    ) -> None:
        """Sets how an engine behaves; whatever is not named is well.

        errors, broken  shares of requests answered with 500, of streams that end in an error
        seconds, rest   until the first token, and from there until the end
        refused         the status that every request is refused with
        empty, cut_short  every answer has no word; ends by its limit
        """
        ...

    def refuse(self) -> str:
        """From now on the router refuses every route; returns a word of what it says then."""
        ...

    def accept(self) -> None: ...
    def stop_router(self) -> None: ...
    def start_router(self) -> None: ...
    def reset(self) -> None:
        """Engines alive and well, the router up and accepting."""
        ...


class HasBackends(Protocol):
    """What a route is made of."""

    def backend(self, variant: str) -> Backend: ...


def route(
    plane: HasBackends,
    endpoint: str,
    candidate_bp: int,
    *,
    fallback: str = BASELINE,
    rescuers: tuple[str, ...] = (),
) -> Route:
    """Both variants, the candidate with the given share."""
    shares = {BASELINE: 10_000 - candidate_bp, CANDIDATE: candidate_bp}
    backends = (plane.backend(BASELINE), plane.backend(CANDIDATE))
    return Route(endpoint, shares, backends, fallback, rescuers)


def arms(plane: Plane, endpoint: str) -> Mapping[str, ArmReading]:
    backends = [plane.backend(BASELINE), plane.backend(CANDIDATE)]
    return only_target(read_one(plane.signals, endpoint, backends)).arms


class MemoryPlane:
    """The adapters in memory."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.router = MemoryRouter(self.clock, random.Random(7))
        self.signals = MemorySignals(self.router)
        self.request_log = MemoryRequestLog(self.router)
        self.prober = MemoryProber(self.router)

    def backend(self, variant: str) -> Backend:
        return at_address(variant, "127.0.0.1", 18100 if variant == BASELINE else 18101)

    def send(
        self, endpoint: str, number: int, *, forced: str = "", stream: bool = False, system: bool = False
    ) -> list[Seen]:
        found = []
        for _ in range(number):
            try:
                messages = SYSTEM_PROMPT if system else PROMPT
                r = self.router.send(endpoint, forced=forced, messages=messages)
            except NotFound:
                found.append(Seen(404, "", "", "", True))
            else:
                found.append(Seen(r.status, r.assigned, r.answered, r.request_id, not r.broken))
        return found

    def abort(self, endpoint: str, number: int) -> None:
        for _ in range(number):
            self.router.send(endpoint, abort=True)

    def leave(self, endpoint: str, number: int, *, after: float) -> None:
        for _ in range(number):
            self.router.send(endpoint, messages=PROMPT, patience_seconds=after)

    @contextmanager
    def wait(self, endpoint: str, number: int) -> Iterator[None]:
        for _ in range(number):
            self.router.send(endpoint, messages=PROMPT)
        yield

    def call(self, endpoint: str, method: str, path: str) -> int:
        return self.router.call(endpoint, method, path)

    def received(self, variant: str) -> int:
        return sum(self.router.engine(variant).endings.values())

    def kill(self, variant: str) -> None:
        self.router.engine(variant).alive = False

    def change(
        self,
        variant: str,
        *,
        errors: float = 0,
        broken: float = 0,
        seconds: float = 0,
        rest: float = 0,
        refused: int = 0,
        refuses_system: bool = False,
        hangs: bool = False,
        empty: bool = False,
        cut_short: bool = False,
        healthy: bool = True,
    ) -> None:
        engine = self.router.engine(variant)
        engine.error_rate, engine.stream_error_rate, engine.healthy = errors, broken, healthy
        engine.ttft_seconds = seconds or 0.01
        engine.duration_seconds = engine.ttft_seconds + rest
        engine.refuse_rate, engine.refuse_status = float(bool(refused)), refused
        engine.refuse = refuses_system_messages if refuses_system else lambda messages: 0
        engine.hang_rate, engine.empty_rate, engine.length_rate = float(hangs), float(empty), float(cut_short)
        engine.answer = lambda messages: f"answered by {variant}"

    def refuse(self) -> str:
        self.router.refuse = "unknown cluster"
        return "unknown cluster"

    def accept(self) -> None:
        self.router.refuse = ""

    def stop_router(self) -> None:
        self.router.down = True

    def start_router(self) -> None:
        self.clock.advance(5)
        self.router.down = False
        self.router.restart()

    def reset(self) -> None:
        for variant in (BASELINE, CANDIDATE):
            self.router.engine(variant).alive = True
            self.change(variant)


class EnvoyPlane:
    """The real Envoy. `close()` ends everything."""

    def __init__(self) -> None:
        self.run_dir = Path(tempfile.mkdtemp(prefix="hg-", dir="/tmp"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.router = EnvoyRouter(self.run_dir, self.port, ENVOY)
        self.stats = EnvoyStats(self.run_dir, SystemClock())
        self.signals = CombinedSignals(self.stats, VllmMetrics())
        self.request_log = EnvoyRequestLog(self.run_dir)
        self.prober = OpenAIProber.by_path(self.url)
        self.engines = {variant: RunningEngine(variant) for variant in (BASELINE, CANDIDATE)}
        self._envoy: subprocess.Popen[bytes] | None = None
        self._limits = self.router.settings
        self.router.write_bootstrap()
        starts = [threading.Thread(target=engine.start) for engine in self.engines.values()]
        for start in starts:
            start.start()
        self.start_router()
        for start in starts:
            start.join()

    def close(self) -> None:
        self.stop_router()
        self.request_log.close()
        for engine in self.engines.values():
            engine.kill()
        shutil.rmtree(self.run_dir)

    def backend(self, variant: str) -> Backend:
        return at_address(variant, "127.0.0.1", self.engines[variant].port)

    def ask(
        self,
        client: httpx.Client,
        endpoint: str,
        *,
        forced: str = "",
        stream: bool = False,
        system: bool = False,
    ) -> Seen:
        headers = {"x-headgate-variant": forced} if forced else {}
        body = {"messages": SYSTEM_PROMPT if system else PROMPT, "stream": stream}
        path = f"{self.url}/{endpoint}/v1/chat/completions"
        with client.stream("POST", path, json=body, headers=headers) as response:
            try:
                text = response.read().decode()
            except httpx.RemoteProtocolError:  # cut off in the middle
                text = ""
        return Seen(
            response.status_code,
            response.headers.get("x-headgate-assigned", ""),
            response.headers.get("x-headgate-variant", ""),
            response.headers["x-request-id"],
            "data: [DONE]" in text and '"error"' not in text if stream else bool(text),
        )

    def send(
        self, endpoint: str, number: int, *, forced: str = "", stream: bool = False, system: bool = False
    ) -> list[Seen]:
        how: dict[str, Any] = {"forced": forced, "stream": stream, "system": system}
        with httpx.Client(timeout=60) as client, ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda _: self.ask(client, endpoint, **how), range(number)))

    def abort(self, endpoint: str, number: int) -> None:
        """Leaves while the engines are still thinking."""
        for engine in self.engines.values():
            engine.control(latency_ms=20_000)
        for _ in range(number):
            with httpx.Client(timeout=httpx.Timeout(30, read=0.3)) as client:
                try:
                    self.ask(client, endpoint)
                except httpx.ReadTimeout:
                    continue
                raise AssertionError("the engine answered before the client could leave")
        for engine in self.engines.values():
            engine.control(latency_ms=0)

    def leave(self, endpoint: str, number: int, *, after: float) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: self._leave(endpoint, after), range(number)))

    def _leave(self, endpoint: str, after: float) -> None:
        with self.begin(endpoint):
            time.sleep(after)

    @contextmanager
    def wait(self, endpoint: str, number: int) -> Iterator[None]:
        with ExitStack() as stack:
            for _ in range(number):
                stack.enter_context(self.begin(endpoint))
            yield

    def begin(self, endpoint: str, *, stream: bool = True, upload: int | None = None) -> socket.socket:
        """A connection on which a request was sent, or the first `upload` bytes of its body. Closing it is leaving."""
        body = self.body(stream=stream)
        head = f"POST {self.path(endpoint)} HTTP/1.1\r\nhost: headgate\r\ncontent-type: application/json\r\n"
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[:upload])
        return connection

    @staticmethod
    def path(endpoint: str) -> str:
        return f"/{endpoint}/v1/chat/completions"

    @staticmethod
    def body(*, stream: bool = True) -> bytes:
        return json.dumps({"messages": PROMPT, "stream": stream}).encode()

    def call(self, endpoint: str, method: str, path: str) -> int:
        return httpx.request(method, f"{self.url}/{endpoint}{path}").status_code

    def received(self, variant: str) -> int:
        return self.engines[variant].counts()["requests"]

    def kill(self, variant: str) -> None:
        self.engines[variant].kill()

    def change(
        self,
        variant: str,
        *,
        errors: float = 0,
        broken: float = 0,
        seconds: float = 0,
        rest: float = 0,
        refused: int = 0,
        refuses_system: bool = False,
        hangs: bool = False,
        empty: bool = False,
        cut_short: bool = False,
        healthy: bool = True,
    ) -> None:
        tokens = 11 if rest else 0
        self.engines[variant].control(
            error_rate=errors, stream_error_rate=broken, latency_ms=seconds * 1000, healthy=healthy,
            token_ms=rest * 100.0, tokens=tokens, cut_rate=0.0, refuse_rate=float(bool(refused)),
            refuse_status=refused or 429, refuse_system=refuses_system, hang_rate=float(hangs),
            empty_rate=float(empty), limit_tokens=2 * cut_short,
        )  # fmt: skip

    def refuse(self) -> str:
        # A duration that protobuf cannot hold: a setting that only Envoy itself knows to be wrong.
        self.router.settings = type(self._limits)(port=self.port, idle_timeout_seconds=1e12)
        return "duration"

    def accept(self) -> None:
        self.router.settings = self._limits

    def stop_router(self) -> None:
        """kill -9."""
        if self._envoy is not None:
            self._envoy.kill()
            self._envoy.wait()
            self._envoy = None

    def start_router(self) -> None:
        self._envoy = subprocess.Popen(envoy_command(self.run_dir, ENVOY), stderr=subprocess.DEVNULL)
        wait_until("Envoy answers", self._answers, 60)

    def _answers(self) -> bool:
        assert self._envoy is not None
        assert self._envoy.poll() is None, f"Envoy ended: {self.router.paths.log.read_text()[-2000:]}"
        try:
            return httpx.get(self.url + "/").status_code == 404
        except httpx.TransportError:
            return False

    def reset(self) -> None:
        if self._envoy is None:
            self.start_router()
        self.accept()
        for variant, engine in self.engines.items():
            if not engine.alive:
                engine.start()
            self.change(variant)

    def healthy(self, endpoint: str) -> frozenset[str]:
        seen = self.router.observe(endpoint)
        return seen.healthy if seen is not None else frozenset()

    def file_versions(self) -> tuple[str, str]:
        """Versions of the cluster and route files on disk."""
        paths = self.router.paths
        clusters, routes = (json.loads(p.read_text())["version_info"] for p in (paths.clusters, paths.routes))
        return str(clusters), str(routes)
