"""Spreads simulations over processes; what comes out depends on the seed alone, never on the processes."""

from __future__ import annotations

import multiprocessing
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar

import numpy as np

from benchmarks.gates.traffic import Array

Results = Mapping[str, Array]  # per outcome an array whose last axis is the runs
Simulation = Callable[..., Results]
T = TypeVar("T")
SIZES = ("full", "part", "smoke", "tiny")


@dataclass(frozen=True, slots=True)
class Size:
    """How large: `full` by hand, `part` (a quarter of the runs) where that takes too long, `smoke` in CI, `tiny` for
    tests.
    """

    name: str

    def runs(self, full: int, smoke: int, tiny: int = 4) -> int:
        return {"full": full, "part": max(full // 4, smoke), "smoke": smoke, "tiny": tiny}[self.name]

    def pick(self, full: T, smoke: T, tiny: T) -> T:
        """What is no number of runs: hours, intervals, ages."""
        return full if self.whole else {"smoke": smoke, "tiny": tiny}[self.name]

    @property
    def whole(self) -> bool:
        """Whether everything is simulated as the page says it, with however many runs."""
        return self.name in ("full", "part")


@dataclass(frozen=True, slots=True)
class Cell:
    """One simulated setting.

    name        unique in its table; with the table's key it decides the seeds
    simulate    a function of the module level: simulate(runs=..., rng=..., **settings) -> Results
    chunk       runs that one task does; a matter of memory and time, and a part of what decides the seeds
    """

    name: str
    simulate: Simulation
    runs: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    chunk: int = 500

    def chunks(self) -> Iterator[tuple[int, int]]:
        """(number, runs) of each task."""
        for number, begin in enumerate(range(0, self.runs, self.chunk)):
            yield number, min(self.chunk, self.runs - begin)


@dataclass(frozen=True, slots=True)
class Task:
    table: str
    cell: Cell
    number: int
    runs: int

    def run(self, seed: int) -> Results:
        """The outcome of this chunk, from a stream of random numbers of its own."""
        return self.cell.simulate(runs=self.runs, rng=self.rng(seed), **self.cell.settings)

    def rng(self, seed: int) -> np.random.Generator:
        """A child of the seed, named by table, cell and chunk, so that running one table alone changes
        nothing.
        """
        name = zlib.crc32(f"{self.table}/{self.cell.name}".encode())
        return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(name, self.number)))


def run_cells(
    cells: Mapping[str, Sequence[Cell]], *, seed: int, workers: int, progress: Progress
) -> dict[str, dict[str, Results]]:
    """Table -> cell -> its results over all runs, in order. `workers` 0: in this process."""
    tasks = [
        Task(table, cell, number, runs)
        for table, of_table in cells.items()
        for cell in of_table
        for number, runs in cell.chunks()
    ]
    progress.begin(len(tasks))
    done: dict[tuple[str, str], dict[int, Results]] = {}
    for task, outcome in _in_process(tasks, seed) if workers == 0 else _in_pool(tasks, seed, workers):
        done.setdefault((task.table, task.cell.name), {})[task.number] = outcome
        progress.step(f"{task.table}: {task.cell.name}")
    progress.end()
    return {
        table: {cell.name: _joined(done[table, cell.name]) for cell in of_table}
        for table, of_table in cells.items()
    }


def _in_process(tasks: Sequence[Task], seed: int) -> Iterator[tuple[Task, Results]]:
    for task in tasks:
        yield task, task.run(seed)


def _in_pool(tasks: Sequence[Task], seed: int, workers: int) -> Iterator[tuple[Task, Results]]:
    context = multiprocessing.get_context("spawn")  # no state of this process leaks into the results
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures: dict[Future[Results], Task] = {pool.submit(task.run, seed): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _joined(chunks: Mapping[int, Results]) -> Results:
    """The chunks one behind the other along the last axis, in their order."""
    ordered = [chunks[number] for number in sorted(chunks)]
    return {name: np.concatenate([chunk[name] for chunk in ordered], axis=-1) for name in ordered[0]}


class Progress:
    """A bar on one line: what was done last, done of all, time left. On a file: a line now and then."""

    WIDTH = 30

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out if out is not None else sys.stderr
        self._clock = clock
        self._total = self._done = 0
        self._began = self._said = clock()

    def begin(self, total: int) -> None:
        self._total, self._done, self._began = total, 0, self._clock()

    def step(self, what: str) -> None:
        """One task is done."""
        self._done += 1
        now = self._clock()
        terminal = self._out.isatty()
        if not terminal and now - self._said < 20 and self._done < self._total:
            return
        self._said = now
        left = (now - self._began) / self._done * (self._total - self._done)
        filled = self.WIDTH * self._done // self._total
        line = f"[{'#' * filled}{'.' * (self.WIDTH - filled)}] {self._done}/{self._total}, {_time(left)} left, {what}"
        self._out.write(f"\r\033[K{line[:150]}" if terminal else f"{line}\n")
        self._out.flush()

    def end(self) -> None:
        if self._out.isatty():
            self._out.write("\r\033[K")
            self._out.flush()


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
