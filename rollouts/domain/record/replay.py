"""Does a rollout again from what was recorded of it: the same intervals through the same code, row by row.

Pure: rows go in one after the other, a frozen `Replay` comes out, and it can be stored between two rows. It uses the
functions of the loop (`initial_analysis` and `ANALYSIS` of the strategy, `update`, `assess`, `decide`) and no other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.decide import decide
from rollouts.domain.lifecycle.decision import Decision, GatesView, RolloutView
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.record.analysis import (
    Analysis,
    Assessment,
    analysed_arms,
    interval_rng,
    labels_of,
)
from rollouts.domain.record.comparing import Comparison, ValueDifference, compare
from rollouts.domain.record.intervals import Interval
from rollouts.domain.record.recorded import RecordedDecision, RecordedRow
from rollouts.domain.record.situation import Situation
from rollouts.domain.strategies import strategy_of

Outcome = Literal["identical", "equal", "differs"]


@dataclass(frozen=True, slots=True)
class Case:
    """What a rollout was decided by, besides its evidence."""

    rollout_id: int
    plan: Plan
    policy: GatePolicy


@dataclass(frozen=True, slots=True)
class RowDifference:
    """Where a replay came out differently: `row` is `interval 17` or `decision 2`, `at` its time."""

    row: str
    at: float
    difference: ValueDifference

    def to_json(self) -> dict[str, Any]:
        return {"row": self.row, "at": self.at, **self.difference.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(data["row"], data["at"], ValueDifference(data["path"], data["recorded"], data["replayed"]))


@dataclass(frozen=True, slots=True)
class Player:
    """The analysis as far as the rows were played, under one policy; None before the first row."""

    analysis: Analysis | None = None
    last: Assessment | None = None

    def played(self, case: Case, row: RecordedRow) -> Player:
        """After one more interval."""
        interval = Interval.from_json(row.interval)
        situation = Situation.from_json(row.situation, case.plan)
        view = situation.rollout
        before = self.analysis or strategy_of(case.plan).initial_analysis(
            case.plan, case.policy, analysed_arms(view)
        )
        analysis = before.update(interval, interval_rng(case.rollout_id, interval.index))
        return Player(analysis, analysis.assess(situation.workload, labels_of(view)))

    def gates(self, case: Case, view: RolloutView) -> GatesView:
        """What the decision sees of it, between two intervals too."""
        if self.last is None:
            return strategy_of(view).opening_gates(view, case.policy)
        return strategy_of(view).ANALYSIS.gates_view(self.last, case.policy)

    def decision(self, case: Case, situation: Mapping[str, Any]) -> Decision:
        """What is decided on this evidence in a recorded situation."""
        known = Situation.from_json(situation, case.plan)
        return decide(known.rollout, known.seen, self.gates(case, known.rollout), known.now)

    def to_json(self) -> dict[str, Any]:
        return {
            "analysis": None if self.analysis is None else self.analysis.to_json(),
            "last": None if self.last is None else self.last.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], plan: Plan) -> Self:
        analysis, last, kind = data["analysis"], data["last"], strategy_of(plan).ANALYSIS
        return cls(
            None if analysis is None else kind.stored(analysis),
            None if last is None else kind.stored_assessment(last),
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as far as it came.

    rows, decisions     how many were done again
    row_digest, decision_digest     of the last ones: the next ones are chained to them
    identical           of both together, how many came out with the same bytes, wording apart
    log_e               the largest |difference of log E| so far
    first               the first one with other bytes, first_other the first that says something else
    software            with what they were recorded: each name once
    reworded            sentences that are only worded differently today, first_reworded the first of them
    """

    player: Player = Player()
    rows: int = 0
    decisions: int = 0
    row_digest: str | None = None
    decision_digest: str | None = None
    identical: int = 0
    log_e: float = 0.0
    first: RowDifference | None = None
    first_other: RowDifference | None = None
    software: tuple[str, ...] = ()
    reworded: int = 0
    first_reworded: RowDifference | None = None

    def after(self, case: Case, row: RecordedRow) -> Replay:
        """One more interval. Raises TamperedEvidence when the row is not the next one as it was written."""
        row.check(index=self.rows, before=self.row_digest)
        player = self.player.played(case, row)
        assert player.last is not None
        verdicts = compare(row.verdicts, player.last.to_json())
        decision = compare(row.decision, player.decision(case, row.situation).to_json())
        noted = self._noted(
            f"interval {row.index}", row.situation, {"verdicts": verdicts, "decision": decision}
        )
        return replace(noted, player=player, rows=self.rows + 1, row_digest=row.digest)

    def after_decision(self, case: Case, made: RecordedDecision) -> Replay:
        """One more decision between two intervals. Raises TamperedEvidence as `after` does."""
        made.check(number=self.decisions, before=self.decision_digest)
        found = compare(made.decision, self.player.decision(case, made.situation).to_json())
        noted = self._noted(f"decision {made.number}", made.situation, {"decision": found})
        return replace(noted, decisions=self.decisions + 1, decision_digest=made.digest)

    def ended(self, *, gates_state: Mapping[str, Any], verdicts: Mapping[str, Any], at: float) -> Replay:
        """After the last row: the analysis and the assessment that the rollout itself keeps must be these too."""
        player = self.player
        if player.analysis is None or player.last is None:
            found = {"state": compare(gates_state, {}), "verdicts": compare(verdicts, {})}
        else:
            found = {
                "state": compare(gates_state, player.analysis.to_json()),
                "verdicts": compare(verdicts, player.last.to_json()),
            }
        noted = self._noted("the rollout itself", {"now": at}, found)
        return replace(noted, software=self.software, identical=self.identical)

    def _noted(self, row: str, situation: Mapping[str, Any], found: Mapping[str, Comparison]) -> Replay:
        at = float(situation["now"])
        software = str(situation.get("software", ""))
        known = self.software if software in self.software else (*self.software, software)
        return replace(
            self,
            identical=self.identical + all(one.identical for one in found.values()),
            log_e=max(self.log_e, *(one.log_e for one in found.values())),
            first=self.first or _first(row, at, {part: one.first for part, one in found.items()}),
            first_other=self.first_other
            or _first(row, at, {part: one.first_other for part, one in found.items()}),
            software=known,
            reworded=self.reworded + sum(one.reworded for one in found.values()),
            first_reworded=self.first_reworded
            or _first(row, at, {part: one.first_reworded for part, one in found.items()}),
        )

    @property
    def outcome(self) -> Outcome:
        """identical: every byte, the wording of sentences apart; equal: the same verdicts and decisions, and log E
        within the tolerance."""
        if self.first is None:
            return "identical"
        return "equal" if self.first_other is None else "differs"

    def to_json(self) -> dict[str, Any]:
        """To go on later. An infinite difference of log E is null: JSON has no infinity."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["player"] = self.player.to_json()
        data["log_e"] = self.log_e if math.isfinite(self.log_e) else None
        for name in DIFFERENCES:
            data[name] = None if data[name] is None else data[name].to_json()
        return data | {"software": list(self.software)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], plan: Plan) -> Self:
        """A replay of a rollout with this plan, as `to_json` gave it."""
        values = dict(data)
        values["player"] = Player.from_json(data["player"], plan)
        values["log_e"] = math.inf if data["log_e"] is None else data["log_e"]
        for name in DIFFERENCES:
            found = data.get(name)  # one that began under an earlier version knows of no wording
            values[name] = None if found is None else RowDifference.from_json(found)
        return cls(**values | {"software": tuple(data["software"])})


DIFFERENCES = ("first", "first_other", "first_reworded")


def _first(row: str, at: float, found: Mapping[str, ValueDifference | None]) -> RowDifference | None:
    """The first difference of these parts, named by its part."""
    for part, difference in found.items():
        if difference is not None:
            path = f"{part}.{difference.path}" if difference.path else part
            return RowDifference(row, at, replace(difference, path=path))
    return None
