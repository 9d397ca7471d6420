"""Many rollouts at once, for simulations and evidence: the arithmetic of the gates on numpy arrays.

The formulas are not repeated here: `projection`, `evidence`, `dispersion`, `latency` and `paired` serve
floats and arrays alike; this module only brings the array functions and the state of a whole batch. Tests
hold every class here against its scalar twin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rollouts.domain.gates.dispersion import LARGEST_Z, Dispersion, half_square
from rollouts.domain.gates.evidence import FIRST_WEIGHT, start_weight, unspent_weight
from rollouts.domain.gates.latency import BLOCK_SECONDS, QUICK_SECONDS, difference_score, factors
from rollouts.domain.gates.paired import FIRST_PAIRED_WEIGHT, bets_of, gain_of
from rollouts.domain.gates.projection import SMALLEST, Maths, log_increments
from rollouts.domain.gates.proportion import Proof, multipliers_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ARRAYS = Maths(where=np.where, log=np.log, log1p=np.log1p, every=lambda condition: bool(np.all(condition)))


@dataclass(slots=True)
class EvidenceBatch:
    """`Evidence` of `size` rollouts over the same number of alternatives; changed in place. `where`, a mask of shape
    (size,), names the rollouts that something happens in.
    """

    size: int
    alternatives: int
    spread: bool = False
    first: float = FIRST_WEIGHT
    starts: npt.NDArray[np.int64] = field(init=False)
    logs: Array = field(init=False)  # (alternatives, size)

    def __post_init__(self) -> None:
        self.starts = np.full(self.size, 0 if self.spread else 1)
        self.logs = np.zeros((self.alternatives, self.size))

    def start(self, where: Mask | bool = True) -> None:
        """One more start."""
        self.starts = self.starts + where
        log_weight = self._logs_by_starts(lambda k: start_weight(k, self.first) if k else 1.0)
        added = np.where(self.starts > 1, np.logaddexp(self.logs, log_weight), self.logs + log_weight)
        self.logs = np.where(where, added, self.logs)

    def multiply(self, increments: Array, where: Mask | bool = True) -> None:
        """increments: log factors, shape (alternatives, size)."""
        unbegun = (self.starts == 0) & where
        if unbegun.any():
            self.start(unbegun)
        self.logs = np.where(where, self.logs + increments, self.logs)

    def _logs_by_starts(self, function: Callable[[int], float]) -> Array:
        """log of the function of every rollout's number of starts, shape (size,)."""
        counts, which = np.unique(self.starts, return_inverse=True)
        return np.array([math.log(function(int(k))) for k in counts])[which]

    @property
    def log_e(self) -> Array:
        """log evidence of every rollout, shape (size,)."""
        mean = np.logaddexp.reduce(self.logs, axis=0) - math.log(len(self.logs))
        if not self.spread:
            return np.asarray(mean)
        unspent = self._logs_by_starts(lambda k: unspent_weight(k, self.first))
        return np.where(self.starts > 0, np.logaddexp(mean, unspent), 0.0)


@dataclass(slots=True)
class ProportionBatch:
    """`ProportionProcess` of `size` independent rollouts; `update` changes it in place. Shapes: (size,) per
    argument.
    """

    size: int
    ratio: float = 1.0
    delta: float = 0.0
    decision: Proof = "fail"
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

    def start_again(self, where: Mask | bool = True) -> None:
        """One more start in these rollouts of the batch."""
        self.evidence.start(where)

    def update(
        self,
        n_candidate: Array,
        events_candidate: Array,
        n_baseline: Array,
        events_baseline: Array,
        temper: Array | float = 1.0,
        used: Mask | bool = True,
        usual: Mask | bool = True,
    ) -> None:
        """One interval. `used`: rollouts whose interval may count (the others learn the baseline's rate
        only); `usual`: those that learn the baseline's rate.
        """
        both = used & (n_candidate > 0) & ((n_baseline > 0) | (self.ratio == 0))
        if both.any():
            increments = self.increments(n_candidate, events_candidate, n_baseline, events_baseline)
            self.evidence.multiply(np.where(both, temper * increments, 0.0), both)
        self.events = self.events + np.where(usual, events_baseline, 0.0)
        self.trials = self.trials + np.where(usual, n_baseline, 0.0)

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
class BlockBatch:
    """One `Dispersion` of `size` rollouts with the block that is under way."""

    size: int
    length: float  # seconds
    seconds: Array = field(init=False)
    score: Array = field(init=False)
    variance: Array = field(init=False)
    last_z: Array = field(init=False)  # NaN before the first block
    half_squares: Array = field(init=False)
    differences: Array = field(init=False)

    def __post_init__(self) -> None:
        self.seconds, self.score, self.variance, self.half_squares, self.differences = (
            np.zeros(self.size) for _ in range(5)
        )
        self.last_z = np.full(self.size, np.nan)

    def add(self, seconds: Array, score: Array, variance: Array) -> None:
        """One interval."""
        self.seconds, self.score, self.variance = (
            self.seconds + seconds,
            self.score + score,
            self.variance + variance,
        )
        full = self.seconds >= self.length
        if not full.any():
            return
        told = full & (self.variance > 0)
        z = np.clip(self.score / np.sqrt(np.where(told, self.variance, 1.0)), -LARGEST_Z, LARGEST_Z)
        again = told & ~np.isnan(self.last_z)
        self.half_squares = self.half_squares + np.where(again, half_square(z, self.last_z), 0.0)
        self.differences = self.differences + again
        self.last_z = np.where(told, z, self.last_z)
        self.score, self.variance, self.seconds = (
            np.where(full, 0.0, values) for values in (self.score, self.variance, self.seconds)
        )


@dataclass(slots=True)
class BlocksBatch:
    """`LatencyBlocks` of `size` rollouts: what to temper their evidence by."""

    size: int
    minute: BlockBatch = field(init=False)
    quick: BlockBatch = field(init=False)

    def __post_init__(self) -> None:
        self.minute, self.quick = BlockBatch(self.size, BLOCK_SECONDS), BlockBatch(self.size, QUICK_SECONDS)

    @property
    def factor(self) -> Array:
        """How much more the arms differ than independent requests would, with caution; at least 1."""
        quick, minute, start = self.quick, self.minute, Dispersion()
        found = factors(
            quick.half_squares,
            quick.differences,
            minute.half_squares,
            minute.differences,
            start.phi0,
            start.n0,
        )
        return np.asarray(np.maximum(1.0, np.maximum(*found)))

    @property
    def temper(self) -> Array:
        """What to multiply the log increments of the next interval by."""
        return np.asarray(1 / self.factor)

    def update(
        self,
        seconds: float,
        n_candidate: Array,
        over_candidate: Array,
        n_baseline: Array,
        over_baseline: Array,
        known: Mask | bool = True,
    ) -> None:
        """One interval of these counts. `known`: rollouts in which there are any."""
        both = known & (n_candidate > 0) & (n_baseline > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            score, variance = difference_score(n_candidate, over_candidate, n_baseline, over_baseline)
        lasted = np.where(known, seconds, 0.0) * np.ones(self.size)
        for block in (self.minute, self.quick):
            block.add(lasted, np.where(both, score, 0.0), np.where(both, variance, 0.0))


@dataclass(slots=True)
class PairedBatch:
    """`PairedProcess` of `size` rollouts that get their pairs in step."""

    size: int
    margin: float = 0.0
    decision: Proof = "fail"
    grid: int = 40
    spread: bool = False
    evidence: EvidenceBatch = field(init=False)

    def __post_init__(self) -> None:
        self.evidence = EvidenceBatch(self.size, self.grid, self.spread, FIRST_PAIRED_WEIGHT)

    def start_again(self, where: Mask | bool = True) -> None:
        """One more start in these rollouts of the batch."""
        self.evidence.start(where)

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
