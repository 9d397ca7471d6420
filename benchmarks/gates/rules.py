"""The product's rules on simulated counts, through its vectorised form (`rollouts.domain.gates.batch`)."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.gates.traffic import SECONDS, Array, Counts
from rollouts.domain.gates.batch import BlocksBatch, ProportionBatch
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.proportion import Proof

ALPHA = 0.05
THRESHOLD = math.log(1 / ALPHA)
ANY_GATE = GateSpec(
    key="errors", label="Error rate", kind="error_rate", mode="strict", delta=0.01, weight=1.0
)
RESTART_SECONDS = GatePolicy(name="default", version=1, gates=(ANY_GATE,)).restart_every_seconds


def due(index: int, seconds: float = SECONDS) -> bool:
    """Whether a new start is due before this interval, with the default policy."""
    return index > 0 and (index * seconds) % RESTART_SECONDS < seconds


def ours(
    counts: Counts,
    *,
    ratio: float = 1.0,
    delta: float = 0.0,
    decision: Proof = "fail",
    spread: bool = True,
    tempered: bool = False,
) -> Array:
    """Intervals until the decision is made, shape (runs,); infinity where it never is.

    tempered    for over-dispersion, as latency gates are
    """
    batch = ProportionBatch(counts.runs, ratio=ratio, delta=delta, decision=decision, spread=spread)
    blocks = BlocksBatch(counts.runs)
    found = np.full(counts.runs, np.inf)
    for index in range(counts.intervals):
        if spread and due(index):
            batch.start_again()
        now = counts.at(index)
        batch.update(*now, temper=blocks.temper if tempered else 1.0)
        if tempered:
            blocks.update(SECONDS, *now)
        found[(batch.log_e >= THRESHOLD) & np.isinf(found)] = index + 1
        if not np.isinf(found).any():
            break
    return found
