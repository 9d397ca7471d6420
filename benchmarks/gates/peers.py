"""Other tools' rules, each as a plain function of the counts, in their usual settings.

They are written after the tools' documentation and judge one metric: the share of requests that failed (or
were over the SLO). `Counts` come in intervals of 10 s; every function returns the number of intervals until
it rolls back, shape (runs,), infinity where it never does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

from benchmarks.gates.traffic import MINUTE, Array, Counts

LOOKS = 12  # of the group-sequential test: one every five minutes of an hour
KAYENTA_EVERY = 5  # minutes
KAYENTA_CONFIDENCE = 0.98
KAYENTA_TOLERANCE = 0.25
NAIVE_FROM = 100  # candidate requests: before, a normal approximation means nothing


def argo(counts: Counts, *, limit: float, failure_limit: int = 3) -> Array:
    """Argo Rollouts' analysis: every minute the candidate's share of the last minute is measured; more than
    `failure_limit` measurements over `limit` abort. The baseline is not looked at.
    """
    return _after_failures(counts, limit, failure_limit + 1)


def flagger(counts: Counts, *, limit: float, threshold: int = 5) -> Array:
    """Flagger: every minute one check of the candidate's last minute; `threshold` failed checks roll back."""
    return _after_failures(counts, limit, threshold)


def _after_failures(counts: Counts, limit: float, failures: int) -> Array:
    minutes = counts.per(MINUTE)
    failed = minutes.e_candidate > limit * minutes.n_candidate
    return first(np.cumsum(failed, axis=0) >= failures, MINUTE)


def kayenta(counts: Counts) -> Array:
    """Kayenta's judge on the shares of every minute of both arms; see `kayenta_judge`."""
    minutes = counts.per(MINUTE)
    with np.errstate(invalid="ignore", divide="ignore"):
        candidate = np.nan_to_num(minutes.e_candidate / minutes.n_candidate)
        baseline = np.nan_to_num(minutes.e_baseline / minutes.n_baseline)
    return kayenta_judge(candidate, baseline) * MINUTE


def kayenta_judge(candidate: Array, baseline: Array) -> Array:
    """Minutes until Kayenta's judge fails the canary, looking every five minutes at all minutes so far.

    candidate, baseline     one value a minute, larger is worse, shape (minutes, runs): two samples for
                            Mann-Whitney at 98 % with tolerance 0.25
    "High", which fails, when the lower end of the Hodges-Lehmann interval of the shift between the samples
    exceeds 0.25 of the estimated shift.
    """
    minutes, runs = candidate.shape
    bad = np.zeros((minutes // KAYENTA_EVERY, runs), dtype=bool)
    for look in range(len(bad)):
        n = KAYENTA_EVERY * (look + 1)
        shifts = (candidate[:n, None] - baseline[None, :n]).reshape(n * n, runs)
        low, middle = rank_of_lower_end(n), n * n // 2
        shifts = np.partition(shifts, (low, middle), axis=0)
        bad[look] = (shifts[low] > 0) & (shifts[low] > KAYENTA_TOLERANCE * np.abs(shifts[middle]))
    return first(bad, KAYENTA_EVERY)


@lru_cache(maxsize=64)
def rank_of_lower_end(n: int) -> int:
    """Which of the n x n sorted differences (from 0) is the lower end of the 98 % interval of the shift of
    two samples of n: the quantile of the Mann-Whitney statistic, by its normal approximation.
    """
    sd = math.sqrt(n * n * (2 * n + 1) / 12)
    quantile = n * n / 2 - stats.norm.isf((1 - KAYENTA_CONFIDENCE) / 2) * sd
    return max(math.floor(float(quantile)), 0)


def naive_z(counts: Counts, *, alpha: float = 0.05) -> Array:
    """A one-sided z-test on everything so far, looked at every 10 s as if each look were the only one."""
    z, n_candidate = running_z(counts)
    return first((z > stats.norm.isf(alpha)) & (n_candidate >= NAIVE_FROM), 1)


def fixed_horizon(counts: Counts, *, alpha: float = 0.05) -> Array:
    """The same test looked at once, at the end."""
    z, _ = running_z(counts)
    return np.where(z[-1] > stats.norm.isf(alpha), float(counts.intervals), np.inf)


def group_sequential(counts: Counts, shares: Array, *, alpha: float = 0.05, looks: int = LOOKS) -> Array:
    """The same test at `looks` even times with O'Brien-Fleming bounds on the plan's information.

    shares      of the candidate, planned, shape (intervals,): the information of an interval is share * (1 -
                share)
    """
    z, _ = running_z(counts)
    every = counts.intervals // looks
    information = np.cumsum(shares * (1 - shares))
    at = np.arange(every - 1, every * looks, every)
    bounds = obrien_fleming(tuple(information[at] / information[at[-1]]), alpha)
    return first(z[at] > np.asarray(bounds)[:, None], every)


def told_both(counts: Counts, *, ratio: float, alpha: float = 0.05) -> Array:
    """The limit: Wald's sequential probability ratio test that is told the baseline's true rate in every interval and
    that a bad candidate's is `ratio` times it. It needs no baseline, and no test at this alpha that may be looked at
    all the time is faster on average.
    """
    if counts.rate is None:
        raise AssertionError("these counts do not say what the true rates were")
    good = np.clip(counts.rate, 0, 0.9)
    bad = np.clip(good * ratio, 0, 0.95)
    ok = counts.n_candidate - counts.e_candidate
    log_odds = counts.e_candidate * np.log(bad / good) + ok * (np.log1p(-bad) - np.log1p(-good))
    return first(np.cumsum(log_odds, axis=0) >= math.log(1 / alpha), 1)


def running_z(counts: Counts) -> tuple[Array, Array]:
    """(z, candidate requests) of all intervals so far: each interval compared within itself and summed (Mantel-
    Haenszel), so that shared drift and ramps do the peers no harm either. Shape (intervals, runs).
    """
    n = counts.n_candidate + counts.n_baseline
    e = counts.e_candidate + counts.e_baseline
    score = np.cumsum(counts.e_candidate - counts.n_candidate * e / n, axis=0)
    variance = np.cumsum(
        counts.n_candidate * counts.n_baseline * e * (n - e) / (n * n * np.maximum(n - 1, 1)), axis=0
    )
    return score / np.sqrt(np.maximum(variance, 1e-12)), np.cumsum(counts.n_candidate, axis=0)


@lru_cache(maxsize=16)
def obrien_fleming(information: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    """Bounds c / sqrt(information) on z whose chance of ever being crossed under the null is alpha."""

    def excess(c: float) -> float:
        return crossing_chance(information, [c / math.sqrt(part) for part in information]) - alpha

    c = float(optimize.brentq(excess, 1.0, 4.0, xtol=1e-4))
    return tuple(c / math.sqrt(part) for part in information)


def crossing_chance(information: Sequence[float], bounds: Sequence[float], points: int = 401) -> float:
    """Chance that a Brownian motion seen at these information times exceeds bound * sqrt(time) at any of
    them, by recursive integration of its density among those not yet across (Armitage and others 1969).
    """
    grid, density, crossed, before = np.zeros(1), np.ones(1), 0.0, 0.0
    for time, bound in zip(information, bounds, strict=True):
        edge, sd = bound * math.sqrt(time), math.sqrt(time - before)
        crossed += float(density @ stats.norm.sf((edge - grid) / sd))
        new = np.linspace(-6 * math.sqrt(time), edge, points)
        weight = np.full(points, new[1] - new[0])
        weight[[0, -1]] /= 2
        density = (density @ stats.norm.pdf((new[None, :] - grid[:, None]) / sd) / sd) * weight
        grid, before = new, time
    return crossed


def first(reached: np.typing.NDArray[np.bool_], step: int) -> Array:
    """(index of the first True along axis 0 + 1) * step; infinity where there is none."""
    if not len(reached):
        return np.full(reached.shape[1], np.inf)
    return np.where(reached.any(axis=0), (reached.argmax(axis=0) + 1.0) * step, np.inf)
