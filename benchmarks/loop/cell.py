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

from benchmarks.loop.plane import Plane  # noqa: E402
from controlplane.access.actors import HEADGATE  # noqa: E402
from controlplane.timekeeping.database_clock import CLOCK  # noqa: E402
from registry.models import Model  # noqa: E402
from rollouts.domain.gates.policy import GatePolicy  # noqa: E402
from rollouts.domain.plan import canary  # noqa: E402
from rollouts.models import Arm, Cluster, Endpoint, Evidence, GatePolicyVersion, Rollout, Variant, Workload  # noqa: E402
from rollouts.services.commands import roll_back_rollout  # noqa: E402
from rollouts.services.glances import Glances  # noqa: E402
from rollouts.services.reconcile import reconcile_endpoint, reconcile_endpoints  # noqa: E402
from rollouts.services.world import World, Worlds  # noqa: E402
from tests import factories  # noqa: E402

INTERVAL, TICK, THREADS, SHARE_BP = 10.0, 1.0, 4, 2_500
REACTION_SECONDS = 10.0
ALPHA_PART = 0.25
POLICY: dict[str, Any] = {
    "name": "loop",
    "version": 1,
    "gates": [
        {"key": "errors", "kind": "error_rate", "delta": 0.05, "weight": ALPHA_PART},
        {"key": "refused", "kind": "refused", "delta": 0.05, "weight": ALPHA_PART},
        {"key": "abandoned", "kind": "abandoned", "mode": "tolerant", "delta": 0.05, "weight": ALPHA_PART},
        {
            "key": "ttft",
            "kind": "latency_slo",
            "signal": "ttft",
            "slo_seconds": 1.0,
            "delta": 0.1,
            "weight": ALPHA_PART,
        },
    ],
}
PLAN = canary((SHARE_BP / 100, 50), hold_seconds=3_600, min_requests=10)


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


def furnish(active: int, quiet: int) -> Plane:
    """Endpoints of one model; every active one has a canary at 25 % that goes on for an hour."""
    now = datetime.now(UTC)
    of = factories.model(now=now)
    policy = GatePolicy.from_json(POLICY)
    shared = GatePolicyVersion.objects.create(
        name=policy.name, version=1, body=policy.to_json(), digest="sha256:" + "0" * 64, created_at=now
    )
    cluster = Cluster.objects.create(name="here")
    names = [f"busy-{number}" for number in range(active)] + [f"quiet-{number}" for number in range(quiet)]
    endpoints = _endpoints(names, of, shared, cluster, now)
    variants = {1: _variants(endpoints, of, 1, now), 2: _variants(endpoints[:active], of, 2, now)}
    plane = Plane(frozenset(names[:active]))
    for position, endpoint in enumerate(endpoints):
        stable = variants[1][position]
        shares = {stable.name: 10_000}
        if position < active:
            shares = {stable.name: 10_000 - SHARE_BP, variants[2][position].name: SHARE_BP}
        endpoint.stable, endpoint.desired_fallback = stable, stable.name
        endpoint.desired_shares = endpoint.observed_shares = shares
        plane.add(endpoint.name, shares)
    Endpoint.objects.bulk_update(
        endpoints, ["stable", "desired_fallback", "desired_shares", "observed_shares"], batch_size=500
    )
    _rollouts(endpoints[:active], variants, shared, now)
    return plane


def _endpoints(
    names: list[str], of: Model, shared: GatePolicyVersion, cluster: Cluster, now: datetime
) -> list[Endpoint]:
    made = [
        Endpoint(name=name, model=of, gate_policy=shared, cluster=cluster, alias=name, created_at=now)
        for name in names
    ]
    return Endpoint.objects.bulk_create(made, batch_size=500)


def _variants(endpoints: list[Endpoint], of: Model, number: int, now: datetime) -> list[Variant]:
    version = of.versions.get(number=number)
    made = Variant.objects.bulk_create(
        [
            Variant(
                endpoint=endpoint,
                version=version,
                name=f"{endpoint.name}-v{number}-{position:06x}",
                digest=f"sha256:{position:064x}",
                serving={
                    "engine": "vllm",
                    "arguments": {},
                    "environment": {},
                    "resources": {},
                    "replicas": 1,
                },
                created_at=now,
            )
            for position, endpoint in enumerate(endpoints)
        ],
        batch_size=500,
    )
    Workload.objects.bulk_create(
        [
            Workload(
                variant=one, wanted=True, phase="ready", host="127.0.0.1", port=18_000, ready=1, desired=1
            )
            for one in made
        ],
        batch_size=500,
    )
    return made


def _rollouts(
    endpoints: list[Endpoint], variants: dict[int, list[Variant]], shared: GatePolicyVersion, now: datetime
) -> None:
    rollouts = Rollout.objects.bulk_create(
        [
            Rollout(
                endpoint=endpoint,
                baseline=variants[1][position],
                candidate=variants[2][position],
                gate_policy=shared,
                plan=PLAN.to_json(),
                plan_digest=PLAN.digest,
                phase="progressing",
                phase_since=now,
                step_index=0,
                step_since=now,
                traffic_at=now,
                measured_at=now,
                created_at=now,
            )
            for position, endpoint in enumerate(endpoints)
        ],
        batch_size=500,
    )
    arms = []
    for position, rollout in enumerate(rollouts):
        arms.append(
            Arm(rollout=rollout, variant=variants[1][position], name="baseline", desired_bp=10_000 - SHARE_BP)
        )
        arms.append(
            Arm(rollout=rollout, variant=variants[2][position], name="candidate", desired_bp=SHARE_BP)
        )
    Arm.objects.bulk_create(arms, batch_size=500)


def main() -> None:
    active, quiet, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    plane = furnish(active, quiet)
    world = World(
        name="here",
        cluster=plane,
        router=plane,
        signals=plane,
        request_log=plane,
        prober=None,  # type: ignore[arg-type]  # nobody launches here, so nobody is asked
        store=None,  # type: ignore[arg-type]
        models_dir=None,  # type: ignore[arg-type]
        clock=CLOCK,
        edges={},
        interval_seconds=INTERVAL,
    )
    worlds = Worlds((world.name,), lambda name: world, CLOCK)
    queries = Queries()
    glances = Glances()
    ticks: list[float] = []

    def run_for(length: float) -> None:
        ends = time.monotonic() + length
        while (began := time.monotonic()) < ends:
            reconcile_endpoints(worlds=worlds, clock=CLOCK, threads=THREADS, glances=glances)
            ticks.append(time.monotonic() - began)
            time.sleep(max(0.0, TICK - ticks[-1]))

    run_for(INTERVAL)  # every endpoint is looked at once, and the turns spread
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
