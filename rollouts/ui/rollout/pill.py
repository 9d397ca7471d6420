"""Where a canary stands, in two or three words."""

from __future__ import annotations

from datetime import datetime

from controlplane.kernel.words import percent_of_bp
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP, Plan
from rollouts.models import Rollout
from rollouts.ui.parts.phases import Pill, exposure_reached, pill_of_phase


def step_share(plan: Plan, step_index: int) -> int:
    """The candidate's share in a step, in basis points: 0 before the first, all after the last."""
    if step_index < 0:
        return 0
    if step_index >= len(plan.steps):
        return FULL_SHARE_BP
    return plan.steps[step_index].share_bp


def pill(rollout: Rollout, now: datetime) -> Pill:
    """It is at the share of its step, or waits there for evidence."""
    plan = rollout.parsed_plan
    share = percent_of_bp(step_share(plan, rollout.step_index))
    moving = Pill("info", f"At {share}", "activity")
    if exposure_reached(rollout, plan, now.timestamp()):
        moving = Pill("warn", f"Waiting at {share}", "hourglass")
    return pill_of_phase(rollout, moving=moving, place=f"at {share}")
