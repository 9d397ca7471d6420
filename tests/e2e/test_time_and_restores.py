"""On the real Envoy, with real processes: a worker whose clock jumps by an hour either way, and a database that is put
back from a copy taken before a promotion."""

from __future__ import annotations

import configparser
import json
import shlex
import shutil
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rollouts.adapters.clusters.launcher import STACK_MARK
from tests.e2e.house import ENDPOINT, ROOT, House
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.needs("envoy", "mlflow", "faketime"),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(600),
]

HOUR = 3600
HOLD_SECONDS = 8
LOOKING_SECONDS = 4  # so late the test may see that a step began, on a busy machine
PLAN: dict[str, Any] = {
    "strategy": "canary",
    "steps": [
        {"share_bp": 2500, "hold_seconds": HOLD_SECONDS, "min_requests": 10},
        {"share_bp": 5000, "hold_seconds": 4, "min_requests": 10},
    ],
    "watch_seconds": 2,
    "no_data_seconds": 60,
    "launch_seconds": 120,
}
OF_THE_LOOP = ("worker", "beat")
CONTROL_PLANE = ("beat", "worker", "probes", "files", "errands", "web")


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    policy = {"alpha": 0.05, "gates": [{"key": "errors", "kind": "error_rate", "delta": 0.2, "weight": 1.0}]}
    made = House({"v1": 0, "v2": 0, "v3": 0}, policy=policy)
    try:
        yield made
    finally:
        made.close()


def stop(house: House, names: tuple[str, ...]) -> None:
    for name in names:
        house.supervisor.stop(name)
    wait_until(
        "they have stopped", lambda: not any(house.supervisor.programs()[name].pid for name in names), 60
    )


def start(house: House, names: tuple[str, ...]) -> None:
    for name in names:
        house.supervisor.start(name)


# libfaketime takes the end of Python's sleep, which is told by the monotonic clock, for a time of the day: it fails.
# And only the program itself is to have another clock, not the Envoy that it asks whether a configuration is right.
SITECUSTOMIZE = """
import os, select, time
os.environ.pop("LD_PRELOAD", None)
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class Fake:
    """Programs of the stack as processes whose clock is moved by a file; what they measure by runs on."""

    def __init__(self, house: House, names: tuple[str, ...]) -> None:
        self._shift = house.run_dir / "shift"
        self.jump(0)
        (house.run_dir / "faked").mkdir(exist_ok=True)
        (house.run_dir / "faked" / "sitecustomize.py").write_text(SITECUSTOMIZE)
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        stack = configparser.RawConfigParser()
        stack.read(house.run_dir / "supervisord.conf")
        self.processes = []
        for name in names:
            section = stack[f"program:{name}"]
            pairs = (pair.split("=", 1) for pair in shlex.split(section["environment"].replace(",", " ")))
            environment = {
                **house.environment,
                **dict(pairs),
                STACK_MARK: str(house.run_dir),  # so that the house ends them, whatever happens here
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(self._shift),
                "FAKETIME_CACHE_DURATION": "1",
                "PYTHONPATH": str(house.run_dir / "faked"),
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
            with (house.run_dir / "log" / f"{name}-fake.log").open("w") as log:
                process = subprocess.Popen(
                    shlex.split(section["command"].replace("%%", "%")),
                    cwd=ROOT,
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
            self.processes.append(process)

    def jump(self, seconds: int) -> None:
        """From now on the clock is so far from the right time."""
        fresh = self._shift.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._shift)

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def endpoint(house: House) -> dict[str, Any]:
    found: dict[str, Any] = house.client.get(f"/endpoints/{ENDPOINT}")
    return found


def parts(house: House) -> str:
    """The report on readiness, with all that it tells those who are known."""
    token = json.loads((house.folder / "token.json").read_text())["token"]
    asked = urllib.request.Request(
        f"http://127.0.0.1:{house.web}/readyz", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return json.dumps(json.load(answer))


def test_worker__whose_clock_jumps_an_hour_on_and_two_back__every_step_lasts_and_the_loop_goes_on(
    house: House,
) -> None:
    stop(house, OF_THE_LOOP)
    fake = Fake(house, OF_THE_LOOP)
    try:
        before = house.users()["lost"]
        number = house.start("v3", PLAN)
        house.wait_for_share(number, 2500)
        began = time.monotonic()
        fake.jump(HOUR)
        wait_until("the jump is noted", lambda: "jumped forward by 1 h" in parts(house), 30)
        house.wait_for_share(number, 5000)
        assert time.monotonic() - began >= HOLD_SECONDS - LOOKING_SECONDS
        fake.jump(-HOUR)
        state = house.wait_settled(number)
        assert state["phase"] == "succeeded", f"{state['reason']}\n{house.logs()}"
        assert house.users()["lost"] == before, house.users()["losses"]
        assert "jumped back by 2 h" in parts(house)
    finally:
        fake.end()
        start(house, OF_THE_LOOP)


def test_database__put_back_from_before_a_promotion__control_again_and_traffic_as_it_was_until_a_person_chooses(
    house: House, tmp_path: Path
) -> None:
    before = house.users()["lost"]
    database, copy = house.run_dir / "headgate.sqlite3", tmp_path / "copy.sqlite3"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    number = house.start("v2", PLAN)
    house.wait_for_share(number, 2500)
    house.client.post(f"/rollouts/{number}/promote", {"why": "for the test"})
    promoted = house.wait_settled(number)["candidate"]["name"]
    stop(house, CONTROL_PLANE)
    for left in ("-wal", "-shm"):
        database.with_name(database.name + left).unlink(missing_ok=True)
    shutil.copyfile(copy, database)
    start(house, tuple(reversed(CONTROL_PLANE)))
    wait_until("the restored copy is told", lambda: "older copy" in _parts_or_none(house), 60)
    wait_until("it has control again", lambda: (endpoint(house)["restored"] or {}).get("state") == "held", 60)
    held = endpoint(house)
    assert held["restored"]["served"] == {promoted: 10_000}
    assert held["observed_shares"] == {promoted: 10_000}
    assert held["stable"]["name"] != promoted, "the copy is from before the promotion"
    house.client.put(f"/endpoints/{ENDPOINT}/restored", {"choice": "keep"})
    wait_until("what serves is kept", lambda: endpoint(house)["restored"] is None, 30)
    kept = endpoint(house)
    assert kept["stable"]["name"] == promoted
    assert kept["observed_shares"] == {promoted: 10_000}
    assert house.users()["lost"] == before, house.users()["losses"]


def _parts_or_none(house: House) -> str:
    try:
        return parts(house)
    except OSError:
        return ""
