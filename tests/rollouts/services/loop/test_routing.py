"""Who answers for a dead variant, on the real loop in a world in memory: a dead baseline's users are not left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rollouts.domain.engines import FailureReason
from rollouts.domain.record.readings import ROUTER
from rollouts.models import Arm, Workload
from rollouts.ports import OPENAI_API, EngineApi, Route
from rollouts.services.commands.endpoints import set_rescue
from rollouts.services.loop.routing import blamed_arms, desired_route
from tests.rollouts.memory_world import BANDIT, ERRORS, PLAN, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]

HALF = replace(PLAN, steps=(replace(PLAN.steps[0], share_bp=5000, hold_seconds=600),), watch_seconds=30)


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path, gates=(ERRORS,)).serve()


@pytest.fixture
def half(w: MemoryWorld) -> MemoryWorld:
    """A canary of version 2 that has half of the traffic and stays there."""
    w.start(2, plan=HALF)
    w.behave(2)
    w.run(lambda: w.shares().get(2) == 5000)
    w.run_for(3)
    return w


def route(w: MemoryWorld) -> Route:
    return w.router.routes["triage"]


def rescuers(w: MemoryWorld) -> list[int]:
    by_name = {
        w.variant(n).name: n for n in (1, 2, 3) if w.endpoint.variants.filter(version__number=n).exists()
    }
    return [by_name[name] for name in route(w).rescuers]


def published(w: MemoryWorld) -> int:
    return w.calls.names.count("router.apply")


# --- a canary -------------------------------------------------------------------------------------------------------


def test_canary__candidate_with_traffic__answers_for_a_dead_baseline(half: MemoryWorld) -> None:
    assert rescuers(half) == [2]
    before = half.router.counted("triage")[ROUTER].arms[half.variant(1).name]
    half.cluster.kill(half.variant(1).name, down_seconds=100.0)
    half.run_for(4)
    after = half.router.counted("triage")[ROUTER].arms[half.variant(1).name]
    assert half.lost == 0
    assert after.fallbacks > before.fallbacks == 0
    assert after.failed == 0


def test_canary__baseline_that_comes_and_goes__publishes_nothing(half: MemoryWorld) -> None:
    before = published(half)
    for _ in range(4):
        half.cluster.kill(half.variant(1).name, down_seconds=1.0)
        half.run_for(2)
    assert published(half) == before


@pytest.mark.parametrize(
    ("phase", "wanted", "helps"),
    [
        ("ready", True, True),
        (
            "unready",
            True,
            True,
        ),  # whether it answers at this moment is the router's to see: no publish a second
        ("starting", True, False),
        ("failed", True, False),
        ("draining", True, False),
        ("ready", False, False),
    ],
)
def test_rescuers__phase_of_the_workload__decides(
    half: MemoryWorld, phase: str, wanted: bool, helps: bool
) -> None:
    Workload.objects.filter(variant=half.variant(2)).update(phase=phase, wanted=wanted)
    route = desired_route(half.endpoint, half.world)
    assert route.rescuers == ((half.variant(2).name,) if helps else ())


def test_canary__before_its_first_step__rescues_nobody(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2)
    seen: list[tuple[list[int], int]] = []

    def has_traffic() -> bool:
        seen.append((rescuers(w), w.shares().get(2, 0)))
        return seen[-1][1] > 0

    w.run(has_traffic)
    before_traffic = [found for found, share in seen if share == 0]
    assert before_traffic
    assert not any(before_traffic)
    assert seen[-1][0] == [2]


def test_roll_back__of_a_candidate__it_rescues_nobody_from_the_first_route_on(half: MemoryWorld) -> None:
    half.roll_back()
    half.reconcile()
    assert half.shares() == {1: 10_000}
    assert rescuers(half) == []
    half.run_to("rolled-back")
    assert rescuers(half) == []


def test_candidate__that_a_gate_blames__rescues_nobody(half: MemoryWorld) -> None:
    half.behave(2, error_rate=0.6)
    half.run_to("rolling-back", "rolled-back")
    assert blamed_arms(half.rollout) == {"candidate"}
    half.run_to("rolled-back")
    half.cluster.kill(half.variant(1).name, down_seconds=100.0)
    half.sync_engines()
    assert half.router.send("triage").status == 503


def test_candidate__that_failed_for_good__rescues_nobody(half: MemoryWorld) -> None:

    half.cluster.fail(half.variant(2).name, FailureReason.CRASH_LOOP, "crashed")
    half.run(lambda: rescuers(half) == [])


def test_promotion__watched__the_old_baseline_answers_for_the_dead_new_one(w: MemoryWorld) -> None:
    w.start(2, plan=replace(PLAN, watch_seconds=60))
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    assert w.shares() == {2: 10_000}
    lost = w.lost
    w.cluster.kill(w.variant(2).name, down_seconds=3.0)
    w.sync_engines()
    w.use()
    assert w.lost == lost


# --- without a rollout, and the switch ------------------------------------------------------------------------


def test_previous__while_it_is_warm__answers_for_a_dead_stable_variant(w: MemoryWorld) -> None:
    w.start(2, plan=replace(PLAN, watch_seconds=60))
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    # As after the watch, had the old one been kept for something else.
    endpoint = w.endpoint
    endpoint.desired_fallback = w.variant(2).name
    endpoint.save(update_fields=["desired_fallback"])
    w.run(lambda: route(w).fallback == w.variant(2).name)
    assert rescuers(w) == [1]
    w.run(lambda: not w.rollout.watching, limit=90)
    w.run(lambda: not w.workload(1).wanted)
    w.run_for(3)
    assert rescuers(w) == []


def test_switch__off__nobody_answers_for_a_dead_baseline(half: MemoryWorld) -> None:
    set_rescue(endpoint_name="triage", on=False, actor=half.manager, now=half.now)
    half.run(lambda: rescuers(half) == [], limit=3)
    half.cluster.kill(half.variant(1).name, down_seconds=100.0)
    half.sync_engines()
    seen = [half.router.send("triage") for _ in range(60)]
    assert {r.status for r in seen if r.assigned == half.variant(1).name} == {503}
    assert {r.status for r in seen if r.assigned == half.variant(2).name} == {200}
    set_rescue(endpoint_name="triage", on=True, actor=half.manager, now=half.now)
    half.run(lambda: rescuers(half) == [2], limit=3)


def test_switch__changed_under_weights_set_by_hand__keeps_them(half: MemoryWorld) -> None:
    half.set_weights_by_hand({1: 7000, 2: 3000})
    set_rescue(endpoint_name="triage", on=False, actor=half.manager, now=half.now)
    half.run(lambda: rescuers(half) == [], limit=5)
    assert half.shares() == {1: 7000, 2: 3000}


def test_rescuers__change__is_no_reweight_and_no_drift(half: MemoryWorld) -> None:
    before, requests = half.history(), half.rollout.step_requests
    set_rescue(endpoint_name="triage", on=False, actor=half.manager, now=half.now)
    half.run(lambda: rescuers(half) == [], limit=3)
    half.run_for(3)
    assert half.history() == before
    assert half.rollout.phase == "progressing"
    assert half.rollout.step_requests > requests


# --- a bandit -------------------------------------------------------------------------------------------------------


def test_bandit__candidates_with_traffic__rescue_by_share_and_a_dropped_one_does_not(w: MemoryWorld) -> None:
    w.start(2, others=(3,), plan=BANDIT)
    w.behave(2)
    w.behave(3)
    w.run_to("progressing")
    w.run(lambda: sorted(rescuers(w)) == [2, 3])
    w.behave(3, error_rate=0.7)
    w.run(lambda: Arm.objects.filter(rollout=w.rollout, dropped_at__isnull=False).exists())
    w.run(lambda: rescuers(w) == [2], limit=3)


# --- the calls ------------------------------------------------------------------------------------------------------


def test_calls__of_the_stable_engine__are_in_the_route(w: MemoryWorld) -> None:
    assert route(w).api == OPENAI_API
    w.cluster.apis["vllm"] = EngineApi(("/v1/chat/completions",))
    w.run(lambda: route(w).api == EngineApi(("/v1/chat/completions",)), limit=3)


def test_calls__that_cannot_be_learned__stay_as_they_were(w: MemoryWorld) -> None:
    own = EngineApi(("/v1/chat/completions",), ("/tokenize",))
    w.cluster.apis["vllm"] = own
    w.run(lambda: route(w).api == own, limit=3)
    del w.cluster.apis["vllm"]
    before = published(w)
    w.run_for(3)
    assert route(w).api == own
    assert published(w) == before
