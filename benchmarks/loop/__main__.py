"""`python -m benchmarks.loop`: what the loop costs on PostgreSQL with many endpoints, as a table in Markdown.

The database is real and started here; clusters, router and counters are in memory, a function of time, so that what is
measured is the loop and its database. Worker processes with four threads each, as the product runs them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.fixtures.postgresql_server import postgresql

ROOT = Path(__file__).parents[2]
# Rollouts, quiet endpoints, for how many seconds (where endpoints are quiet, once around all of them), and worker
# processes.
SIZES = {
    "full": (
        (0, 4_000, 30, 1),
        (10, 0, 12, 1),
        (10, 4_000, 30, 1),
        (100, 0, 12, 1),
        (100, 4_000, 30, 1),
        (1_000, 0, 16, 1),
        (1_000, 0, 16, 2),
        (1_000, 4_000, 30, 2),
    ),
    "smoke": ((0, 200, 12, 1), (10, 100, 12, 2)),
}
INTRODUCTION = """\
Rollouts with four gates at an interval of 10 s, beside quiet endpoints, on a PostgreSQL of the benchmark's own. *Lag*:
by how much an interval ended later than it should have. *CPU*: of the worker processes, without the database's.
*Reaction*: from a rollback that a person asked for until the router has it, while all that goes on. Growth is that of
the tables as they are written, before they are packed."""
ADDITIONS = 10_000_000
BY_HAND = "What it says:"
TEMPLATE = "with_tables"  # the database that every cell starts with a copy of
HEADERS = (
    "rollouts", "quiet endpoints", "workers", "lag p50 / p99, s",
    "CPU ms a rollout and interval", "queries a rollout and interval",
    "queries a quiet endpoint and minute", "CPU, share of a core", "longest tick, s", "growth a rollout and day, MB",
    "reaction p50 / longest, s",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="smoke")
    parser.add_argument("--out", type=Path, help="file to write the page to (else it is printed)")
    chosen = parser.parse_args()
    found = []
    with postgresql() as server:
        with psycopg.connect(f"{server}postgres", autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {TEMPLATE}")
        _run({"HEADGATE_DATABASE_URL": f"{server}{TEMPLATE}"}, "manage.py", "migrate", "--verbosity", "0")
        for number, (active, quiet, seconds, workers) in enumerate(SIZES[chosen.size]):
            found.append(_measure(server, f"cell{number}", active, quiet, seconds, workers))
            print(f"{active} rollouts, {quiet} quiet endpoints: {found[-1]}", file=sys.stderr)
    page = _page(chosen.size, found)
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page + _by_hand(chosen.out))


def _measure(server: str, name: str, active: int, quiet: int, seconds: int, workers: int) -> dict[str, Any]:
    with psycopg.connect(f"{server}postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    arguments = ("-m", "benchmarks.loop.cell", str(active), str(quiet), str(seconds), str(workers))
    found: dict[str, Any] = json.loads(
        _run({"HEADGATE_DATABASE_URL": f"{server}{name}"}, *arguments).splitlines()[-1]
    )
    return found


def _run(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-6000:])
    return done.stdout


def _page(size: str, found: list[dict[str, Any]]) -> str:
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    speed = f"One core makes {_additions_per_second() / 1e6:.0f} million additions in Python a second."
    lines = [
        "# What the loop costs",
        "",
        f"The table is written by `python -m benchmarks.loop --size {size}`. On {machine}, {day}. {speed}",
        "",
        INTRODUCTION,
        "",
        "| " + " | ".join(HEADERS) + " |",
        "|" + "---|" * len(HEADERS),
        *("| " + " | ".join(_row(cell)) + " |" for cell in found),
    ]
    return "\n".join(lines) + "\n"


def _additions_per_second() -> float:
    """How fast the machine is, to compare figures of two machines by."""
    began, total = time.process_time(), 0
    for number in range(ADDITIONS):
        total += number
    return ADDITIONS / (time.process_time() - began)


def _by_hand(page: Path) -> str:
    """What a person wrote below the table, to be read again with the new figures."""
    before = page.read_text() if page.exists() else ""
    _, mark, rest = before.partition(BY_HAND)
    return f"\n{mark}{rest}"


def _row(cell: dict[str, Any]) -> list[str]:
    rows, minutes = cell["intervals"], cell["seconds"] / 60
    growth = cell["bytes"] / rows * 8_640 / 1e6 if rows else None
    return [
        f"{cell['active']:,}",
        f"{cell['quiet']:,}",
        f"{cell['workers']}",
        f"{_number(cell['lag_p50'])} / {_number(cell['lag_p99'])}",
        _number(1e3 * cell["cpu_seconds"] / rows if rows else None),
        _number(cell["queries"] / rows if rows else None),
        _number(cell["queries"] / cell["quiet"] / minutes if cell["quiet"] and not cell["active"] else None),
        f"{cell['cpu_seconds'] / cell['seconds']:.0%}",
        _number(cell["longest_tick"]),
        _number(growth),
        f"{_number(cell['reaction_p50'])} / {_number(cell['reaction_max'])}",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
