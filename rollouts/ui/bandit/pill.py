"""Where a bandit stands, in two or three words: it learns at many shares instead of holding one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.models import Rollout
from rollouts.ui.parts.arm_words import tie_text
from rollouts.ui.parts.phases import Pill, pill_of_phase


def pill(rollout: Rollout, now: datetime) -> Pill:
    """It learns; one that ended in a tie names the arms that are left. Reads those."""
    made = pill_of_phase(rollout, moving=Pill("info", "Learning", "activity"), place="")
    tied = Phase(rollout.phase) is Phase.PAUSED and rollout.pause_reason == PauseReason.INCONCLUSIVE.value
    tie = tie_text(rollout) if tied else ""
    return replace(made, words=tie) if tie else made
