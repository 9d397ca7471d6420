"""What a decision is made of, and what it is: plain values, nothing that acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rollouts.domain.effects import Effect
from rollouts.domain.plan import Plan
from rollouts.domain.states import Event, PauseReason, Phase
from rollouts.ports import WorkloadStatus


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
