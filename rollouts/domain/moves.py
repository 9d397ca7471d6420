"""The moves that people and the loop share: each says what one event of the state table does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.decision import ArmView, Decision, Drop, RolloutView
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
    effects: tuple[Effect, ...] = ()
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
    """Ends a rollout that this database only believes to be under way: it is an older copy, and what serves was kept.

    Nothing is done for it: nobody knows any more what it did.
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


def pause(rollout: RolloutView, *, why: PauseReason, sentence: str, next_step: str) -> Decision:
    """Holds the share where it is; the gates go on watching."""
    return Decision(
        phase=transition(rollout.phase, Event.PAUSE),
        event=Event.PAUSE,
        step_index=rollout.step_index,
        pause_reason=why,
        reason=sentence,
        next_step=next_step,
        title=f"Held at {share_words(rollout)}",
        detail=sentence,
    )


def resume(rollout: RolloutView, *, sentence: str) -> Decision:
    """Goes on with the step it was held in (a bandit: with the shares it had); its exposure so far counts."""
    return Decision(
        phase=transition(rollout.phase, Event.RESUME),
        event=Event.RESUME,
        step_index=rollout.step_index,
        reason=sentence,
        next_step=f"{share_words(rollout)} of the traffic, as planned.",
        effects=(_planned_split(rollout),),
        title="Resumed",
        detail=sentence,
    )


def promote(rollout: RolloutView, *, sentence: str, arm: str = "", drops: tuple[Drop, ...] = ()) -> Decision:
    """All traffic to the candidate; nothing is loaded anew.

    arm     of a bandit: whom to promote; may be left out when only one candidate is left. The others leave for good
            and are drained once they have no traffic.

    Raises InvalidInput (field "arm") for an arm that is not in the race, or when the choice is missing.
    """
    if not rollout.arms:
        if arm not in ("", rollout.candidate_arm):
            raise InvalidInput(f"A canary has no arm {arm!r}.", field="arm", fix="Leave the arm out.")
        return _promotion(rollout, sentence, rollout.candidate_label, candidate_share(rollout, FULL_SHARE_BP))
    phase = transition(rollout.phase, Event.PROMOTE)  # an illegal move is said before a wrong arm
    chosen = _chosen_arm(rollout, arm)
    others = tuple(
        Drop(other.name, "person", f"{chosen.label} was promoted instead.")
        for other in rollout.racing
        if other is not chosen and other.name not in {drop.arm for drop in drops}
    )
    all_to_it = SetTraffic({rollout.baseline: 0, chosen.variant: FULL_SHARE_BP}, rollout.baseline)
    made = _promotion(rollout, sentence, chosen.label, all_to_it)
    drained = tuple(DrainWorkload(other.variant) for other in rollout.racing if other is not chosen)
    return replace(
        made, phase=phase, effects=(all_to_it, *drained), drops=(*drops, *others), winner=chosen.name
    )


def _promotion(rollout: RolloutView, sentence: str, label: str, split: SetTraffic) -> Decision:
    return Decision(
        phase=transition(rollout.phase, Event.PROMOTE),
        event=Event.PROMOTE,
        step_index=rollout.plan.promoted_step,
        reason=sentence,
        next_step=f"All traffic moves to {label}.",
        effects=(split,),
        title="Promotion decided",
        detail=sentence,
    )


def _chosen_arm(rollout: RolloutView, name: str) -> ArmView:
    """The racing arm of that name, or the only one."""
    racing = rollout.racing
    chosen = next((arm for arm in racing if arm.name == name), None)
    if chosen is not None:
        return chosen
    if not name and len(racing) == 1:
        return racing[0]
    choice = ", ".join(f"{arm.name} ({arm.label})" for arm in racing) or "none"
    found = rollout.arm(name)
    if not name:
        said = "A bandit has several candidates: which one is promoted must be said."
    elif found is None:
        said = f"The rollout has no arm {name!r}."
    elif found is rollout.arms[0]:
        said = f"{found.label} is the baseline: roll back to give it all traffic."
    else:
        said = f"{found.label} has left the race."
    raise InvalidInput(said, field="arm", fix=f"In the race: {choice}.")


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
    """The planned share of the candidate (of a bandit: of all candidates) in basis points."""
    if rollout.step_index < 0:
        return 0
    if rollout.step_index >= rollout.plan.promoted_step:
        return FULL_SHARE_BP
    if rollout.arms:
        return sum(arm.share_bp for arm in rollout.racing)
    return rollout.plan.steps[rollout.step_index].share_bp


def share_words(rollout: RolloutView) -> str:
    """The planned share for people: `25%`, or of a bandit `v2 45%, v3 40%`."""
    if not rollout.arms or not 0 <= rollout.step_index < rollout.plan.promoted_step:
        return percent(share(rollout))
    return ", ".join(f"{arm.label} {percent(arm.share_bp)}" for arm in rollout.racing) or percent(0)


def share_of_step(rollout: RolloutView, index: int) -> SetTraffic:
    return candidate_share(rollout, rollout.plan.steps[index].share_bp)


def candidate_share(rollout: RolloutView, candidate_bp: int) -> SetTraffic:
    return SetTraffic(shares_of(rollout.baseline, rollout.candidate, candidate_bp), rollout.baseline)


def racing_shares(rollout: RolloutView, shares: Mapping[str, int]) -> SetTraffic:
    """The split of a bandit: `shares` (by variant) of the arms in the race, all the rest to the baseline."""
    kept = {arm.variant: shares.get(arm.variant, 0) for arm in rollout.racing}
    return SetTraffic({rollout.baseline: FULL_SHARE_BP - sum(kept.values()), **kept}, rollout.baseline)


def all_to_baseline(rollout: RolloutView) -> SetTraffic:
    return SetTraffic({rollout.baseline: FULL_SHARE_BP}, rollout.baseline)


def drains(rollout: RolloutView) -> tuple[DrainWorkload, ...]:
    """Drains every candidate; nothing happens to one that is gone."""
    return tuple(DrainWorkload(variant) for variant in rollout.candidates)


def _planned_split(rollout: RolloutView) -> SetTraffic:
    if rollout.arms:
        return racing_shares(rollout, {arm.variant: arm.share_bp for arm in rollout.racing})
    return share_of_step(rollout, rollout.step_index)
