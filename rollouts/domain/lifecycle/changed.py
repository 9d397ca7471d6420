"""What runs is not what was asked for: somebody changed an arm's pods, so that nothing measured of it proves anything.

Until that is undone the rollout holds, and what was measured meanwhile speaks for nobody (`Interval.altered`). It may
speak against the candidate, and a rollback, a drop or the lowering of a bad arm is never delayed: users are to be safe
from whatever answers them.
"""

from __future__ import annotations

from collections.abc import Mapping

from rollouts.domain.lifecycle.decision import ArmView, Hold, RolloutView
from rollouts.domain.lifecycle.states import PauseReason, Phase

UNDONE = "what was changed is undone in the cluster"


def arms_that_count(rollout: RolloutView) -> tuple[ArmView, ...]:
    """The arms that have to be what was asked for, or the rollout does not move forward.

    While arms are compared, all that race and the baseline. Before that the candidates alone: to replace a baseline
    that somebody changed must be possible, and nothing is compared yet. After it the promoted one alone.
    """
    if rollout.phase in (Phase.PENDING, Phase.PROVISIONING):
        return rollout.racing
    if rollout.phase in (Phase.PROGRESSING, Phase.PAUSED):
        return (rollout.arms[0], *rollout.racing)
    if rollout.phase in (Phase.PROMOTING, Phase.SUCCEEDED):
        return tuple(arm for arm in rollout.arms if arm.name == rollout.candidate_arm)
    return ()


def changed_hold(rollout: RolloutView, altered: Mapping[str, str]) -> Hold | None:
    """Why nothing moves forward; None when all arms that count are what was asked for, as far as is known.

    altered     by variant: what of it runs otherwise, as words; empty for one that runs as it was asked for
    """
    found = [(arm, altered[arm.variant]) for arm in arms_that_count(rollout) if altered.get(arm.variant)]
    if not found:
        return None
    said = ", and ".join(
        f"{arm.label} does not run as it was asked for (changed: {words.rstrip('.')})" for arm, words in found
    )
    return Hold(PauseReason.CHANGED, said, UNDONE)


def is_changed(hold: Hold | None) -> bool:
    """Whether it is this kind of hold."""
    return hold is not None and hold.kind is PauseReason.CHANGED
