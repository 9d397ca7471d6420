"""A bandit: several candidates at once, whose shares follow the evidence until one arm is left.

settings    what its plan holds
forecast    its dry run
launching   before traffic: all launch together, one that cannot is dropped
learning    with traffic: who leaves the race, and how the shares follow
ending      who is promoted
stages      there is one
analysis    how its evidence is read
The statistics are in `rollouts.domain.bandits`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rollouts.domain.bandits import BanditSpec, BanditState
from rollouts.domain.capabilities import Capability
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle import arms as arms_of_rollouts
from rollouts.domain.lifecycle.decision import GatesView, RolloutView
from rollouts.domain.lifecycle.plan import Plan, Settings
from rollouts.domain.record.analysis import Analysis, analysed_arms, labels_of
from rollouts.domain.strategies.bandit.analysis import BanditAnalysis
from rollouts.domain.strategies.bandit.ending import gates_of_promoted, is_answered, promote
from rollouts.domain.strategies.bandit.forecast import forecast
from rollouts.domain.strategies.bandit.launching import launch, launching_words
from rollouts.domain.strategies.bandit.learning import (
    advance,
    keep_safe,
    planned_split,
    share_words,
)
from rollouts.domain.strategies.bandit.settings import spec_of
from rollouts.domain.strategies.bandit.stages import expected_steps, is_exposed, moments, stages
from rollouts.domain.strategies.strategy import CommandWords

__all__ = [
    "ANALYSIS", "MOST_CANDIDATES", "NEEDS", "SETTINGS", "WORDS", "advance", "expected_steps", "forecast",
    "gates_of_promoted", "initial_analysis", "is_answered", "is_exposed", "keep_safe", "launch", "launching_words",
    "moments", "opening_gates", "planned_split", "promote", "share_words", "stages", "started_words",
]  # fmt: skip

# Every candidate answers such a request before users are sent there.
NEEDS = frozenset({Capability.FORCED_VARIANT})
SETTINGS: type[Settings] | None = BanditSpec
MOST_CANDIDATES = arms_of_rollouts.MOST_CANDIDATES
ANALYSIS: type[Analysis] = BanditAnalysis
WORDS = CommandWords(
    paused="froze the weights",
    while_paused="They hold until somebody resumes; an arm that is proven worse still leaves.",
    resumed="let the weights move again",
)


def started_words(baseline: str, candidates: str) -> str:
    """See the protocol."""
    return f"bandit of {baseline} and {candidates}"


def initial_analysis(plan: Plan, policy: GatePolicy, arms: Sequence[str]) -> Analysis:
    """See the protocol. Raises InvalidInput when the floors of the plan leave these arms no room."""
    return BanditAnalysis(BanditState.initial(spec_of(plan), policy, arms))


def opening_gates(rollout: RolloutView, policy: GatePolicy) -> GatesView:
    """See the protocol: the shares to start with."""
    arms = analysed_arms(rollout)
    if len(arms) < 2:
        return GatesView()
    first = initial_analysis(rollout.plan, policy, arms).assess({}, labels_of(rollout))
    return ANALYSIS.gates_view(first, policy)
