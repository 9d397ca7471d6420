"""Nothing that hangs or takes long shares a queue with the loop: a rollback is in force while an engine never answers
its probes and a version's files never end. Real processes; a stand-in engine, and a proxy before MLflow."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from rollouts.services.errands.probe_rounds import QUEUED_FOR, ROUND_LIFETIME
from tests.e2e.house import ENDPOINT, House
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.needs("envoy", "mlflow"),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(900),
]

CLICKS = 3
ENDLESS = "endless.txt"  # the file that never ends
HELD: dict[str, Any] = {  # nobody is asked for anything, so a person ends it
    "strategy": "canary",
    "steps": [{"share_bp": 2500, "hold_seconds": 600, "min_requests": 1_000}],
    "watch_seconds": 0,
    "no_data_seconds": 3_600,
    "launch_seconds": 120,
}


class SlowFiles(ThreadingHTTPServer):
    """A proxy that hands requests on; of the file ENDLESS comes a byte every half second.

    begun, ended    transfers of it that began, and ended in whatever way
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.begun = self.ended = 0
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: SlowFiles

    def _pass_on(self) -> None:
        target = urlsplit(self.path)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else None
        asked = target.path + (f"?{target.query}" if target.query else "")
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        try:
            with closing(
                http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
            ) as mlflow:
                mlflow.request(self.command, asked, body, {**headers, "Connection": "close"})
                answer = mlflow.getresponse()
                content = answer.read()
        except OSError as error:  # it does not run yet
            with suppress(OSError):
                self.send_error(502, str(error))
            return
        slowly = self.command == "GET" and target.path.endswith(f"/{ENDLESS}")
        with suppress(OSError):  # whoever asked has gone
            self._answer(answer, content, slowly=slowly)

    def _answer(self, answer: http.client.HTTPResponse, content: bytes, *, slowly: bool) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if slowly:
            self._trickle(content)
        else:
            self.wfile.write(content)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def _trickle(self, content: bytes) -> None:
        self.server.begun += 1
        try:
            for byte in content:
                if self.server.over.wait(0.5):
                    return
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
        finally:
            self.server.ended += 1

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def slow_files() -> Iterator[SlowFiles]:
    made = SlowFiles()
    yield made
    made.stop()


@pytest.fixture
def house(slow_files: SlowFiles) -> Iterator[House]:
    made = House({"v1": 0, "v2": 0}, settings={"HEADGATE_MLFLOW_PROXY": slow_files.url})
    try:
        made.stop_users()
        yield made
    finally:
        made.close()


def round_under_way(house: House, number: int) -> str:
    """Until when the rollout's round of probes is claimed, when one is under way; else empty."""
    with closing(sqlite3.connect(f"file:{house.run_dir / 'headgate.sqlite3'}?mode=ro", uri=True)) as database:
        # A round that is only queued is claimed for less.
        query = "SELECT probing_until FROM rollouts_rollout WHERE id = ? AND probing_until > ?"
        later = datetime.now(UTC).replace(tzinfo=None) + (QUEUED_FOR + ROUND_LIFETIME) / 2
        found = database.execute(query, (number, str(later))).fetchone()
    return str(found[0]) if found else ""


def test_rollback__while_probes_hang_and_files_never_end__is_in_force_before_either_ends(
    house: House, slow_files: SlowFiles, record_property: Any
) -> None:
    register_endless(house)
    wait_until("its files are being fetched", lambda: slow_files.begun, 120)
    seconds = [seconds_until_rolled_back(house, slow_files) for _ in range(CLICKS)]
    record_property("seconds from the click to its effect", seconds)
    print("seconds from the click to its effect:", [round(one, 2) for one in sorted(seconds)])


def seconds_until_rolled_back(house: House, slow_files: SlowFiles) -> float:
    """Of a rollout whose candidate has traffic and never answers its probes."""
    number = house.start("v2", HELD)
    state = house.wait_for_share(number, 2500)
    candidate = state["candidate"]["name"]
    port = json.loads((house.run_dir / "engines" / f"{candidate}.json").read_text())["port"]
    control = f"http://127.0.0.1:{port}/control"
    hang(control, 1.0)
    hangs = wait_until("a round of probes hangs", lambda: hanging_round(house, number), 60)
    ended = slow_files.ended
    began = time.monotonic()
    house.client.post(f"/rollouts/{number}/rollback", {})
    wait_until("the rollback is in force", lambda: has_returned(house), 60)
    took = time.monotonic() - began
    assert round_under_way(house, number) == hangs, "the round of probes that hung has not ended yet"
    assert slow_files.begun > slow_files.ended == ended, "the files are still coming"
    hang(control, 0.0)  # the next rollout takes it back from its drain
    house.wait_settled(number)
    return took


def hang(control: str, rate: float) -> None:
    httpx.post(control, json={"hang_rate": rate}, timeout=10).raise_for_status()


def hanging_round(house: House, number: int) -> str:
    """A round that is under way for longer than answers take."""
    before = round_under_way(house, number)
    time.sleep(1.5)
    return before if before and before == round_under_way(house, number) else ""


def has_returned(house: House) -> bool:
    state = house.client.get(f"/endpoints/{ENDPOINT}")
    return bool(state["observed_shares"].get(state["stable"]["name"]) == 10_000)


def register_endless(house: House) -> None:
    """A further version, with a file that never ends."""
    models = house.folder / "models"
    metrics = json.loads((models / "metrics.json").read_text())
    metrics["versions"]["v3"] = metrics["versions"]["v2"]
    (models / "metrics.json").write_text(json.dumps(metrics))
    (models / "v3").mkdir()
    (models / "v3" / ENDLESS).write_text("x" * 10_000)
    house.register()
