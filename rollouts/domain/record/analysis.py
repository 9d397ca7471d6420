"""The analysis of a rollout: what its intervals of evidence say, as one value that only evidence changes.

The loop and the replay both use this, and nothing else, to turn intervals into verdicts: an analysis is made once
(by the strategy), updated once an interval, assessed whenever it is looked at, and stored as JSON in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.outage import Outage
from rollouts.domain.gates.policy import GatePolicy, Reaction
from rollouts.domain.gates.verdict import FamilyVerdict, Verdict
from rollouts.domain.lifecycle.arms import CANDIDATE
from rollouts.domain.lifecycle.decision import GatesView, OpenBecause, RolloutView
from rollouts.domain.record.intervals import Interval


class Assessment(Protocol):
    """What an analysis says at one moment. `outage`: of the baseline, as all candidates see it."""

    @property
    def outage(self) -> Outage | None: ...

    def to_json(self) -> dict[str, Any]: ...


class VerdictLine(NamedTuple):
    """One verdict as it is told apart from others: `key` is a gate's, of several candidates with the arm before it."""

    key: str
    label: str
    verdict: str
    sentence: str


class Analysis(Protocol):
    """Evidence so far, and how that kind of evidence is read. Frozen: `update` returns the next one."""

    def update(self, interval: Interval, rng: np.random.Generator) -> Analysis:
        """After one more interval. Raises InvalidInput, naming the field, for impossible counts."""
        ...

    def assess(
        self, workload: Mapping[str, WorkloadFacts], labels: Mapping[str, str] | None = None
    ) -> Assessment:
        """What it says now.

        workload    restarts and kills of the engines, by candidate arm, for the fast kill
        labels      how arms are written in sentences, where it names any
        """
        ...

    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> Analysis:
        """As `to_json` gave it. Raises InvalidInput naming the field when the data is none."""
        ...

    @classmethod
    def stored_assessment(cls, data: Mapping[str, Any]) -> Any:
        """An assessment as `to_json` gave it."""
        ...

    @classmethod
    def gates_view(cls, assessment: Any, policy: GatePolicy) -> GatesView:
        """What the decision needs of an assessment. `policy` says what an open verdict does at the deadline."""
        ...

    @classmethod
    def blamed(cls, assessment: Any) -> frozenset[str]:
        """The candidates, by their arm's name, that an assessment speaks against: none may answer for others."""
        ...

    @classmethod
    def lines(cls, assessed: Mapping[str, Any]) -> Iterator[VerdictLine]:
        """Each verdict of a stored assessment; of several candidates those of each, and what is said of it."""
        ...

    @classmethod
    def wants_back(cls, gates: GatesView) -> tuple[str, str] | None:
        """(cause, sentence) when all traffic must return; None when not."""
        ...

    @classmethod
    def wants_promotion(cls, gates: GatesView) -> str | None:
        """The sentence when everything that a promotion needs is proven; None when not."""
        ...


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

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> GatesAnalysis:
        return cls(GatesState.from_json(data))

    @classmethod
    def stored_assessment(cls, data: Mapping[str, Any]) -> FamilyVerdict:
        return FamilyVerdict.from_json(data)

    @classmethod
    def gates_view(cls, assessment: FamilyVerdict, policy: GatePolicy) -> GatesView:
        return family_view(assessment, policy)

    @classmethod
    def blamed(cls, assessment: FamilyVerdict) -> frozenset[str]:
        return frozenset({CANDIDATE} if fails(assessment) else ())

    @classmethod
    def lines(cls, assessed: Mapping[str, Any]) -> Iterator[VerdictLine]:
        return family_lines(assessed)

    @classmethod
    def wants_back(cls, gates: GatesView) -> tuple[str, str] | None:
        return family_wants_back(gates)

    @classmethod
    def wants_promotion(cls, gates: GatesView) -> str | None:
        return gates.passed_sentence if gates.all_required_pass else None


def analysed_arms(rollout: RolloutView) -> tuple[str, ...]:
    """The arms that the analysis of a rollout knows: all but those that never launched."""
    return tuple(arm.name for arm in rollout.arms if arm.cause != "launch")


def labels_of(rollout: RolloutView) -> dict[str, str]:
    """How the arms of a rollout are written in sentences: "candidate-2" -> "v3"."""
    return {arm.name: arm.label for arm in rollout.arms}


def interval_rng(rollout_id: int, index: int) -> np.random.Generator:
    """The randomness of one interval: the same whenever it is computed again."""
    return np.random.default_rng([rollout_id, index, 2])


# --- what several analyses need ---------------------------------------------------------------------------------------


def fails(family: FamilyVerdict) -> bool:
    """Whether the gates of a candidate speak against it: one failed, or the fast kill struck."""
    failed = any(verdict.verdict is Verdict.FAIL for verdict in family.verdicts)
    return failed or family.rollback or bool(family.fast_kill)


def family_lines(assessed: Mapping[str, Any]) -> Iterator[VerdictLine]:
    """The verdicts of one candidate's gates, as they are stored."""
    for verdict in assessed.get("verdicts", ()):
        yield VerdictLine(verdict["key"], verdict["label"], verdict["verdict"], verdict["sentence"])


def family_wants_back(gates: GatesView) -> tuple[str, str] | None:
    """(cause, sentence) when the gates of a candidate send its traffic back: the fast kill, or one that failed."""
    if gates.fast_kill:
        return "fast-kill", gates.fast_kill
    return (gates.cause, gates.cause_sentence) if gates.rollback else None


def family_view(assessment: FamilyVerdict, policy: GatePolicy) -> GatesView:
    """What the decision needs of the gates of one candidate."""
    waiting = [verdict for verdict in assessment.verdicts if verdict.required and _is_open(verdict.verdict)]
    passed = [verdict.sentence for verdict in assessment.verdicts if verdict.verdict is Verdict.PASS]
    cause = assessment.cause
    open_because = worst([verdict.verdict for verdict in waiting])
    return GatesView(
        rollback=assessment.rollback,
        cause=f"gate:{cause.key}" if cause else "gates",
        cause_sentence=cause.sentence if cause else assessment.reason,
        fast_kill=assessment.fast_kill or "",
        all_required_pass=assessment.all_required_pass,
        waiting=waiting[0].sentence if waiting else "",
        passed_sentence=f"All {len(passed)} gates passed. {' '.join(passed)}" if passed else "",
        open_because=open_because,
        reaction=reaction_to(open_because, policy),
        outage=assessment.outage,
    )


def _is_open(verdict: Verdict) -> bool:
    return verdict is not Verdict.PASS


def worst(verdicts: Sequence[Verdict]) -> OpenBecause:
    """What keeps required gates from passing, the worst first; empty when all pass."""
    if Verdict.ERROR in verdicts:
        return "error"
    if Verdict.NO_DATA in verdicts:
        return "no-data"
    return "inconclusive" if any(_is_open(verdict) for verdict in verdicts) else ""


def reaction_to(open_because: OpenBecause, policy: GatePolicy) -> Reaction:
    """What the policy does at the deadline about what is open."""
    reactions: dict[str, Reaction] = {
        "inconclusive": policy.on_inconclusive,
        "no-data": policy.on_no_data,
        "error": policy.on_error,
    }
    return reactions.get(open_because, "hold")
