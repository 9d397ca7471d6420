"""What a decision is made of, and what it is: plain values, nothing that acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from rollouts.domain.effects import Effect
from rollouts.domain.gates.outage import Outage
from rollouts.domain.gates.policy import Reaction
from rollouts.domain.plan import Plan
from rollouts.domain.states import Event, PauseReason, Phase
from rollouts.ports import FailureReason, WorkloadPhase, WorkloadStatus

OpenBecause = Literal["", "inconclusive", "no-data", "error"]


@dataclass(frozen=True, slots=True)
class ArmView:
    """One arm of a bandit.

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

    candidate    of a bandit: the first one, and once promoted the winner
    step_since   since when the router has this step's share in force
    measured_at  when a candidate was last measured
    arms         of a bandit, the baseline first; empty for a canary, whose arms are baseline and candidate
    """

    phase: Phase
    pause_reason: PauseReason
    plan: Plan
    baseline: str
    candidate: str
    baseline_label: str
    candidate_label: str
    step_index: int
    phase_since: float
    step_since: float | None
    step_requests: int
    measured_at: float | None
    created_at: float
    watch_until: float | None = None
    watching: bool = False
    cause_sentence: str = ""
    arms: tuple[ArmView, ...] = ()

    @property
    def candidates(self) -> tuple[str, ...]:
        """The variants of all candidates, those that were dropped too."""
        return tuple(arm.variant for arm in self.arms[1:]) or (self.candidate,)

    @property
    def racing(self) -> tuple[ArmView, ...]:
        """A bandit's candidates that were not dropped, in arm order."""
        return tuple(arm for arm in self.arms[1:] if not arm.dropped)

    @property
    def candidate_arm(self) -> str:
        """The name of the candidate's arm."""
        return next((arm.name for arm in self.arms if arm.variant == self.candidate), "candidate")

    def arm(self, name: str) -> ArmView | None:
        """A bandit's arm of that name; None when it has none."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data without the plan, which never changes and is stored once; a canary's has no arms."""
        data = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("plan", "arms")
        }
        data |= {"phase": self.phase.value, "pause_reason": self.pause_reason.value}
        return data | ({"arms": [asdict(arm) for arm in self.arms]} if self.arms else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any], plan: Plan) -> Self:
        known = {
            "phase": Phase(data["phase"]),
            "pause_reason": PauseReason(data["pause_reason"]),
            "arms": tuple(ArmView(**arm) for arm in data.get("arms", ())),
        }
        return cls(plan=plan, **{**data, **known})


@dataclass(frozen=True, slots=True)
class Seen:
    """What was observed just now; None means it could not be read.

    desired_shares  what the endpoint was last asked to do; in_force whether the router does exactly that now
    routed          variants the route in force knows (those that may be forced), None when it could not be read
    healthy         of those, the ones whose backend passes the router's own health check
    forced_answered whether the candidate itself answered a forced request since the route is in force
    drift           shares set by hand, when the router differs from what we last published
    rejected        the router's words when it refused our configuration

    Of a bandit only:
    arms            statuses by variant, of all arms that could be read
    answered        variants that answered a forced request themselves since the route is in force
    split           what the router does now (or, when it cannot be read, what was last published): basis points
    """

    baseline: WorkloadStatus | None
    candidate: WorkloadStatus | None
    desired_shares: Mapping[str, int]
    in_force: bool
    routed: frozenset[str] | None
    forced_answered: bool
    healthy: frozenset[str] = frozenset()
    drift: Mapping[str, int] | None = None
    rejected: str = ""
    global_stop: bool = False
    arms: Mapping[str, WorkloadStatus] = field(default_factory=dict)
    answered: frozenset[str] = frozenset()
    split: Mapping[str, int] = field(default_factory=dict)

    def status(self, variant: str) -> WorkloadStatus | None:
        """The status of a bandit's arm; None when it could not be read."""
        return self.arms.get(variant)

    def is_ready(self, variant: str) -> bool:
        """Whether a bandit's arm is known to be ready."""
        status = self.arms.get(variant)
        return status is not None and status.is_ready

    def to_json(self) -> dict[str, Any]:
        """Plain data; sets are sorted, so that equal situations have equal bytes. A canary's has no word of arms."""
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in BANDIT_ONLY:
            if not data[name]:
                del data[name]
        if self.arms:
            data["arms"] = {name: _status_to_json(status) for name, status in sorted(self.arms.items())}
        if self.answered:
            data["answered"] = sorted(self.answered)
        if self.split:
            data["split"] = dict(sorted(self.split.items()))
        for name in ("baseline", "candidate"):
            status = data[name]
            data[name] = None if status is None else _status_to_json(status)
        for name in ("routed", "healthy"):
            data[name] = None if data[name] is None else sorted(data[name])
        for name in ("desired_shares", "drift"):
            data[name] = None if data[name] is None else dict(sorted(data[name].items()))
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        for name in ("baseline", "candidate"):
            values[name] = None if values[name] is None else _status_from_json(values[name])
        for name in ("routed", "healthy"):
            values[name] = None if values[name] is None else frozenset(values[name])
        if "arms" in values:
            values["arms"] = {name: _status_from_json(status) for name, status in values["arms"].items()}
        if "answered" in values:
            values["answered"] = frozenset(values["answered"])
        return cls(**values)


BANDIT_ONLY = ("arms", "answered", "split")


def _status_to_json(status: WorkloadStatus) -> dict[str, Any]:
    return asdict(status) | {"phase": status.phase.value, "reason": status.reason.value}


def _status_from_json(data: Mapping[str, Any]) -> WorkloadStatus:
    known = {"phase": WorkloadPhase(data["phase"]), "reason": FailureReason(data["reason"])}
    return WorkloadStatus(**{**data, **known})


@dataclass(frozen=True, slots=True)
class GatesView:
    """What the gates say, as far as the decision needs it.

    cause / cause_sentence  of a rollback; fast_kill the sentence of the fixed thresholds; waiting what is still open
    open_because            the worst of the required verdicts that are no PASS: what keeps it from an end
    reaction                what the policy does about that when the deadline is over
    bandit                  what the bandit says; None for a canary
    outage                  the baseline is out of order, or was until a moment ago; None when it is not
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
    bandit: BanditView | None = None
    outage: Outage | None = None


@dataclass(frozen=True, slots=True)
class BanditView:
    """What a bandit's analysis says, as far as the decision needs it. Arms by name.

    wanted      basis points per arm, of sum 10,000
    left        candidates that evidence, a guardrail or the fast kill put out of the race
    gates       of each candidate
    winner      the only arm left, its required gates passed ("baseline": all candidates are out); empty: nobody yet
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
    blame      the cause of a rollback, should nobody be left: "gate:errors", "launch:no-memory" ...
    """

    arm: str
    cause: str
    sentence: str
    blame: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows. `event` is None when the phase stays; `reason` is the sentence that people read.

    end_watch tells that the rollback window is over. `title` and `detail` go into the history when not empty; `once`:
    only when that title was not told since the weights last moved.
    drops     arms of a bandit that leave for good; each is told in the history
    winner    the arm of a bandit that is the candidate from now on
    """

    phase: Phase
    step_index: int
    reason: str
    next_step: str = ""
    event: Event | None = None
    pause_reason: PauseReason = PauseReason.NONE
    effects: tuple[Effect, ...] = ()
    cause: str = ""
    cause_sentence: str = ""
    title: str = ""
    detail: str = ""
    end_watch: bool = False
    once: bool = False
    drops: tuple[Drop, ...] = ()
    winner: str = ""

    def to_json(self) -> dict[str, Any]:
        """What was decided, as the evidence keeps it; what only bandits have is left out when empty."""
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
