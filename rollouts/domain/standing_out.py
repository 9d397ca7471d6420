"""What is striking about how requests ended: differences between arms that chance does not explain, and shares that are
high on all of them. For people only: no gate and no decision looks here.
"""

from __future__ import annotations

import math

ODDS = 1_000.0  # to one, that two arms differ, before a page says so
LEAST_DIFFERENCE = 0.005  # of the shares: a smaller one may be real and is still not striking
HIGH_SHARE = 0.1
DEVIATIONS = 4.0


def differ(events: int, trials: int, other_events: int, other_trials: int) -> bool:
    """True when two shares differ by something worth saying, and chance does not explain it.

    Compares "each arm has a rate of its own" with "both have the same" (Bayes factor, Jeffreys' prior for every rate):
    unlike a significance test it does not say yes in the end only because it was asked often enough. The counts must
    come from the same time, or drift that both arms share looks like a difference. Raises ValueError for impossible
    counts.
    """
    _check(events, trials)
    _check(other_events, other_trials)
    if not trials or not other_trials:
        return False
    if abs(events / trials - other_events / other_trials) < LEAST_DIFFERENCE:
        return False
    apart = _log_marginal(events, trials) + _log_marginal(other_events, other_trials)
    return apart - _log_marginal(events + other_events, trials + other_trials) >= math.log(ODDS)


def is_high(events: int, trials: int) -> bool:
    """True when a share is above HIGH_SHARE whatever chance did (Wilson's lower limit at DEVIATIONS)."""
    _check(events, trials)
    if not trials:
        return False
    share, square = events / trials, DEVIATIONS**2
    middle = share + square / (2 * trials)
    reach = DEVIATIONS * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return (middle - reach) / (1 + square / trials) > HIGH_SHARE


def _log_marginal(events: int, trials: int) -> float:
    """log of the probability of one such sequence when its rate is drawn from Beta(1/2, 1/2)."""
    return (
        math.lgamma(events + 0.5)
        + math.lgamma(trials - events + 0.5)
        - math.lgamma(trials + 1)
        - math.log(math.pi)
    )


def _check(events: int, trials: int) -> None:
    if not 0 <= events <= trials:
        raise ValueError(f"{events} of {trials} is impossible")
