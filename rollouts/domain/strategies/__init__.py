"""The strategies, by the name that a plan has. A new one is one more file (or folder) and one more line here.

strategy    what each of them says: read this first
dry_run     what it says before the start
plans       how plans are read, as people send them and as they are stored
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.kernel.errors import Unavailable
from rollouts.domain.lifecycle.decision import RolloutView
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.strategies import bandit, canary
from rollouts.domain.strategies.strategy import Strategy

__all__ = ["STRATEGIES", "Strategy", "strategy_of"]

STRATEGIES: Mapping[str, Strategy] = {"canary": canary, "bandit": bandit}


def strategy_of(of: RolloutView | Plan) -> Strategy:
    """The strategy of a rollout or a plan. Raises Unavailable for one that another version of Headgate started."""
    plan = of.plan if isinstance(of, RolloutView) else of
    if plan.strategy not in STRATEGIES:
        raise Unavailable(
            f"This version of Headgate knows no strategy {plan.strategy!r}.",
            code="unknown-strategy",
            fix="Run the version that started the rollout, or a newer one.",
        )
    return STRATEGIES[plan.strategy]
