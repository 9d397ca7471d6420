"""How long a bandit may still take, on the mean path: if every arm goes on as it did so far."""

from __future__ import annotations

import math

import numpy as np

from rollouts.domain.bandits.arithmetic import ELIMINATION_ODDS, WHOLE
from rollouts.domain.bandits.learner import TopTwoThompson
from rollouts.domain.gates.evidence import as_number
from rollouts.domain.gates.forecast import trials_until
from rollouts.domain.gates.projection import log_increments

CLOSEST_TO_EDGE = 1e-4


def answers_until_one_is_left(learner: TopTwoThompson, wanted: tuple[int, ...]) -> float | None:
    """Scored answers (of all arms) until the arm that looks best has beaten every other one in the race.

    wanted      the shares in basis points that they come at. None when it cannot be known: an arm without answers, no
                difference so far, or farther away than a forecast reaches.
    """
    racing = [learner.arms.index(name) for name in learner.survivors]
    means, _ = learner.sums.levels()
    if len(racing) < 2 or np.isnan(means[racing]).any():
        return None
    level = np.clip(means, CLOSEST_TO_EDGE, 1 - CLOSEST_TO_EDGE)
    leader = max(racing, key=lambda position: float(level[position]))
    longest = 0.0
    for rival in racing:
        if rival == leader:
            continue
        needed = _answers_to_beat(learner, leader, rival, level, wanted)
        if needed is None:
            return None
        longest = max(longest, needed)
    return longest


def _answers_to_beat(
    learner: TopTwoThompson, leader: int, rival: int, level: np.ndarray, wanted: tuple[int, ...]
) -> float | None:
    n_i, n_j = wanted[leader] / WHOLE, wanted[rival] / WHOLE
    p_i, p_j = float(level[leader]), float(level[rival])
    if not n_i or not n_j or p_i <= p_j:
        return None
    growths = log_increments(
        p_j, n_i, n_i * p_i, n_j, n_j * p_j, ratio=1.0, delta=0.0, fail=True, multipliers=ELIMINATION_ODDS
    )
    if max(growths) <= 0:
        return None
    duels = learner.sums.log_duels()[:, rival]
    others = sum(as_number(float(log_e)) for position, log_e in enumerate(duels) if position != leader)
    target = learner.threshold * (len(learner.arms) - 1) - others
    if target <= 0:
        return 0.0
    return trials_until(learner.sums.logs[leader, rival].tolist(), growths, math.log(target))
