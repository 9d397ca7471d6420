"""The vectorised forms are the scalar ones: same counts, same evidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.gates.rules import due
from rollouts.domain.gates.batch import (
    BlocksBatch,
    EvidenceBatch,
    PairedBatch,
    ProportionBatch,
    family_log_evidence,
)
from rollouts.domain.gates.evidence import Wealth
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.latency import LatencyBlocks
from rollouts.domain.gates.paired import PairedProcess
from rollouts.domain.gates.proportion import Proof
from rollouts.domain.record.intervals import ArmCounts, Interval, LatencyCounts, ProbePair
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY, policy

SIZE = 5
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@pytest.mark.parametrize(("spread", "first"), [(False, 0.5), (True, 0.5), (True, 0.9)])
def test_evidence_batch__same_factors_and_starts__equals_the_scalar_form(spread: bool, first: float) -> None:
    rng = np.random.default_rng(1)
    batch = EvidenceBatch(SIZE, 3, spread, first)
    single = [Wealth.empty(3, "spread" if spread else "single", first) for _ in range(SIZE)]
    for number in range(40):
        if spread and number % 7 == 5:
            batch.start()
            single = [evidence.start() for evidence in single]
        factors = rng.normal(0, 1, (3, SIZE))
        batch.multiply(factors)
        single = [evidence.multiply(list(factors[:, run])) for run, evidence in enumerate(single)]
        assert batch.log_e == pytest.approx([evidence.log_e for evidence in single], abs=1e-9)


def test_blocks_batch__same_counts__tempers_like_the_scalar_form() -> None:
    rng = np.random.default_rng(2)
    batch, single = BlocksBatch(SIZE), [LatencyBlocks() for _ in range(SIZE)]
    seen = set()
    for _ in range(80):
        n_c, n_b = rng.integers(0, 30, SIZE), rng.integers(0, 60, SIZE)
        chance = rng.beta(1, 9, (2, SIZE))  # bursts: far more than binomial
        e_c, e_b = rng.binomial(n_c, chance[0]), rng.binomial(n_b, chance[1])
        batch.update(10.0, *floats(n_c, e_c, n_b, e_b))
        rows = zip(single, n_c, e_c, n_b, e_b, strict=True)
        single = [blocks.update(10.0, int(a), int(b), int(c), int(d)) for blocks, a, b, c, d in rows]
        assert batch.temper == pytest.approx([blocks.temper for blocks in single], rel=1e-12)
        seen |= set(batch.temper)
    assert min(seen) < 0.8


@pytest.mark.parametrize("decision", ["fail", "pass"])
@pytest.mark.parametrize("spread", [False, True])
def test_paired_batch__same_scores__equals_the_scalar_form(decision: Proof, spread: bool) -> None:
    rng = np.random.default_rng(3)
    batch = PairedBatch(SIZE, margin=0.05, decision=decision, grid=7, spread=spread)
    single = [
        PairedProcess(margin=0.05, decision=decision, grid=7, starts="spread" if spread else "single")
        for _ in range(SIZE)
    ]
    for number in range(50):
        if spread and number % 10 == 0:
            batch.start_again()
            single = [process.start_again() for process in single]
        scores = rng.random((2, SIZE))
        batch.update(scores[0], scores[1])
        single = [process.update(*scores[:, run]) for run, process in enumerate(single)]
    assert batch.log_e == pytest.approx([process.log_e for process in single], abs=1e-9)


def test_batches__whole_rollout__equal_the_gates_state_with_starts_tempering_and_family() -> None:
    rng = np.random.default_rng(4)
    strict = {"mode": "strict"}
    rules = policy(ERRORS, {**LATENCY, **strict}, {**QUALITY, **strict}, baseline_outage_share=0.2)
    state = GatesState.initial(rules)
    errors, slow = (ProportionBatch(1, spread=True) for _ in range(2))
    blocks, pairs = BlocksBatch(1), PairedBatch(1, spread=True)
    for index in range(60):
        if due(index):
            errors.start_again()
            slow.start_again()
            pairs.start_again()
        n_c, n_b = (np.array([int(rng.integers(20, 60))]) for _ in range(2))
        e_c, e_b, o_c, o_b = (rng.binomial(n, p) for p in (0.05, 0.3) for n in (n_c, n_b))
        scores = rng.random((2, 2))
        errors.update(*floats(n_c, e_c, n_b, e_b))
        slow.update(*floats(n_c, o_c, n_b, o_b), temper=blocks.temper)
        blocks.update(10.0, *floats(n_c, o_c, n_b, o_b))
        for baseline, candidate in scores:
            pairs.update(np.array([baseline]), np.array([candidate]))
        state = state.update(
            Interval(
                index,
                index * 10.0,
                10.0,
                5000,
                {"baseline": counted(n_b, e_b, o_b), "candidate": counted(n_c, e_c, o_c)},
                {"candidate": tuple(ProbePair("p", float(b), float(c)) for b, c in scores)},
            )
        )
        together = family_log_evidence([1 / 3] * 3, [errors.log_e, slow.log_e, pairs.log_e])
        assert together[0] == pytest.approx(state.log_evidence, abs=1e-9)
    assert state.tested[0].failing.evidence.starts == 20


def test_family_log_evidence__hand_made__is_the_weighted_mean() -> None:
    together = family_log_evidence([0.25, 0.75], [np.log([4.0, 1.0]), np.log([8.0, 2.0])])
    assert np.exp(together) == pytest.approx([7.0, 1.75])


def floats(n_c: Ints, e_c: Ints, n_b: Ints, e_b: Ints) -> tuple[Floats, Floats, Floats, Floats]:
    return n_c.astype(float), e_c.astype(float), n_b.astype(float), e_b.astype(float)


def counted(n: Ints, errors: Ints, over: Ints) -> ArmCounts:
    total = int(n[0])
    return ArmCounts(
        total, int(errors[0]), total, total / 20, {"ttft": LatencyCounts(total, {0.5: int(over[0])})}
    )
