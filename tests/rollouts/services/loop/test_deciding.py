"""A decision with what is kept of it: an interval counts before it is made, and what changes nothing leaves no row."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.decision import GLOBAL_STOP, Decision, Hold
from rollouts.domain.lifecycle.states import Event
from rollouts.domain.record.intervals import ArmCounts, Interval, Outcomes
from rollouts.domain.strategies import strategy_of
from rollouts.models import Arm, Evidence, LoopDecision, Rollout
from rollouts.ports import ObservedRoute, WorkloadStatus
from rollouts.services.loop.deciding import decide_rollout
from rollouts.services.loop.measure import Measured
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.views import view_of
from rollouts.services.loop.writes import Writes
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.fixture
def rollout() -> Rollout:
    """At 5 %, in force for a second; the engines are ready."""
    made = factories.rollout_progressing(step=0, intervals=4, now=NOW - timedelta(seconds=5))
    Rollout.objects.update(step_since=NOW - timedelta(seconds=1), step_requests=0)
    made.refresh_from_db()
    return made


def measured(rollout: Rollout, answered: int) -> Measured:
    counts = ArmCounts(answered, 0, answered, 1.0, outcomes=Outcomes(answered=answered))
    arms = {"baseline": counts, "candidate": counts}
    interval = Interval(rollout.next_interval, NOW.timestamp() - 5, 5.0, 500, arms)
    analysis = strategy_of(rollout.parsed_plan).ANALYSIS.stored(rollout.gates_state)
    return Measured(interval, analysis, analysis.assess({}), {}, (), 3)


def decide(rollout: Rollout, *, shares: dict[str, int] | None = None, hold: Hold | None = None,
           interval: Measured | None = None) -> Decision:  # fmt: skip
    """Decides and writes, as a turn does."""
    endpoint = rollout.endpoint
    names = (rollout.baseline.name, rollout.candidate.name)
    statuses = {name: WorkloadStatus(name, WorkloadPhase.READY, ready=1, desired=1) for name in names}
    route = ObservedRoute(endpoint.name, shares or endpoint.desired_shares, frozenset(names))
    endpoint.applied = {"shares": dict(endpoint.desired_shares)}
    arms = list(Arm.objects.filter(rollout=rollout).select_related("variant__version").order_by("pk"))
    writes = Writes()
    newest = Evidence.objects.filter(rollout=rollout).order_by("-index")[0].digest
    decision = decide_rollout(
        rollout=rollout, view=view_of(rollout, arms), arms=arms, newest_digest=newest,
        observation=Observation(statuses, route, route_known=True), statuses=statuses, measured=interval,
        answered=frozenset(names), hold=hold, writes=writes, now=NOW,
    )  # fmt: skip
    writes.flush(now=NOW)
    return decision


def test_decide__interval_ended__its_requests_count_for_this_very_decision(rollout: Rollout) -> None:
    decision = decide(rollout, interval=measured(rollout, 40))
    assert "40 of 50 requests" in decision.reason
    assert Rollout.objects.get().step_requests == 40


def test_decide__interval_ended__is_kept_as_evidence_with_the_decision(rollout: Rollout) -> None:
    before = rollout.next_interval
    decision = decide(rollout, interval=measured(rollout, 40))
    row = Evidence.objects.get(index=before)
    assert (row.decision, row.ended_at) == (decision.to_json(), NOW)
    assert row.situation["rollout"]["step_requests"] == 40, "what it was decided on, this interval counted"
    found = Rollout.objects.get()
    assert (found.next_interval, found.feedback_interval, found.next_decision) == (before + 1, 3, 0)


def test_decide__between_intervals_and_nothing_changes__leaves_no_row(rollout: Rollout) -> None:
    rows = Evidence.objects.count()
    decision = decide(rollout)
    assert (decision.event, decision.effects) == (None, ())
    assert (Evidence.objects.count(), LoopDecision.objects.count()) == (rows, 0)


def test_decide__between_intervals_and_something_changes__is_kept_after_the_last_interval(
    rollout: Rollout,
) -> None:
    by_hand = {rollout.baseline.name: 2_000, rollout.candidate.name: 8_000}
    decision = decide(rollout, shares=by_hand)
    assert decision.event is Event.PAUSE
    row = LoopDecision.objects.get()
    assert (row.number, row.after, row.decision) == (0, rollout.next_interval, decision.to_json())
    assert Rollout.objects.get().next_decision == 1


@pytest.mark.parametrize(("phase", "begins"), [("progressing", True), ("paused", True), ("promoting", False)])
def test_step__its_share_is_in_force__begins_now_while_traffic_moves_by_steps(
    rollout: Rollout, phase: str, begins: bool
) -> None:
    Rollout.objects.update(phase=phase, step_since=None)
    rollout.refresh_from_db()
    decide(rollout)
    assert Rollout.objects.get().step_since == (NOW if begins else None)


def test_step__its_share_is_not_in_force__does_not_begin(rollout: Rollout) -> None:
    Rollout.objects.update(step_since=None)
    rollout.refresh_from_db()
    decide(rollout, shares={rollout.baseline.name: 10_000})
    assert Rollout.objects.get().step_since is None


def test_gates__between_intervals__say_what_they_said_last(rollout: Rollout) -> None:
    verdicts: dict[str, Any] = dict(rollout.verdicts)
    Rollout.objects.update(step_requests=50, step_since=NOW - timedelta(hours=1))
    rollout.refresh_from_db()
    assert verdicts
    assert decide(rollout).event is Event.ADVANCE


def test_hold__keeps_the_next_step_back(rollout: Rollout) -> None:
    Rollout.objects.update(step_requests=50, step_since=NOW - timedelta(hours=1))
    rollout.refresh_from_db()
    assert decide(rollout, hold=GLOBAL_STOP).event is not Event.ADVANCE
