"""The bandit: several arms at once, traffic to those that earn most, and a winner by evidence.

Read in this order: `spec` (what a person sets), `learner` (top-two Thompson sampling and elimination), `state` (a
rollout: learner, guardrails, reweights), `verdict` (what comes out), then the arithmetic. No clock and no hidden
randomness: an rng is passed in. `docs/statistics.md` says in words what is promised and what is assumed.
"""

from rollouts.domain.bandits.learner import TopTwoThompson, top_two_shares
from rollouts.domain.bandits.spec import BanditSpec
from rollouts.domain.bandits.state import BanditState
from rollouts.domain.bandits.verdict import BanditVerdict

__all__ = ["BanditSpec", "BanditState", "BanditVerdict", "TopTwoThompson", "top_two_shares"]
