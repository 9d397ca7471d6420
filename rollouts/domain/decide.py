"""The decision: what a rollout does next, as a pure function.

`decide(rollout, seen, gates, now)` never looks at a clock, a database or a network, so the same inputs give the same
decision and a rollout can be replayed. What could not be read is None, and an unknown read changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rollouts.domain.effects import DrainWorkload, Effect, EnsureWorkload, SetTraffic, WriteBack
from rollouts.domain.plan import FULL_SHARE_BP, Plan, shares_of
from rollouts.domain.sentences import duration, percent
from rollouts.domain.states import Event, PauseReason, Phase, transition
from rollouts.ports import FailureReason, WorkloadPhase, WorkloadStatus

RETURN_PATIENCE_SECONDS = 900.0  # how long a rollback waits for a baseline that does not come back


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout as the decision needs it. Times are seconds since the epoch; None when it has not happened."""

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
    drift: Mapping[str, int] | None = None
    rejected: str = ""
    global_stop: bool = False
    log_tail: tuple[str, ...] = ()


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


def decide(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """The next decision for a rollout that is active or watched. Never raises for what the world does."""
    handlers = {
        Phase.PENDING: _pending,
        Phase.PROVISIONING: _provisioning,
        Phase.PROGRESSING: _progressing,
        Phase.PAUSED: _paused,
        Phase.PROMOTING: _promoting,
        Phase.SUCCEEDED: _watching,
        Phase.ROLLING_BACK: _rolling_back,
    }
    handler = handlers.get(rollout.phase)
    if handler is None:
        return _stay(rollout, rollout.cause_sentence)
    return handler(rollout, seen, gates, now)


def roll_back(rollout: RolloutView, *, cause: str, sentence: str) -> Decision:
    """Traffic returns to the baseline. Always possible where the table knows it; people use it too."""
    phase = transition(rollout.phase, Event.ROLL_BACK)
    if phase is Phase.CANCELLED:
        return cancel(rollout, sentence=sentence, event=Event.ROLL_BACK)
    return Decision(
        phase=phase,
        event=Event.ROLL_BACK,
        step_index=rollout.step_index,
        reason=sentence,
        next_step=f"All traffic returns to {rollout.baseline_label}.",
        cause=cause,
        cause_sentence=sentence,
        effects=(EnsureWorkload(rollout.baseline),),
        title=f"Rolling back to {rollout.baseline_label}",
        detail=sentence,
    )


def cancel(rollout: RolloutView, *, sentence: str, event: Event = Event.CANCEL) -> Decision:
    """Ends a rollout before any traffic moved."""
    effects: tuple[Effect, ...] = ()
    if rollout.phase is not Phase.PENDING:
        effects = (_all_to_baseline(rollout), DrainWorkload(rollout.candidate))
    return Decision(
        phase=transition(rollout.phase, event),
        event=event,
        step_index=rollout.step_index,
        reason=sentence,
        cause="person" if event is not Event.SUPERSEDE else "superseded",
        cause_sentence=sentence,
        effects=effects,
        title="Cancelled before traffic moved" if event is not Event.SUPERSEDE else "Superseded",
        detail=sentence,
    )


def pause(rollout: RolloutView, *, why: PauseReason, sentence: str, next_step: str) -> Decision:
    """Holds the share where it is; the gates go on watching."""
    return Decision(
        phase=transition(rollout.phase, Event.PAUSE),
        event=Event.PAUSE,
        step_index=rollout.step_index,
        pause_reason=why,
        reason=sentence,
        next_step=next_step,
        title=f"Held at {percent(_share(rollout))}",
        detail=sentence,
    )


def resume(rollout: RolloutView, *, sentence: str) -> Decision:
    """Goes on with the step it was held in; its exposure so far counts."""
    return Decision(
        phase=transition(rollout.phase, Event.RESUME),
        event=Event.RESUME,
        step_index=rollout.step_index,
        reason=sentence,
        effects=(_share_of_step(rollout, rollout.step_index),),
        title="Resumed",
        detail=sentence,
    )


def promote(rollout: RolloutView, *, sentence: str) -> Decision:
    """All traffic to the candidate; nothing is loaded anew."""
    return Decision(
        phase=transition(rollout.phase, Event.PROMOTE),
        event=Event.PROMOTE,
        step_index=len(rollout.plan.steps),
        reason=sentence,
        next_step=f"All traffic moves to {rollout.candidate_label}.",
        effects=(_candidate_share(rollout, FULL_SHARE_BP),),
        title="Promotion decided",
        detail=sentence,
    )


# --- one function a phase -------------------------------------------------------------------------------------


def _pending(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    if seen.global_stop:
        return _stay(rollout, "The global stop is on: nothing starts.", "It starts when the stop is lifted.")
    return Decision(
        phase=transition(rollout.phase, Event.PROVISION),
        event=Event.PROVISION,
        step_index=-1,
        reason=f"Launching {rollout.candidate}: its files are verified against the manifest first.",
        next_step=f"Then {percent(rollout.plan.steps[0].share_bp)} of the traffic.",
        effects=(EnsureWorkload(rollout.baseline), EnsureWorkload(rollout.candidate)),
        title=f"Launching {rollout.candidate}",
    )


def _provisioning(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    waited = now - rollout.phase_since
    first = percent(rollout.plan.steps[0].share_bp)
    candidate = seen.candidate
    if candidate is not None and candidate.phase is WorkloadPhase.FAILED:
        return roll_back(rollout, cause=f"launch:{candidate.reason or 'failed'}", sentence=_launch_failed(candidate))
    if waited > rollout.plan.launch_seconds:
        sentence = f"{rollout.candidate} was not ready within {duration(rollout.plan.launch_seconds)}."
        return roll_back(rollout, cause=f"launch:{FailureReason.TIMEOUT.value}", sentence=sentence)
    if seen.rejected:
        return _stay(rollout, f"The router refused the route: {seen.rejected}", "The last good route stays in force.")
    if candidate is None:
        return _stay(rollout, "The cluster does not answer; nothing is changed.", "Launching goes on when it answers.")
    if not candidate.is_ready:
        return _stay(
            rollout,
            f"Waiting for {rollout.candidate} to be ready, {duration(waited)} so far: {candidate.message or 'loading'}.",
            f"When it answered a warm-up request, {first} of the traffic moves.",
        )
    if seen.baseline is None or not seen.baseline.is_ready:
        return _stay(
            rollout,
            f"{rollout.candidate} is ready, but the baseline {rollout.baseline} is not: there is nothing to compare with.",
            f"When both are ready, {first} of the traffic moves.",
        )
    if seen.routed is None:
        return _stay(rollout, "The router does not answer; nothing is changed.", "Traffic moves when it answers.")
    if rollout.candidate not in seen.routed or not seen.in_force:
        wanted = _candidate_share(rollout, 0)
        effects = () if dict(seen.desired_shares) == dict(wanted.shares) else (wanted,)
        return replace(
            _stay(rollout, f"{rollout.candidate} is ready; its route is being set at 0 %.", f"Then {first}."),
            effects=effects,
        )
    if not seen.forced_answered:
        return _stay(
            rollout,
            f"{rollout.candidate} is routed at 0 %; waiting until it answers a forced request itself.",
            f"Then {first} of the traffic moves.",
        )
    if seen.global_stop:
        return _stay(rollout, "Ready to start, but the global stop is on.", "It starts when the stop is lifted.")
    if seen.drift is not None:
        return _stay(rollout, _drift_sentence(seen.drift), "Restore the weights to go on.")
    return Decision(
        phase=transition(rollout.phase, Event.START),
        event=Event.START,
        step_index=0,
        reason=f"{rollout.candidate} answered a forced request; moving {first} of the traffic to it.",
        effects=(_share_of_step(rollout, 0),),
        title=f"Moving traffic 0 % to {first}",
        detail="route read back, forced request answered by the candidate",
    )


def _progressing(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    danger = _danger(rollout, seen, gates, now)
    if danger is not None:
        return danger
    share = percent(_share(rollout))
    if seen.global_stop:
        return pause(
            rollout,
            why=PauseReason.GLOBAL_STOP,
            sentence=f"The global stop is on: held at {share}.",
            next_step="It goes on by itself when the stop is lifted; rolling back works meanwhile.",
        )
    if seen.drift is not None:
        return pause(
            rollout,
            why=PauseReason.DRIFT,
            sentence=_drift_sentence(seen.drift),
            next_step="Resume to restore the planned weights, or roll back.",
        )
    if now - rollout.created_at > rollout.plan.deadline_seconds:
        return pause(
            rollout,
            why=PauseReason.INCONCLUSIVE,
            sentence=f"No verdict within {duration(rollout.plan.deadline_seconds)}. {gates.waiting}".strip(),
            next_step="A person decides: resume, promote now or roll back.",
        )
    if rollout.step_since is None or not seen.in_force:
        words = f"Moving to {share}; waiting until the router has it in force."
        if seen.rejected:
            words = f"The router refused the route: {seen.rejected}"
        return _stay(rollout, words, "The step's time counts from then.")
    return _step_progress(rollout, gates, now, share)


def _step_progress(rollout: RolloutView, gates: GatesView, now: float, share: str) -> Decision:
    step = rollout.plan.steps[rollout.step_index]
    held = now - (rollout.step_since or now)
    exposure = (
        f"{duration(min(held, step.hold_seconds))} of {duration(step.hold_seconds)} and "
        f"{min(rollout.step_requests, step.min_requests):,} of {step.min_requests:,} requests"
    )
    is_last = rollout.step_index + 1 == len(rollout.plan.steps)
    target = "100 %" if is_last else percent(rollout.plan.steps[rollout.step_index + 1].share_bp)
    if held < step.hold_seconds or rollout.step_requests < step.min_requests:
        return _stay(rollout, f"Holding {share}: {exposure}. No gate failed.", f"Then {target}. {gates.waiting}".strip())
    if (is_last or step.require_pass) and not gates.all_required_pass:
        return _stay(
            rollout,
            f"Waiting for evidence at {share}. {gates.waiting}".strip(),
            f"When every required gate passes, {target}. If one fails, traffic returns to {rollout.baseline_label}.",
        )
    if is_last:
        return promote(rollout, sentence=gates.passed_sentence or "Every required gate passed.")
    return Decision(
        phase=transition(rollout.phase, Event.ADVANCE),
        event=Event.ADVANCE,
        step_index=rollout.step_index + 1,
        reason=f"Exposure of {share} reached with no failed gate; moving to {target}.",
        effects=(_share_of_step(rollout, rollout.step_index + 1),),
        title=f"Moving traffic {share} to {target}",
        detail=f"{duration(held)} and {rollout.step_requests:,} requests, no gate failed",
    )


def _paused(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    danger = _danger(rollout, seen, gates, now)
    if danger is not None:
        return danger
    if rollout.pause_reason is PauseReason.GLOBAL_STOP and not seen.global_stop:
        return resume(rollout, sentence="The global stop was lifted.")
    if rollout.pause_reason is PauseReason.DRIFT and seen.drift is None and seen.routed is not None:
        return resume(rollout, sentence="The router's weights are as planned again.")
    return replace(_stay(rollout, ""), pause_reason=rollout.pause_reason)


def _promoting(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    danger = _danger(rollout, seen, gates, now, promoting=True)
    if danger is not None:
        return danger
    if not seen.in_force:
        if seen.drift is not None:
            return _stay(rollout, _drift_sentence(seen.drift), "Resume to restore the planned weights, or roll back.")
        return _stay(rollout, f"Moving all traffic to {rollout.candidate_label}.", "Then it is read back.")
    watch = duration(rollout.plan.watch_seconds)
    return Decision(
        phase=transition(rollout.phase, Event.FINISH),
        event=Event.FINISH,
        step_index=rollout.step_index,
        reason=f"Promoted: {rollout.candidate_label} has all traffic, read back from the router.",
        next_step=f"{rollout.baseline_label} stays warm for {watch} and would take over again by itself.",
        effects=(WriteBack(rollout.candidate, rollout.candidate, "promoted"),),
        title=f"Promoted {rollout.candidate_label}",
        detail="all traffic, read back from the router",
    )


def _watching(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    if not rollout.watching or rollout.watch_until is None:
        return _stay(rollout, "")
    danger = _danger(rollout, seen, gates, now, promoting=True)
    if danger is not None:
        return danger
    if now < rollout.watch_until:
        left = duration(rollout.watch_until - now)
        return _stay(
            rollout,
            f"Promoted: {rollout.candidate_label} has all traffic.",
            f"{rollout.baseline_label} stays warm for {left} more and would take over again by itself.",
        )
    return replace(
        _stay(rollout, f"Promoted: {rollout.candidate_label} has all traffic."),
        effects=(SetTraffic({rollout.candidate: FULL_SHARE_BP}, rollout.candidate), DrainWorkload(rollout.baseline)),
        end_watch=True,
        title="The watch ended",
        detail=f"{rollout.baseline} is drained and stopped",
    )


def _rolling_back(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """Back to the baseline as soon as it is proven healthy; until then whoever is healthy goes on answering."""
    wanted = _all_to_baseline(rollout)
    back = dict(seen.desired_shares) == dict(wanted.shares)
    baseline_ready = seen.baseline is not None and seen.baseline.is_ready
    candidate_ready = seen.candidate is not None and seen.candidate.is_ready
    if back and seen.in_force:
        return Decision(
            phase=transition(rollout.phase, Event.RETURN),
            event=Event.RETURN,
            step_index=rollout.step_index,
            reason=rollout.cause_sentence,
            next_step=f"{rollout.baseline_label} has all traffic, read back from the router.",
            effects=(WriteBack(rollout.baseline, rollout.candidate, "rolled-back"), DrainWorkload(rollout.candidate)),
            title=f"Rolled back to {rollout.baseline_label}",
            detail=rollout.cause_sentence,
        )
    gone = seen.baseline is not None and seen.baseline.phase is WorkloadPhase.FAILED
    if gone or (not baseline_ready and now - rollout.phase_since > RETURN_PATIENCE_SECONDS):
        why = _launch_failed(seen.baseline) if gone and seen.baseline else f"{rollout.baseline} does not come back."
        return Decision(
            phase=transition(rollout.phase, Event.GIVE_UP),
            event=Event.GIVE_UP,
            step_index=rollout.step_index,
            reason=f"The way back needs a person. {why} Traffic stays as it is.",
            next_step="Mend the baseline, then roll back again.",
            cause="rollback-blocked",
            cause_sentence=f"The way back needs a person. {why}",
            title="The way back needs a person",
            detail=why,
        )
    if not back and (baseline_ready or (seen.baseline is not None and not candidate_ready)):
        return replace(
            _stay(rollout, rollout.cause_sentence, f"All traffic returns to {rollout.baseline_label}."), effects=(wanted,)
        )
    waiting = "the router to confirm" if back else f"{rollout.baseline} to be healthy"
    return _stay(rollout, rollout.cause_sentence, f"Waiting for {waiting}; then {rollout.baseline_label} has all traffic.")


# --- parts ----------------------------------------------------------------------------------------------------


def _danger(
    rollout: RolloutView, seen: Seen, gates: GatesView, now: float, *, promoting: bool = False
) -> Decision | None:
    """What sends traffic back at once, in the order of certainty."""
    if gates.fast_kill:
        return roll_back(rollout, cause="fast-kill", sentence=gates.fast_kill)
    candidate = seen.candidate
    if candidate is not None and candidate.phase in (WorkloadPhase.FAILED, WorkloadPhase.ABSENT):
        what = _launch_failed(candidate) if candidate.phase is WorkloadPhase.FAILED else f"{rollout.candidate} is gone."
        return roll_back(rollout, cause=f"workload:{candidate.reason or candidate.phase.value}", sentence=what)
    if gates.rollback:
        return roll_back(rollout, cause=gates.cause, sentence=gates.cause_sentence)
    since = max(rollout.measured_at or 0.0, rollout.step_since or now)
    if not promoting and now - since > rollout.plan.no_data_seconds:
        sentence = (
            f"Nothing could be measured for {duration(now - since)} "
            f"(allowed {duration(rollout.plan.no_data_seconds)}): without evidence the candidate does not stay."
        )
        return roll_back(rollout, cause="no-data", sentence=sentence)
    return None


def _stay(rollout: RolloutView, reason: str, next_step: str = "") -> Decision:
    return Decision(
        phase=rollout.phase,
        step_index=rollout.step_index,
        pause_reason=rollout.pause_reason,
        reason=reason,
        next_step=next_step,
    )


def _share(rollout: RolloutView) -> int:
    if rollout.step_index < 0:
        return 0
    if rollout.step_index >= len(rollout.plan.steps):
        return FULL_SHARE_BP
    return rollout.plan.steps[rollout.step_index].share_bp


def _share_of_step(rollout: RolloutView, index: int) -> SetTraffic:
    return _candidate_share(rollout, rollout.plan.steps[index].share_bp)


def _candidate_share(rollout: RolloutView, candidate_bp: int) -> SetTraffic:
    return SetTraffic(shares_of(rollout.baseline, rollout.candidate, candidate_bp), rollout.baseline)


def _all_to_baseline(rollout: RolloutView) -> SetTraffic:
    return SetTraffic({rollout.baseline: FULL_SHARE_BP}, rollout.baseline)


def _launch_failed(status: WorkloadStatus) -> str:
    words = status.message or "it stopped without a word"
    return f"{status.variant} failed ({status.reason.value or 'unknown reason'}): {words}"


def _drift_sentence(drift: Mapping[str, int]) -> str:
    hand = ", ".join(f"{name} {percent(bp)}" for name, bp in sorted(drift.items()))
    return f"The router's weights were set by hand ({hand}). Headgate waits and changes nothing."
