"""What simulated rollouts see: requests and events of both arms, interval by interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SECONDS = 10  # an interval
REQUESTS = 200  # an interval, both arms together
HOUR = 3600 // SECONDS  # intervals
MINUTE = 60 // SECONDS
RAMP = (0.05, 0.10, 0.25, 0.50)
BASE = 0.01


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests and events of many rollouts, each array of shape (intervals, runs). `rate`: the baseline's true rate,
    which only the limit is told.
    """

    n_candidate: Array
    e_candidate: Array
    n_baseline: Array
    e_baseline: Array
    rate: Array | None = None

    @property
    def intervals(self) -> int:
        return len(self.n_candidate)

    @property
    def runs(self) -> int:
        return int(self.n_candidate.shape[1])

    def at(self, index: int) -> tuple[Array, Array, Array, Array]:
        """(n_c, e_c, n_b, e_b) of one interval, shape (runs,) each."""
        return (
            self.n_candidate[index],
            self.e_candidate[index],
            self.n_baseline[index],
            self.e_baseline[index],
        )

    def per(self, intervals: int) -> Counts:
        """The same in longer stretches; a last incomplete one is left out."""
        whole = self.intervals // intervals * intervals
        sums = [
            values[:whole].reshape(-1, intervals, self.runs).sum(axis=1)
            for values in (self.n_candidate, self.e_candidate, self.n_baseline, self.e_baseline)
        ]
        return Counts(*sums)


@dataclass(frozen=True)
class Errors:
    """How the errors of a simulated rollout come about.

    ratio, delta    the candidate's error rate is ratio * the baseline's + delta
    hours           of the rollout; share: of the candidate, None for the ramp 5, 10, 25, 50 % in equal parts
    incident        errors of both arms eightfold for five minutes
    drift           the baseline's rate swings, shared by both arms: exp of an AR(1), standard deviation 0.32
    """

    ratio: float = 1.0
    delta: float = 0.0
    hours: float = 1.0
    incident: bool = False
    share: float | None = None
    base: float = BASE
    drift: bool = True


def shares_of(share: float | None, intervals: int) -> Array:
    """The candidate's share in every interval."""
    if share is not None:
        return np.full(intervals, share)
    return np.array([RAMP[index * len(RAMP) // intervals] for index in range(intervals)])


def ar1(intervals: int, runs: int, keep: float, kick: float, rng: np.random.Generator) -> Array:
    """A mean-reverting walk from 0: x <- keep * x + normal(0, kick); shape (intervals, runs)."""
    walk = np.empty((intervals, runs))
    now = np.zeros(runs)
    for index in range(intervals):
        now = keep * now + rng.normal(0, kick, runs)
        walk[index] = now
    return walk


def draw_errors(what: Errors, runs: int, rng: np.random.Generator) -> Counts:
    """Counts of `runs` rollouts: 200 requests every 10 s, each assigned at random by itself."""
    intervals = int(what.hours * HOUR)
    base = np.full((intervals, runs), what.base)
    if what.drift:
        base *= np.exp(ar1(intervals, runs, 0.95, 0.1, rng))
    if what.incident:
        begin = int(intervals * 0.4)
        base[begin : begin + 5 * MINUTE] *= 8
    base = np.clip(base, 0, 0.9)
    n_c = rng.binomial(REQUESTS, shares_of(what.share, intervals)[:, None], (intervals, runs))
    e_c = rng.binomial(n_c, np.clip(base * what.ratio + what.delta, 0, 0.95))
    e_b = rng.binomial(REQUESTS - n_c, base)
    return Counts(
        n_c.astype(float), e_c.astype(float), (REQUESTS - n_c).astype(float), e_b.astype(float), base
    )
