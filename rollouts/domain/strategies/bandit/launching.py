"""A bandit before traffic moves: all arms launch; one that cannot is dropped; the others get a route with 0% of the
traffic, and must answer a test request through it."""

from __future__ import annotations

from dataclasses import replace

from controlplane.kernel.words import duration_of_seconds, percent_of_bp
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.lifecycle.danger import no_cluster, not_routable, ready_but_held
from rollouts.domain.lifecycle.decision import ArmView, Decision, Drop, GatesView, RolloutView, Seen
from rollouts.domain.lifecycle.effects import DrainWorkload
from rollouts.domain.lifecycle.moves import (
    failure_words,
    late_words,
    launch_limit,
    loading_words,
    racing_shares,
    roll_back,
    stay,
)
from rollouts.domain.lifecycle.states import Event, transition
from rollouts.domain.strategies.bandit.analysis import KEEPS_BASELINE

TIMEOUT = f"launch:{FailureReason.TIMEOUT.value}"
THEN = "When all have answered a warm-up request, traffic moves in equal shares."


def launching_words(rollout: RolloutView) -> tuple[str, str]:
    """See the protocol."""
    names = " and ".join(rollout.candidates)
    return (
        f"Launching {names}: their files are verified against the manifest first.",
        "Then equal shares of the traffic.",
    )


def launch(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """See the protocol."""
    waited = now - rollout.phase_since
    if not seen.engines:
        return no_cluster(rollout)
    failed = _failed(rollout, seen, now)
    if failed or not rollout.racing:
        return _without(rollout, failed)
    loading = [arm for arm in rollout.racing if not seen.is_whole(arm.variant)]
    if loading:
        said = "; ".join(f"{arm.variant}: {_words(seen, arm)}" for arm in loading)
        return stay(
            rollout,
            f"Waiting for {_names(loading)} to be ready, {duration_of_seconds(waited)} so far. {said}.",
            THEN,
        )
    if not seen.is_ready(rollout.baseline):
        return stay(
            rollout,
            f"All candidates are ready, but the baseline {rollout.baseline} is not: "
            "there is nothing to compare with.",
            THEN,
        )
    return _route(rollout, seen, gates, now)


def _route(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """All are ready: at 0% first, then each must answer itself."""
    unroutable = not_routable(rollout, seen)
    if unroutable is not None:
        return unroutable
    if not seen.in_force or any(arm.variant not in (seen.routed or ()) for arm in rollout.racing):
        return _route_at_zero(rollout, seen)
    silent = [arm for arm in rollout.racing if arm.variant not in seen.answered]
    if silent:
        # Twice the launch's time: what a loading engine may take, and as much again to answer through the router.
        took = {arm: _silent(rollout, seen, arm, now) for arm in silent}
        late = {arm: seconds for arm, seconds in took.items() if seconds > 2 * rollout.plan.launch_seconds}
        if late:
            what = "is ready, but did not answer through the router in"
            return _without(
                rollout,
                [
                    Drop(arm.name, "launch", f"{arm.variant} {what} {duration_of_seconds(seconds)}.", TIMEOUT)
                    for arm, seconds in late.items()
                ],
            )
        return stay(
            rollout,
            f"All have a route with 0% of the traffic; waiting until {_names(silent)} answers a test request through "
            "the router.",
            "Then traffic moves in equal shares.",
        )
    if seen.hold is not None:
        return ready_but_held(rollout, seen.hold)
    race = gates.race
    if race is None:
        return stay(rollout, "Ready to start; the shares are not known yet.")
    split = racing_shares(rollout, {arm.variant: race.wanted.get(arm.name, 0) for arm in rollout.racing})
    words = ", ".join(f"{arm.label} {percent_of_bp(split.shares[arm.variant])}" for arm in rollout.racing)
    return Decision(
        phase=transition(rollout.phase, Event.START),
        event=Event.START,
        step_index=0,
        reason=f"Every candidate answered a test request through the router; moving traffic: {words}.",
        next_step=race.detail,
        effects=(split,),
        title=f"Moving traffic: {words}",
        detail="route read back, test requests answered by the candidates",
    )


def _route_at_zero(rollout: RolloutView, seen: Seen) -> Decision:
    wanted = racing_shares(rollout, {})
    words = f"{_names(rollout.racing)} are ready; they get routes with 0% of the traffic first."
    if seen.route_problem:
        words = seen.route_problem
    elif seen.in_force:
        unhealthy = [arm for arm in rollout.racing if arm.variant not in (seen.routed or ())]
        words = f"Ready, but not passing the router's health check yet: {_names(unhealthy)}."
    effects = () if dict(seen.desired_shares) == dict(wanted.shares) else (wanted,)
    return replace(stay(rollout, words, "Then traffic moves in equal shares."), effects=effects)


def _launching(rollout: RolloutView, seen: Seen, arm: ArmView, now: float) -> float:
    """For how many seconds the arm's launch has lasted; those in which its files came are not among them."""
    engine = seen.engine(arm.variant)
    return now - (rollout.phase_since if engine is None else engine.launching_since(rollout.phase_since))


def _silent(rollout: RolloutView, seen: Seen, arm: ArmView, now: float) -> float:
    """For how many seconds the arm could have answered, and did not."""
    engine = seen.engine(arm.variant)
    return now - (rollout.phase_since if engine is None else engine.silent_since(rollout.phase_since))


def _failed(rollout: RolloutView, seen: Seen, now: float) -> list[Drop]:
    """Candidates that cannot launch, or did not in time."""
    drops = []
    for arm in rollout.racing:
        status = seen.engine(arm.variant)
        if status is None or status.is_whole:
            continue
        limit = launch_limit(rollout.plan, status)
        if status.phase is WorkloadPhase.FAILED:
            blame = f"launch:{status.reason or 'failed'}"
            drops.append(Drop(arm.name, "launch", failure_words(status), blame))
        elif _launching(rollout, seen, arm, now) > limit:
            what = f"{arm.variant} {late_words(status, limit)}"
            drops.append(Drop(arm.name, "launch", what, TIMEOUT))
    return drops


def _without(rollout: RolloutView, drops: list[Drop]) -> Decision:
    """Goes on with the others; without any there is nothing to learn."""
    out = {drop.arm for drop in drops}
    left = [arm for arm in rollout.racing if arm.name not in out]
    sentence = " ".join(drop.sentence for drop in drops)
    if not left:
        cause = drops[-1].blame if drops else KEEPS_BASELINE
        return roll_back(
            rollout, cause=cause, sentence=f"No candidate launched. {sentence}".strip(), drops=tuple(drops)
        )
    return Decision(
        phase=transition(rollout.phase, Event.DROP),
        event=Event.DROP,
        step_index=rollout.step_index,
        reason=sentence,
        next_step=f"It goes on with {_names(left)}.",
        effects=tuple(DrainWorkload(arm.variant) for arm in rollout.racing if arm.name in out),
        drops=tuple(drops),
    )


def _names(arms: list[ArmView] | tuple[ArmView, ...]) -> str:
    labels = [arm.label for arm in arms]
    return " and ".join([", ".join(labels[:-1])] * (len(labels) > 1) + labels[-1:])


def _words(seen: Seen, arm: ArmView) -> str:
    engine = seen.engine(arm.variant)
    return "loading" if engine is None else loading_words(engine)
