"""`python -m benchmarks.kubernetes_loop`: what many endpoints on one cluster cost its API server, and how long after a
pod is ready its weight moves, as a table in Markdown. As root, with what the tests on Kubernetes need.

etcd, API server and PostgreSQL are the real ones. There are no nodes and no gateway: the benchmark itself says that
pods are ready and routes accepted, as a kubelet, controllers and a gateway would.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.kubernetes_loop.hands import Hands
from benchmarks.kubernetes_loop.server import ApiServer, api_server
from tests.fixtures.postgresql_server import postgresql
from tests.kubernetes.build import built

ROOT = Path(__file__).parents[2]
NAMESPACE = "models"
# Endpoints, rollouts, and for how many seconds the steady state is measured.
SIZES = {"full": (1_000, 30, 90), "medium": (150, 12, 62), "smoke": (20, 4, 20)}
OURS = frozenset(
    {
        "configmaps",
        "deployments",
        "pods",
        "events",
        "leaderworkersets",
        "httproutes",
        "endpointslices",
        "namespaces",
    }
)
BY_HAND = "What it says:"
INTRODUCTION = """\
Endpoints with one variant each on one namespace of a real API server, and the loop's worker beside it, on one machine.
*Steady state*: nobody asks for anything, nothing changes. *By the API server*: its own `apiserver_request_total` of the
kinds that Headgate uses, where a watch counts when it ends. *From ready to weight*: from the moment when a candidate's
pod became Ready at the API server until the API server gave out its HTTPRoute with its share of users; in between
the loop sees it, proves it by a forced request, decides, and writes twice: first what makes it known to the proxies."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kubernetes_loop", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--endpoints", type=int, help="another number of endpoints")
    parser.add_argument("--out", type=Path, help="file to write the page to (else it is printed)")
    chosen = parser.parse_args()
    binaries = built()
    if binaries is None:
        raise SystemExit("The programs of the tests' Kubernetes are not built: make kubernetes.")
    endpoints, rollouts, seconds = SIZES[chosen.size]
    endpoints = chosen.endpoints or endpoints
    with (
        tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder,
        postgresql(options="-c fsync=off") as database,
        api_server(Path(folder), binaries, namespace=NAMESPACE) as server,
    ):
        speed = _additions()
        found = _measure(server, database, endpoints, rollouts, seconds)
    page = _page(chosen.size, endpoints, found, speed)
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page + _by_hand(chosen.out))


def _measure(server: ApiServer, database: str, endpoints: int, rollouts: int, seconds: int) -> dict[str, Any]:
    """Runs the worker, and reads the API server's own count when it says that the steady state begins and ends."""
    with psycopg.connect(f"{database}postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE bench")
    environment = {**os.environ, "HEADGATE_DATABASE_URL": f"{database}bench"}
    migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(migrate, cwd=ROOT, env=environment, check=True)
    hands = Hands(server)
    hands.start()
    command = [sys.executable, "-m", "benchmarks.kubernetes_loop.cell", str(server.kubeconfig), NAMESPACE]
    worker = subprocess.Popen(
        [*command, *(str(one) for one in (endpoints, rollouts, seconds))],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    counted: list[tuple[float, dict[tuple[str, str], float]]] = []
    found: dict[str, Any] = {}
    assert worker.stdout is not None
    try:
        for line in worker.stdout:
            said = json.loads(line)
            print(line.rstrip()[:400], file=sys.stderr)
            if said["mark"].startswith("steady"):
                counted.append((time.monotonic(), server.requests()))
            found |= said
        if worker.wait() != 0:
            raise SystemExit("The worker ended early: see above.")
    finally:
        hands.stop()
        worker.kill()
        worker.wait()
    (began, before), (ended, after) = counted
    answered = {
        f"{verb} {resource}": after[verb, resource] - before.get((verb, resource), 0.0)
        for verb, resource in sorted(after)
        if resource in OURS and after[verb, resource] > before.get((verb, resource), 0.0)
    }
    moved = [
        hands.moved_at[name] - hands.ready_at[name] for name in found["candidates"] if name in hands.moved_at
    ]
    return found | {
        "answered": answered,
        "answered_seconds": ended - began,
        "moved": sorted(moved),
        "server_mb": server.memory(),
        "load": os.getloadavg()[1],
    }


def _additions() -> float:
    """Millions of additions that this machine's Python makes a second: how fast it is at this moment."""
    began, total = time.monotonic(), 0
    for number in range(5_000_000):
        total += number
    return 5 / (time.monotonic() - began)


def _page(size: str, endpoints: int, found: dict[str, Any], speed: float) -> str:
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    asked, lasted = found["asked"], found["steady_seconds"]
    watches = sum(count for name, count in asked.items() if name.startswith("WATCH"))
    moved = found["moved"]
    median, slowest = _quantile(moved, 0.5), _quantile(moved, 0.99)
    rows = {
        "endpoints, each with one variant": f"{endpoints:,}",
        "steady state: requests a second, by the worker's own count": _number(sum(asked.values()) / lasted),
        "of these, watches": _number(watches / lasted),
        "of these, the tokens of all endpoints in one write": _number(
            sum(count for name, count in asked.items() if name.endswith("configmaps") and "WATCH" not in name)
            / lasted
        ),
        "steady state: requests a second, by the API server": _number(
            sum(found["answered"].values()) / found["answered_seconds"]
        ),
        "rollouts whose weight moved": f"{len(moved)} of {len(found['candidates'])}",
        "from ready to weight, median / p99, s": f"{_number(median)} / {_number(slowest)}",
        "memory of the worker: steady / at most, MiB": f"{found['memory_mb']} / {found['peak_mb']}",
        "memory of the API server / etcd, MiB": (
            f"{found['server_mb']['kube-apiserver']} / {found['server_mb']['etcd']}"
        ),
        "CPU of the worker in the steady state, share of a core": f"{found['cpu_share']:.0%}",
        "longest tick in the steady state, s": _number(found["longest_tick"]),
    }
    lines = [
        "# What a cluster costs its API server",
        "",
        f"The tables are written by `python -m benchmarks.kubernetes_loop --size {size}` (`make bench-kubernetes`). On"
        f" {machine}, {day}; its Python made {speed:.1f} million additions a second when the run began, and"
        f" the load of all that it did was {found['load']:.1f} when it ended.",
        "",
        INTRODUCTION,
        "",
        *_table(("what", "figure"), rows),
        "",
        f"## Asked in the steady state, in {lasted:.0f} s",
        "",
        *_table(("request", "by the worker"), {name: str(count) for name, count in asked.items()}),
        "",
        *_table(
            ("request", "by the API server"),
            {name: f"{count:.0f}" for name, count in found["answered"].items()},
        ),
    ]
    return "\n".join(lines) + "\n"


def _table(headers: tuple[str, str], rows: dict[str, str]) -> list[str]:
    return [
        "| " + " | ".join(headers) + " |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
    ]


def _by_hand(page: Path) -> str:
    """What a person wrote below the tables, to be read again with the new figures."""
    before = page.read_text() if page.exists() else ""
    _, mark, rest = before.partition(BY_HAND)
    return f"\n{mark}{rest}" if mark else ""


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
