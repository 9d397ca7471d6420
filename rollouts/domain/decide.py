"""The decision: what a rollout does next, as a pure function.

`decide(rollout, seen, gates, now)` never looks at a clock, a database or a network, so the same inputs give the same
decision and a rollout can be replayed. What could not be read is None, and an unknown read changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from rollouts.domain.danger import (
    danger,
    drift_sentence,
    held_by_outage,
    no_data,
    not_in_force,
    out_of_time,
    pause_for_drift,
    stopped,
    told_of_outage,
)
from rollouts.domain.decision import Decision, GatesView, RolloutView, Seen
from rollouts.domain.effects import EnsureWorkload, WriteBack
from rollouts.domain.launches import launch_arms
from rollouts.domain.learning import gates_of_winner, learn, watch_while_held
from rollouts.domain.moves import (
    cancel,
    candidate_share,
    end_watch,
    failure_words,
    overtaken,
    pause,
    promote,
    resume,
    roll_back,
    share,
    share_of_step,
    stay,
)
from rollouts.domain.returning import RELAUNCH_SECONDS, RETURN_PATIENCE_SECONDS, return_to_baseline
from rollouts.domain.sentences import duration, percent
from rollouts.domain.states import Event, PauseReason, Phase, transition
from rollouts.ports import FailureReason, WorkloadPhase, WorkloadStatus

__all__ = [
    "RELAUNCH_SECONDS",
    "RETURN_PATIENCE_SECONDS",
    "Decision",
    "GatesView",
    "RolloutView",
    "Seen",
    "cancel",
    "decide",
    "end_watch",
    "overtaken",
    "pause",
    "promote",
    "resume",
    "roll_back",
]


def decide(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """The next decision for a rollout that is active or watched. Never raises for what the world does."""
    handlers = {
        Phase.PENDING: _pending,
        Phase.PROVISIONING: _provisioning,
        Phase.PROGRESSING: _progressing,
        Phase.PAUSED: _paused,
        Phase.PROMOTING: _promoting,
        Phase.SUCCEEDED: _watching,
        Phase.ROLLING_BACK: return_to_baseline,
    }
    if rollout.arms and rollout.phase in (Phase.PROMOTING, Phase.SUCCEEDED):
        gates = gates_of_winner(rollout, gates)
    handler = handlers.get(rollout.phase)
    if handler is None:
        return stay(rollout, rollout.cause_sentence)
    return handler(rollout, seen, gates, now)


# --- one function a phase -------------------------------------------------------------------------------------


def _pending(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    if seen.global_stop:
        return stay(rollout, "The global stop is on: nothing starts.", "It starts when the stop is lifted.")
    names = " and ".join(rollout.candidates)
    files = "their files are" if rollout.arms else "its files are"
    first = "equal shares" if rollout.arms else percent(rollout.plan.steps[0].share_bp)
    return Decision(
        phase=transition(rollout.phase, Event.PROVISION),
        event=Event.PROVISION,
        step_index=-1,
        reason=f"Launching {names}: {files} verified against the manifest first.",
        next_step=f"Then {first} of the traffic.",
        effects=tuple(EnsureWorkload(name) for name in (rollout.baseline, *rollout.candidates)),
        title=f"Launching {names}",
    )


def _provisioning(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    if rollout.arms:
        return launch_arms(rollout, seen, gates, now)
    waited = now - rollout.phase_since
    first = percent(rollout.plan.steps[0].share_bp)
    candidate = seen.candidate
    if candidate is None:
        return stay(
            rollout, "The cluster does not answer; nothing is changed.", "Launching goes on when it answers."
        )
    if candidate.phase is WorkloadPhase.FAILED:
        return roll_back(
            rollout, cause=f"launch:{candidate.reason or 'failed'}", sentence=failure_words(candidate)
        )
    if not candidate.is_ready:
        if waited > rollout.plan.launch_seconds:
            words = f" It said last: {candidate.message}" if candidate.message else ""
            return _launch_timeout(
                rollout, f"was not ready within {duration(rollout.plan.launch_seconds)}.{words}"
            )
        return stay(
            rollout,
            f"Waiting for {rollout.candidate} to be ready, {duration(waited)} so far: "
            f"{candidate.message.rstrip('.') or 'loading'}.",
            f"When it answered a warm-up request, {first} of the traffic moves.",
        )
    if seen.baseline is None or not seen.baseline.is_ready:
        return stay(
            rollout,
            f"{rollout.candidate} is ready, but the baseline {rollout.baseline} is not: "
            "there is nothing to compare with.",
            f"When both are ready, {first} of the traffic moves.",
        )
    if seen.routed is None:
        return stay(
            rollout, "The router does not answer; nothing is changed.", "Traffic moves when it answers."
        )
    if seen.drift is not None:
        return stay(
            rollout, drift_sentence(seen.drift), "Set the weights back at the router to go on, or cancel."
        )
    if rollout.candidate not in seen.routed or not seen.in_force:
        return _route_at_zero(rollout, seen, first)
    if not seen.forced_answered:
        # Twice the launch's time: what a loading engine may take, and as much again to answer through the router.
        if waited > 2 * rollout.plan.launch_seconds:
            return _launch_timeout(
                rollout, f"is ready, but did not answer through the router in {duration(waited)}."
            )
        return stay(
            rollout,
            f"{rollout.candidate} is routed at 0%; waiting until it answers a forced request itself.",
            f"Then {first} of the traffic moves.",
        )
    if seen.global_stop:
        return stay(
            rollout, "Ready to start, but the global stop is on.", "It starts when the stop is lifted."
        )
    return Decision(
        phase=transition(rollout.phase, Event.START),
        event=Event.START,
        step_index=0,
        reason=f"{rollout.candidate} answered a forced request; moving {first} of the traffic to it.",
        effects=(share_of_step(rollout, 0),),
        title=f"Moving traffic 0% to {first}",
        detail="route read back, forced request answered by the candidate",
    )


def _route_at_zero(rollout: RolloutView, seen: Seen, first: str) -> Decision:
    wanted = candidate_share(rollout, 0)
    words = f"{rollout.candidate} is ready; its route is being set at 0%."
    if seen.rejected:
        words = f"The router refused the route: {seen.rejected} The last good route stays in force."
    elif seen.in_force:
        words = f"{rollout.candidate} is ready, but does not pass the router's health check yet."
    effects = () if dict(seen.desired_shares) == dict(wanted.shares) else (wanted,)
    return replace(stay(rollout, words, f"Then {first}."), effects=effects)


def _launch_timeout(rollout: RolloutView, what: str) -> Decision:
    return roll_back(
        rollout, cause=f"launch:{FailureReason.TIMEOUT.value}", sentence=f"{rollout.candidate} {what}"
    )


def _progressing(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    if rollout.arms:
        return learn(rollout, seen, gates, now)
    back = danger(rollout, seen, gates) or no_data(rollout, now)
    if back is not None:
        return back
    held_at = percent(share(rollout))
    if seen.global_stop:
        return stopped(rollout, held_at)
    if seen.drift is not None:
        return pause_for_drift(rollout, seen.drift)
    late = out_of_time(rollout, gates, now, found=gates.waiting, then="resume, promote now or roll back")
    if late is not None:
        return late
    if rollout.step_since is None or not seen.in_force:
        return stay(rollout, not_in_force(seen, held_at), "The step's time counts from then.")
    held = held_by_outage(rollout, gates.outage, held_at)
    if held is not None:
        return held
    return told_of_outage(rollout, gates.outage, _step_progress(rollout, seen, gates, now, held_at))


def _step_progress(rollout: RolloutView, seen: Seen, gates: GatesView, now: float, held_at: str) -> Decision:
    step = rollout.plan.steps[rollout.step_index]
    held = now - (rollout.step_since or now)
    exposure = (
        f"{duration(min(held, step.hold_seconds))} of {duration(step.hold_seconds)} and "
        f"{min(rollout.step_requests, step.min_requests):,} of {step.min_requests:,} requests"
    )
    is_last = rollout.step_index + 1 == len(rollout.plan.steps)
    target = "100%" if is_last else percent(rollout.plan.steps[rollout.step_index + 1].share_bp)
    if held < step.hold_seconds or rollout.step_requests < step.min_requests:
        return stay(
            rollout,
            f"Holding {held_at}: {exposure}. No gate failed.",
            f"Then {target}. {gates.waiting}".strip(),
        )
    if (is_last or step.require_pass) and not gates.all_required_pass:
        return stay(
            rollout,
            f"Waiting for evidence at {held_at}. {gates.waiting}".strip(),
            f"When every required gate passes, {target}. If one fails, traffic returns to {rollout.baseline_label}.",
        )
    if seen.candidate is None or not seen.candidate.is_ready:
        return stay(
            rollout,
            _not_ready_for_more(rollout, seen.candidate, held_at),
            f"When it is ready again, {target}.",
        )
    if is_last:
        return promote(rollout, sentence=gates.passed_sentence or "Every required gate passed.")
    return Decision(
        phase=transition(rollout.phase, Event.ADVANCE),
        event=Event.ADVANCE,
        step_index=rollout.step_index + 1,
        reason=f"Exposure of {held_at} reached with no failed gate; moving to {target}.",
        effects=(share_of_step(rollout, rollout.step_index + 1),),
        title=f"Moving traffic {held_at} to {target}",
        detail=f"{duration(held)} and {rollout.step_requests:,} requests, no gate failed",
    )


def _not_ready_for_more(rollout: RolloutView, candidate: WorkloadStatus | None, held_at: str) -> str:
    if candidate is None:
        return f"Held at {held_at}: the cluster does not answer, so nobody knows whether {rollout.candidate} is ready."
    return (
        f"Held at {held_at}: {rollout.candidate} is not ready ({candidate.message or candidate.phase.value})."
    )


def _paused(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    if rollout.arms:
        lowered = watch_while_held(rollout, seen, gates, now)
    else:
        lowered = danger(rollout, seen, gates) or no_data(rollout, now)
    if lowered is not None:
        return lowered
    if seen.routed is None:
        return stay(rollout, "")
    if rollout.pause_reason is PauseReason.GLOBAL_STOP and not seen.global_stop:
        # Resuming publishes the plan's weights, and weights set by hand are not ours to overwrite.
        if seen.drift is not None:
            return pause_for_drift(rollout, seen.drift)
        return resume(rollout, sentence="The global stop was lifted.")
    if rollout.pause_reason is PauseReason.DRIFT and seen.drift is None and not seen.global_stop:
        return resume(rollout, sentence="The router's weights are as planned again.")
    return stay(rollout, "")


def _promoting(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    back = danger(rollout, seen, gates)
    if back is not None:
        return back
    if not seen.in_force:
        if seen.drift is not None:
            return stay(
                rollout, drift_sentence(seen.drift), "Set the weights back at the router, or roll back."
            )
        if seen.global_stop:
            return stay(
                rollout,
                "The global stop is on: the promotion waits.",
                "It goes on by itself when the stop is lifted; rolling back works meanwhile.",
            )
        words = f"Moving all traffic to {rollout.candidate_label}."
        if seen.rejected:
            words = f"The router refused the route: {seen.rejected} The last good route stays in force."
        return stay(rollout, words, "Then it is read back.")
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
        return stay(rollout, "")
    back = danger(rollout, seen, gates)
    if back is not None:
        return back
    if seen.drift is not None:
        return stay(rollout, drift_sentence(seen.drift), "Set the weights back at the router, or roll back.")
    if now < rollout.watch_until:
        left = duration(rollout.watch_until - now)
        return stay(
            rollout,
            f"Promoted: {rollout.candidate_label} has all traffic.",
            f"{rollout.baseline_label} stays warm for {left} more and would take over again by itself.",
        )
    if not seen.in_force:
        return stay(
            rollout,
            f"Promoted: {rollout.candidate_label} has all traffic.",
            f"{rollout.baseline_label} stays warm until the router shows the route as it should be.",
        )
    return end_watch(rollout, sentence=f"{rollout.baseline} is drained and stopped")
