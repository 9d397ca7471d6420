"""What stops a rollout whatever its strategy: danger, no data, weights set by hand, and a deadline that is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from controlplane.kernel.words import clock_time, duration_of_seconds, percent_of_bp
from rollouts.domain.engines import EngineView, WorkloadPhase
from rollouts.domain.gates.outage import Outage
from rollouts.domain.lifecycle.decision import Decision, GatesView, Hold, RolloutView, Seen
from rollouts.domain.lifecycle.moves import failure_words, hold_at, roll_back, stay
from rollouts.domain.lifecycle.states import PauseReason

GONE = (WorkloadPhase.FAILED, WorkloadPhase.ABSENT)
OPEN_WORDS = {
    "inconclusive": "the gates are inconclusive",
    "no-data": "a gate has no data",
    "error": "a source of measurements is broken",
}


def danger(rollout: RolloutView, seen: Seen, gates: GatesView) -> Decision | None:
    """What sends traffic back at once, in the order of certainty."""
    if gates.fast_kill:
        return roll_back(rollout, cause="fast-kill", sentence=gates.fast_kill)
    candidate = seen.engine(rollout.candidate)
    if candidate is not None and candidate.phase in GONE:
        return roll_back(rollout, cause=workload_cause(candidate), sentence=workload_words(candidate))
    if gates.rollback:
        return roll_back(rollout, cause=gates.cause, sentence=gates.cause_sentence)
    return None


def workload_cause(status: EngineView) -> str:
    return f"workload:{status.reason or status.phase.value}"


def workload_words(status: EngineView) -> str:
    """Why an engine that had traffic is out, for people."""
    return failure_words(status) if status.phase is WorkloadPhase.FAILED else f"{status.variant} is gone."


def no_data(rollout: RolloutView, gates: GatesView, now: float, *, who: str) -> Decision | None:
    """Rolls back when nothing could be measured for too long. The promise of the gates does not cover this, and the
    cause says so.

    A source that cannot be read says nothing about the candidates, and it is the source of every rollout beside this
    one: that time does not count, unless the policy rolls back when a source is broken.

    who     "the candidate does not stay", as the strategy says it
    """
    since = unmeasured_since(rollout, gates)
    if now - since <= rollout.plan.no_data_seconds:
        return None
    sentence = (
        f"Nothing could be measured for {duration_of_seconds(now - since)} "
        f"(allowed {duration_of_seconds(rollout.plan.no_data_seconds)}): without evidence {who}."
    )
    return roll_back(rollout, cause="no-data", sentence=sentence)


def unmeasured_since(rollout: RolloutView, gates: GatesView) -> float:
    """Since when it counts, in seconds since the epoch, that nothing was measured."""
    measured = rollout.measured_at or rollout.phase_since
    if rollout.is_unread and gates.open_because == "error" and gates.reaction == "rollback":
        return measured  # a step's beginning moves on while nothing can be read
    return max(measured, rollout.step_since or 0.0, rollout.unread_at or 0.0)


def _held_unread(rollout: RolloutView, gates: GatesView, held_at: str) -> Decision | None:
    """Holds everything that moves forward while the source of the measurements cannot be read; None when it can."""
    if not rollout.is_unread:
        return None
    made = stay(
        rollout,
        f"Held at {held_at}: what happens there cannot be measured. {gates.waiting}".strip(),
        "It goes on when measurements can be read again. It can be rolled back meanwhile.",
    )
    title = "Measurements cannot be read"
    return replace(made, title=title, detail=f"held at {held_at} until they can", once=True)


def out_of_time(
    rollout: RolloutView, gates: GatesView, now: float, *, found: str, then: str, held_at: str
) -> Decision | None:
    """The deadline is over: hold for a person, or roll back, as the policy says for gates that are still open.

    The time counts from when traffic moved, or from when a person resumed: resuming grants the same time again. While
    the baseline is out of order the rollout always holds: the gates are then open because of the baseline, and a
    rollback would send all users to it.
    """
    if now - rollout.phase_since <= rollout.plan.deadline_seconds:
        return None
    limit = duration_of_seconds(rollout.plan.deadline_seconds)
    out_of_order = gates.outage is not None and not gates.outage.over
    if gates.reaction == "rollback" and gates.open_because and not out_of_order:
        why = f"{OPEN_WORDS[gates.open_because]}, and in that case the policy rolls back"
        sentence = f"No verdict within {limit}: {why}. {found}"
        return roll_back(rollout, cause=gates.open_because, sentence=sentence.strip())
    return hold_at(
        held_at,
        rollout,
        why=PauseReason.INCONCLUSIVE,
        sentence=f"No verdict within {limit}. {found}".strip(),
        next_step=f"A person decides: {then}.",
    )


def _held_by_outage(rollout: RolloutView, outage: Outage | None, held_at: str) -> Decision | None:
    """Holds everything that moves forward while the baseline is out of order; None when it works."""
    if outage is None or outage.over:
        return None
    made = stay(
        rollout,
        f"Held at {held_at}. {outage.sentence}",
        "It goes on when the baseline works again. It can be rolled back meanwhile.",
    )
    title = f"{rollout.baseline_label} has been out of order since {clock_time(outage.since)}"
    return replace(made, title=title, detail=outage.sentence, once=True)


def held_without_evidence(rollout: RolloutView, gates: GatesView, held_at: str) -> Decision | None:
    """Holds everything that moves forward while nothing that is measured could count for a candidate: the baseline is
    out of order, or the source of the measurements cannot be read. None when neither is so."""
    return _held_by_outage(rollout, gates.outage, held_at) or _held_unread(rollout, gates, held_at)


def told_of_outage(rollout: RolloutView, outage: Outage | None, made: Decision) -> Decision:
    """The decision. When it has nothing of its own to tell, the history is told that the outage is over."""
    if outage is None or not outage.over or made.title:
        return made
    title = f"{rollout.baseline_label} works again after {duration_of_seconds(outage.seconds)}"
    return replace(
        made, title=f"{title} (since {clock_time(outage.since)})", detail=outage.sentence, once=True
    )


def held(rollout: RolloutView, hold: Hold, held_at: str) -> Decision:
    """Stays where it is, because of a hold."""
    return hold_at(
        held_at,
        rollout,
        why=hold.kind,
        sentence=f"{hold.sentence}: held at {held_at}.",
        next_step=f"It goes on by itself when {hold.ends}. It can be rolled back meanwhile.",
    )


def stopped(rollout: RolloutView, seen: Seen, held_at: str) -> Decision | None:
    """Stays where it is because of a hold, or of weights that were set by hand; None when neither is there."""
    if seen.hold is not None:
        return held(rollout, seen.hold, held_at)
    return None if seen.drift is None else pause_for_drift(rollout, seen.drift, held_at)


def not_routable(rollout: RolloutView, seen: Seen) -> Decision | None:
    """Waits before any traffic moved, while no route can be set up; None when one can."""
    if seen.routed is None:
        return stay(
            rollout, "The router does not answer; nothing is changed.", "Traffic moves when it answers."
        )
    if seen.drift is not None:
        return stay(
            rollout, drift_sentence(seen.drift), "Set the weights back at the router to go on, or cancel."
        )
    return None


def no_cluster(rollout: RolloutView) -> Decision:
    """Waits for a cluster that does not answer, before any traffic moved."""
    return stay(
        rollout, "The cluster does not answer; nothing is changed.", "Launching goes on when it answers."
    )


def ready_but_held(rollout: RolloutView, hold: Hold) -> Decision:
    """Everything is ready, and a hold keeps traffic from moving."""
    return stay(rollout, f"Ready to start, but {hold.clause}.", f"It starts when {hold.ends}.")


def pause_for_drift(rollout: RolloutView, drift: Mapping[str, int], held_at: str) -> Decision:
    """Pauses: Headgate does not overwrite weights that a person set by hand."""
    return hold_at(
        held_at,
        rollout,
        why=PauseReason.DRIFT,
        sentence=drift_sentence(drift),
        next_step="Resume to restore the planned weights, or roll back.",
    )


def drift_sentence(drift: Mapping[str, int]) -> str:
    hand = ", ".join(f"{name} {percent_of_bp(bp)}" for name, bp in sorted(drift.items()))
    return f"The router's weights were set by hand ({hand}). Headgate waits and changes nothing."


def not_in_force(seen: Seen, moving_to: str) -> str:
    """Why the split that was asked for is not there yet."""
    if seen.routed is None:
        return "The router does not answer; nothing is changed."
    if seen.route_problem:
        return seen.route_problem
    return f"Moving to {moving_to}; waiting until the router confirms it. {short_of_replicas(seen)}".strip()


def short_of_replicas(seen: Seen) -> str:
    """Which variants that are to get more traffic have a part of their replicas only: a split that was decided before
    waits for the others. A sentence; empty when there is none."""
    grow = [name for name, share in seen.desired_shares.items() if share > seen.split.get(name, 0)]
    engines = [(name, seen.engine(name)) for name in sorted(grow)]
    short = [
        f"of {name}, {engine.short_because}"
        for name, engine in engines
        if engine is not None and engine.short
    ]
    words = "; ".join(short)
    return f"{words[:1].upper()}{words[1:]}." if words else ""
