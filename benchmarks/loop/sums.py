"""`python -m benchmarks.loop.sums`: what the arithmetic of the gates costs, from stored state to stored state.

With `--against DIRECTORY`, a checkout of an earlier version, both are measured by turns, so that what else the machine
does weighs on both alike; its ratio is what to look at then.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CELL = Path(__file__).with_name("sums_cell.py")
ROUNDS, RUNS = 40, 3
PARTS = {
    "read": "state and interval from plain data",
    "update": "the gates learn from the interval",
    "assess": "verdicts with intervals, forecasts and sentences",
    "write": "state and verdicts to plain data",
}
BESIDE = {
    "from_text": "beside it: JSON text to plain data",
    "to_text": "beside it: plain data to JSON text",
    "digest": "beside it: digest of interval and verdicts",
}
INTRODUCTION = """\
CPU of 1,000 rollouts with eight gates each and one interval, from stored state to the next one and its verdicts, on one
core, by `python -m benchmarks.loop.sums`{against}. Of each rollout the fastest of {rounds} rounds is taken, because
what else a machine does only ever adds; of {runs} such runs, by turns, the median. The rollouts are ten seconds to
twenty minutes old."""


def section(*, rounds: int = ROUNDS, runs: int = RUNS, against: Path | None = None) -> str:
    """The figures as a part of a page in Markdown."""
    now, before = measure(rounds=rounds, runs=runs, against=against)
    names = ["part", "s for 1,000 rollouts", *(["before", "times faster"] if before else [])]
    whole = {"whole": "**from state to state**", **BESIDE}
    lines = [
        "## The gates' arithmetic",
        "",
        INTRODUCTION.format(rounds=rounds, runs=runs, against=" with `--against EARLIER`" if against else ""),
        "",
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
    ]
    for part, words in (PARTS | whole).items():
        cells = [words, f"{now[part] * 1_000:.2f}"]
        if before:
            cells += [f"{before[part] * 1_000:.2f}", f"{before[part] / now[part]:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def measure(*, rounds: int, runs: int, against: Path | None) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds a rollout by part, of this version and of the earlier one (empty without one), measured by turns."""
    found: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for _ in range(runs):
        for which, checkout in enumerate((ROOT, against)):
            if checkout is not None:
                found[which].append(_run(checkout, rounds))
    now, before = (_medians(each) for each in found)
    return now, before


def _run(checkout: Path, rounds: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(CELL), str(rounds)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout.resolve())},
        capture_output=True,
        text=True,
        check=True,
    )
    parts: dict[str, float] = json.loads(done.stdout)
    return parts | {"whole": sum(parts[name] for name in PARTS)}


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.median(run[part] for run in runs) for part in runs[0]} if runs else {}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop.sums", description=__doc__)
    parser.add_argument("--against", type=Path, metavar="DIRECTORY", help="a checkout of an earlier version")
    parser.add_argument("--runs", type=int, default=RUNS)
    chosen = parser.parse_args()
    print(section(runs=chosen.runs, against=chosen.against), end="")


if __name__ == "__main__":
    main()
