"""How fast evidence grows if nothing changes, and how long a gate will need from where it stands.

All forecasts follow the *mean path*: counts take their expected values, evidence grows by its expected increments.
Chance hurries more than it delays (evidence has to reach its level once), so the median rollout takes 0.7 to 1.05 times
as long as forecast; a verdict never rests on a forecast. What a plan can find: `plan_forecast.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rollouts.domain.gates.crossing import first_on_grid
from rollouts.domain.gates.evidence import log_sum_exp
from rollouts.domain.gates.paired import PairedProcess, bets_of
from rollouts.domain.gates.projection import log_increments
from rollouts.domain.gates.proportion import Proof, ProportionProcess, multipliers_of

BISECTIONS = 40
LARGEST_FORECAST = 1e7  # requests; beyond it the honest answer is "unknown"


def growth(
    decision: Proof,
    limit: tuple[float, float],
    p_candidate: float,
    p_baseline: float,
    baseline_per_candidate: float,
) -> tuple[float, ...]:
    """Expected log increment of each alternative per request of the candidate, at these true rates.

    baseline_per_candidate      baseline requests for each candidate request (3 at a share of 25%)
    """
    increments = log_increments(
        min(max(p_baseline, 1e-9), 1 - 1e-9),
        1.0,
        p_candidate,
        baseline_per_candidate,
        baseline_per_candidate * p_baseline,
        ratio=limit[0],
        delta=limit[1],
        fail=decision == "fail",
        multipliers=multipliers_of(decision),
    )
    return tuple(float(increment) for increment in increments)


def score_growth(decision: Proof, margin: float, grid: int, drop: float, spread: float) -> tuple[float, ...]:
    """Expected log increment of each bet per pair, for differences with this mean drop and standard
    deviation.
    """
    mean = drop - margin if decision == "fail" else margin - drop
    lowest, highest = (-1 - margin, 1 - margin) if decision == "fail" else (margin - 1, margin + 1)
    ends = (max(mean - spread, lowest), min(mean + spread, highest))
    return tuple(sum(math.log1p(bet * end) for end in ends) / 2 for bet in bets_of(decision, margin, grid))


def trials_until(
    logs: Sequence[float], growths: Sequence[float], log_target: float, most: float = LARGEST_FORECAST
) -> float | None:
    """How many more trials until the log of the mean of exp(logs) reaches the target; None beyond `most`."""

    log_n = math.log(len(logs))

    def evidence(trials: float) -> float:
        values = [value + trials * rate for value, rate in zip(logs, growths, strict=True)]
        return log_sum_exp(values) - log_n

    if evidence(0) >= log_target:
        return 0.0
    # `_first` ends on a grid that depends on how far it has to go: all its points are whole multiples of this step.
    far = first_on_grid(logs, growths, log_target, 1.0, end=most)
    if far is not None:
        high = math.ldexp(1.0, (far - 1).bit_length())
        step = high * 0.5 ** (BISECTIONS if far == 1 else BISECTIONS + 1)
        found = first_on_grid(logs, growths, log_target, step, end=high, above=float(far))
        if found is not None and high <= most:
            return found * step
    return _first(lambda trials: evidence(trials) >= log_target, most)


def _first(reached: Callable[[float], bool], most: float) -> float | None:
    """The smallest positive number where `reached` turns true, by doubling and bisection."""
    high = 1.0
    while not reached(high):
        high *= 2
        if high > most:
            return None
    low = high / 2 if high > 1 else 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def requests_to_pass(
    passing: ProportionProcess | PairedProcess,
    beta: float,
    p_candidate: float,
    p_baseline: float,
    baseline_per_candidate: float,
    *,
    spread: float = 0.0,
    temper: float = 1.0,
) -> float | None:
    """Requests of the candidate (or pairs) until PASS if the rates stay as they are; None when not in
    sight.

    temper      what the growth is multiplied by: the gate's present one, as if it stayed. That it grows with every
                block, and that in some intervals the loads differ by chance and nothing counts, is left out: recorded
                verdicts hold these numbers, and what is gained is less than what the rates seen so far are off by
    """
    if isinstance(passing, PairedProcess):
        rates = score_growth("pass", passing.margin, passing.grid, p_baseline - p_candidate, spread)
    else:
        rates = growth(
            "pass", (passing.ratio, passing.delta), p_candidate, p_baseline, baseline_per_candidate
        )
    if max(rates) <= 0:
        return None
    return trials_until(passing.evidence.logs, [temper * rate for rate in rates], math.log(1 / beta))
