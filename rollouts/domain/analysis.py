"""The analysis of a rollout: what its intervals of evidence say, as one value that only evidence changes.

The loop and the replay both use this, and nothing else, to turn intervals into verdicts: an analysis is made once
(`initial_analysis`), updated once an interval, assessed whenever somebody looks, and stored as JSON in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rollouts.domain.decision import GatesView
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.verdict import FamilyVerdict, Verdict
from rollouts.domain.intervals import Interval
from rollouts.domain.plan import Plan

CANDIDATE = "candidate"

Assessment = FamilyVerdict


class Analysis(Protocol):
    """Evidence so far. Frozen: `update` returns the next one."""

    def update(self, interval: Interval, rng: np.random.Generator) -> Analysis:
        """After one more interval. Raises InvalidInput, naming the field, for impossible counts."""
        ...

    def assess(self, workload: Mapping[str, WorkloadFacts]) -> Assessment:
        """What it says now. `workload`: restarts and kills of the engines, by candidate arm, for the fast kill."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class GatesAnalysis:
    """One candidate against the baseline: the gates alone."""

    state: GatesState

    def update(self, interval: Interval, rng: np.random.Generator) -> GatesAnalysis:
        return GatesAnalysis(self.state.update(interval, candidate=CANDIDATE))

    def assess(self, workload: Mapping[str, WorkloadFacts]) -> Assessment:
        return self.state.assess(workload=workload.get(CANDIDATE))

    def to_json(self) -> dict[str, Any]:
        return self.state.to_json()


def initial_analysis(plan: Plan, policy: GatePolicy) -> Analysis:
    """No evidence yet, for a rollout with this plan and policy."""
    return GatesAnalysis(GatesState.initial(policy))


def analysis_from_json(data: Mapping[str, Any]) -> Analysis:
    """A stored analysis. Raises InvalidInput naming the field when the data is none."""
    return GatesAnalysis(GatesState.from_json(data))


def assessment_from_json(data: Mapping[str, Any]) -> Assessment:
    """A stored assessment."""
    return FamilyVerdict.from_json(data)


def interval_rng(rollout_id: int, index: int) -> np.random.Generator:
    """The randomness of one interval: the same for everybody who computes it again."""
    return np.random.default_rng([rollout_id, index, 2])


def gates_view(assessment: Assessment) -> GatesView:
    """What the decision needs of an assessment."""
    required = [verdict for verdict in assessment.verdicts if verdict.required]
    waiting = [verdict for verdict in required if verdict.verdict is not Verdict.PASS]
    passed = [verdict.sentence for verdict in assessment.verdicts if verdict.verdict is Verdict.PASS]
    cause = assessment.cause
    return GatesView(
        rollback=assessment.rollback,
        cause=f"gate:{cause.key}" if cause else "gates",
        cause_sentence=cause.sentence if cause else assessment.reason,
        fast_kill=assessment.fast_kill or "",
        all_required_pass=assessment.all_required_pass,
        waiting=waiting[0].sentence if waiting else "",
        passed_sentence=f"All {len(passed)} gates passed. {' '.join(passed)}" if passed else "",
    )
