"""Which tables there are, in the order of the page."""

from __future__ import annotations

from benchmarks.gates import bandits
from benchmarks.gates.report import Table
from benchmarks.gates.tables.costs import COSTS
from benchmarks.gates.tables.errors import BOUNDARY, COMPARISON, LONG, MODE
from benchmarks.gates.tables.late import LATE
from benchmarks.gates.tables.latency import LOAD, SLO, TOKEN
from benchmarks.gates.tables.pairs import PAIRED
from benchmarks.gates.tables.passing import DETECTABLE, PASSING
from benchmarks.gates.tables.several import SEVERAL
from benchmarks.gates.tables.units import UNITS

SIMULATED: tuple[Table, ...] = (
    COMPARISON, LONG, LATE, SEVERAL, UNITS, MODE, BOUNDARY, SLO, LOAD, TOKEN, PAIRED, PASSING, DETECTABLE,
    bandits.COMPARISON, bandits.DIAL, bandits.GUARDED, bandits.LATE, bandits.ARMS, bandits.INTERVALS,
)  # fmt: skip
ALONE: tuple[Table, ...] = (COSTS,)  # measured when nothing else runs
EVERY = (*SIMULATED, *ALONE)
