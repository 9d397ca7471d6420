"""Which tables there are, in the order of the page."""

from __future__ import annotations

from benchmarks.gates import bandits
from benchmarks.gates.report import Table
from benchmarks.gates.tables.costs import COSTS
from benchmarks.gates.tables.errors import BOUNDARY, COMPARISON, LONG, MODE
from benchmarks.gates.tables.late import LATE
from benchmarks.gates.tables.latency import LOAD, SLO, TOKEN
from benchmarks.gates.tables.outages import DEAD_BASELINE, OUTAGE_LIMIT
from benchmarks.gates.tables.outcomes import EXCESSES, POLICY
from benchmarks.gates.tables.pairs import PAIRED
from benchmarks.gates.tables.passing import DETECTABLE, PASSING
from benchmarks.gates.tables.several import SEVERAL
from benchmarks.gates.tables.timeouts import HANGING_TABLE, LOADED_TABLE, LONGER_TABLE
from benchmarks.gates.tables.units import UNITS

SIMULATED: tuple[Table, ...] = (
    COMPARISON, LONG, LATE, EXCESSES, POLICY, SEVERAL, UNITS, MODE, BOUNDARY, SLO, LOAD, LOADED_TABLE,
    HANGING_TABLE, LONGER_TABLE, TOKEN, DEAD_BASELINE, OUTAGE_LIMIT, PAIRED, PASSING, DETECTABLE,
    bandits.COMPARISON, bandits.DIAL, bandits.GUARDED, bandits.LATE, bandits.ARMS, bandits.INTERVALS,
)  # fmt: skip
ALONE: tuple[Table, ...] = (COSTS,)  # measured when nothing else runs
EVERY = (*SIMULATED, *ALONE)
