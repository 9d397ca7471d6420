"""Many rollouts at once, for simulations and evidence: the arithmetic of the gates on numpy arrays.

The formulas are not repeated here: `projection`, `evidence`, `dispersion`, `latency` and `paired` serve
floats and arrays alike; this module only brings the array functions and the state of a whole batch. Tests
hold every class here against its scalar twin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rollouts.domain.gates.dispersion import LARGEST_Z, Dispersion, excess, half_square
from rollouts.domain.gates.evidence import FIRST_WEIGHT, start_weight, unspent_weight
from rollouts.domain.gates.latency import BLOCK_SECONDS, difference_score
from rollouts.domain.gates.paired import FIRST_PAIRED_WEIGHT, bets_of, gain_of
from rollouts.domain.gates.projection import SMALLEST, Maths, log_increments
from rollouts.domain.gates.proportion import Decision, multipliers_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ARRAYS = Maths(where=np.where, log=np.log, log1p=np.log1p, every=lambda condition: bool(np.all(condition)))


@dataclass(slots=True)
class EvidenceBatch:
    """`Evidence` of `size` rollouts over the same number of alternatives; changed in place."""

    size: int
    alternatives: int
    spread: bool = False
    first: float = FIRST_WEIGHT
    starts: int = field(init=False)
    logs: Array = field(init=False)  # (alternatives, size)

    def __post_init__(self) -> None:
        self.starts = 0 if self.spread else 1
        self.logs = np.zeros((self.alternatives, self.size))

    def start(self) -> None:
        """One more start in every rollout."""
        self.starts += 1
        log_weight = math.log(start_weight(self.starts, self.first))
        self.logs = np.logaddexp(self.logs, log_weight) if self.starts > 1 else self.logs + log_weight

    def multiply(self, increments: Array) -> None:
        """increments: log factors, shape (alternatives, size)."""
        if not self.starts:
            self.start()
        self.logs = self.logs + increments

    @property
    def log_e(self) -> Array:
        """log evidence of every rollout, shape (size,)."""
        if not self.starts:
            return np.zeros(self.size)
        mean = np.logaddexp.reduce(self.logs, axis=0) - math.log(len(self.logs))
        if not self.spread:
            return np.asarray(mean)
        return np.asarray(np.logaddexp(mean, math.log(unspent_weight(self.starts, self.first))))


@dataclass(slots=True)
class ProportionBatch:
    """`ProportionProcess` of `size` independent rollouts; `update` changes it in place. Shapes: (size,) per
    argument.
    """

    size: int
    ratio: float = 1.0
    delta: float = 0.0
    decision: Decision = "fail"
    spread: bool = False
    prior_events: float = 0.5
    prior_trials: float = 50.0
    evidence: EvidenceBatch = field(init=False)
    events: Array = field(init=False)
    trials: Array = field(init=False)

    def __post_init__(self) -> None:
        self.evidence = EvidenceBatch(self.size, len(multipliers_of(self.decision)), self.spread)
        self.events = np.full(self.size, self.prior_events)
        self.trials = np.full(self.size, self.prior_trials)

    def start_again(self) -> None:
        """One more start in every rollout of the batch."""
        self.evidence.start()

    def update(
        self,
        n_candidate: Array,
        events_candidate: Array,
        n_baseline: Array,
        events_baseline: Array,
        temper: Array | float = 1.0,
        used: Mask | bool = True,
    ) -> None:
        """One interval. `used`: rollouts whose interval may count (the others learn the baseline's rate
        only).
        """
        increments = self.increments(n_candidate, events_candidate, n_baseline, events_baseline)
        both = used & (n_candidate > 0) & ((n_baseline > 0) | (self.ratio == 0))
        self.evidence.multiply(np.where(both, temper * increments, 0.0))
        self.events = self.events + events_baseline
        self.trials = self.trials + n_baseline

    def increments(
        self, n_candidate: Array, events_candidate: Array, n_baseline: Array, events_baseline: Array
    ) -> Array:
        """The log factors of an interval, shape (alternatives, size); nothing is changed."""
        rate = np.clip(self.events / self.trials, SMALLEST, 1 - SMALLEST)
        return np.stack(
            log_increments(
                rate,
                n_candidate,
                events_candidate,
                n_baseline,
                events_baseline,
                ratio=self.ratio,
                delta=self.delta,
                fail=self.decision == "fail",
                multipliers=multipliers_of(self.decision),
                maths=ARRAYS,
            )
        )

    @property
    def log_e(self) -> Array:
        """log evidence of every rollout."""
        return self.evidence.log_e


@dataclass(slots=True)
class BlocksBatch:
    """`LatencyBlocks` of `size` rollouts with equally long intervals: what to temper their evidence by."""

    size: int
    dispersion: Dispersion = field(default_factory=Dispersion)
    seconds: float = field(init=False, default=0.0)
    score: Array = field(init=False)
    variance: Array = field(init=False)
    last_z: Array = field(init=False)  # NaN before the first block
    half_squares: Array = field(init=False)
    differences: Array = field(init=False)

    def __post_init__(self) -> None:
        self.score, self.variance = np.zeros(self.size), np.zeros(self.size)
        self.last_z = np.full(self.size, np.nan)
        self.half_squares = np.full(self.size, self.dispersion.half_squares)
        self.differences = np.full(self.size, float(self.dispersion.differences))

    @property
    def temper(self) -> Array:
        """What to multiply the log increments of the next interval by."""
        phi = excess(self.half_squares, self.differences, self.dispersion.phi0, self.dispersion.n0)
        return np.asarray(1 / np.maximum(1.0, phi))

    def update(
        self,
        seconds: float,
        n_candidate: Array,
        over_candidate: Array,
        n_baseline: Array,
        over_baseline: Array,
    ) -> None:
        """One interval of these counts."""
        both = (n_candidate > 0) & (n_baseline > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            score, variance = difference_score(n_candidate, over_candidate, n_baseline, over_baseline)
        self.score = self.score + np.where(both, score, 0.0)
        self.variance = self.variance + np.where(both, variance, 0.0)
        self.seconds += seconds
        if self.seconds < BLOCK_SECONDS:
            return
        told = self.variance > 0
        z = np.clip(self.score / np.sqrt(np.where(told, self.variance, 1.0)), -LARGEST_Z, LARGEST_Z)
        again = told & ~np.isnan(self.last_z)
        self.half_squares = self.half_squares + np.where(again, half_square(z, self.last_z), 0.0)
        self.differences = self.differences + again
        self.last_z = np.where(told, z, self.last_z)
        self.score, self.variance, self.seconds = np.zeros(self.size), np.zeros(self.size), 0.0


@dataclass(slots=True)
class PairedBatch:
    """`PairedProcess` of `size` rollouts that get their pairs in step."""

    size: int
    margin: float = 0.0
    decision: Decision = "fail"
    grid: int = 40
    spread: bool = False
    evidence: EvidenceBatch = field(init=False)

    def __post_init__(self) -> None:
        self.evidence = EvidenceBatch(self.size, self.grid, self.spread, FIRST_PAIRED_WEIGHT)

    def start_again(self) -> None:
        """One more start in every rollout of the batch."""
        self.evidence.start()

    def update(self, score_baseline: Array, score_candidate: Array) -> None:
        """One pair of scores in every rollout, shape (size,) each."""
        bets = np.asarray(bets_of(self.decision, self.margin, self.grid))[:, None]
        self.evidence.multiply(
            np.log1p(bets * gain_of(self.decision, self.margin, score_baseline - score_candidate))
        )

    @property
    def log_e(self) -> Array:
        """log evidence of every rollout."""
        return self.evidence.log_e


def family_log_evidence(weights: Sequence[float], log_evidences: Sequence[Array]) -> Array:
    """log of sum(weight_g * E_g), as `GatesState.log_evidence`; shape (size,)."""
    parts = [math.log(weight) + log_e for weight, log_e in zip(weights, log_evidences, strict=True)]
    return np.asarray(np.logaddexp.reduce(np.stack(parts), axis=0))
