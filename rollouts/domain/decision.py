"""What a decision is made of, and what it is: plain values, nothing that acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from rollouts.domain.effects import Effect
from rollouts.domain.plan import Plan
from rollouts.domain.states import Event, PauseReason, Phase
from rollouts.ports import FailureReason, WorkloadPhase, WorkloadStatus


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as the decision needs it. Times are seconds since the epoch; None when it has not happened.

    step_since   since when the router has this step's share in force
    measured_at  when the candidate was last measured
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

    def to_json(self) -> dict[str, Any]:
        """Plain data without the plan, which never changes and is stored once."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "plan"}
        return data | {"phase": self.phase.value, "pause_reason": self.pause_reason.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], plan: Plan) -> Self:
        known = {"phase": Phase(data["phase"]), "pause_reason": PauseReason(data["pause_reason"])}
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

    def to_json(self) -> dict[str, Any]:
        """Plain data; sets are sorted, so that equal situations have equal bytes."""
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
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
        return cls(**values)


def _status_to_json(status: WorkloadStatus) -> dict[str, Any]:
    return asdict(status) | {"phase": status.phase.value, "reason": status.reason.value}


def _status_from_json(data: Mapping[str, Any]) -> WorkloadStatus:
    known = {"phase": WorkloadPhase(data["phase"]), "reason": FailureReason(data["reason"])}
    return WorkloadStatus(**{**data, **known})


@dataclass(frozen=True, slots=True)
class GatesView:
    """What the gates say, as far as the decision needs it.

    cause / cause_sentence  of a rollback; fast_kill the sentence of the fixed thresholds; waiting what is still open
    """

    rollback: bool = False
    cause: str = ""
    cause_sentence: str = ""
    fast_kill: str = ""
    all_required_pass: bool = False
    waiting: str = ""
    passed_sentence: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows. `event` is None when the phase stays; `reason` is the sentence that people read.

    end_watch tells that the rollback window is over. `title` and `detail` go into the history when not empty.
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

    def to_json(self) -> dict[str, Any]:
        """What was decided, as the evidence keeps it."""
        return {
            "event": self.event.value if self.event else None,
            "phase": self.phase.value,
            "step": self.step_index,
            "pause_reason": self.pause_reason.value,
            "reason": self.reason,
            "cause": self.cause,
            "effects": [{"kind": effect.kind, **effect.to_json()} for effect in self.effects],
        }
