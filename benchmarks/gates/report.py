"""From results to a page: rates and means with standard errors, grids, Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import Array


@dataclass(frozen=True, slots=True)
class Grid:
    """One grid of a table; a row is its cells as text, the first one its name."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def markdown(self) -> str:
        lines = [f"**{self.caption}**", ""] if self.caption else []
        lines += [_line(self.head), _line(["---"] * len(self.head))]
        return "\n".join(lines + [_line(row) for row in self.rows])


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the page.

    shows       what it shows, in words; setup: what was simulated
    cells       the settings to simulate, by size
    render      (cell name -> results) -> grids
    """

    key: str
    title: str
    setup: str
    shows: str
    cells: Callable[[Size], Sequence[Cell]]
    render: Callable[[Mapping[str, Results]], Sequence[Grid]]


@dataclass(frozen=True, slots=True)
class Section:
    """A rendered table, and what was simulated for it."""

    table: Table
    grids: Sequence[Grid]
    runs: Mapping[str, int] = field(default_factory=dict)

    def markdown(self) -> str:
        sizes = sorted(set(self.runs.values()))
        runs = f" Runs per cell: {' or '.join(f'{size:,}' for size in sizes)}." if sizes else ""
        parts = [f"## {self.table.title}", f"{self.table.shows}", f"*{self.table.setup}{runs}*"]
        return "\n\n".join(parts + [grid.markdown() for grid in self.grids])


def rate(found: Array) -> str:
    """The share of finite numbers ± its standard error: `.030 ± .002`."""
    share, error = rate_of(found)
    return f"{_bare(share)} ± {_bare(error)}"


def rate_of(found: Array) -> tuple[float, float]:
    """(share of finite numbers, standard error); the error of none or all is that of one more try."""
    n = found.shape[-1]
    hits = float(np.isfinite(found).sum())
    smoothed = (hits + 0.5) / (n + 1)
    return hits / n, math.sqrt(smoothed * (1 - smoothed) / n)


def share(hits: Array) -> str:
    """`rate` of an array of 0 and 1."""
    return rate(np.where(hits > 0, 1.0, np.inf))


def mean(values: Array, most: float = math.inf) -> str:
    """The mean ± its standard error, with what never came counted as `most`."""
    middle, error = mean_of(values, most)
    places = _places(middle)
    return f"{middle:,.{places}f} ± {error:.{places}f}"


def mean_of(values: Array, most: float = math.inf) -> tuple[float, float]:
    cut = np.minimum(values, most)
    return float(cut.mean()), float(cut.std(ddof=1) / math.sqrt(len(cut))) if len(cut) > 1 else math.nan


def median(values: Array) -> str:
    """The median ± half of its 68 % interval (from the order statistics); `never` when most never came."""
    ordered = np.sort(values)
    n = len(ordered)
    middle = float(ordered[(n - 1) // 2])
    if math.isinf(middle):
        return "never"
    reach = math.sqrt(n) / 2
    low, high = (ordered[round(float(np.clip((n - 1) / 2 + side * reach, 0, n - 1)))] for side in (-1, 1))
    error = f" ± {(high - low) / 2:,.0f}" if math.isfinite(high) else ""
    return f"{middle:,.0f}{error}"


def _places(value: float) -> int:
    """Decimals that leave about three digits."""
    return 0 if value >= 100 else 1 if value >= 10 else 2


def _bare(value: float) -> str:
    """.030, and 1.000 when it is."""
    return f"{value:.3f}".removeprefix("0")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
