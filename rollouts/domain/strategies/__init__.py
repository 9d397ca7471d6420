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

__all__ = ["STRATEGIES", "Strategy", "is_known", "strategy_of", "unknown_words"]

STRATEGIES: Mapping[str, Strategy] = {"canary": canary, "bandit": bandit}


def is_known(of: RolloutView | Plan) -> bool:
    """Whether this version has the strategy of a rollout or a plan: an older one may have been installed again."""
    return _plan(of).strategy in STRATEGIES


def strategy_of(of: RolloutView | Plan) -> Strategy:
    """The strategy of a rollout or a plan. Raises Unavailable for one that another version of Headgate started."""
    if not is_known(of):
        raise Unavailable(
            unknown_words(of),
            code="unknown-strategy",
            fix="Run the version that started the rollout, or a newer one. While it is under way, the API and the"
            " command can roll it back in this one, too.",
        )
    return STRATEGIES[_plan(of).strategy]


def unknown_words(of: RolloutView | Plan) -> str:
    """What is said of one whose strategy is not known."""
    return f"This version of Headgate knows no strategy {_plan(of).strategy!r}."


def _plan(of: RolloutView | Plan) -> Plan:
    return of.plan if isinstance(of, RolloutView) else of
