"""Several gates together: one false-alarm budget, whatever the dependence between the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.gates.report import Grid, Table, rate
from benchmarks.gates.rules import THRESHOLD, due
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.tables.pairs import draw_scores
from benchmarks.gates.traffic import HOUR, REQUESTS, SECONDS, Array, ar1, shares_of
from rollouts.domain.gates.batch import BlocksBatch, PairedBatch, ProportionBatch, family_log_evidence

BASES = (0.01, 0.12, 0.04, 0.01, 0.05, 0.02, 0.1)  # errors, latency at three SLOs, thumbs down and so on
NESTED = (1, 2, 3)  # gates that count the same requests over ever larger SLOs
TEMPERED = frozenset(NESTED)
PAIRS_EACH = 2  # golden pairs an interval


def family_run(
    *, runs: int, rng: np.random.Generator, gates: int, hours: float = 1.0, incident: bool = False
) -> Results:
    """`gates` - 1 proportions and one paired gate, all strict, equal weights; 1 when the family rolled back.

    alone: when any gate would roll back by itself at the full alpha, the price without a shared budget.
    """
    intervals = int(hours * HOUR)
    shares = shares_of(None, intervals)
    chosen = range(gates - 1)
    batches = [ProportionBatch(runs, spread=True) for _ in chosen]
    blocks = [BlocksBatch(runs) for _ in chosen]
    pairs = PairedBatch(runs, spread=True)
    drift = np.exp(ar1(intervals, runs, 0.95, 0.1, rng))
    family, alone = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    every: list[ProportionBatch | PairedBatch] = [*batches, pairs]
    for index in range(intervals):
        if due(index):
            for process in every:
                process.start_again()
        swing = drift[index] * (8.0 if incident and 0 <= index - int(intervals * 0.4) < 30 else 1.0)
        n_c = rng.binomial(REQUESTS, shares[index], runs)
        n_b = REQUESTS - n_c
        e_c, e_b = n_c, n_b
        for number, (batch, block) in enumerate(zip(batches, blocks, strict=True)):
            p = np.clip(BASES[number] * swing, 0, 0.9)
            if number in NESTED[1:]:
                inner = np.clip(p / np.clip(BASES[number - 1] * swing, 1e-9, 0.9), 0, 1)
                e_c, e_b = rng.binomial(e_c, inner), rng.binomial(e_b, inner)
            else:
                e_c, e_b = rng.binomial(n_c, p), rng.binomial(n_b, p)
            now = (n_c.astype(float), e_c.astype(float), n_b.astype(float), e_b.astype(float))
            batch.update(*now, temper=block.temper if number in TEMPERED else 1.0)
            block.update(SECONDS, *now)
        for _ in range(PAIRS_EACH):
            pairs.update(*draw_scores(0.0, runs, rng, graded=True))
        logs: list[Array] = [process.log_e for process in every]
        family |= family_log_evidence([1 / gates] * gates, logs) >= THRESHOLD
        alone |= np.max(np.stack(logs), axis=0) >= THRESHOLD
    return {"family": np.where(family, 1.0, np.inf), "alone": np.where(alone, 1.0, np.inf)}


def _cells(size: Size) -> Sequence[Cell]:
    hours = size.pick(1.0, 1.0, 0.02)
    runs = size.runs(4_000, 80)
    cells = [Cell(f"{n} gates", family_run, runs, {"gates": n, "hours": hours}) for n in (3, 5, 8)]
    cells.append(Cell("8 gates, incident", family_run, runs, {"gates": 8, "hours": hours, "incident": True}))
    if size.whole:
        cells.append(
            Cell("3 gates, 12 h", family_run, size.runs(1_500, 0), {"gates": 3, "hours": 12.0}, chunk=250)
        )
    return cells


def _show(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = [[cell, rate(found["family"]), rate(found["alone"])] for cell, found in results.items()]
    return [Grid(["A/A rolled back", "Headgate's shared budget", "each gate with its own 5 %"], rows)]


SEVERAL = Table(
    "several",
    "Several gates together",
    "As in the first table; all gates strict and of equal weight, one of them golden prompts in pairs (two "
    "every 10 s), three of them the same requests over ever larger SLOs (tempered), the others errors and "
    "thumbs. The drift is shared by all.",
    "However many gates, the rollout is rolled back falsely at most one time in twenty; giving each gate its "
    "own 5 % adds the false alarms up.",
    _cells,
    _show,
)
