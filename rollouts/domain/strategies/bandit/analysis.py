"""The analysis of a bandit: the learner, and gates for each candidate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rollouts.domain.bandits import BanditState, BanditVerdict
from rollouts.domain.bandits.verdict import ArmVerdict
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.decision import Drop, GatesView, RaceView
from rollouts.domain.record.analysis import VerdictLine, fails, family_lines, family_view, reaction_to, worst
from rollouts.domain.record.intervals import BASELINE, Interval

KEEPS_BASELINE = "bandit:baseline"  # the cause of a rollback because no candidate was better


@dataclass(frozen=True, slots=True)
class BanditAnalysis:
    """See the protocol (`rollouts.domain.record.analysis.Analysis`)."""

    state: BanditState

    def update(self, interval: Interval, rng: np.random.Generator) -> BanditAnalysis:
        return BanditAnalysis(self.state.update(interval, rng))

    def assess(
        self, workload: Mapping[str, WorkloadFacts], labels: Mapping[str, str] | None = None
    ) -> BanditVerdict:
        return self.state.assess(workload=workload, labels=labels)

    def to_json(self) -> dict[str, Any]:
        return self.state.to_json()

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> BanditAnalysis:
        return cls(BanditState.from_json(data))

    @classmethod
    def stored_assessment(cls, data: Mapping[str, Any]) -> BanditVerdict:
        return BanditVerdict.from_json(data)

    @classmethod
    def gates_view(cls, assessment: BanditVerdict, policy: GatePolicy) -> GatesView:
        return _view(assessment, policy)

    @classmethod
    def blamed(cls, assessment: BanditVerdict) -> frozenset[str]:
        out = {arm.name for arm in assessment.arms if arm.state != "racing"}
        return frozenset(out | {name for name, family in assessment.gates.items() if fails(family)})

    @classmethod
    def lines(cls, assessed: Mapping[str, Any]) -> Iterator[VerdictLine]:
        for arm in assessed.get("arms", ()):
            yield VerdictLine(arm["name"], arm["name"], arm["state"], arm["sentence"])
        for name, family in sorted(assessed.get("gates", {}).items()):
            for line in family_lines(family):
                yield line._replace(key=f"{name}.{line.key}", label=f"{name}: {line.label}")

    @classmethod
    def wants_back(cls, gates: GatesView) -> tuple[str, str] | None:
        """When the last candidate left the race."""
        race = gates.race
        if race is not None and race.left and {drop.arm for drop in race.left} >= set(race.gates):
            return race.left[-1].cause, race.left[-1].sentence
        return None

    @classmethod
    def wants_promotion(cls, gates: GatesView) -> str | None:
        return gates.race.sentence if gates.race is not None and gates.race.winner else None


def _view(assessment: BanditVerdict, policy: GatePolicy) -> GatesView:
    gates = {name: family_view(family, policy) for name, family in assessment.gates.items()}
    racing = [name for name in assessment.survivors if name in gates]
    open_because = worst(
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
        reaction=reaction_to(open_because, policy),
        race=RaceView(
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
        outage=assessment.outage,
    )


def _why(arm: ArmVerdict, gates: Mapping[str, GatesView]) -> str:
    """Why the arm leaves. For an engine only the reason itself: the analysis puts its own words before it."""
    return (gates[arm.name].fast_kill if arm.cause == "workload" else "") or arm.sentence


def _blame(arm: ArmVerdict, gates: Mapping[str, GatesView]) -> str:
    """The cause of the rollback if this arm is the last one to leave."""
    if arm.cause == "evidence":
        return KEEPS_BASELINE
    if arm.cause == "guardrail":
        return gates[arm.name].cause
    # Restarts and kills for memory are the fast kill's too: only the cluster told of them, not the traffic.
    return "person" if arm.cause == "person" else "fast-kill"
