"""A canary: one candidate, whose share grows step by step; a step ends on time and requests with no failed gate.

steps       its decisions, from the launch to the promotion
forecast    its dry run
"""

from __future__ import annotations

from collections.abc import Sequence

from rollouts.domain.capabilities import Capability
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.decision import GatesView, RolloutView
from rollouts.domain.lifecycle.plan import Plan, Settings
from rollouts.domain.record.analysis import Analysis, GatesAnalysis
from rollouts.domain.strategies.canary.forecast import forecast
from rollouts.domain.strategies.canary.steps import (
    advance,
    expected_steps,
    gates_of_promoted,
    is_answered,
    is_exposed,
    keep_safe,
    launch,
    launching_words,
    moments,
    planned_split,
    promote,
    share_words,
    stages,
)
from rollouts.domain.strategies.strategy import CommandWords

__all__ = [
    "ANALYSIS", "MOST_CANDIDATES", "NEEDS", "SETTINGS", "WORDS", "advance", "expected_steps", "forecast",
    "gates_of_promoted", "initial_analysis", "is_answered", "is_exposed", "keep_safe", "launch", "launching_words",
    "moments", "opening_gates", "planned_split", "promote", "share_words", "stages", "started_words",
]  # fmt: skip

# The candidate answers such a request before users are sent there.
NEEDS = frozenset({Capability.FORCED_VARIANT})
SETTINGS: type[Settings] | None = None
MOST_CANDIDATES = 1
ANALYSIS: type[Analysis] = GatesAnalysis
WORDS = CommandWords(
    paused="paused the rollout",
    while_paused="It holds until somebody resumes; a failed gate still rolls back.",
    resumed="resumed the rollout",
)


def started_words(baseline: str, candidates: str) -> str:
    """See the protocol."""
    return f"{baseline} to {candidates}"


def initial_analysis(plan: Plan, policy: GatePolicy, arms: Sequence[str]) -> Analysis:
    """See the protocol."""
    return GatesAnalysis(GatesState.initial(policy))


def opening_gates(rollout: RolloutView, policy: GatePolicy) -> GatesView:
    """See the protocol."""
    return GatesView()
