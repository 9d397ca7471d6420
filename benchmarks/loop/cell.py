"""One cell of the benchmark, in processes of its own: `python -m benchmarks.loop.cell ACTIVE QUIET SECONDS WORKERS`.

The loop runs as a worker runs it (a tick a second, four turns at a time) on the database that HEADGATE_DATABASE_URL
names, which has its tables and nothing in them. WORKERS processes share the work. Prints JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

os.environ.setdefault("HEADGATE_RUN_DIR", tempfile.mkdtemp(prefix="headgate-bench-"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.config.settings")

import django

django.setup()

from django.db import connection, connections  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402

from benchmarks.loop.furnish import furnish, worlds_of  # noqa: E402
from controlplane.access.actors import HEADGATE  # noqa: E402
from controlplane.timekeeping.database_clock import CLOCK  # noqa: E402
from rollouts.models import Endpoint, Evidence, Rollout  # noqa: E402
from rollouts.services.commands.rollouts import roll_back_rollout  # noqa: E402
from rollouts.services.loop.glances import Glances  # noqa: E402
from rollouts.services.loop.reconcile import reconcile_endpoint, reconcile_endpoints  # noqa: E402
from rollouts.services.world import World, Worlds  # noqa: E402

INTERVAL, TICK, THREADS = 10.0, 1.0, 4
REACTION_SECONDS = 8.0


class Queries:
    """Counts the queries of every connection of this process."""

    def __init__(self) -> None:
        self.number = 0
        connection_created.connect(self._watch, weak=False)
        connection.execute_wrappers.append(self._count)

    def _watch(self, connection: Any, **_: Any) -> None:
        if self._count not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._count)

    def _count(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.number += 1
        return execute(sql, params, many, context)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a worker process spent: CPU seconds, queries, and its longest tick in seconds."""

    cpu: float
    queries: int
    longest_tick: float


class Worker:
    """The loop as one worker process runs it."""

    def __init__(self, worlds: Worlds) -> None:
        self._worlds = worlds
        self._glances = Glances()
        self._queries = Queries()
        self.begin()

    def begin(self) -> None:
        """From now on it is measured."""
        self._before = (time.process_time(), self._queries.number)
        self._longest = 0.0

    def spent(self) -> Spent:
        return Spent(
            time.process_time() - self._before[0], self._queries.number - self._before[1], self._longest
        )

    def run_for(self, length: float) -> None:
        ends = time.monotonic() + length
        while (began := time.monotonic()) < ends:
            reconcile_endpoints(worlds=self._worlds, clock=CLOCK, threads=THREADS, glances=self._glances)
            lasted = time.monotonic() - began
            self._longest = max(self._longest, lasted)
            time.sleep(max(0.0, TICK - lasted))


def main() -> None:
    active, quiet, workers = (int(sys.argv[place]) for place in (1, 2, 4))
    seconds = float(sys.argv[3])
    worlds = worlds_of(furnish(active, quiet, clock=CLOCK), clock=CLOCK, interval_seconds=INTERVAL)
    worker = Worker(worlds)
    # The first turn of an endpoint with a rollout publishes its route. Each further worker has a copy of the plane, so
    # it begins after that; then every endpoint is looked at once, as after a start.
    while Endpoint.objects.filter(applied={}).exists():
        worker.run_for(TICK)
    lines = [_another(worlds, seconds) for _ in range(workers - 1)]
    while Endpoint.objects.filter(reconciled_at=None).exists():
        worker.run_for(TICK)
    if active:
        worker.run_for(INTERVAL)  # the turns spread
    worker.begin()
    for line in lines:
        line.send(None)
    bytes_before, rows_before = _database_bytes(), Evidence.objects.count()
    since = datetime.now(UTC)
    worker.run_for(seconds)
    lasted = (datetime.now(UTC) - since).total_seconds()
    spent = [worker.spent()]
    rows, grown = Evidence.objects.count() - rows_before, _database_bytes() - bytes_before
    lags = _lags(since)
    reactions = _reactions(worlds.of("here"), active, lambda: worker.run_for(REACTION_SECONDS))
    for line in lines:
        line.send(None)
        spent.append(line.recv())
    print(
        json.dumps(
            {
                "active": active,
                "quiet": quiet,
                "workers": workers,
                "seconds": round(lasted, 1),
                "intervals": rows,
                "lag_p50": _quantile(lags, 0.5),
                "lag_p99": _quantile(lags, 0.99),
                "cpu_seconds": round(sum(one.cpu for one in spent), 2),
                "queries": sum(one.queries for one in spent),
                "bytes": grown,
                "longest_tick": round(max(one.longest_tick for one in spent), 2),
                "reaction_p50": _quantile(reactions, 0.5),
                "reaction_max": max(reactions, default=None),
                "reactions": len(reactions),
            }
        )
    )


def _another(worlds: Worlds, seconds: float) -> Connection:
    """Starts one more worker process. The first message over the line begins its measurement, the second ends it."""
    connections.close_all()
    forking = multiprocessing.get_context("fork")
    here, there = forking.Pipe()
    forking.Process(target=_work, args=(worlds, seconds, there), daemon=True).start()
    return here


def _work(worlds: Worlds, seconds: float, line: Connection) -> None:
    worker = Worker(worlds)
    while not line.poll():
        worker.run_for(TICK)
    line.recv()
    worker.begin()
    worker.run_for(seconds)
    spent = worker.spent()
    while not line.poll():
        worker.run_for(TICK)
    line.send(spent)


def _reactions(world: World, active: int, meanwhile: Callable[[], None]) -> list[float]:
    """How long people waited, in seconds, while the loop goes on."""
    found: list[float] = []
    if not active:
        return found
    stop = threading.Event()
    people = threading.Thread(target=_react, args=(world, active, stop, found))
    people.start()
    meanwhile()
    stop.set()
    people.join()
    return found


def _react(world: World, active: int, stop: threading.Event, found: list[float]) -> None:
    """Every second somebody rolls a rollout back, and a worker is woken as after a click; at most one in five."""
    numbers = list(Rollout.objects.order_by("pk").values_list("pk", "endpoint"))
    for number, endpoint in numbers[: active // 5]:
        if stop.wait(1.0):
            break
        began = time.monotonic()
        roll_back_rollout(rollout_id=number, actor=HEADGATE, now=CLOCK.now())
        # Another worker may have told its copy of the router: what was published is in the database.
        while time.monotonic() - began < 60 and len(_published(endpoint)) > 1:
            reconcile_endpoint(endpoint_id=endpoint, world=world, owner="woken")
            time.sleep(0.02)
        found.append(round(time.monotonic() - began, 3))
    connection.close()


def _published(endpoint_id: int) -> dict[str, int]:
    """The shares of the route that the router has."""
    applied = Endpoint.objects.values_list("applied", flat=True).get(pk=endpoint_id)
    shares: dict[str, int] = applied["shares"]
    return shares


def _lags(since: datetime) -> list[float]:
    """By how much each interval ended later than it should have, in seconds."""
    found: list[float] = []
    rows = Evidence.objects.filter(ended_at__gt=since - timedelta(seconds=INTERVAL))
    by_rollout: dict[int, list[float]] = {}
    for rollout, ended in rows.order_by("rollout", "index").values_list("rollout", "ended_at"):
        by_rollout.setdefault(rollout, []).append(ended.timestamp())
    for ends in by_rollout.values():
        found += [round(later - earlier - INTERVAL, 3) for earlier, later in pairwise(ends)]
    return sorted(found)


def _database_bytes() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def _quantile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


if __name__ == "__main__":
    main()
