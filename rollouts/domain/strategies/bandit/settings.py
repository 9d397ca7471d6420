"""What a plan of a bandit holds."""

from __future__ import annotations

from rollouts.domain.bandits import BanditSpec
from rollouts.domain.lifecycle.plan import Plan


def spec_of(plan: Plan) -> BanditSpec:
    """How the bandit of this plan learns. The plan must be a bandit's."""
    assert isinstance(plan.settings, BanditSpec), f"the plan of a {plan.strategy} has no bandit"
    return plan.settings
