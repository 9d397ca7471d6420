"""What a decision is made of, and what it is: plain values, nothing that acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from controlplane.kernel.stored import flat
from rollouts.domain.engines import EngineView
from rollouts.domain.gates.outage import Outage
from rollouts.domain.gates.policy import Reaction
from rollouts.domain.lifecycle.arms import CANDIDATE
from rollouts.domain.lifecycle.effects import AnyEffect
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import Event, PauseReason, Phase

OpenBecause = Literal["", "inconclusive", "no-data", "error"]


@dataclass(frozen=True, slots=True)
class ArmView:
    """One arm of a rollout.

    name, variant, label   "candidate-2", the variant's name, and how people call it ("v3")
    share_bp               the share it was last asked to have
    dropped, cause         it left for good, and why ("launch", "evidence", "guardrail", ...)
    """

    name: str
    variant: str
    label: str
    share_bp: int = 0
    dropped: bool = False
    cause: str = ""


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as the decision needs it. Times are seconds since the epoch; None when it has not happened.

    arms           the baseline first, then the candidates
    candidate_arm  the arm that is meant where there can be one only: the first candidate, once promoted the winner
    step_since     since when the router has this step's share in force
    measured_at    when a candidate was last measured
    unread_at      end of the last interval in which the source of the measurements could not be read
    """

    phase: Phase
    pause_reason: PauseReason
    plan: Plan
    arms: tuple[ArmView, ...]
    step_index: int
    phase_since: float
    step_since: float | None
    step_requests: int
    measured_at: float | None
    created_at: float
    watch_until: float | None = None
    watching: bool = False
    cause_sentence: str = ""
    candidate_arm: str = CANDIDATE
    unread_at: float | None = None

    @property
    def is_unread(self) -> bool:
        """Whether nothing could be measured since the source of the measurements could not be read."""
        return self.unread_at is not None and self.unread_at > (self.measured_at or 0.0)

    @property
    def baseline(self) -> str:
        """The baseline's variant."""
        return self.arms[0].variant

    @property
    def baseline_label(self) -> str:
        return self.arms[0].label

    @property
    def candidate(self) -> str:
        """The variant of the candidate that is meant where there can be one only."""
        return self._candidate.variant

    @property
    def candidate_label(self) -> str:
        return self._candidate.label

    @property
    def candidates(self) -> tuple[str, ...]:
        """The variants of all candidates, those that were dropped too."""
        return tuple(arm.variant for arm in self.arms[1:])

    @property
    def racing(self) -> tuple[ArmView, ...]:
        """The candidates that were not dropped, in arm order."""
        return tuple(arm for arm in self.arms[1:] if not arm.dropped)

    @property
    def _candidate(self) -> ArmView:
        return next(arm for arm in self.arms if arm.name == self.candidate_arm)

    def arm(self, name: str) -> ArmView | None:
        """The arm of that name; None when there is none."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data without the plan, which never changes and is stored once. A source that could always be read is
        left out: older evidence keeps its bytes."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "plan"}
        if self.unread_at is None:
            del data["unread_at"]
        return data | {
            "phase": self.phase.value,
            "pause_reason": self.pause_reason.value,
            "arms": [flat(arm) for arm in self.arms],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], plan: Plan) -> Self:
        known = {
            "phase": Phase(data["phase"]),
            "pause_reason": PauseReason(data["pause_reason"]),
            "arms": tuple(ArmView(**arm) for arm in data["arms"]),
        }
        return cls(plan=plan, **{**data, **known})


@dataclass(frozen=True, slots=True)
class Hold:
    """Why nothing may move forward now. It never delays a rollback, a drop, or the lowering of a bad arm.

    kind      what holds it; the pause that it makes is over when no hold is left
    sentence  "The global stop is on", without its full stop
    ends      "the stop is lifted": what has to happen until it goes on by itself
    """

    kind: PauseReason
    sentence: str
    ends: str

    @property
    def clause(self) -> str:
        """The sentence as a part of a longer one: "the global stop is on"."""
        return self.sentence[0].lower() + self.sentence[1:]

    def to_json(self) -> dict[str, Any]:
        return flat(self) | {"kind": self.kind.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "kind": PauseReason(data["kind"])})


GLOBAL_STOP = Hold(PauseReason.GLOBAL_STOP, "The global stop is on", "the stop is lifted")
# What is said when a rollout that a hold paused goes on, by the hold's kind. A pause that is not here waits for a
# person, or for the router.
HOLDS_OVER: Mapping[PauseReason, str] = {
    PauseReason.GLOBAL_STOP: "The global stop was lifted.",
    PauseReason.CHANGED: "What runs is what was asked for again.",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What was observed just now; None means it could not be read.

    engines         by variant, of all arms that could be read; none of them when the cluster does not answer
    desired_shares  what the endpoint was last asked to do; in_force whether the router does exactly that now
    split           what the router does now (when it cannot be read, what was last published): basis points
    routed          variants the route in force knows (those that may be forced), None when it could not be read
    healthy         of those, the ones whose backend passes the router's own health check
    answered        variants that answered a forced request themselves since the route is in force
    drift           shares set by hand, when the router differs from what we last published
    rejected        the router's words when it refused our configuration
    late            the sentence for a route that the router accepted and has not put in force for longer than usual
    hold            what keeps everything that moves forward from moving; None when nothing does
    """

    engines: Mapping[str, EngineView]
    desired_shares: Mapping[str, int]
    in_force: bool
    routed: frozenset[str] | None
    healthy: frozenset[str] = frozenset()
    answered: frozenset[str] = frozenset()
    split: Mapping[str, int] = field(default_factory=dict)
    drift: Mapping[str, int] | None = None
    rejected: str = ""
    hold: Hold | None = None
    late: str = ""

    @property
    def route_problem(self) -> str:
        """What is wrong between the router and the route that it was given; empty when nothing is."""
        if self.rejected:
            return f"The router refused the route: {self.rejected} The last good route stays in force."
        return self.late

    def engine(self, variant: str) -> EngineView | None:
        """The engine of an arm; None when it could not be read."""
        return self.engines.get(variant)

    def is_ready(self, variant: str) -> bool:
        """Whether an arm's engine is known to be ready, with one of its replicas at least."""
        engine = self.engines.get(variant)
        return engine is not None and engine.is_ready

    def is_whole(self, variant: str) -> bool:
        """Whether all replicas of an arm's engine are known to be ready: what it takes to get more traffic."""
        engine = self.engines.get(variant)
        return engine is not None and engine.is_whole

    def answers(self, variant: str) -> bool:
        """Whether an arm is ready, or passes the router's health check where its engine cannot be read.

        A cluster that does not answer must not keep traffic where it is: the router checks health too.
        """
        engine = self.engines.get(variant)
        return engine.is_ready if engine is not None else variant in self.healthy

    def to_json(self) -> dict[str, Any]:
        """Plain data; sets and mappings are sorted, so that equal situations have equal bytes. What is late is left out
        when nothing is: older evidence keeps its bytes."""
        data = {
            "engines": {name: engine.to_json() for name, engine in sorted(self.engines.items())},
            "desired_shares": dict(sorted(self.desired_shares.items())),
            "in_force": self.in_force,
            "routed": None if self.routed is None else sorted(self.routed),
            "healthy": sorted(self.healthy),
            "answered": sorted(self.answered),
            "split": dict(sorted(self.split.items())),
            "drift": None if self.drift is None else dict(sorted(self.drift.items())),
            "rejected": self.rejected,
            "hold": None if self.hold is None else self.hold.to_json(),
        }
        return {**data, "late": self.late} if self.late else data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known = {
            "engines": {name: EngineView.from_json(one) for name, one in data["engines"].items()},
            "routed": None if data["routed"] is None else frozenset(data["routed"]),
            "healthy": frozenset(data["healthy"]),
            "answered": frozenset(data["answered"]),
            "hold": None if data["hold"] is None else Hold.from_json(data["hold"]),
        }
        return cls(**{**data, **known})


@dataclass(frozen=True, slots=True)
class GatesView:
    """What the gates say, as far as the decision needs it.

    cause / cause_sentence  of a rollback; fast_kill the sentence of the fixed thresholds; waiting what is still open
    open_because            the worst of the required verdicts that are no PASS: what keeps it from an end
    reaction                what the policy does about that when the deadline is over
    race                    what is said of several candidates; None where there is one only
    outage                  the baseline is out of order, or was until a moment ago; None when it is not
    unread                  why nobody here can read what they said last, as a sentence; empty when it can be read
    """

    rollback: bool = False
    cause: str = ""
    cause_sentence: str = ""
    fast_kill: str = ""
    all_required_pass: bool = False
    waiting: str = ""
    passed_sentence: str = ""
    open_because: OpenBecause = ""
    reaction: Reaction = "hold"
    race: RaceView | None = None
    outage: Outage | None = None
    unread: str = ""


@dataclass(frozen=True, slots=True)
class RaceView:
    """What is said of several candidates of which one may win, as far as the decision needs it. Arms by name.

    wanted      basis points per arm, of sum 10,000
    left        candidates that evidence, a gate or the fast kill put out of the race
    gates       of each candidate
    winner      the only arm left, its required gates passed ("baseline": all candidates are out); empty: no winner yet
    sentence, detail, tie_sentence   where it stands, what comes, and what is said when it ends in a tie
    skipped     why the weights were kept though a reweight was due; empty otherwise
    """

    wanted: Mapping[str, int]
    left: tuple[Drop, ...] = ()
    gates: Mapping[str, GatesView] = field(default_factory=dict)
    winner: str = ""
    sentence: str = ""
    detail: str = ""
    tie_sentence: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """An arm that leaves for good.

    cause      "evidence", "guardrail", "fast-kill", "launch", "workload" or "person"
    blame      the cause of the rollback if no candidate is left: "gate:errors", "launch:no-memory" ...
    """

    arm: str
    cause: str
    sentence: str
    blame: str = ""

    def to_json(self) -> dict[str, Any]:
        return flat(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows. `event` is None when the phase stays; `reason` is the sentence that people read.

    end_watch tells that the rollback window is over. `title` and `detail` go into the history when not empty; `once`:
    only when that title was not told since the weights last moved.
    drops     candidates that leave for good; each is told in the history
    winner    the arm that is the candidate from now on
    """

    phase: Phase
    step_index: int
    reason: str
    next_step: str = ""
    event: Event | None = None
    pause_reason: PauseReason = PauseReason.NONE
    effects: tuple[AnyEffect, ...] = ()
    cause: str = ""
    cause_sentence: str = ""
    title: str = ""
    detail: str = ""
    end_watch: bool = False
    once: bool = False
    drops: tuple[Drop, ...] = ()
    winner: str = ""

    def to_json(self) -> dict[str, Any]:
        """What was decided, as the evidence keeps it; what only a race has is left out when empty."""
        data: dict[str, Any] = {
            "event": self.event.value if self.event else None,
            "phase": self.phase.value,
            "step": self.step_index,
            "pause_reason": self.pause_reason.value,
            "reason": self.reason,
            "cause": self.cause,
            "effects": [{"kind": effect.kind, **effect.to_json()} for effect in self.effects],
        }
        if self.drops:
            data["drops"] = [drop.to_json() for drop in self.drops]
        if self.winner:
            data["winner"] = self.winner
        return data
