"""Many rollouts at once, for simulations and evidence: the arithmetic of `proportion` on numpy arrays.

The formulas are not repeated here: `projection` serves floats and arrays alike, this module only brings the
array functions and the mixture over starts for a whole batch. A test holds both forms against each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rollouts.domain.gates.evidence import start_weight, unspent_weight
from rollouts.domain.gates.projection import SMALLEST, Maths, log_increments
from rollouts.domain.gates.proportion import Decision, multipliers_of

Array = npt.NDArray[np.float64]

ARRAYS = Maths(where=np.where, log=np.log, log1p=np.log1p, every=lambda condition: bool(np.all(condition)))


@dataclass(slots=True)
class ProportionBatch:
    """The evidence of `size` independent rollouts; `update` changes it in place. Shapes: (size,) per
    argument.
    """

    size: int
    ratio: float = 1.0
    delta: float = 0.0
    decision: Decision = "fail"
    spread: bool = False
    prior_events: float = 0.5
    prior_trials: float = 50.0
    starts: int = field(init=False)
    logs: Array = field(init=False)  # (alternatives, size)
    events: Array = field(init=False)
    trials: Array = field(init=False)

    def __post_init__(self) -> None:
        self.starts = 0 if self.spread else 1
        self.logs = np.zeros((len(multipliers_of(self.decision)), self.size))
        self.events = np.full(self.size, self.prior_events)
        self.trials = np.full(self.size, self.prior_trials)

    def start_again(self) -> None:
        """One more start in every rollout of the batch."""
        self.starts += 1
        log_weight = math.log(start_weight(self.starts))
        self.logs = np.logaddexp(self.logs, log_weight) if self.starts > 1 else self.logs + log_weight

    def update(
        self,
        n_candidate: Array,
        events_candidate: Array,
        n_baseline: Array,
        events_baseline: Array,
        temper: Array | float = 1.0,
        used: npt.NDArray[np.bool_] | bool = True,
    ) -> None:
        """One interval. `used`: rollouts whose interval may count (the others learn the baseline's rate
        only).
        """
        if not self.starts:
            self.start_again()
        rate = np.clip(self.events / self.trials, SMALLEST, 1 - SMALLEST)
        increments = log_increments(
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
        both = used & (n_candidate > 0) & ((n_baseline > 0) | (self.ratio == 0))
        self.logs = self.logs + np.where(both, temper * np.stack(increments), 0.0)
        self.events = self.events + events_baseline
        self.trials = self.trials + n_baseline

    @property
    def log_e(self) -> Array:
        """log evidence of every rollout."""
        mean = np.logaddexp.reduce(self.logs, axis=0) - math.log(len(self.logs))
        if not self.spread or not self.starts:
            return np.asarray(mean if self.starts else np.zeros(self.size))
        return np.asarray(np.logaddexp(mean, math.log(unspent_weight(self.starts))))
