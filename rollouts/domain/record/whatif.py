"""What another gate policy would have said and done on a recorded rollout: the same intervals, side by side.

The limit of this: a rollout's traffic follows its decisions. From the first decision that would have been different,
the traffic would have been different too; later verdicts are those of this policy on the traffic that was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import seconds_text
from rollouts.domain.gates import checks
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.decision import GatesView
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import Event
from rollouts.domain.record.analysis import Analysis
from rollouts.domain.record.comparing import compare
from rollouts.domain.record.recorded import RecordedDecision, RecordedRow
from rollouts.domain.record.replay import Case, Player
from rollouts.domain.record.situation import Situation
from rollouts.domain.strategies import strategy_of

MOST_CHANGES = 200  # of verdicts that are kept a side; more are only counted

LIMIT = (
    "From the first decision that would have been different, the traffic would have been different too. What is said "
    "of later intervals is said of the traffic that was recorded."
)


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened: `row` as in `interval 17`, `at` its time, `after` seconds since traffic began."""

    row: str
    at: float
    after: float
    cause: str = ""
    sentence: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """A verdict that became another one. `gate` is the key, of several candidates with the arm before it."""

    row: str
    at: float
    after: float
    gate: str
    label: str
    verdict: str
    sentence: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Course:
    """What one policy said, over the rollout.

    rollback    when it first wanted the traffic back; passed when every required gate first passed together
    decided     the decision that ended it: promotion or the way back, as far as decisions can be told
    changes     of verdicts, in order; `left_out` more than that
    """

    policy: str
    rollback: Moment | None = None
    passed: Moment | None = None
    decided: Moment | None = None
    changes: tuple[VerdictChange, ...] = ()
    left_out: int = 0
    verdicts: Mapping[str, str] = field(default_factory=dict)

    def said(
        self, analysis: type[Analysis], gates: GatesView, assessed: Mapping[str, Any], moment: Moment
    ) -> Course:
        """After one more interval. `analysis`: how the strategy reads its evidence."""
        new = self
        back = analysis.wants_back(gates)
        if self.rollback is None and back is not None:
            new = replace(new, rollback=replace(moment, cause=back[0], sentence=back[1]))
        proven = analysis.wants_promotion(gates)
        if self.passed is None and proven is not None:
            new = replace(new, passed=replace(moment, sentence=proven))
        found = dict(self.verdicts)
        changes = []
        for key, label, verdict, sentence in analysis.lines(assessed):
            if found.get(key) != verdict:
                found[key] = verdict
                changes.append(
                    VerdictChange(moment.row, moment.at, moment.after, key, label, verdict, sentence)
                )
        if not changes:
            return new
        room = max(MOST_CHANGES - len(self.changes), 0)
        return replace(
            new,
            verdicts=found,
            changes=(*new.changes, *changes[:room]),
            left_out=new.left_out + len(changes[room:]),
        )

    def did(self, decision: Mapping[str, Any], moment: Moment) -> Course:
        """After one more decision."""
        if decision["event"] not in (Event.PROMOTE.value, Event.ROLL_BACK.value):
            return self
        if self.decided is not None and decision["event"] != Event.ROLL_BACK.value:
            return self
        cause = decision["cause"] or decision["event"]
        return replace(self, decided=replace(moment, cause=cause, sentence=decision["reason"]))

    def to_json(self) -> dict[str, Any]:
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("rollback", "passed", "decided"):
            data[name] = None if data[name] is None else data[name].to_json()
        return data | {
            "changes": [change.to_json() for change in self.changes],
            "verdicts": dict(self.verdicts),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        for name in ("rollback", "passed", "decided"):
            values[name] = None if values[name] is None else Moment(**values[name])
        return cls(**values | {"changes": tuple(VerdictChange(**change) for change in data["changes"])})


@dataclass(frozen=True, slots=True)
class OtherDecision:
    """The first decision that would have been another one: what was decided, and what would have been."""

    moment: Moment
    recorded: Mapping[str, Any]
    replayed: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "moment": self.moment.to_json(),
            "recorded": dict(self.recorded),
            "replayed": dict(self.replayed),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(Moment(**data["moment"]), data["recorded"], data["replayed"])


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The recorded course beside the one of another policy, as far as the rows went. Frozen, and storable in between.

    began       when traffic began, in seconds since the epoch
    first       the first other decision, None while there is none
    """

    recorded: Course
    other: Course
    began: float
    player: Player = field(default_factory=Player)
    rows: int = 0
    decisions: int = 0
    row_digest: str | None = None
    decision_digest: str | None = None
    first: OtherDecision | None = None

    @classmethod
    def begin(cls, *, recorded: str, other: str, began: float) -> Self:
        """Nothing was played yet; the two policies by name."""
        return cls(Course(recorded), Course(other), began)

    def after(self, case: Case, row: RecordedRow) -> WhatIf:
        """One more interval. `case` holds the other policy. Raises TamperedEvidence as a replay does."""
        row.check(index=self.rows, before=self.row_digest)
        player = self.player.played(case, row)
        assert player.last is not None
        moment = self._moment(f"interval {row.index}", row.situation)
        view = Situation.from_json(row.situation, case.plan).rollout
        # Of the recorded verdicts only what they said is used here; what a deadline does comes from its decision.
        analysis = strategy_of(case.plan).ANALYSIS
        said = analysis.gates_view(analysis.stored_assessment(row.verdicts), case.policy)
        new = replace(
            self,
            player=player,
            recorded=self.recorded.said(analysis, said, row.verdicts, moment),
            other=self.other.said(analysis, player.gates(case, view), player.last.to_json(), moment),
            rows=self.rows + 1,
            row_digest=row.digest,
        )
        return new._decided(case, row.situation, row.decision, moment)

    def after_decision(self, case: Case, made: RecordedDecision) -> WhatIf:
        """One more decision between two intervals."""
        made.check(number=self.decisions, before=self.decision_digest)
        new = replace(self, decisions=self.decisions + 1, decision_digest=made.digest)
        return new._decided(
            case, made.situation, made.decision, self._moment(f"decision {made.number}", made.situation)
        )

    def _decided(
        self, case: Case, situation: Mapping[str, Any], recorded: Mapping[str, Any], moment: Moment
    ) -> WhatIf:
        new = replace(self, recorded=self.recorded.did(recorded, moment))
        if self.first is not None:
            return new
        replayed = self.player.decision(case, situation).to_json()
        new = replace(new, other=self.other.did(replayed, moment))
        if compare(_essence(recorded), _essence(replayed)).same:
            return new
        return replace(new, first=OtherDecision(moment, recorded, replayed))

    def _moment(self, row: str, situation: Mapping[str, Any]) -> Moment:
        at = float(situation["now"])
        return Moment(row, at, round(at - self.began, 3))

    def to_json(self) -> dict[str, Any]:
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return data | {
            "recorded": self.recorded.to_json(),
            "other": self.other.to_json(),
            "player": self.player.to_json(),
            "first": None if self.first is None else self.first.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], plan: Plan) -> Self:
        """What was played of a rollout with this plan, as `to_json` gave it."""
        return cls(
            **{
                **data,
                "recorded": Course.from_json(data["recorded"]),
                "other": Course.from_json(data["other"]),
                "player": Player.from_json(data["player"], plan),
                "first": None if data["first"] is None else OtherDecision.from_json(data["first"]),
            }
        )


def require_recorded(policy: GatePolicy, first: RecordedRow) -> None:
    """Refuses a policy with a gate on something that the rollout did not record. Raises InvalidInput naming the field,
    such as `gates[1].slo_seconds`, with the edges that there are.

    A gate on probes or feedback that never came is not refused: it says NO_DATA, as it would have then.
    """
    edges = _edges(first)
    for position, gate in enumerate(policy.gates):
        if gate.signal is None or gate.slo_seconds is None or not edges:
            continue
        field_ = f"gates[{position}].slo_seconds"
        known = edges.get(gate.signal)
        if known is None:
            raise InvalidInput(
                f"{policy.reference} needs {gate.signal}, which this rollout did not record.",
                field=f"gates[{position}].signal",
                fix=f"Recorded: {', '.join(sorted(edges))}.",
            )
        if gate.slo_seconds not in known:
            raise checks.at(
                field_,
                InvalidInput(
                    f"{policy.reference} asks for {gate.signal} over {seconds_text(gate.slo_seconds)}; this rollout "
                    "recorded other edges.",
                    fix=f"Recorded: {', '.join(seconds_text(edge) for edge in known)}.",
                ),
            )


def _edges(row: RecordedRow) -> Mapping[str, Sequence[float]]:
    found: dict[str, Sequence[float]] = {}
    for arm in row.interval["arms"].values():
        for signal, counts in arm["latency"].items():
            found.setdefault(signal, [float(edge) for edge, _ in counts["over"]])
    return found


def _essence(decision: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a decision does, without the words and the gate that is named."""
    return {name: value for name, value in decision.items() if name not in ("reason", "cause")}
