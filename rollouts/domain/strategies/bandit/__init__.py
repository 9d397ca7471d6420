"""A bandit: several candidates at once, whose shares follow the evidence until one arm is left.

launching   before traffic: all launch together, one that cannot is dropped
learning    with traffic: who leaves the race, and how the shares follow
ending      who is promoted
The statistics are in `rollouts.domain.bandits`.
"""

from __future__ import annotations

from collections.abc import Sequence

from rollouts.domain.bandits import BanditState
from rollouts.domain.capabilities import Capability
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.decision import GatesView, RolloutView
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.record.analysis import Analysis, BanditAnalysis, analysed_arms, gates_view, labels_of
from rollouts.domain.strategies.bandit.ending import gates_of_promoted, is_answered, promote
from rollouts.domain.strategies.bandit.launching import launch, launching_words
from rollouts.domain.strategies.bandit.learning import (
    advance,
    keep_safe,
    planned_share,
    planned_split,
    share_words,
)

__all__ = [
    "NEEDS", "advance", "gates_of_promoted", "initial_analysis", "is_answered", "keep_safe", "launch",
    "launching_words", "opening_gates", "planned_share", "planned_split", "promote", "share_words",
]  # fmt: skip

NEEDS = frozenset(
    {Capability.FORCED_VARIANT}
)  # every candidate answers such a request before users are sent there


def initial_analysis(plan: Plan, policy: GatePolicy, arms: Sequence[str]) -> Analysis:
    """See the protocol. Raises InvalidInput when the floors of the plan leave these arms no room."""
    assert plan.bandit is not None
    return BanditAnalysis(BanditState.initial(plan.bandit, policy, arms))


def opening_gates(rollout: RolloutView, policy: GatePolicy) -> GatesView:
    """See the protocol: the shares to start with."""
    arms = analysed_arms(rollout)
    if len(arms) < 2:
        return GatesView()
    return gates_view(initial_analysis(rollout.plan, policy, arms).assess({}, labels_of(rollout)), policy)
