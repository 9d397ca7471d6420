"""The moves that both people and the loop make: one function an event of the state table."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.kernel.words import duration_of_seconds
from rollouts.domain.engines import EngineView
from rollouts.domain.lifecycle.decision import Decision, Drop, RolloutView
from rollouts.domain.lifecycle.effects import AnyEffect, DrainWorkload, EnsureWorkload, SetTraffic
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP, Plan, shares_of
from rollouts.domain.lifecycle.states import Event, PauseReason, Phase, transition


def stay(rollout: RolloutView, reason: str, next_step: str = "") -> Decision:
    """Nothing changes but what people read."""
    return Decision(
        phase=rollout.phase,
        step_index=rollout.step_index,
        pause_reason=rollout.pause_reason,
        reason=reason,
        next_step=next_step,
    )


def roll_back(rollout: RolloutView, *, cause: str, sentence: str, drops: tuple[Drop, ...] = ()) -> Decision:
    """Traffic returns to the baseline. Always possible where the table knows it; people use it too.

    drops   arms of a bandit that leave with this, so that it is known why
    """
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
        drops=drops,
    )


def cancel(rollout: RolloutView, *, sentence: str, event: Event = Event.CANCEL) -> Decision:
    """Ends a rollout before any traffic moved."""
    effects: tuple[AnyEffect, ...] = ()
    if rollout.phase is not Phase.PENDING:
        effects = (all_to_baseline(rollout), *drains(rollout))
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


def overtaken(rollout: RolloutView, *, sentence: str) -> Decision:
    """Ends a rollout that is under way only in this database, which is an older copy: what serves was kept.

    Nothing else is done about it, because it is not known any more what the rollout did.
    """
    return Decision(
        phase=transition(rollout.phase, Event.RESTORE),
        event=Event.RESTORE,
        step_index=rollout.step_index,
        reason=sentence,
        cause="restored-copy",
        cause_sentence=sentence,
        title="Ended: the database is an older copy",
        detail=sentence,
    )


def hold_at(
    held_at: str, rollout: RolloutView, *, why: PauseReason, sentence: str, next_step: str
) -> Decision:
    """Holds the share where it is (`held_at`, for people); the gates go on watching."""
    return Decision(
        phase=transition(rollout.phase, Event.PAUSE),
        event=Event.PAUSE,
        step_index=rollout.step_index,
        pause_reason=why,
        reason=sentence,
        next_step=next_step,
        title=f"Held at {held_at}",
        detail=sentence,
    )


def promotion(rollout: RolloutView, *, stage: int, sentence: str, label: str, split: SetTraffic) -> Decision:
    """All traffic to the candidate that people call `label`; nothing is loaded anew. `stage` is after the last."""
    return Decision(
        phase=transition(rollout.phase, Event.PROMOTE),
        event=Event.PROMOTE,
        step_index=stage,
        reason=sentence,
        next_step=f"All traffic moves to {label}.",
        effects=(split,),
        title="Promotion decided",
        detail=sentence,
    )


def end_watch(rollout: RolloutView, *, sentence: str, keep_baseline: bool = False) -> Decision:
    """The rollback window is over: the old variant is drained, unless it is wanted for something else."""
    effects: tuple[AnyEffect, ...] = (SetTraffic({rollout.candidate: FULL_SHARE_BP}, rollout.candidate),)
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


def failure_words(status: EngineView) -> str:
    """Why an engine failed, for people."""
    words = status.message or "it gave no message"
    return f"{status.variant} failed ({status.reason.value or 'unknown reason'}): {words}"


def loading_words(engine: EngineView) -> str:
    """How far an engine is that is not whole yet."""
    return engine.short_because or engine.message.rstrip(".") or "loading"


def launch_limit(plan: Plan, engine: EngineView) -> float:
    """For how many seconds its launch may last.

    A candidate that was whole and lost some of its replicas before traffic moved has launched: it is waited for as long
    as the whole rollout may take. Not one that crashes: what comes and goes looks like progress and is none.
    """
    launched = engine.was_whole and engine.short and not engine.crashes
    return max(plan.launch_seconds, plan.deadline_seconds) if launched else plan.launch_seconds


def late_words(engine: EngineView, limit: float) -> str:
    """What an engine did that is not whole after so many seconds."""
    had = f": {engine.short}" if engine.short else ""
    said = f" It said last: {engine.message}" if engine.message else ""
    return f"was not ready within {duration_of_seconds(limit)}{had}.{said}"


# --- shares -----------------------------------------------------------------------------------------------------


def candidate_share(rollout: RolloutView, candidate_bp: int) -> SetTraffic:
    return SetTraffic(shares_of(rollout.baseline, rollout.candidate, candidate_bp), rollout.baseline)


def racing_shares(rollout: RolloutView, shares: Mapping[str, int]) -> SetTraffic:
    """A split of several candidates: `shares` (by variant) of the arms in the race, all the rest to the baseline."""
    kept = {arm.variant: shares.get(arm.variant, 0) for arm in rollout.racing}
    return SetTraffic({rollout.baseline: FULL_SHARE_BP - sum(kept.values()), **kept}, rollout.baseline)


def all_to_baseline(rollout: RolloutView) -> SetTraffic:
    return SetTraffic({rollout.baseline: FULL_SHARE_BP}, rollout.baseline)


def drains(rollout: RolloutView) -> tuple[DrainWorkload, ...]:
    """Drains every candidate; nothing happens to one that is gone."""
    return tuple(DrainWorkload(variant) for variant in rollout.candidates)
