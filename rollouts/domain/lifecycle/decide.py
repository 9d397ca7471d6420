"""The decision: what a rollout does next, as a pure function.

`decide(rollout, seen, gates, now)` never looks at a clock, a database or a network, so the same inputs give the same
decision and a rollout can be replayed. What could not be read is None, and an unknown read changes nothing.
"""

from __future__ import annotations

from controlplane.kernel.words import duration_of_seconds, percent_of_bp
from rollouts.domain.lifecycle.changed import is_changed
from rollouts.domain.lifecycle.danger import danger, drift_sentence, held, pause_for_drift, short_of_replicas
from rollouts.domain.lifecycle.decision import HOLDS_OVER, Decision, GatesView, Hold, RolloutView, Seen
from rollouts.domain.lifecycle.effects import EnsureWorkload, WriteBack
from rollouts.domain.lifecycle.moves import end_watch, hold_at, stay
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP
from rollouts.domain.lifecycle.states import Event, PauseReason, Phase, transition
from rollouts.domain.lifecycle.way_back import return_to_baseline
from rollouts.domain.strategies import is_known, strategy_of, unknown_words

CHANGED = PauseReason.CHANGED
BY_ITSELF = (*HOLDS_OVER, PauseReason.DRIFT)  # such a pause ends with what made it


def decide(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """The next decision for a rollout that is active or watched. Never raises for what the world does.

    One whose strategy this version does not know, or whose evidence a newer one wrote, stays where it is; a person can
    roll it back, which needs neither.
    """
    if rollout.phase is Phase.ROLLING_BACK:
        return return_to_baseline(rollout, seen, gates, now)
    if not is_known(rollout):
        return stay(
            rollout,
            f"{unknown_words(rollout)} Nothing moves.",
            "Run the version that started it, or a newer one, or roll it back.",
        )
    if gates.unread:
        return stay(
            rollout,
            f"{gates.unread} Nothing moves.",
            "Run the version that wrote it, or a newer one, or roll it back.",
        )
    strategy = strategy_of(rollout)
    handlers = {
        Phase.PENDING: _pending,
        Phase.PROVISIONING: strategy.launch,
        Phase.PROGRESSING: strategy.advance,
        Phase.PAUSED: _paused,
        Phase.PROMOTING: _promoting,
        Phase.SUCCEEDED: _watching,
    }
    if rollout.phase in (Phase.PROMOTING, Phase.SUCCEEDED):
        gates = strategy.gates_of_promoted(rollout, gates)
    handler = handlers.get(rollout.phase)
    if handler is None:
        return stay(rollout, rollout.cause_sentence)
    return handler(rollout, seen, gates, now)


# --- moves that the strategy knows, of people and of the loop ------------------------------------------------------


def pause(rollout: RolloutView, *, why: PauseReason, sentence: str, next_step: str) -> Decision:
    """Holds the share where it is; the gates go on watching."""
    return hold_at(share_words(rollout), rollout, why=why, sentence=sentence, next_step=next_step)


def resume(rollout: RolloutView, *, sentence: str) -> Decision:
    """Goes on with the shares it was held at; its exposure so far counts."""
    return Decision(
        phase=transition(rollout.phase, Event.RESUME),
        event=Event.RESUME,
        step_index=rollout.step_index,
        reason=sentence,
        next_step=f"{share_words(rollout)} of the traffic, as planned.",
        effects=(strategy_of(rollout).planned_split(rollout),),
        title="Resumed",
        detail=sentence,
    )


def promote(rollout: RolloutView, *, sentence: str, arm: str = "") -> Decision:
    """All traffic to the candidate; nothing is loaded anew. `arm`: which one, where there are several.

    Raises InvalidInput (field "arm") for an arm that is not in the race, or when the choice is missing.
    """
    return strategy_of(rollout).promote(rollout, sentence=sentence, arm=arm)


def share_words(rollout: RolloutView) -> str:
    """The planned share of the candidates for people: `25%`, or `v2 45%, v3 40%`."""
    if rollout.step_index < 0:
        return percent_of_bp(0)
    strategy = strategy_of(rollout)
    if rollout.step_index >= strategy.stages(rollout.plan):
        return percent_of_bp(FULL_SHARE_BP)
    return strategy.share_words(rollout)


# --- one function a phase -------------------------------------------------------------------------------------


def _pending(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    if seen.hold is not None:
        return stay(rollout, f"{seen.hold.sentence}: nothing starts.", f"It starts when {seen.hold.ends}.")
    reason, then = strategy_of(rollout).launching_words(rollout)
    return Decision(
        phase=transition(rollout.phase, Event.PROVISION),
        event=Event.PROVISION,
        step_index=-1,
        reason=reason,
        next_step=then,
        effects=tuple(EnsureWorkload(name) for name in (rollout.baseline, *rollout.candidates)),
        title=f"Launching {' and '.join(rollout.candidates)}",
    )


def _paused(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    lowered = strategy_of(rollout).keep_safe(rollout, seen, gates, now)
    if lowered is not None:
        return lowered
    if seen.routed is None:
        return stay(rollout, "")
    if rollout.pause_reason in BY_ITSELF and seen.hold is not None:
        return _held_on(rollout, seen, seen.hold)
    over = HOLDS_OVER.get(rollout.pause_reason, "")
    if over:
        # Resuming publishes the plan's weights, and Headgate does not overwrite weights that were set by hand.
        if seen.drift is not None:
            return pause_for_drift(rollout, seen.drift, share_words(rollout))
        return resume(rollout, sentence=over)
    if rollout.pause_reason is PauseReason.DRIFT and seen.drift is None and seen.hold is None:
        return resume(rollout, sentence="The router's weights are as planned again.")
    return stay(rollout, "")


def _held_on(rollout: RolloutView, seen: Seen, hold: Hold) -> Decision:
    """A pause that ends by itself goes on, for the reason that holds it now: one may end while another one lasts."""
    stopped = hold.kind is PauseReason.GLOBAL_STOP and rollout.pause_reason is not CHANGED
    if stopped or seen.drift is not None:
        return stay(rollout, "")
    made = held(rollout, hold, share_words(rollout))
    return made if hold.kind is not rollout.pause_reason else stay(rollout, made.reason, made.next_step)


def _promoting(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    back = danger(rollout, seen, gates)
    if back is not None:
        return back
    if not seen.in_force:
        if seen.drift is not None:
            return stay(
                rollout, drift_sentence(seen.drift), "Set the weights back at the router, or roll back."
            )
        if seen.hold is not None:
            return stay(
                rollout,
                f"{seen.hold.sentence}: the promotion waits.",
                f"It goes on by itself when {seen.hold.ends}. It can be rolled back meanwhile.",
            )
        words = seen.route_problem or f"Moving all traffic to {rollout.candidate_label}."
        if not seen.route_problem:
            words = f"{words} {short_of_replicas(seen)}".strip()
        return stay(rollout, words, "Then the route is read back from the router.")
    if seen.hold is not None and is_changed(seen.hold):
        return stay(
            rollout,
            f"{rollout.candidate_label} has all traffic, and its promotion waits. {seen.hold.sentence}.",
            f"It is promoted when {seen.hold.ends}. It can be rolled back meanwhile.",
        )
    watch = duration_of_seconds(rollout.plan.watch_seconds)
    return Decision(
        phase=transition(rollout.phase, Event.FINISH),
        event=Event.FINISH,
        step_index=rollout.step_index,
        reason=f"Promoted: {rollout.candidate_label} has all traffic, read back from the router.",
        next_step=f"{rollout.baseline_label} stays warm for {watch} and takes over again by itself if needed.",
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
        left = duration_of_seconds(rollout.watch_until - now)
        return stay(
            rollout,
            f"Promoted: {rollout.candidate_label} has all traffic.",
            f"{rollout.baseline_label} stays warm for {left} more and takes over again by itself if needed.",
        )
    if not seen.in_force:
        return stay(
            rollout,
            f"Promoted: {rollout.candidate_label} has all traffic.",
            f"{rollout.baseline_label} stays warm until the router shows the route as it should be.",
        )
    if rollout.is_unread:
        return stay(
            rollout,
            f"Promoted: {rollout.candidate_label} has all traffic, and what happens there cannot be measured.",
            f"{rollout.baseline_label} stays warm until measurements can be read again.",
        )
    if seen.hold is not None and is_changed(seen.hold):
        return stay(
            rollout,
            f"Promoted: {rollout.candidate_label} has all traffic. {seen.hold.sentence}.",
            f"{rollout.baseline_label} stays warm until {seen.hold.ends}.",
        )
    return end_watch(rollout, sentence=f"{rollout.baseline} is drained and stopped")
