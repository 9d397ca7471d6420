"""The same seed gives the same results, however the work is spread."""

from __future__ import annotations

import io

import numpy as np

from benchmarks.gates.running import Cell, Progress, Results, run_cells


def draw(*, runs: int, rng: np.random.Generator, shift: float) -> Results:
    return {"x": rng.normal(shift, 1, runs), "y": rng.normal(0, 1, (2, runs))}


A = Cell("a", draw, 25, {"shift": 0.0}, chunk=10)
B = Cell("b", draw, 25, {"shift": 0.0}, chunk=10)


def quiet() -> Progress:
    return Progress(io.StringIO())


def test_run_cells__in_two_processes_or_in_this_one__same_results() -> None:
    here = run_cells({"t": (A, B)}, seed=3, workers=0, progress=quiet())
    there = run_cells({"t": (A, B)}, seed=3, workers=2, progress=quiet())
    for cell in ("a", "b"):
        assert np.array_equal(here["t"][cell]["x"], there["t"][cell]["x"])
        assert here["t"][cell]["y"].shape == (2, 25)


def test_run_cells__one_cell_alone__same_as_among_others() -> None:
    alone = run_cells({"t": (B,)}, seed=3, workers=0, progress=quiet())
    among = run_cells({"t": (A, B)}, seed=3, workers=0, progress=quiet())
    assert np.array_equal(alone["t"]["b"]["x"], among["t"]["b"]["x"])


def test_run_cells__cells_chunks_and_seeds__are_independent_streams() -> None:
    found = run_cells({"t": (A, B)}, seed=3, workers=0, progress=quiet())["t"]
    other = run_cells({"t": (A,)}, seed=4, workers=0, progress=quiet())["t"]
    values = np.concatenate([found["a"]["x"], found["b"]["x"], other["a"]["x"]])
    assert len(set(values)) == 75


def test_progress__every_step__says_what_runs_how_far_and_how_long() -> None:
    out, now = io.StringIO(), iter([0.0, 0.0, 30.0, 60.0])
    progress = Progress(out, clock=lambda: next(now))
    progress.begin(4)
    progress.step("late: bursts")
    progress.step("late: bursts")
    progress.end()
    assert out.getvalue().splitlines()[-1].endswith("2/4, 60 s left, late: bursts")
