"""The analysis of a rollout: what its intervals of evidence say, as one value that only evidence changes.

The loop and the replay both use this, and nothing else, to turn intervals into verdicts: an analysis is made once
(by the strategy), updated once an interval, assessed whenever it is looked at, and stored as JSON in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rollouts.domain.bandits import BanditState, BanditVerdict
from rollouts.domain.bandits.verdict import ArmVerdict
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.outage import Outage
from rollouts.domain.gates.policy import GatePolicy, Reaction
from rollouts.domain.gates.verdict import FamilyVerdict, Verdict
from rollouts.domain.lifecycle.arms import CANDIDATE
from rollouts.domain.lifecycle.decision import BanditView, Drop, GatesView, OpenBecause, RolloutView
from rollouts.domain.record.intervals import BASELINE, Interval

Assessment = FamilyVerdict | BanditVerdict


class Analysis(Protocol):
    """Evidence so far. Frozen: `update` returns the next one."""

    def update(self, interval: Interval, rng: np.random.Generator) -> Analysis:
        """After one more interval. Raises InvalidInput, naming the field, for impossible counts."""
        ...

    def assess(
        self, workload: Mapping[str, WorkloadFacts], labels: Mapping[str, str] | None = None
    ) -> Assessment:
        """What it says now.

        workload    restarts and kills of the engines, by candidate arm, for the fast kill
        labels      how a bandit's arms are written in sentences
        """
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class GatesAnalysis:
    """One candidate against the baseline: the gates alone."""

    state: GatesState

    def update(self, interval: Interval, rng: np.random.Generator) -> GatesAnalysis:
        return GatesAnalysis(self.state.update(interval, candidate=CANDIDATE))

    def assess(
        self, workload: Mapping[str, WorkloadFacts], labels: Mapping[str, str] | None = None
    ) -> FamilyVerdict:
        return self.state.assess(workload=workload.get(CANDIDATE))

    def to_json(self) -> dict[str, Any]:
        return self.state.to_json()


@dataclass(frozen=True, slots=True)
class BanditAnalysis:
    """Several candidates: the learner, and gates for each of them."""

    state: BanditState

    def update(self, interval: Interval, rng: np.random.Generator) -> BanditAnalysis:
        return BanditAnalysis(self.state.update(interval, rng))

    def assess(
        self, workload: Mapping[str, WorkloadFacts], labels: Mapping[str, str] | None = None
    ) -> BanditVerdict:
        return self.state.assess(workload=workload, labels=labels)

    def to_json(self) -> dict[str, Any]:
        return self.state.to_json()


def analysed_arms(rollout: RolloutView) -> tuple[str, ...]:
    """The arms that the analysis of a rollout knows: all but those that never launched."""
    return tuple(arm.name for arm in rollout.arms if arm.cause != "launch")


def labels_of(rollout: RolloutView) -> dict[str, str]:
    """How the arms of a rollout are written in sentences: "candidate-2" -> "v3"."""
    return {arm.name: arm.label for arm in rollout.arms}


def analysis_from_json(data: Mapping[str, Any]) -> Analysis:
    """A stored analysis. Raises InvalidInput naming the field when the data is none."""
    if data.get("kind") == "bandit":
        return BanditAnalysis(BanditState.from_json(data))
    return GatesAnalysis(GatesState.from_json(data))


def assessment_from_json(data: Mapping[str, Any]) -> Assessment:
    """A stored assessment."""
    if data.get("kind") == "bandit":
        return BanditVerdict.from_json(data)
    return FamilyVerdict.from_json(data)


def interval_rng(rollout_id: int, index: int) -> np.random.Generator:
    """The randomness of one interval: the same whenever it is computed again."""
    return np.random.default_rng([rollout_id, index, 2])


def gates_view(assessment: Assessment, policy: GatePolicy) -> GatesView:
    """What the decision needs of an assessment. `policy` says what an open verdict does at the deadline."""
    if isinstance(assessment, BanditVerdict):
        return _bandit_view(assessment, policy)
    return _family_view(assessment, policy)


def outage_in(assessment: Assessment) -> Outage | None:
    """The outage of the baseline, as all candidates see it."""
    if isinstance(assessment, FamilyVerdict):
        return assessment.outage
    racing = [assessment.gates[name] for name in assessment.survivors if name in assessment.gates]
    return next((family.outage for family in racing if family.outage is not None), None)


# --- within -----------------------------------------------------------------------------------------------------------


def _family_view(assessment: FamilyVerdict, policy: GatePolicy) -> GatesView:
    waiting = [verdict for verdict in assessment.verdicts if verdict.required and _is_open(verdict.verdict)]
    passed = [verdict.sentence for verdict in assessment.verdicts if verdict.verdict is Verdict.PASS]
    cause = assessment.cause
    open_because = _worst([verdict.verdict for verdict in waiting])
    return GatesView(
        rollback=assessment.rollback,
        cause=f"gate:{cause.key}" if cause else "gates",
        cause_sentence=cause.sentence if cause else assessment.reason,
        fast_kill=assessment.fast_kill or "",
        all_required_pass=assessment.all_required_pass,
        waiting=waiting[0].sentence if waiting else "",
        passed_sentence=f"All {len(passed)} gates passed. {' '.join(passed)}" if passed else "",
        open_because=open_because,
        reaction=_reaction(open_because, policy),
        outage=assessment.outage,
    )


def _bandit_view(assessment: BanditVerdict, policy: GatePolicy) -> GatesView:
    gates = {name: _family_view(family, policy) for name, family in assessment.gates.items()}
    racing = [name for name in assessment.survivors if name in gates]
    open_because = _worst(
        [
            verdict.verdict
            for name in racing
            for verdict in assessment.gates[name].verdicts
            if verdict.required
        ]
    )
    if not open_because and assessment.tied:
        open_because = "inconclusive"
    return GatesView(
        waiting=assessment.sentence,
        open_because=open_because,
        reaction=_reaction(open_because, policy),
        bandit=BanditView(
            wanted=assessment.wanted,
            left=tuple(
                Drop(arm.name, arm.cause, _why(arm, gates), _blame(arm, gates))
                for arm in assessment.arms
                if arm.state != "racing" and arm.name != BASELINE
            ),
            gates=gates,
            winner=assessment.winner,
            sentence=assessment.sentence,
            detail=assessment.detail,
            tie_sentence=assessment.tie_sentence,
            skipped=assessment.reweight.sentence if assessment.reweight.skipped else "",
        ),
        outage=outage_in(assessment),
    )


def _why(arm: ArmVerdict, gates: Mapping[str, GatesView]) -> str:
    """Why the arm leaves. For an engine only the reason itself: the analysis puts its own words before it."""
    return (gates[arm.name].fast_kill if arm.cause == "workload" else "") or arm.sentence


def _blame(arm: ArmVerdict, gates: Mapping[str, GatesView]) -> str:
    """The cause of the rollback if this arm is the last one to leave."""
    if arm.cause == "evidence":
        return "bandit:baseline"
    if arm.cause == "guardrail":
        return gates[arm.name].cause
    # Restarts and kills for memory are the fast kill's too: only the cluster told of them, not the traffic.
    return "person" if arm.cause == "person" else "fast-kill"


def _is_open(verdict: Verdict) -> bool:
    return verdict is not Verdict.PASS


def _worst(verdicts: Sequence[Verdict]) -> OpenBecause:
    """What keeps required gates from passing, the worst first; empty when all pass."""
    if Verdict.ERROR in verdicts:
        return "error"
    if Verdict.NO_DATA in verdicts:
        return "no-data"
    return "inconclusive" if any(_is_open(verdict) for verdict in verdicts) else ""


def _reaction(open_because: OpenBecause, policy: GatePolicy) -> Reaction:
    reactions: dict[str, Reaction] = {
        "inconclusive": policy.on_inconclusive,
        "no-data": policy.on_no_data,
        "error": policy.on_error,
    }
    return reactions.get(open_because, "hold")
