"""Outcomes as they are kept: by arm over the rollout, by minute for the endpoint, and what counts as exposure."""

from __future__ import annotations

import pytest

from rollouts.domain.record.intervals import ArmCounts, Completions, Interval, Outcomes
from rollouts.domain.strategies import strategy_of
from rollouts.models import Arm, Rollout
from rollouts.services.loop.measure import Measured
from rollouts.services.loop.observe import NOTHING_SEEN
from rollouts.services.loop.recording import count_interval
from rollouts.services.loop.writes import Writes
from tests import factories

pytestmark = pytest.mark.django_db

NOW = factories.right_now().replace(second=20)


def counts(outcomes: Outcomes | None, completions: Completions | None = None) -> ArmCounts:
    requests = outcomes.ended - outcomes.abandoned if outcomes else 10
    return ArmCounts(requests, 0, requests, 1.0, outcomes=outcomes, completions=completions)


def count(rollout: Rollout, **arms: ArmCounts) -> None:
    """One interval of the rollout, counted as the loop does."""
    interval = Interval(0, NOW.timestamp() - 5, 5.0, 500, arms)
    plan = rollout.parsed_plan
    analysis = strategy_of(plan).initial_analysis(plan, rollout.gate_policy.policy, tuple(arms))
    measured = Measured(interval, analysis, analysis.assess({}), {}, (), 0)
    writes = Writes()
    rows = Arm.objects.filter(rollout=rollout).select_related("variant")
    count_interval(rollout=rollout, arms=rows, measured=measured, seen=NOTHING_SEEN, writes=writes, now=NOW)
    writes.flush(now=NOW)


def arm(rollout: Rollout, name: str = "candidate") -> Arm:
    return Arm.objects.get(rollout=rollout, name=name)


def test_arm__two_intervals__keeps_the_sum_of_each_class_and_the_last_level() -> None:
    rollout = factories.rollout_pending(now=NOW)
    count(rollout, candidate=counts(Outcomes(5, 3, 1, 0, 2, 1, 4, 2, running=7)))
    count(rollout, candidate=counts(Outcomes(answered=5, running=3)))
    assert arm(rollout).counted_outcomes == Outcomes(10, 3, 1, 0, 2, 1, 4, 2, running=3)


def test_arm__completions__are_added_up_and_an_interval_without_them_adds_nothing() -> None:
    rollout = factories.rollout_pending(now=NOW)
    count(rollout, candidate=counts(Outcomes(), Completions(10, empty=1, truncated=2, filtered=3, tokens=90)))
    count(rollout, candidate=counts(Outcomes(), None))
    count(rollout, candidate=counts(Outcomes(), Completions(5, empty=1, tokens=10)))
    assert arm(rollout).counted_completions == Completions(15, 2, 2, 3, 100)


def test_arm__from_before_outcomes_were_counted__says_that_it_does_not_know() -> None:
    rollout = factories.rollout_pending(now=NOW)
    count(rollout, candidate=counts(None))
    assert arm(rollout).counted_outcomes is None
    assert arm(rollout).counted_completions is None
    assert arm(rollout).requests == 10


def test_exposure__only_what_the_candidate_answered_itself__counts() -> None:
    rollout = factories.rollout_pending(now=NOW)
    count(rollout, candidate=counts(Outcomes(4, 3, 2, 20, 1, 5, 30, 40)))
    assert rollout.step_requests == 4


def test_exposure__evidence_without_outcomes__counts_requests_as_before() -> None:
    rollout = factories.rollout_pending(now=NOW)
    count(rollout, candidate=counts(None))
    assert rollout.step_requests == 10
