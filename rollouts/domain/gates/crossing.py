"""Where evidence crosses a level, on a grid: exactly what bisection finds, in a fifth of its steps.

A mean of exponentials of straight lines is convex in its logarithm, so it crosses a level that it is below once, and
Newton's method goes there in a few steps. The two neighbours on the grid are then asked themselves. Bisection asks
further points, too, but those lie on the same side with a larger distance to the level: where both neighbours are
further from it than rounding can be wrong, it answers the same. Where they are not, bisection it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

STEPS = 30  # Newton's method needs four or five
ROUNDING = 2.3e-16  # of one operation, twice what it can be


def rising_crossing(starts: Sequence[float], rates: Sequence[float], level: float) -> float | None:
    """Where log(mean(exp(starts + t * rates))) reaches the level, nearly; None if it never does for t >= 0.

    It must be below the level at 0.
    """
    log_n, exp, log = math.log(len(starts)), math.exp, math.log
    # There one line alone is enough: Newton's method comes from above, and never leaps over the crossing.
    ends = [(level + log_n - start) / rate for start, rate in zip(starts, rates, strict=True) if rate > 0]
    if not ends:
        return None
    t = min(ends)
    for _ in range(STEPS):
        values = [start + t * rate for start, rate in zip(starts, rates, strict=True)]
        top = max(values)
        parts = [exp(value - top) for value in values]
        total = sum(parts)
        slope = sum([part * rate for part, rate in zip(parts, rates, strict=True)]) / total
        if not slope > 0:
            return None
        step = (top + log(total) - log_n - level) / slope
        t -= step
        if step <= 1e-7 * t:
            break
    return t


def first_on_grid(
    evidence: Callable[[float], float], level: float, crossing: float, step: float, *, largest: float
) -> int | None:
    """The smallest k >= 1 for which `evidence(k * step)` reaches the level; None where rounding may decide.

    evidence    rises through the level near `crossing`
    largest     no number in its sum is larger than this
    """
    k = math.ceil(crossing / step)
    if not 1 <= k < 2**52:
        return None
    unsure = ROUNDING * (4 * largest + 60)
    reached = evidence(k * step) - level
    before = evidence((k - 1) * step) - level
    return k if reached > unsure and before < -unsure else None
