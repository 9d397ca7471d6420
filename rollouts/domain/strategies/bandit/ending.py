"""The end of a bandit: one arm is promoted and then watched by its own gates, or all traffic returns."""

from __future__ import annotations

from dataclasses import replace

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.lifecycle.decision import ArmView, Decision, Drop, GatesView, RolloutView, Seen
from rollouts.domain.lifecycle.effects import DrainWorkload, SetTraffic
from rollouts.domain.lifecycle.moves import promotion
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP
from rollouts.domain.lifecycle.states import Event, transition
from rollouts.domain.strategies.bandit.stages import stages


def promote(rollout: RolloutView, *, sentence: str, arm: str) -> Decision:
    """See the protocol. The others leave for good and are drained once they have no traffic.

    `arm` may be left out when only one candidate is in the race.
    """
    transition(rollout.phase, Event.PROMOTE)  # an illegal move is said before a wrong arm
    chosen = _chosen_arm(rollout, arm)
    others = [other for other in rollout.racing if other is not chosen]
    all_to_one = SetTraffic({rollout.baseline: 0, chosen.variant: FULL_SHARE_BP}, rollout.baseline)
    return replace(
        promotion(
            rollout, stage=stages(rollout.plan), sentence=sentence, label=chosen.label, split=all_to_one
        ),
        effects=(all_to_one, *(DrainWorkload(other.variant) for other in others)),
        drops=tuple(Drop(other.name, "person", f"{chosen.label} was promoted instead.") for other in others),
        winner=chosen.name,
    )


def gates_of_promoted(rollout: RolloutView, gates: GatesView) -> GatesView:
    """See the protocol: a promoted arm is watched like a canary, by its own gates."""
    if gates.race is None:
        return gates
    return gates.race.gates.get(rollout.candidate_arm, GatesView())


def is_answered(rollout: RolloutView, seen: Seen) -> bool:
    """See the protocol. Dropped arms count too: a rollback begins with dropping the last one."""
    return any(seen.answers(arm.variant) for arm in rollout.arms[1:] if seen.split.get(arm.variant, 0) > 0)


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
        said = "A bandit has several candidates: say which one is to be promoted."
    elif found is None:
        said = f"The rollout has no arm {name!r}."
    elif found is rollout.arms[0]:
        said = f"{found.label} is the baseline: roll back to give it all traffic."
    else:
        said = f"{found.label} has left the race."
    raise InvalidInput(said, field="arm", fix=f"In the race: {choice}.")
