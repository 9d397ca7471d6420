"""One cell of the benchmark, in a process of its own: `python -m benchmarks.loop.cell ACTIVE QUIET SECONDS`.

The loop runs as a worker runs it (a tick a second, four turns at a time) on the database that HEADGATE_DATABASE_URL
names, which has its tables and nothing in them. Prints JSON.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

os.environ.setdefault("HEADGATE_RUN_DIR", tempfile.mkdtemp(prefix="headgate-bench-"))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.config.settings")

import django

django.setup()

from django.db import connection  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402
from django.db.models import Q  # noqa: E402

from benchmarks.loop.furnish import furnish, worlds_of  # noqa: E402
from benchmarks.loop.plane import Plane  # noqa: E402
from controlplane.access.actors import HEADGATE  # noqa: E402
from controlplane.timekeeping.database_clock import CLOCK  # noqa: E402
from rollouts.models import Endpoint, Evidence, Rollout  # noqa: E402
from rollouts.services.commands.rollouts import roll_back_rollout  # noqa: E402
from rollouts.services.loop.glances import Glances  # noqa: E402
from rollouts.services.loop.reconcile import reconcile_endpoint, reconcile_endpoints  # noqa: E402
from rollouts.services.world import World  # noqa: E402

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


def main() -> None:
    active, quiet, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    plane = furnish(active, quiet, clock=CLOCK)
    worlds = worlds_of(plane, clock=CLOCK, interval_seconds=INTERVAL)
    world = worlds.of("here")
    queries = Queries()
    glances = Glances()
    ticks: list[float] = []

    def run_for(length: float) -> None:
        ends = time.monotonic() + length
        while (began := time.monotonic()) < ends:
            reconcile_endpoints(worlds=worlds, clock=CLOCK, threads=THREADS, glances=glances)
            ticks.append(time.monotonic() - began)
            time.sleep(max(0.0, TICK - ticks[-1]))

    # After a start every endpoint is looked at, and the first turn of one with a rollout publishes its route.
    while Endpoint.objects.filter(Q(applied={}) | Q(reconciled_at=None)).exists():
        run_for(TICK)
    if active:
        run_for(INTERVAL)  # the turns spread
    ticks.clear()
    before = (time.process_time(), queries.number, _database_bytes(), Evidence.objects.count())
    since = datetime.now(UTC)
    run_for(seconds)
    lasted = (datetime.now(UTC) - since).total_seconds()
    after = (time.process_time(), queries.number, _database_bytes(), Evidence.objects.count())
    lags = _lags(since)
    reactions = _reactions(plane, world, active, lambda: run_for(REACTION_SECONDS))
    rows = after[3] - before[3]
    print(
        json.dumps(
            {
                "active": active,
                "quiet": quiet,
                "seconds": round(lasted, 1),
                "intervals": rows,
                "lag_p50": _quantile(lags, 0.5),
                "lag_p99": _quantile(lags, 0.99),
                "cpu_seconds": round(after[0] - before[0], 2),
                "queries": after[1] - before[1],
                "bytes": after[2] - before[2],
                "longest_tick": round(max(ticks), 2),
                "reaction_p50": _quantile(reactions, 0.5),
                "reaction_max": max(reactions, default=None),
                "reactions": len(reactions),
            }
        )
    )


def _reactions(plane: Plane, world: World, active: int, meanwhile: Callable[[], None]) -> list[float]:
    """How long people waited, in seconds, while the loop goes on."""
    found: list[float] = []
    if not active:
        return found
    stop = threading.Event()
    people = threading.Thread(target=_react, args=(plane, world, active, stop, found))
    people.start()
    meanwhile()
    stop.set()
    people.join()
    return found


def _react(plane: Plane, world: World, active: int, stop: threading.Event, found: list[float]) -> None:
    """Every second somebody rolls a rollout back, and a worker is woken as after a click; at most one in five."""
    numbers = list(Rollout.objects.order_by("pk").values_list("pk", "endpoint", "endpoint__name"))
    for number, endpoint, name in numbers[: active // 5]:
        if stop.wait(1.0):
            break
        began = time.monotonic()
        roll_back_rollout(rollout_id=number, actor=HEADGATE, now=CLOCK.now())
        while time.monotonic() - began < 60 and len(plane.routes[name].shares) > 1:
            reconcile_endpoint(endpoint_id=endpoint, world=world, owner="woken")
            time.sleep(0.02)
        found.append(round(time.monotonic() - began, 3))
    connection.close()


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
