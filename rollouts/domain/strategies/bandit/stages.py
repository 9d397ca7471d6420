"""The stages of a bandit: there is one, in which the shares follow the evidence until the end."""

from __future__ import annotations

from collections.abc import Sequence

from rollouts.domain.lifecycle.decision import RolloutView
from rollouts.domain.lifecycle.plan import Plan


def stages(plan: Plan) -> int:
    """See the protocol."""
    return 1


def moments(rollout: RolloutView) -> Sequence[float]:
    """See the protocol: nothing but evidence and the times of every plan moves it."""
    return ()


def is_exposed(plan: Plan, *, stage: int, seconds: float, requests: int) -> bool:
    """See the protocol: it asks for no time and no requests, and learns until its end."""
    return False


def expected_steps(plan: Plan, requests_per_second: float) -> Sequence[tuple[int, float]]:
    """See the protocol: nobody knows its shares ahead."""
    return ()
