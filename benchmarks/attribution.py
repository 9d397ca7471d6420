"""`python -m benchmarks.attribution`: what it costs to know who answered a gateway's requests, as a table in Markdown.

Everything is real but the engine: Envoy as Envoy Gateway configures it, `manage.py receive_requests` as a process,
Redis. The engine is a second Envoy that answers at once, so that what is measured is the log. Requests are sent at a
steady rate, each connection by its own schedule. Beside it stands what the other way would cost: the check of a signed
token, once for each rating.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc

from controlplane.kernel.clock import SystemClock
from rollouts.adapters.request_log.otlp.file_store import FileAnswers
from rollouts.adapters.request_log.otlp.log import GatewayRequestLog
from rollouts.adapters.request_log.otlp.redis_store import RedisAnswers
from rollouts.adapters.request_log.otlp.stores import AnswerStore
from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace, document_of
from rollouts.ports import Backend, Route
from tests.fixtures.redis_server import RunningRedis
from tests.standins.gateway import ENVOY, TYPE, RunningGateway, objects
from tests.standins.running import ROOT, free_port

CLUSTER, NAMESPACE, TOKEN = "paris", "models", "token-of-the-benchmark-0123456789abcdef"
PLACE = GatewayPlace(NAMESPACE, (GatewayParent("edge"),), "models.test", "bench")
VARIANT = "chat-v1-aaaa"
CONNECTIONS = 20
SAMPLED = 20  # one request of so many is looked for until it is found
LOOK_SECONDS = 0.02
SETTLE_SECONDS = 30.0  # what is not found by then is lost
REQUEST = (
    f"POST /v1/chat/completions HTTP/1.1\r\nhost: chat.{PLACE.domain}\r\ncontent-type: application/json\r\n"
    "content-length: 2\r\n\r\n{}"
).encode()
QUIET = ("--log-level", "error")


@dataclass(frozen=True, slots=True)
class Run:
    """One run: how many were sent at what rate, what each process spent, and how late a request was found.

    receiver_us, gateway_us, redis_us   processor time a request, in microseconds; NaN where the process was not there
    delays       seconds from the end of an answer until it was found, of the sampled ones
    lost         of all
    memory_bytes of the store, a request
    told         what the gateway counts of its log, where some were lost
    """

    name: str
    sent: int
    rate: float
    receiver_us: float
    gateway_us: float
    redis_us: float
    delays: Sequence[float]
    lost: int
    memory_bytes: float
    told: str = ""

    def row(self) -> str:
        late = (
            [f"{quantile(self.delays, share) * 1000:.0f}" for share in (0.5, 0.99)]
            if self.delays
            else ["–", "–"]
        )
        cells = [self.name, f"{self.sent:,}", f"{self.rate:,.0f}", _number(self.receiver_us)]
        cells += [_number(self.gateway_us), _number(self.redis_us), " / ".join(late)]
        return f"| {' | '.join([*cells, f'{self.lost:,}', _number(self.memory_bytes)])} |"


HEADERS = (
    "log kept in", "requests", "sent a second", "receiver, µs a request", "gateway, µs a request",
    "Redis, µs a request", "found after p50 / p99, ms", "lost", "bytes a request",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attribution", description=__doc__)
    parser.add_argument("--rate", type=int, default=1_000, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    runs = [measure(kind, rate=chosen.rate, seconds=chosen.seconds) for kind in ("none", "files", "redis")]
    print(page(runs, token_us(), os.getloadavg()[0]))


def page(runs: Sequence[Run], token: float, load: float) -> str:
    """The tables, with where they were measured."""
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    told = f"On {machine}, load average {load:.1f}."
    head = [f"| {' | '.join(HEADERS)} |", "|---" * len(HEADERS) + "|"]
    receiver = next((run.receiver_us for run in runs if run.name == "redis"), float("nan"))
    other = f"The check of a signed token: {token:.1f} µs, once a rating; a request through the receiver is"
    return "\n".join(
        [told, "", *head, *(run.row() for run in runs), "", f"{other} {receiver / token:.0f} times that."]
    )


def measure(kind: str, *, rate: int, seconds: float) -> Run:
    """One run with the log in "files" or "redis", or with "none": a gateway that sends no log."""
    with RunningRedis() as redis, tempfile.TemporaryDirectory(prefix="hg-bench-") as folder:
        store: AnswerStore | None = None
        settings = {"HEADGATE_RUN_DIR": folder}
        if kind == "redis":
            store, settings["HEADGATE_REDIS_URL"] = RedisAnswers(redis.url), redis.url
        elif kind == "files":
            store = FileAnswers(Path(folder) / "answered", SystemClock())
        receiver_port = free_port()
        with (
            engine() as engine_port,
            receiver(receiver_port, settings) as receiver_pid,
            gateway(receiver_port, engine_port, logs=store is not None) as running,
        ):
            log = None if store is None else GatewayRequestLog(store, cluster=CLUSTER, namespace=NAMESPACE)
            asyncio.run(
                load(running.url, log, rate=min(rate, 100), seconds=1.0)
            )  # connections, code, the first minute
            time.sleep(2)
            pids = {"receiver": receiver_pid, "gateway": running.pid, "redis": redis.pid}
            before, held = {name: cpu(pid) for name, pid in pids.items()}, size(kind, redis, folder)
            sent, took, delays = asyncio.run(load(running.url, log, rate=rate, seconds=seconds))
            lost = 0 if log is None else missing(log, sent)
            told = running.numbers(r"access_log|cluster\.accesslog\.upstream_(cx|rq)") if lost else ""
            spent = {name: (cpu(pid) - before[name]) / len(sent) * 1e6 for name, pid in pids.items()}
            grown = (size(kind, redis, folder) - held) / len(sent)
        nan = float("nan")
        return Run(
            name=kind,
            sent=len(sent),
            rate=len(sent) / took,
            receiver_us=nan if log is None else spent["receiver"],
            gateway_us=spent["gateway"],
            redis_us=spent["redis"] if kind == "redis" else nan,
            delays=delays,
            lost=lost,
            memory_bytes=nan if log is None else grown,
            told=told,
        )


async def load(
    url: str, log: GatewayRequestLog | None, *, rate: int, seconds: float
) -> tuple[list[str], float, list[float]]:
    """Sends requests at a rate. Returns their ids, how long it took, and how late the sampled ones were found."""
    port = int(url.rpartition(":")[2])
    ids: list[str] = []
    waiting: dict[str, float] = {}
    delays: list[float] = []
    begun = time.monotonic()

    async def user(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        own = rate / CONNECTIONS
        for turn in range(int(own * seconds)):
            at = begun + (turn + number / CONNECTIONS) / own
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            writer.write(REQUEST)
            request_id = await answer(reader)
            ids.append(request_id)
            if log is not None and len(ids) % SAMPLED == 0:
                waiting[request_id] = time.monotonic()
        writer.close()
        await writer.wait_closed()

    async def look(until: asyncio.Event) -> None:
        end = float("inf")
        while waiting or not until.is_set():
            if until.is_set():
                end = min(end, time.monotonic() + SETTLE_SECONDS)
            if time.monotonic() > end:
                return
            await asyncio.sleep(LOOK_SECONDS)
            if log is not None and waiting:
                found = await asyncio.to_thread(log.find, list(waiting))
                now = time.monotonic()
                delays.extend(now - waiting.pop(name) for name in found)

    ended = asyncio.Event()
    looking = asyncio.create_task(look(ended))
    await asyncio.gather(*(user(number) for number in range(CONNECTIONS)))
    took = time.monotonic() - begun
    ended.set()
    await looking
    return ids, took, delays


async def answer(reader: asyncio.StreamReader) -> str:
    """The id of the request, from the answer's head; the body is read, too."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if not head.startswith("http/1.1 200"):
        raise RuntimeError(f"The gateway answered {head[:200]!r}.")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    await reader.readexactly(int(headers["content-length"]))
    return headers["x-request-id"]


def missing(log: GatewayRequestLog, ids: Collection[str]) -> int:
    """How many are never found."""
    end = time.monotonic() + SETTLE_SECONDS
    while left := len(ids) - len(log.find(ids)):
        if time.monotonic() > end:
            break
        time.sleep(0.2)
    return left


def token_us(times: int = 20_000) -> float:
    """Microseconds to check a token that says variant, request and time and is signed with HMAC-SHA256. The fastest of
    several rounds: what else a machine does only adds."""
    key = os.urandom(32)
    content = json.dumps([VARIANT, "3f0c4a52-7f4a-4a0e-9f3e-0d6b0c2f7f10", 1796008958.794]).encode()
    token = content.hex() + "." + hmac.new(key, content, sha256).hexdigest()

    def check() -> Any:
        body, _, signature = token.partition(".")
        text = bytes.fromhex(body)
        if not hmac.compare_digest(hmac.new(key, text, sha256).hexdigest(), signature):
            raise ValueError("forged")
        return json.loads(text)

    rounds = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(times):
            check()
        rounds.append((time.process_time() - begun) / times * 1e6)
    return min(rounds)


@contextmanager
def receiver(port: int, settings: dict[str, str]) -> Iterator[int]:
    """`manage.py receive_requests`; its process id."""
    # Of no test that may be measuring: settings of tests would have it keep its files in a folder of their own.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADGATE_", "DJANGO_"))
    }
    environment |= {
        "HEADGATE_RECEIVER_ADDRESS": f"127.0.0.1:{port}",
        "HEADGATE_REQUEST_SENDERS": f"{CLUSTER}={TOKEN}",
        "HEADGATE_LOG_LEVEL": "WARNING",
        **settings,
    }
    process = subprocess.Popen([sys.executable, "manage.py", "receive_requests"], cwd=ROOT, env=environment)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def gateway(receiver_port: int, engine_port: int, *, logs: bool) -> Iterator[RunningGateway]:
    both = objects(ROUTES=NAMESPACE, TOKEN=TOKEN)
    if not logs:
        both[0]["spec"]["telemetry"]["accessLog"]["settings"] = []
    running = RunningGateway(free_port(), receiver_port, both)
    try:
        route = Route("chat", {VARIANT: 10_000}, (Backend(VARIANT, "service", name=VARIANT),), VARIANT)
        running.serve(document_of(route, PLACE, token=1, since=0.0), {VARIANT: engine_port})
        running.start()
        yield running
    finally:
        running.close()


@contextmanager
def engine() -> Iterator[int]:
    """An Envoy that answers every request at once; its port."""
    port = free_port()
    body = json.dumps({"choices": [{"message": {"content": "billing"}}]})
    routes = [{"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": body}}}]
    router = {"@type": f"{TYPE}extensions.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "engine",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    boot = {
        "static_resources": {"listeners": [{"name": "all", "address": address, "filter_chains": [chain]}]}
    }
    process = subprocess.Popen(
        [str(ENVOY), "--config-yaml", json.dumps(boot), "--disable-hot-restart", "--concurrency", "1", *QUIET]
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def size(kind: str, redis: RunningRedis, folder: str) -> int:
    """Bytes that a store takes."""
    if kind == "redis":
        return int(redis.client.info("memory")["used_memory"])
    return sum(path.stat().st_size for path in (Path(folder) / "answered").glob("*.sqlite3"))


def cpu(pid: int) -> float:
    """Seconds of processor that a process spent, its threads included. By its own clock, which Linux lets others read
    (clock_getcpuclockid(3)): /proc counts whole hundredths, more than a short run costs."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies. Raises statistics.StatisticsError for none."""
    if len(values) < 2:
        return statistics.fmean(values)
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]


def _number(value: float) -> str:
    return "–" if value != value else f"{value:,.0f}"


if __name__ == "__main__":
    main()
