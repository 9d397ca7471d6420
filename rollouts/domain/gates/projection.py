"""The arithmetic of the stratified two-sample e-process, the same for numbers and for numpy arrays.

For an alternative (p_candidate, p_baseline) outside the null half-plane p_c <= r p_b + d, the null point
nearest to it in Kullback-Leibler divergence (the reverse information projection) lies on the boundary p_c =
r p_b + d. The likelihood ratio of the alternative against that point has expectation at most 1 at *every*
point of the half-plane: with a = r b + d, stationarity at b gives

    E[factor] <= exp(n_c (p_c - a)(pa - a)/(a(1-a)) + n_b (p_b - b)(pb - b)/(b(1-b)))
              =  exp(u (p_c - r p_b - d)),   u = n_c (pa - a)/(a(1-a)) > 0,

which is at most 1 under the null, also when the requests of an interval are independent but not alike.
Source: Turner & Gruenwald, arXiv 2302.11401.

Everything is here twice: for floats (the product), and for numpy arrays (simulations of thousands of rollouts at once),
whose functions `rollouts.domain.gates.batch` brings as `Maths`. A fifth of what a gate costs is here, and floats would
take half as long again if they went through those. Both do the same operations in the same order; a test holds their
projections against each other to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Number = Any  # a float, or a numpy array of floats in the vectorised form

FAIL_MULTIPLIERS = (1.5, 2.0, 3.0, 5.0, 10.0)
PASS_MULTIPLIERS = (0.25, 0.5, 0.7, 0.85)
SMALLEST = 1e-12  # probabilities are kept this far from 0 and 1
LARGEST = 1 - SMALLEST
OFF_EDGE = 1e-3  # stands for a boundary that leaves (0, 1), where odds have no meaning
OFF_END = 1e-6  # part of the bracket that the search keeps from its ends at first
MAX_STEPS = 100
PRECISION = 1e-13


@dataclass(frozen=True, slots=True)
class Maths:
    """The functions of arrays that Python has no operator for."""

    where: Callable[[Number, Number, Number], Number]
    log: Callable[[Number], Number]
    log1p: Callable[[Number], Number]
    every: Callable[[Number], bool]


def clip(value: Number, low: Number, high: Number, maths: Maths) -> Number:
    return maths.where(value < low, low, maths.where(value > high, high, value))


def project(
    pa: Number,
    pb: Number,
    n_candidate: Number,
    n_baseline: Number,
    ratio: float,
    delta: float,
    maths: Maths | None = None,
) -> tuple[Number, Number]:
    """The point (a, b) of the boundary a = ratio * b + delta that minimises
    n_candidate * KL(pa || a) + n_baseline * KL(pb || b); probabilities strictly inside (0, 1).

    Newton's method on the derivative, which increases in b, kept inside a bracket that shrinks every step.
    """
    if ratio == 0:
        return delta, pb
    if maths is None:
        return _project_floats(pa, pb, n_candidate, n_baseline, ratio, delta)
    lowest, highest = max(0.0, -delta / ratio), min(1.0, (1 - delta) / ratio)
    across = (pa - delta) / ratio  # the b whose boundary point is pa
    first_low = maths.where(pb < across, pb, across)
    first_high = maths.where(pb < across, across, pb)
    low, high = clip(first_low, lowest, highest, maths), clip(first_high, lowest, highest, maths)
    total = n_candidate + n_baseline
    total = maths.where(total > 0, total, 1)
    b = (n_candidate * across + n_baseline * pb) / total  # the pooled rate when ratio = 1 and delta = 0
    b = maths.where((b > low) & (b < high), b, 0.5 * (low + high))
    if ratio == 1 and delta == 0:
        return b, b  # which is the answer itself then
    # Too near an end, where the cost is infinite, Newton's steps would be lost in rounding.
    edge = OFF_END * (high - low)
    b = maths.where((b > low + edge) & (b < high - edge), b, 0.5 * (low + high))
    for _ in range(MAX_STEPS):
        a = ratio * b + delta
        spread_a, spread_b = a * (1 - a), b * (1 - b)
        gap_a, gap_b = a - pa, b - pb
        slope_down = n_candidate * ratio * gap_a / spread_a + n_baseline * gap_b / spread_b
        curve = n_candidate * ratio * ratio * (spread_a - gap_a * (1 - 2 * a)) / (spread_a * spread_a)
        curve = curve + n_baseline * (spread_b - gap_b * (1 - 2 * b)) / (spread_b * spread_b)
        low = maths.where(slope_down < 0, b, low)
        high = maths.where(slope_down < 0, high, b)
        newton = b - slope_down / maths.where(curve > 0, curve, 1)
        b_next = maths.where((newton >= low) & (newton <= high), newton, 0.5 * (low + high))
        moved = abs(b_next - b)
        done = maths.every(moved <= PRECISION * b)
        b = b_next
        if done:
            break
    return ratio * b + delta, b


def _project_floats(
    pa: float, pb: float, n_candidate: float, n_baseline: float, ratio: float, delta: float
) -> tuple[float, float]:
    """The same for numbers, operation by operation, without a call for each: half of the work of an update is here."""
    lowest, highest = max(0.0, -delta / ratio), min(1.0, (1 - delta) / ratio)
    across = (pa - delta) / ratio
    low, high = (pb, across) if pb < across else (across, pb)
    low = lowest if low < lowest else highest if low > highest else low
    high = lowest if high < lowest else highest if high > highest else high
    total = n_candidate + n_baseline
    b = (n_candidate * across + n_baseline * pb) / (total if total > 0 else 1)
    if not low < b < high:
        b = 0.5 * (low + high)
    if ratio == 1 and delta == 0:
        return b, b
    edge = OFF_END * (high - low)
    if not low + edge < b < high - edge:
        b = 0.5 * (low + high)
    weight = n_candidate * ratio
    weight_of_curve = weight * ratio
    for _ in range(MAX_STEPS):
        a = ratio * b + delta
        spread_a, spread_b = a * (1 - a), b * (1 - b)
        gap_a, gap_b = a - pa, b - pb
        slope_down = weight * gap_a / spread_a + n_baseline * gap_b / spread_b
        curve = weight_of_curve * (spread_a - gap_a * (1 - 2 * a)) / (spread_a * spread_a)
        curve = curve + n_baseline * (spread_b - gap_b * (1 - 2 * b)) / (spread_b * spread_b)
        if slope_down < 0:
            low = b
        else:
            high = b
        before = b
        b = b - slope_down / (curve if curve > 0 else 1)
        if not low <= b <= high:
            b = 0.5 * (low + high)
        if abs(b - before) <= PRECISION * before:
            break
    return ratio * b + delta, b


def log_increments(
    pb: Number,
    n_candidate: Number,
    events_candidate: Number,
    n_baseline: Number,
    events_baseline: Number,
    *,
    ratio: float,
    delta: float,
    fail: bool,
    multipliers: Sequence[float],
    maths: Maths | None = None,
) -> list[Number]:
    """Per alternative the log of its factor for one interval.

    pb      the baseline's rate as estimated from *earlier* intervals
    An alternative is `multiplier` times the odds of the boundary at pb. One that lands on the wrong side of
    the boundary (it leaves (0, 1) there) is skipped: its factor is 1.
    """
    if maths is None:
        return _float_increments(
            pb,
            n_candidate,
            events_candidate,
            n_baseline,
            events_baseline,
            ratio=ratio,
            delta=delta,
            fail=fail,
            multipliers=multipliers,
        )
    boundary = ratio * pb + delta
    inside = maths.where(boundary <= 0, OFF_EDGE, maths.where(boundary >= 1, 1 - OFF_EDGE, boundary))
    odds = inside / (1 - inside)
    failures_candidate = n_candidate - events_candidate
    failures_baseline = n_baseline - events_baseline
    log_pb, log_qb = maths.log(pb), maths.log1p(-pb)
    increments = []
    for multiplier in multipliers:
        pa = odds * multiplier
        pa = clip(pa / (1 + pa), SMALLEST, 1 - SMALLEST, maths)
        right_side = pa > boundary if fail else pa < boundary
        a, b = project(pa, pb, n_candidate, n_baseline, ratio, delta, maths)
        a = maths.where(right_side, a, 0.5)  # a skipped point may have left (0, 1)
        gain = events_candidate * (maths.log(pa) - maths.log(a))
        gain = gain + failures_candidate * (maths.log1p(-pa) - maths.log1p(-a))
        if ratio:
            gain = gain + events_baseline * (log_pb - maths.log(b))
            gain = gain + failures_baseline * (log_qb - maths.log1p(-b))
        increments.append(maths.where(right_side, gain, 0.0))
    return increments


def _float_increments(
    pb: float,
    n_candidate: float,
    events_candidate: float,
    n_baseline: float,
    events_baseline: float,
    *,
    ratio: float,
    delta: float,
    fail: bool,
    multipliers: Sequence[float],
) -> list[float]:
    """The same for numbers, like `_project_floats`."""
    log, log1p = math.log, math.log1p
    boundary = ratio * pb + delta
    inside = OFF_EDGE if boundary <= 0 else 1 - OFF_EDGE if boundary >= 1 else boundary
    odds = inside / (1 - inside)
    failures_candidate = n_candidate - events_candidate
    failures_baseline = n_baseline - events_baseline
    log_pb, log_qb = log(pb), log1p(-pb)
    increments = []
    for multiplier in multipliers:
        pa = odds * multiplier
        pa = pa / (1 + pa)
        pa = SMALLEST if pa < SMALLEST else LARGEST if pa > LARGEST else pa
        if not (pa > boundary if fail else pa < boundary):
            increments.append(0.0)
            continue
        if ratio == 0:
            a, b = delta, pb
        else:
            a, b = _project_floats(pa, pb, n_candidate, n_baseline, ratio, delta)
        gain = events_candidate * (log(pa) - log(a))
        gain = gain + failures_candidate * (log1p(-pa) - log1p(-a))
        if ratio:
            gain = gain + events_baseline * (log_pb - log(b))
            gain = gain + failures_baseline * (log_qb - log1p(-b))
        increments.append(gain)
    return increments
