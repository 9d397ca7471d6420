"""When an endpoint is looked at again: at the end of an interval, at a deadline, at a moment that the strategy names,
or after a slow while.

An endpoint is looked at sooner when a person or a service changed something about it, and when a glance at its cluster
and router found a change (`rollouts.services.loop.glances`).
"""

from __future__ import annotations

from collections.abc import Iterator

from rollouts.domain.lifecycle.decision import RolloutView
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.strategies import is_known, strategy_of

# An endpoint without requests is looked at all the same. Two control planes know of each other by tokens that grow with
# each look, so waiting for another one (`QUIET_SECONDS` of services/loop/restored.py) must take longer than this.
RESYNC_SECONDS = 15.0


def next_look(
    rollout: RolloutView | None, *, now: float, interval_ends: float, unsettled: bool, watched: bool
) -> float:
    """When the loop looks again, in seconds since the epoch; `now` for its next tick.

    interval_ends  when the interval of evidence that runs now is over
    unsettled      something was asked for and is not in force yet, or could not be read
    watched        without a rollout: it has requests, or its stable variant does not fare well
    """
    if unsettled:
        return now
    if rollout is None:
        return max(now, interval_ends) if watched else now + RESYNC_SECONDS
    if rollout.phase not in (Phase.PROGRESSING, Phase.PAUSED, Phase.SUCCEEDED):
        return now
    return max(now, min([interval_ends, *(moment for moment in _moments(rollout) if moment > now)]))


def _moments(rollout: RolloutView) -> Iterator[float]:
    """Times at which a decision may follow from time alone."""
    plan = rollout.plan
    yield rollout.phase_since + plan.deadline_seconds
    yield max(rollout.measured_at or rollout.phase_since, rollout.step_since or 0.0) + plan.no_data_seconds
    if rollout.watch_until is not None:
        yield rollout.watch_until
    if is_known(rollout):
        yield from strategy_of(rollout).moments(rollout)
