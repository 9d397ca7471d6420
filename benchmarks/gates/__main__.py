"""`python -m benchmarks.gates`: simulate, and write the page with its pictures."""

from __future__ import annotations

import argparse
import datetime
import time
from pathlib import Path

from benchmarks.gates.page import Making, merged, page
from benchmarks.gates.plots import draw_all
from benchmarks.gates.report import Section
from benchmarks.gates.running import SIZES, Progress, Results, Size, run_cells
from benchmarks.gates.tables import ALONE, EVERY, SIMULATED

SEED = 20260711
EVIDENCE = Path(__file__).parents[2] / "docs" / "evidence"
SCRATCH = Path(__file__).parents[2] / "var" / "bench-gates"


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gates", description="Reproduces the figures of the gates."
    )
    parser.add_argument(
        "--size",
        choices=SIZES,
        default="smoke",
        help="full: up to an hour; part: a quarter of the runs (smoke)",
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"of all random numbers ({SEED})")
    parser.add_argument(
        "--only", action="append", metavar="TABLE", help=f"one of: {', '.join(table.key for table in EVERY)}"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes; 0: in this one (2)")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder to write to (docs/evidence for the whole full size, else var/bench-gates)",
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="PAGE",
        help="an existing page whose sections of these tables are replaced",
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    parser = options()
    chosen = parser.parse_args(arguments)
    only = set(chosen.only or [table.key for table in EVERY])
    if unknown := only - {table.key for table in EVERY}:
        parser.error(f"no such table: {', '.join(sorted(unknown))}")
    whole = chosen.size == "full" and not chosen.only
    into: Path | None = chosen.into
    out: Path = chosen.out or (EVIDENCE if whole else into.parent if into else SCRATCH)
    size, begin = Size(chosen.size), time.monotonic()
    results: dict[str, dict[str, Results]] = {}
    for tables, workers in ((SIMULATED, chosen.workers), (ALONE, 0)):
        cells = {table.key: table.cells(size) for table in tables if table.key in only}
        results |= run_cells(cells, seed=chosen.seed, workers=workers, progress=Progress())
    sections = [
        Section(
            table,
            table.render(results[table.key]),
            {cell.name: cell.runs for cell in table.cells(size)},
        )
        for table in EVERY
        if table.key in only
    ]
    today = datetime.datetime.now(tz=datetime.UTC).date()
    command = "make bench-gates" if whole else f"python -m benchmarks.gates --size {size.name}"
    making = Making(command, size.name, chosen.seed, time.monotonic() - begin, today)
    out.mkdir(parents=True, exist_ok=True)
    pictures, order = draw_all(results, out), [table.title for table in EVERY]
    if into is None:
        text, target = page(sections, pictures, making), out / "gates.md"
    else:
        text, target = merged(into.read_text(encoding="utf-8"), sections, pictures, making, order), into
    target.write_text(text, encoding="utf-8")
    print(text)
    print(f"Written to {target}.")


if __name__ == "__main__":
    main()
