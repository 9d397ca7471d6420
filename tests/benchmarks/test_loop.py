"""The benchmark of the loop runs and measures something in every cell. Its figures are no test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.loop.sums import section

ROOT = Path(__file__).resolve().parents[2]


def test_bench_sums__against_itself__every_part_has_a_figure_and_a_ratio() -> None:
    page = section(rounds=2, runs=1, against=ROOT)

    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 8
    assert all(float(before) > 0 and float(ratio) > 0 for _, _, before, ratio in rows)


@pytest.mark.e2e
@pytest.mark.needs("postgres")
@pytest.mark.timeout(600)
def test_bench_loop__smoke__writes_a_page_with_every_cell(tmp_path: Path) -> None:
    page = tmp_path / "loop.md"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.loop", "--size", "smoke", "--out", str(page)],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| \n").split(" | ") for line in page.read_text().splitlines()]
    idle, active = [row for row in rows if row[0] in ("0", "10")]
    assert [idle[:3], active[:3]] == [["0", "200", "1"], ["10", "100", "2"]]
    assert idle[3] == "– / –"
    assert float(idle[6]) > 0
    assert float(active[4]) > 0
    assert float(active[10].split(" / ")[0]) < 60
