"""What every strategy says: the same functions, in a file (or folder) of its own, listed in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rollouts.domain.capabilities import Capability
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.decision import Decision, GatesView, RolloutView, Seen
from rollouts.domain.lifecycle.effects import SetTraffic
from rollouts.domain.lifecycle.plan import Plan, Settings
from rollouts.domain.record.analysis import Analysis
from rollouts.domain.strategies.dry_run import Forecast, Planned


@dataclass(frozen=True, slots=True)
class CommandWords:
    """How what people tell a rollout reads, after their name.

    paused, resumed     "paused the rollout", "resumed the rollout"
    while_paused        what goes on until somebody resumes, as a sentence
    """

    paused: str
    while_paused: str
    resumed: str


class Strategy(Protocol):
    """How a rollout goes from its baseline to a candidate. Pure; never raises for what the world does.

    NEEDS               what the router must be able to do, or no such rollout can start
    SETTINGS            what a plan of it holds under its name, in place of steps; None: it has steps
    MOST_CANDIDATES     how many versions it takes at once
    ANALYSIS            how its evidence is read, when it was stored and when it was just made
    WORDS               what is told of people's commands
    """

    NEEDS: frozenset[Capability]
    SETTINGS: type[Settings] | None
    MOST_CANDIDATES: int
    ANALYSIS: type[Analysis]
    WORDS: CommandWords

    # --- before it starts

    def forecast(self, planned: Planned) -> Forecast:
        """The dry run: what this would come to, and what speaks against it.

        Raises InvalidInput, with the field as the plan names it, for a plan that has no room for so many candidates.
        """
        ...

    def started_words(self, baseline: str, candidates: str) -> str:
        """What the history says was started: `support-v1 to support-v2`."""
        ...

    # --- the decisions

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

    # --- its stages and its time

    def stages(self, plan: Plan) -> int:
        """How many stages the traffic goes through before the promotion, numbered from 0. A rollout that was promoted
        stands at this number."""
        ...

    def moments(self, rollout: RolloutView) -> Sequence[float]:
        """When a decision of its own may follow from time alone, in seconds since the epoch; past ones are left out by
        whoever asks. The deadline and the times that every plan has are not among them."""
        ...

    def is_exposed(self, plan: Plan, *, stage: int, seconds: float, requests: int) -> bool:
        """Whether a stage has the time and the requests that the plan asks for, so that only evidence is missing.

        seconds     since its share is in force
        requests    that candidates answered since then
        """
        ...

    def expected_steps(self, plan: Plan, requests_per_second: float) -> Sequence[tuple[int, float]]:
        """The candidate's shares in basis points, each with the seconds it takes at this traffic: what a forecast of
        gates may expect of the next such plan. Empty where shares are not planned ahead."""
        ...

    # --- its traffic

    def planned_split(self, rollout: RolloutView) -> SetTraffic:
        """The split that the plan asks for now: set again when a person resumes."""
        ...

    def share_words(self, rollout: RolloutView) -> str:
        """The planned share of the candidates for people, while traffic moves: `25%`, or `v2 45%, v3 40%`."""
        ...

    # --- its evidence

    def initial_analysis(self, plan: Plan, policy: GatePolicy, arms: Sequence[str]) -> Analysis:
        """No evidence yet. Raises InvalidInput when the plan leaves these arms no room."""
        ...

    def opening_gates(self, rollout: RolloutView, policy: GatePolicy) -> GatesView:
        """What the decision needs before the first interval."""
        ...
