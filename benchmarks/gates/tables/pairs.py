"""Golden prompts in pairs: pairs until a drop of the mean score is proven."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.gates.peers import kayenta_judge
from benchmarks.gates.report import Grid, Table, median, rate
from benchmarks.gates.rules import RESTART_SECONDS, THRESHOLD
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import Array
from rollouts.domain.gates.batch import PairedBatch

PAIRS_PER_MINUTE = 20
PAIRS_PER_START = int(RESTART_SECONDS * PAIRS_PER_MINUTE / 60)
OURS, SINGLE, PEER = "Headgate, strict", "the same with a single start", "Kayenta-like, every 5 min"
DROPS = (0.0, 0.1, 0.2)


def draw_scores(drop: float, runs: int, rng: np.random.Generator, *, graded: bool) -> tuple[Array, Array]:
    """One pair in every rollout: (baseline's, candidate's) scores, shape (runs,) each.

    A prompt has an easiness (Beta(4, 1), mean 0.8) that both variants share. Graded scores follow it with
    noise of their own; right-or-wrong scores are drawn with it as their chance.
    """
    easiness = rng.beta(4, 1, runs)
    if graded:
        noise = rng.normal(0, 0.1, (2, runs))
        scores = np.clip(0.15 + 0.6 * easiness + noise - np.array([[0.0], [drop]]), 0, 1)
        return scores[0], scores[1]
    drawn = rng.random((2, runs))
    return (drawn[0] < easiness).astype(float), (drawn[1] < easiness * (1 - drop / 0.8)).astype(float)


def pairs_run(*, runs: int, rng: np.random.Generator, drop: float, graded: bool, most: int) -> Results:
    """Pairs until each rule rolls back; infinity when `most` were not enough."""
    scores = [draw_scores(drop, runs, rng, graded=graded) for _ in range(most)]
    result = {}
    for name, spread in ((OURS, True), (SINGLE, False)):
        batch, found = PairedBatch(runs, spread=spread), np.full(runs, np.inf)
        for number, (baseline, candidate) in enumerate(scores):
            if spread and number and number % PAIRS_PER_START == 0:
                batch.start_again()
            batch.update(baseline, candidate)
            found[(batch.log_e >= THRESHOLD) & np.isinf(found)] = number + 1
            if np.isfinite(found).all():
                break
        result[name] = found
    whole = most // PAIRS_PER_MINUTE * PAIRS_PER_MINUTE
    baseline, candidate = (
        np.stack(of_arm)[:whole].reshape(-1, PAIRS_PER_MINUTE, runs).mean(axis=1)
        for of_arm in zip(*scores, strict=True)
    )
    result[PEER] = kayenta_judge(-candidate, -baseline) * PAIRS_PER_MINUTE
    return result


def _cells(size: Size) -> Sequence[Cell]:
    return [
        Cell(
            f"{'graded' if graded else 'right or wrong'}, {drop:g}",
            pairs_run,
            size.runs(2_000 if drop == 0 else 1_000, 100),
            {"drop": drop, "graded": graded, "most": size.runs(2_000, 600 if drop == 0 else 1_200, 50)},
            chunk=250,
        )
        for graded in (True, False)
        for drop in DROPS
    ]


def _show(results: Mapping[str, Results]) -> Sequence[Grid]:
    aims = {"right or wrong, 0.1": "197 / Kayenta 525", "graded, 0.1": "55 / Kayenta 200"}
    found_rows, false_rows = [], []
    for cell, found in results.items():
        numbers = [found[name] for name in (OURS, SINGLE, PEER)]
        if cell.endswith(", 0"):
            false_rows.append([cell.removesuffix(", 0"), *(rate(pairs) for pairs in numbers)])
        else:
            name = cell.replace(", ", ", drop ")
            found_rows.append([name, *(median(pairs) for pairs in numbers), aims.get(cell, "")])
    return [
        Grid(["rolled back", OURS, SINGLE, PEER], false_rows, "A/A, false rollbacks (aim: .025)"),
        Grid(["", OURS, SINGLE, PEER, "aims"], found_rows, "Pairs to roll back, median"),
    ]


PAIRED = Table(
    "pairs",
    "Golden prompts in pairs",
    "Prompts drawn at random with replacement, easiness Beta(4, 1) shared by both variants; graded scores have "
    f"noise of 0.1, the others are 0 or 1. {PAIRS_PER_MINUTE} pairs a minute, so a start every "
    f"{PAIRS_PER_START} pairs; up to 2,000 pairs (smoke: fewer). Kayenta's judge compares the mean scores of "
    "the minutes, which knows nothing of pairs.",
    "How many pairs prove a drop of the mean score. The bet on the differences uses that both variants got the "
    "same prompts, and may be looked at after every pair.",
    _cells,
    _show,
)
