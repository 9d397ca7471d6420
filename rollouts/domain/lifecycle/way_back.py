"""The way back: all traffic to the baseline, as soon as that is proven healthy."""

from __future__ import annotations

from dataclasses import replace

from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.decision import Decision, GatesView, RolloutView, Seen
from rollouts.domain.lifecycle.effects import WriteBack
from rollouts.domain.lifecycle.moves import all_to_baseline, drains, failure_words, stay
from rollouts.domain.lifecycle.states import Event, transition
from rollouts.domain.strategies import is_known, strategy_of

RETURN_PATIENCE_SECONDS = 900.0  # how long a rollback waits for a baseline that does not come back
RELAUNCH_SECONDS = 30.0  # a failed baseline was just launched again: for so long its old failure is no news


def return_to_baseline(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """Gives the baseline all traffic as soon as it is proven healthy; until then a healthy candidate goes on
    answering."""
    wanted = all_to_baseline(rollout)
    back = dict(seen.desired_shares) == dict(wanted.shares)
    baseline = seen.engine(rollout.baseline)
    baseline_ready = seen.answers(rollout.baseline)
    candidate_ready = _is_answered(rollout, seen)
    never_moved = rollout.step_index < 0
    if back and seen.in_force and (baseline_ready or never_moved):
        return Decision(
            phase=transition(rollout.phase, Event.RETURN),
            event=Event.RETURN,
            step_index=rollout.step_index,
            reason=rollout.cause_sentence,
            next_step=f"{rollout.baseline_label} has all traffic, read back from the router.",
            effects=(
                *(WriteBack(rollout.baseline, variant, "rolled-back") for variant in rollout.candidates),
                *drains(rollout),
            ),
            title=f"Rolled back to {rollout.baseline_label}",
            detail=rollout.cause_sentence,
        )
    waited = now - (
        rollout.phase_since if baseline is None else baseline.launching_since(rollout.phase_since)
    )
    if baseline is not None and not baseline_ready and not never_moved:
        gone = baseline.phase is WorkloadPhase.FAILED and waited > RELAUNCH_SECONDS
        if gone or waited > RETURN_PATIENCE_SECONDS:
            return _give_up(
                rollout, failure_words(baseline) if gone else f"{rollout.baseline} does not come back."
            )
    if not back and (baseline_ready or never_moved or (baseline is not None and not candidate_ready)):
        return replace(
            stay(rollout, rollout.cause_sentence, f"All traffic returns to {rollout.baseline_label}."),
            effects=(wanted,),
        )
    waiting = f"{rollout.baseline} to be healthy"
    if seen.routed is None:
        waiting = "the router, which does not answer"
    elif seen.rejected:
        waiting = f"the router, which refused the route ({seen.rejected})"
    elif seen.late:
        waiting = "the router, which accepted the route and has not put it in force"
    elif back and baseline_ready:
        waiting = "the router to confirm"
    return stay(
        rollout,
        rollout.cause_sentence,
        f"Waiting for {waiting}; then {rollout.baseline_label} gets all traffic.",
    )


def _is_answered(rollout: RolloutView, seen: Seen) -> bool:
    """Whether a candidate with traffic answers; where the strategy is not known, any that has some."""
    if is_known(rollout):
        return strategy_of(rollout).is_answered(rollout, seen)
    return any(seen.answers(name) for name in rollout.candidates if seen.split.get(name, 0) > 0)


def _give_up(rollout: RolloutView, why: str) -> Decision:
    return Decision(
        phase=transition(rollout.phase, Event.GIVE_UP),
        event=Event.GIVE_UP,
        step_index=rollout.step_index,
        reason=f"The rollback needs a person. {why} Traffic stays as it is.",
        next_step="Repair the baseline, then roll back again.",
        cause="rollback-blocked",
        cause_sentence=f"The rollback needs a person. {why}",
        title="The rollback needs a person",
        detail=why,
    )
