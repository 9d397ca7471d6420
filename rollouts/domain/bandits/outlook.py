"""What a bandit can decide in which time, before it starts.

Forecasts along the *mean path*, as those of the gates: counts take their expected values, the elimination evidence
grows by its expected increments. Nothing is ever decided on a forecast. The median of simulated bandits took 1.0 to 1.4
times as long: of several arms the last to be dropped is later than each of them. Shares are taken as equal throughout;
weights that follow the rewards send more answers to the arms that are hard to tell apart, which makes up for some of
it.

    answers of each arm until one is dropped = the first n with
    mean over the odds grid of exp(n * growth) >= (K - 1) / alpha

    growth      expected log increment of E[best beats the other] for one answer of each (method A at the margin 0)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.words import duration_of_seconds, percent_of_share, rough
from rollouts.domain.bandits.arithmetic import ELIMINATION_ODDS
from rollouts.domain.bandits.spec import BanditSpec
from rollouts.domain.gates import checks
from rollouts.domain.gates.evidence import log_sum_exp
from rollouts.domain.gates.forecast import trials_until
from rollouts.domain.gates.projection import log_increments

SMALLEST_RATE = 1e-6
HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Decidable:
    """After `seconds` an arm rated down as often as the stable one is dropped if the best arm is rated down at most
    `best_rate` of the time; None: not even if the best one is never rated down.
    """

    seconds: float
    best_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditOutlook:
    """A bandit's forecast.

    base_rate           the share of the stable variant's answers that is rated down
    burn_in_seconds     how long shares stay equal
    half_answers, half_seconds      of each arm, and in all, until the others are dropped when the best arm is rated
                        down half as often as they are; None: not in sight
    decidable           in order of time
    """

    base_rate: float
    burn_in_seconds: float
    half_answers: int | None
    half_seconds: float | None
    decidable: tuple[Decidable, ...]

    @property
    def sentence(self) -> str:
        """The forecast for people."""
        if self.half_answers is None or self.half_seconds is None:
            return "With this traffic and so few ratings, no difference would be decided in any foreseeable time."
        return (
            f"An arm rated down half as often as the others ({percent_of_share(self.base_rate / 2)} against "
            f"{percent_of_share(self.base_rate)}) is found in about {duration_of_seconds(self.half_seconds)}, after "
            f"{rough(self.half_answers)} answers of each arm. Of equal arms "
            "several are usually left at the deadline."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "base_rate": self.base_rate,
            "burn_in_seconds": self.burn_in_seconds,
            "half_answers": self.half_answers,
            "half_seconds": self.half_seconds,
            "decidable": [{"seconds": one.seconds, "best_rate": one.best_rate} for one in self.decidable],
            "sentence": self.sentence,
        }


def answers_to_drop(best_rate: float, other_rate: float, *, arms: int, alpha: float) -> float | None:
    """Answers of each of the two arms until the other one is dropped for being worse than the best.

    best_rate, other_rate   the shares of their answers that are rated down. None: not in sight, as for equal arms.
    """
    growth = _growth(best_rate, other_rate)
    if max(growth, default=0.0) <= 0:
        return None
    return trials_until([0.0] * len(growth), growth, math.log((arms - 1) / alpha))


def _growth(best_rate: float, other_rate: float) -> Sequence[float]:
    """Expected log increment of each alternative of E[best beats the other], for one answer of each; empty when the
    best is not better.
    """
    best = checks.between(best_rate, 0, 1, field="best_rate")
    other = min(max(checks.between(other_rate, 0, 1, field="other_rate"), SMALLEST_RATE), 1 - SMALLEST_RATE)
    if best >= other:
        return ()
    reward = 1 - other
    return log_increments(
        reward, 1.0, 1 - best, 1.0, reward, ratio=1.0, delta=0.0, fail=True, multipliers=ELIMINATION_ODDS
    )


def bandit_outlook(
    spec: BanditSpec,
    *,
    arms: int,
    answers_per_second: float,
    base_rate: float,
    moments: Sequence[float],
) -> BanditOutlook:
    """The forecast of a bandit with so many arms, the baseline included.

    answers_per_second  of the endpoint, all arms together
    base_rate           the share of the stable variant's answers that is rated down
    moments             seconds after the first traffic to say what is decidable by then

    Raises InvalidInput naming the argument.
    """
    speed = checks.between(answers_per_second, 0, 1e9, field="answers_per_second", low_open=True)
    base = checks.between(base_rate, 0, 1, field="base_rate", low_open=True)
    if arms < 2:
        checks.between(arms, 2, math.inf, field="arms")
    each = speed / arms
    needed = answers_to_drop(base / 2, base, arms=arms, alpha=spec.alpha)
    return BanditOutlook(
        base_rate=base,
        burn_in_seconds=spec.burn_in / each,
        half_answers=None if needed is None else math.ceil(needed),
        half_seconds=None if needed is None else max(needed, spec.burn_in) / each,
        decidable=tuple(
            Decidable(float(seconds), _best_rate(base, seconds * each, arms, spec.alpha))
            for seconds in moments
        ),
    )


def _best_rate(base: float, answers: float, arms: int, alpha: float) -> float | None:
    """The highest rate of the best arm at which so many answers of each arm are enough."""

    target = math.log((arms - 1) / alpha)

    def found(rate: float) -> bool:
        # The evidence is convex in the number of answers and begins below the target: once above, it stays.
        growth = [answers * increment for increment in _growth(rate, base)]
        return bool(growth) and log_sum_exp(growth) - math.log(len(growth)) >= target

    if not found(0.0):
        return None
    low, high = 0.0, base
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) else (low, middle)
    return low
