"""The strategies, by the name that a plan has. A new one is one more file (or folder) and one more line here.

strategy    what each of them says: read this first
dry_run     what it says before the start
plans       how plans are read, as people send them and as they are stored
"""

from __future__ import annotations

from collections.abc import Mapping

from rollouts.domain.lifecycle.decision import RolloutView
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.strategies import bandit, canary
from rollouts.domain.strategies.strategy import Strategy

__all__ = ["STRATEGIES", "Strategy", "strategy_of"]

STRATEGIES: Mapping[str, Strategy] = {"canary": canary, "bandit": bandit}


def strategy_of(of: RolloutView | Plan) -> Strategy:
    """The strategy of a rollout or a plan."""
    plan = of.plan if isinstance(of, RolloutView) else of
    return STRATEGIES[plan.strategy]
