"""A router that accepts a route before it is in force: nothing counts as moved, and nothing named is taken away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.record.situation import Situation
from rollouts.models import Effect, EffectState, Evidence
from rollouts.ports import EngineApi
from rollouts.services.loop.act import NOT_IN_FORCE
from rollouts.services.loop.situation import USUAL_LAG
from tests.rollouts.memory_world import LONG_PLAN, PLAN, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]

LATE = "and has not put it in force yet"


@pytest.fixture
def w(tmp_path: Path) -> Iterator[MemoryWorld]:
    """Every drain is watched: what the route in force names must not go."""
    world = MemoryWorld(tmp_path).serve()
    drain = world.cluster.drain
    torn: list[str] = []

    def watched(variant: str, endpoint: str, *, token: int) -> None:
        seen = world.router.observe(endpoint)
        assert seen is not None
        torn.extend(name for name in seen.named if name == variant)
        drain(variant, endpoint, token=token)

    world.cluster.drain = watched  # type: ignore[method-assign]
    yield world
    assert torn == [], "drained while the route in force named it"


def lag(w: MemoryWorld, seconds: float) -> None:
    w.router.lag_seconds = seconds


def test_better_candidate__is_promoted_and_the_old_one_leaves_after_the_route_did(
    w: MemoryWorld,
) -> None:
    lag(w, 3)
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    w.run(lambda: not w.rollout.watching)
    w.run(lambda: w.workload(1).phase == "absent")
    assert w.shares() == {2: 10_000}
    assert w.lost == 0


def test_worse_candidate__goes_back_and_is_drained_after_the_route_did(w: MemoryWorld) -> None:
    lag(w, 3)
    w.start(3)
    w.behave(3, error_rate=0.5)
    w.run_to("rolled-back")
    w.run(lambda: w.workload(3).phase == "absent")
    assert w.shares() == {1: 10_000}


def test_accepted_and_not_in_force__waits_as_its_own_state_and_the_step_does_not_begin(
    w: MemoryWorld,
) -> None:
    stuck(w)
    effect = Effect.objects.get(kind="set-traffic", state=EffectState.PENDING)
    assert effect.problem == NOT_IN_FORCE
    assert (effect.attempts, w.endpoint.router_problem) == (0, ""), "it is no fault yet"
    assert w.rollout.step_since is None
    assert "waiting until the router confirms it" in w.rollout.reason
    assert w.endpoint.applied["shares"] == w.endpoint.observed_shares != w.endpoint.desired_shares


def test_accepted_and_not_in_force_for_long__is_said_at_the_endpoint_and_at_the_rollout(
    w: MemoryWorld,
) -> None:
    stuck(w)
    w.run_for(int(USUAL_LAG.total_seconds()))
    assert LATE in w.endpoint.router_problem
    assert LATE in w.rollout.reason
    assert "refused" not in w.rollout.reason
    w.clock.advance(1_000)
    w.run_for(2)
    assert (w.endpoint.router_problem, w.endpoint.accepted_at) == ("", None)
    assert w.rollout.step_since is not None


def test_accepted_and_not_in_force__a_rollback_overtakes_it_and_nothing_older_comes_back(
    w: MemoryWorld,
) -> None:
    stuck(w)
    lag(w, 3)
    w.roll_back()
    w.run_to("rolled-back")
    w.run(lambda: w.workload(2).phase == "absent")
    w.clock.advance(2_000)
    w.run_for(3)
    assert w.shares() == {1: 10_000}
    assert w.rollout.endpoint.router_problem == ""


def test_first_route_that_is_never_in_force__is_said(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path)
    lag(w, 1_000)
    w.run_for(int(USUAL_LAG.total_seconds()) + 8)
    assert w.endpoint.router_problem.endswith(f"{LATE}."), "there is none before it that stays in force"


def test_calls_changed_and_changed_back_while_the_router_lags__the_last_ones_come_into_force(
    w: MemoryWorld,
) -> None:
    """The desired route is the one that was published last; but what was accepted since would come into force."""
    before = w.router.routes["triage"]
    lag(w, 5)
    w.cluster.apis["vllm"] = EngineApi(("/v1/completions",))
    w.turn()
    assert w.endpoint.accepted_at is not None
    w.cluster.apis["vllm"] = before.api
    w.run_for(12)
    assert w.router.routes["triage"] == before
    assert w.endpoint.accepted_at is None


def test_accepted_and_not_in_force_for_long__is_asked_for_once_an_interval_and_seen_at_once_when_it_is(
    w: MemoryWorld,
) -> None:
    """A gateway whose controller is down must not cost every endpoint behind it a whole turn a second."""
    stuck(w, plan=LONG_PLAN)
    w.run_for(int(USUAL_LAG.total_seconds()) + 2)
    w.calls.names.clear()
    w.run_for(20)
    assert 5 <= w.calls.names.count("router.apply") <= 20 / w.world.interval_seconds + 1
    w.clock.advance(1_000)
    w.reconcile()
    assert w.endpoint.accepted_at is None


@pytest.mark.parametrize("hours", [1, -1])
def test_clock_jumps_while_a_route_is_not_in_force__it_is_late_when_the_time_has_really_passed(
    w: MemoryWorld, hours: int
) -> None:
    stuck(w)
    w.clock.jump(hours * 3600.0)
    w.run_for(3)
    assert w.endpoint.router_problem == ""
    w.run_for(int(USUAL_LAG.total_seconds()))
    assert LATE in w.endpoint.router_problem


def test_table_with_another_number_that_somebody_put_back__is_in_force_when_it_splits_as_desired(
    w: MemoryWorld,
) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run(lambda: w.rollout.phase == "progressing")
    w.router.in_force["triage"] = 0
    w.run_for(2)
    assert "waiting until the router confirms it" not in w.rollout.reason
    w.run_to("succeeded")


def test_evidence_of_a_late_route__is_replayed_the_same(w: MemoryWorld) -> None:
    stuck(w)
    w.run_for(int(USUAL_LAG.total_seconds()) + 4)
    situations = [row.situation for row in Evidence.objects.filter(rollout=w.rollout).order_by("index")]
    said = [situation["seen"].get("late", "") for situation in situations]
    assert said[0] == ""
    assert LATE in said[-1]
    for situation in (situations[0], situations[-1]):
        read = Situation.from_json(situation, w.rollout.parsed_plan)
        assert read.to_json() == situation


def stuck(w: MemoryWorld, *, plan: Plan = PLAN) -> None:
    """A rollout on its way to its second step, whose route the router accepted and does not put in force."""
    w.start(2, plan=plan)
    w.behave(2, accuracy=1.0)
    w.run(lambda: w.rollout.phase == "progressing")
    w.run_for(2)
    lag(w, 1_000)
    w.run(lambda: w.rollout.step_index == 1)
    w.run_for(2)
