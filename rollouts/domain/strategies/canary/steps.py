"""The decisions of a canary: its launch, its steps, its promotion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import duration_of_seconds, percent_of_bp
from rollouts.domain.engines import EngineView, FailureReason, WorkloadPhase
from rollouts.domain.lifecycle.danger import (
    danger,
    held_without_evidence,
    no_cluster,
    no_data,
    not_in_force,
    not_routable,
    out_of_time,
    ready_but_held,
    stopped,
    told_of_outage,
)
from rollouts.domain.lifecycle.decision import Decision, GatesView, RolloutView, Seen
from rollouts.domain.lifecycle.effects import SetTraffic
from rollouts.domain.lifecycle.moves import (
    candidate_share,
    failure_words,
    late_words,
    launch_limit,
    loading_words,
    promotion,
    roll_back,
    stay,
)
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP, Plan
from rollouts.domain.lifecycle.states import Event, transition


def launching_words(rollout: RolloutView) -> tuple[str, str]:
    """See the protocol."""
    return (
        f"Launching {rollout.candidate}: its files are verified against the manifest first.",
        f"Then {percent_of_bp(rollout.plan.steps[0].share_bp)} of the traffic.",
    )


def launch(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """See the protocol."""
    waited = now - rollout.phase_since
    first = percent_of_bp(rollout.plan.steps[0].share_bp)
    candidate = seen.engine(rollout.candidate)
    if candidate is None:
        return no_cluster(rollout)
    if candidate.phase is WorkloadPhase.FAILED:
        return roll_back(
            rollout, cause=f"launch:{candidate.reason or 'failed'}", sentence=failure_words(candidate)
        )
    loading = now - candidate.launching_since(rollout.phase_since)
    if not candidate.is_whole:
        limit = launch_limit(rollout.plan, candidate)
        if loading > limit:
            return _launch_timeout(rollout, late_words(candidate, limit))
        return stay(
            rollout,
            f"Waiting for {rollout.candidate} to be ready, {duration_of_seconds(waited)} so far: "
            f"{loading_words(candidate)}.",
            f"When it has answered a warm-up request, {first} of the traffic moves to it.",
        )
    if not seen.is_ready(rollout.baseline):
        return stay(
            rollout,
            f"{rollout.candidate} is ready, but the baseline {rollout.baseline} is not: "
            "there is nothing to compare with.",
            f"When both are ready, {first} of the traffic moves to {rollout.candidate_label}.",
        )
    unroutable = not_routable(rollout, seen)
    if unroutable is not None:
        return unroutable
    if rollout.candidate not in (seen.routed or ()) or not seen.in_force:
        return _route_at_zero(rollout, seen, first)
    if rollout.candidate not in seen.answered:
        # Twice the launch's time: what a loading engine may take, and as much again to answer through the router.
        silent = now - candidate.silent_since(rollout.phase_since)
        if silent > 2 * rollout.plan.launch_seconds:
            return _launch_timeout(
                rollout, f"is ready, but did not answer through the router in {duration_of_seconds(silent)}."
            )
        return stay(
            rollout,
            f"{rollout.candidate} has a route with 0% of the traffic; waiting until it answers a test request through "
            "the router.",
            f"Then {first} of the traffic moves to it.",
        )
    if seen.hold is not None:
        return ready_but_held(rollout, seen.hold)
    return Decision(
        phase=transition(rollout.phase, Event.START),
        event=Event.START,
        step_index=0,
        reason=f"{rollout.candidate} answered a test request through the router; moving {first} of the traffic to it.",
        effects=(_share_of_step(rollout, 0),),
        title=f"Moving traffic 0% to {first}",
        detail="route read back, test request answered by the candidate",
    )


def _route_at_zero(rollout: RolloutView, seen: Seen, first: str) -> Decision:
    wanted = candidate_share(rollout, 0)
    words = f"{rollout.candidate} is ready; it gets a route with 0% of the traffic first."
    if seen.route_problem:
        words = seen.route_problem
    elif seen.in_force:
        words = f"{rollout.candidate} is ready, but does not pass the router's health check yet."
    effects = () if dict(seen.desired_shares) == dict(wanted.shares) else (wanted,)
    return replace(stay(rollout, words, f"Then {first} of the traffic."), effects=effects)


def _launch_timeout(rollout: RolloutView, what: str) -> Decision:
    return roll_back(
        rollout, cause=f"launch:{FailureReason.TIMEOUT.value}", sentence=f"{rollout.candidate} {what}"
    )


def advance(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """See the protocol."""
    back = keep_safe(rollout, seen, gates, now)
    if back is not None:
        return back
    held_at = share_words(rollout)
    stop = stopped(rollout, seen, held_at)
    if stop is not None:
        return stop
    then = "resume, promote now or roll back"
    late = out_of_time(rollout, gates, now, found=gates.waiting, then=then, held_at=held_at)
    if late is not None:
        return late
    if rollout.step_since is None or not seen.in_force:
        return stay(rollout, not_in_force(seen, held_at), "The step's time counts from then.")
    waiting = held_without_evidence(rollout, gates, held_at)
    if waiting is not None:
        return waiting
    return told_of_outage(rollout, gates.outage, _step_progress(rollout, seen, gates, now, held_at))


def _step_progress(rollout: RolloutView, seen: Seen, gates: GatesView, now: float, held_at: str) -> Decision:
    step = rollout.plan.steps[rollout.step_index]
    lasted = now - (rollout.step_since or now)
    exposure = (
        f"{duration_of_seconds(min(lasted, step.hold_seconds))} of {duration_of_seconds(step.hold_seconds)} and "
        f"{min(rollout.step_requests, step.min_requests):,} of {step.min_requests:,} requests"
    )
    is_last = rollout.step_index + 1 == len(rollout.plan.steps)
    target = "100%" if is_last else percent_of_bp(rollout.plan.steps[rollout.step_index + 1].share_bp)
    exposed = is_exposed(
        rollout.plan, stage=rollout.step_index, seconds=lasted, requests=rollout.step_requests
    )
    if not exposed:
        return stay(
            rollout,
            f"Holding {held_at}: {exposure}. No gate failed.",
            f"Then {target} of the traffic. {gates.waiting}".strip(),
        )
    if (rollout.measured_at or 0.0) < (rollout.step_since or now):
        # A step may ask for no requests at all: then its time alone would bring the next one, with nothing to judge.
        return stay(
            rollout,
            f"Held at {held_at}: nothing was counted of {rollout.candidate} since this step began.",
            f"Once it is counted, {target} of the traffic. {gates.waiting}".strip(),
        )
    if (is_last or step.require_pass) and not gates.all_required_pass:
        return stay(
            rollout,
            f"Waiting for evidence at {held_at}. {gates.waiting}".strip(),
            f"When every required gate passes, {target} of the traffic moves to it. If one fails, all traffic returns "
            f"to {rollout.baseline_label}.",
        )
    if not seen.is_whole(rollout.candidate):
        return stay(
            rollout,
            _not_ready_for_more(rollout, seen.engine(rollout.candidate), held_at),
            f"When it is ready again, {target} of the traffic moves to it.",
        )
    if is_last:
        return promote(rollout, sentence=gates.passed_sentence or "Every required gate passed.", arm="")
    return Decision(
        phase=transition(rollout.phase, Event.ADVANCE),
        event=Event.ADVANCE,
        step_index=rollout.step_index + 1,
        reason=f"The step at {held_at} has had its time and requests, and no gate failed; moving to {target}.",
        effects=(_share_of_step(rollout, rollout.step_index + 1),),
        title=f"Moving traffic {held_at} to {target}",
        detail=f"{duration_of_seconds(lasted)} and {rollout.step_requests:,} requests, no gate failed",
    )


def _not_ready_for_more(rollout: RolloutView, candidate: EngineView | None, held_at: str) -> str:
    if candidate is None:
        unknown = f"it is not known whether {rollout.candidate} is ready"
        return f"Held at {held_at}: the cluster does not answer, so {unknown}."
    if candidate.short:
        return f"Held at {held_at}: of {rollout.candidate}, {candidate.short_because}."
    return (
        f"Held at {held_at}: {rollout.candidate} is not ready ({candidate.message or candidate.phase.value})."
    )


def keep_safe(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision | None:
    """See the protocol."""
    return danger(rollout, seen, gates) or no_data(rollout, gates, now, who="the candidate does not stay")


def gates_of_promoted(rollout: RolloutView, gates: GatesView) -> GatesView:
    """See the protocol."""
    return gates


def is_answered(rollout: RolloutView, seen: Seen) -> bool:
    """See the protocol."""
    return seen.answers(rollout.candidate)


def promote(rollout: RolloutView, *, sentence: str, arm: str) -> Decision:
    """See the protocol."""
    if arm not in ("", rollout.candidate_arm):
        raise InvalidInput(f"A canary has no arm {arm!r}.", field="arm", fix="Leave the arm out.")
    split = candidate_share(rollout, FULL_SHARE_BP)
    return promotion(
        rollout,
        stage=stages(rollout.plan),
        sentence=sentence,
        label=rollout.candidate_label,
        split=split,
    )


def stages(plan: Plan) -> int:
    """See the protocol: each step is one."""
    return len(plan.steps)


def moments(rollout: RolloutView) -> Sequence[float]:
    """See the protocol: the end of the step, as far as time says."""
    if rollout.step_since is None or not 0 <= rollout.step_index < len(rollout.plan.steps):
        return ()
    return (rollout.step_since + rollout.plan.steps[rollout.step_index].hold_seconds,)


def is_exposed(plan: Plan, *, stage: int, seconds: float, requests: int) -> bool:
    """See the protocol."""
    if not 0 <= stage < len(plan.steps):
        return False
    step = plan.steps[stage]
    return seconds >= step.hold_seconds and requests >= step.min_requests


def expected_steps(plan: Plan, requests_per_second: float) -> Sequence[tuple[int, float]]:
    """See the protocol."""
    return tuple((step.share_bp, step.lasts(requests_per_second)) for step in plan.steps)


def planned_split(rollout: RolloutView) -> SetTraffic:
    """See the protocol."""
    return _share_of_step(rollout, rollout.step_index)


def share_words(rollout: RolloutView) -> str:
    """See the protocol."""
    return percent_of_bp(rollout.plan.steps[rollout.step_index].share_bp)


def _share_of_step(rollout: RolloutView, index: int) -> SetTraffic:
    return candidate_share(rollout, rollout.plan.steps[index].share_bp)
