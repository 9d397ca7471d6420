"""Where evidence crosses a level, on a grid: exactly what bisection finds, in a tenth of its steps.

A mean of exponentials of straight lines is convex in its logarithm, so it crosses a level that it is below at 0 once,
and Newton's method goes there in a few steps. A tangent lies below such a curve, and above it by at most `bend` times
the square of the distance. So as soon as one tangent says of two neighbours on the grid that the first is below the
level and the second is not, and by more than rounding can be wrong, they are what bisection ends between: all further
points that it asks lie on the same sides, and further from the level. Where rounding may decide, bisection it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

STEPS = 30  # three are usual
ROUNDING = 5e-16  # of one operation, four times what it can be


def first_on_grid(
    starts: Sequence[float],
    rates: Sequence[float],
    level: float,
    step: float,
    *,
    end: float,
    above: float | None = None,
) -> int | None:
    """The smallest k for which log(mean(exp(starts + k * step * rates))) reaches the level.

    above   where it is known to be reached, if that is known
    It must be below the level at 0. None when rounding may decide, and when it is not reached up to `end`.
    """
    log_n, exp, log = math.log(len(starts)), math.exp, math.log
    lines = list(zip(starts, rates, strict=True))
    # Where one line alone is enough Newton's method begins: it comes from above and never leaps over the crossing.
    ends = [(level + log_n - start) / rate for start, rate in lines if rate > 0]
    if not ends:
        return None
    t = min(ends) if above is None else min(above, *ends)
    steepest, flattest = max(rates), min(rates)
    bend = (steepest - flattest) ** 2 / 8
    unsure = ROUNDING * (4 * max(max(starts), -min(starts)) + 4 * end * max(steepest, -flattest) + 60)
    for _ in range(STEPS):
        values = [start + t * rate for start, rate in lines]
        top = max(values)
        total = slope = 0.0
        for value, rate in zip(values, rates, strict=True):
            part = exp(value - top)
            total += part
            slope += part * rate
        if not slope > 0:
            return None
        slope /= total
        over = top + log(total) - log_n - level
        nearer = t - over / slope
        k = math.ceil(nearer / step)
        back = (k - 1) * step - t
        if over + slope * (k * step - t) > unsure and over + slope * back + bend * back * back < -unsure:
            return k if k * step <= end else None
        if not 0 < nearer < t:
            return None
        t = nearer
    return None
