"""What every strategy says: the same functions, in a file (or folder) of its own, listed in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rollouts.domain.capabilities import Capability
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.decision import Decision, GatesView, RolloutView, Seen
from rollouts.domain.lifecycle.effects import SetTraffic
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.record.analysis import Analysis


class Strategy(Protocol):
    """How a rollout goes from its baseline to a candidate. Pure; never raises for what the world does.

    NEEDS   what the router must be able to do, or no such rollout can start
    """

    NEEDS: frozenset[Capability]

    def launching_words(self, rollout: RolloutView) -> tuple[str, str]:
        """What is said when the engines are launched: the reason, and what comes then."""
        ...

    def launch(self, rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
        """One decision in PROVISIONING: until every arm is ready, routed at 0% and answers itself."""
        ...

    def advance(self, rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
        """One decision in PROGRESSING."""
        ...

    def keep_safe(self, rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision | None:
        """What is never frozen, in PAUSED too: the way back, and what takes traffic from a bad arm. None: nothing."""
        ...

    def gates_of_promoted(self, rollout: RolloutView, gates: GatesView) -> GatesView:
        """By what the promoted candidate is watched."""
        ...

    def is_answered(self, rollout: RolloutView, seen: Seen) -> bool:
        """Whether a candidate with traffic answers, so that it may keep it until the baseline is ready."""
        ...

    def promote(self, rollout: RolloutView, *, sentence: str, arm: str) -> Decision:
        """All traffic to one candidate. `arm`: which one, where there are several.

        Raises InvalidInput (field "arm") for an arm that may not be promoted, or when the choice is missing.
        """
        ...

    def planned_split(self, rollout: RolloutView) -> SetTraffic:
        """The split that the plan asks for now: set again when a person resumes."""
        ...

    def planned_share(self, rollout: RolloutView) -> int:
        """The share of all candidates while traffic moves, in basis points."""
        ...

    def share_words(self, rollout: RolloutView) -> str:
        """The same for people, while traffic moves: `25%`, or `v2 45%, v3 40%`."""
        ...

    def initial_analysis(self, plan: Plan, policy: GatePolicy, arms: Sequence[str]) -> Analysis:
        """No evidence yet. Raises InvalidInput when the plan leaves these arms no room."""
        ...

    def opening_gates(self, rollout: RolloutView, policy: GatePolicy) -> GatesView:
        """What the decision needs before the first interval."""
        ...
