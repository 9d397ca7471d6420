"""The moves that people and the loop share: each says what one event of the state table does."""

from __future__ import annotations

from rollouts.domain.decision import Decision, RolloutView
from rollouts.domain.effects import DrainWorkload, Effect, EnsureWorkload, SetTraffic
from rollouts.domain.plan import FULL_SHARE_BP, shares_of
from rollouts.domain.sentences import percent
from rollouts.domain.states import Event, PauseReason, Phase, transition
from rollouts.ports import WorkloadStatus


def stay(rollout: RolloutView, reason: str, next_step: str = "") -> Decision:
    """Nothing changes but what people read."""
    return Decision(
        phase=rollout.phase,
        step_index=rollout.step_index,
        pause_reason=rollout.pause_reason,
        reason=reason,
        next_step=next_step,
    )


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
        effects = (all_to_baseline(rollout), DrainWorkload(rollout.candidate))
    superseded = event is Event.SUPERSEDE
    return Decision(
        phase=transition(rollout.phase, event),
        event=event,
        step_index=rollout.step_index,
        reason=sentence,
        cause="superseded" if superseded else "person",
        cause_sentence=sentence,
        effects=effects,
        title="Superseded" if superseded else "Cancelled before traffic moved",
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
        title=f"Held at {percent(share(rollout))}",
        detail=sentence,
    )


def resume(rollout: RolloutView, *, sentence: str) -> Decision:
    """Goes on with the step it was held in; its exposure so far counts."""
    return Decision(
        phase=transition(rollout.phase, Event.RESUME),
        event=Event.RESUME,
        step_index=rollout.step_index,
        reason=sentence,
        next_step=f"{percent(share(rollout))} of the traffic, as planned.",
        effects=(share_of_step(rollout, rollout.step_index),),
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
        effects=(candidate_share(rollout, FULL_SHARE_BP),),
        title="Promotion decided",
        detail=sentence,
    )


def end_watch(rollout: RolloutView, *, sentence: str, keep_baseline: bool = False) -> Decision:
    """The rollback window is over: the old variant is drained, unless it is wanted for something else."""
    effects: tuple[Effect, ...] = (SetTraffic({rollout.candidate: FULL_SHARE_BP}, rollout.candidate),)
    if not keep_baseline:
        effects = (*effects, DrainWorkload(rollout.baseline))
    return Decision(
        phase=rollout.phase,
        step_index=rollout.step_index,
        pause_reason=rollout.pause_reason,
        reason=f"Promoted: {rollout.candidate_label} has all traffic.",
        effects=effects,
        end_watch=True,
        title="The watch ended",
        detail=sentence,
    )


def failure_words(status: WorkloadStatus) -> str:
    """Why an engine failed, for people."""
    words = status.message or "it stopped without a word"
    return f"{status.variant} failed ({status.reason.value or 'unknown reason'}): {words}"


# --- shares -----------------------------------------------------------------------------------------------------


def share(rollout: RolloutView) -> int:
    """The candidate's planned share in basis points."""
    if rollout.step_index < 0:
        return 0
    if rollout.step_index >= len(rollout.plan.steps):
        return FULL_SHARE_BP
    return rollout.plan.steps[rollout.step_index].share_bp


def share_of_step(rollout: RolloutView, index: int) -> SetTraffic:
    return candidate_share(rollout, rollout.plan.steps[index].share_bp)


def candidate_share(rollout: RolloutView, candidate_bp: int) -> SetTraffic:
    return SetTraffic(shares_of(rollout.baseline, rollout.candidate, candidate_bp), rollout.baseline)


def all_to_baseline(rollout: RolloutView) -> SetTraffic:
    return SetTraffic({rollout.baseline: FULL_SHARE_BP}, rollout.baseline)
