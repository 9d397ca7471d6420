"""Faults in the middle of a rollout: parts that do not answer, hands on the router, people, other workers, kill -9."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.access.actors import HEADGATE
from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import Conflict, Forbidden, IllegalTransition, Refused
from controlplane.passes.models import ItemTrouble
from rollouts.domain.engines import FailureReason
from rollouts.domain.lifecycle.plan import canary
from rollouts.domain.record.readings import ROUTER
from rollouts.models import Effect, Evidence, Rollout
from rollouts.services.commands.rollouts import cancel_rollout, promote_rollout, set_global_stop
from rollouts.services.errands.write_backs import WRITE_BACKS
from rollouts.services.loop.backends import backend_json
from rollouts.services.policies.versions import define_gate_policy
from tests.rollouts.memory_world import ERRORS, PLAN, Kill, MemoryWorld, tell_with_kills

pytestmark = [pytest.mark.story, pytest.mark.django_db]


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """One gate: faults do not care which gates there are, and it is decided soonest."""
    return MemoryWorld(tmp_path, gates=(ERRORS,)).serve()


@pytest.fixture
def moving(w: MemoryWorld) -> MemoryWorld:
    """A good candidate at 25%."""
    w.start(2)
    w.behave(2)
    w.run_to("progressing")
    return w


def stop(w: MemoryWorld, on: bool) -> None:
    set_global_stop(on=on, why="incident 12", actor=w.manager, now=w.now)


# --- the outside does not answer ------------------------------------------------------------------------------------


def test_router_down__for_a_while__nothing_changes_then_it_goes_on(moving: MemoryWorld) -> None:
    w = moving
    before = (w.rollout.phase, w.rollout.step_index, w.endpoint.desired_shares, w.history())
    w.router.down = True
    w.run_for(8)
    assert (w.rollout.phase, w.rollout.step_index, w.endpoint.desired_shares, w.history()) == before
    assert "does not answer" in w.endpoint.router_problem
    w.router.down = False
    w.run_to("succeeded")


def test_router_down__one_row_of_evidence_an_interval_not_a_tick(moving: MemoryWorld) -> None:
    w = moving
    before = Evidence.objects.count()
    w.router.down = True
    w.run_for(8)
    rows = Evidence.objects.order_by("index")[before:]
    assert 3 <= len(rows) <= 5
    assert all(row.interval["broken"] for row in rows)
    assert sum(row.interval["seconds"] for row in rows) == pytest.approx(8, abs=2.1)


def test_router_down__longer_than_the_plan_allows__held_and_told_and_no_candidate_is_blamed(
    moving: MemoryWorld,
) -> None:
    w = moving
    w.router.down = True
    w.run_for(3 * PLAN.no_data_seconds)
    assert (w.rollout.phase, w.rollout.step_index) == ("progressing", 0)
    w.router.down = False
    w.run_to("succeeded")


def test_counters_cannot_be_read__no_step_ends_and_that_time_does_not_count(w: MemoryWorld) -> None:
    long_steps = canary((25, 50), hold_seconds=10, min_requests=10, watch_seconds=10)
    w.start(2, plan=replace(long_steps, no_data_seconds=30, launch_seconds=20))
    w.behave(2)
    w.run_to("progressing")
    w.run_for(3)
    w.signals.outage = "connection refused"
    w.run_for(100)
    assert (w.rollout.phase, w.rollout.step_index) == ("progressing", 0)
    assert "cannot be measured" in w.rollout.reason
    assert "connection refused" in w.rollout.reason
    assert w.titles().count("Measurements cannot be read") == 1
    w.signals.outage = ""
    back = w.now
    w.run(lambda: w.rollout.step_index == 1)
    assert (w.now - back).total_seconds() >= 10 - 3 - w.world.interval_seconds
    w.run_to("succeeded")


def test_counters_cannot_be_read__during_the_watch__the_old_variant_stays_warm(moving: MemoryWorld) -> None:
    w = moving
    w.run_to("succeeded")
    w.signals.outage = "connection refused"
    w.run_for(PLAN.watch_seconds + 10)
    assert w.rollout.watching
    assert w.workload(1).phase == "ready"
    w.signals.outage = ""
    w.run(lambda: not w.rollout.watching)


def test_router_down__policy_that_rolls_back_then__rolled_back_for_want_of_data(w: MemoryWorld) -> None:
    body = {
        name: value for name, value in w.endpoint.gate_policy.body.items() if name not in ("name", "version")
    }
    body |= {"on_error": "rollback"}
    policy = define_gate_policy(actor=HEADGATE, name="strict", body=body, now=w.now)
    w.start(2, gate_policy=policy)
    w.behave(2)
    w.run_to("progressing")
    w.router.down = True
    w.run(lambda: w.rollout.phase == "rolling-back", limit=40)
    assert w.rollout.cause == "no-data"
    w.run_for(2)
    assert "does not answer" in w.rollout.next_step
    w.router.down = False
    w.run_to("rolled-back", limit=8)
    assert w.shares() == {1: 10_000}


def test_cluster_down__for_a_while__holds_its_step_then_goes_on(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.outage = "connection refused"
    w.run_for(10)
    assert (w.rollout.phase, w.rollout.step_index) == ("progressing", 0)
    assert "the cluster does not answer" in w.rollout.reason
    w.cluster.outage = ""
    w.run_to("succeeded")


def test_cluster_down__bad_candidate__traffic_returns_all_the_same(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.outage = "connection refused"
    w.behave(2, error_rate=0.9)
    w.run_to("rolled-back", limit=15)
    assert w.shares() == {1: 10_000}
    w.cluster.outage = ""
    w.run(lambda: w.workload(2).phase == "absent", limit=60)


def test_provisioning__router_down_or_stop_for_long__is_no_launch_failure(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2)
    w.run_for(1)
    w.router.down = True
    w.run_for(15)
    stop(w, on=True)
    w.router.down = False
    w.run_for(10)
    assert w.rollout.phase == "provisioning"
    assert "the global stop is on" in w.rollout.reason
    stop(w, on=False)
    w.run_to("succeeded")


def test_router_rejects__last_good_split_stays_and_the_reason_says_so(moving: MemoryWorld) -> None:
    w = moving
    w.router.refuse = "duplicate cluster name"
    w.run(lambda: w.rollout.step_index == 1)
    w.run_for(3)
    assert w.shares() == {1: 7500, 2: 2500}
    assert "duplicate cluster name" in w.rollout.reason
    assert "duplicate cluster name" in w.endpoint.router_problem
    assert w.lost == 0
    w.router.refuse = ""
    w.run_to("succeeded")
    assert w.endpoint.router_problem == ""


def test_mlflow_down__at_the_write_back__rollback_is_done_and_told_later(w: MemoryWorld) -> None:
    w.start(3)
    w.behave(3, error_rate=0.9)
    w.run_to("progressing")
    w.store.down = True
    w.run_to("rolled-back")
    assert w.shares() == {1: 10_000}
    w.run_for(3)
    assert w.workload(3).phase == "absent"
    assert Effect.objects.filter(kind="write-back", state="pending").exists()
    w.store.down = False
    w.run(lambda: not Effect.objects.filter(state="pending").exists(), limit=5)
    assert w.store.version("triage", 3).tags["headgate.decision"] == "rolled-back"


def test_mlflow_says_no__at_the_write_back__kept_at_the_endpoint_and_tried_for_ever(
    moving: MemoryWorld,
) -> None:
    w = moving
    w.store.delete_version("triage", 2)
    w.run_to("succeeded")
    w.run_for(60)
    trouble = ItemTrouble.objects.get(pass_name=WRITE_BACKS)
    assert (trouble.item, trouble.label) == (str(w.endpoint_id), "alias triage-production of triage")
    assert "version=2) not found" in trouble.error
    assert trouble.attempts >= 4
    assert w.shares() == {2: 10_000}


def test_router_restarts__counters_begin_again__no_negative_count_and_goes_on(moving: MemoryWorld) -> None:
    w = moving
    w.run_for(3)
    w.router.restart()
    w.run_for(2)
    rows = list(Evidence.objects.order_by("index"))
    assert any("restarted" in row.interval["missing"].get("router", "") for row in rows)
    assert all(arm["requests"] >= 0 for row in rows for arm in row.interval["arms"].values())
    w.run_to("succeeded")


def test_router_forgets_the_endpoint__gets_the_route_again(moving: MemoryWorld) -> None:
    w = moving
    del w.router.routes["triage"]
    w.tick()
    assert w.shares() == {1: 7500, 2: 2500}


# --- engines die ----------------------------------------------------------------------------------------------------


def test_candidate_dead__holds_until_it_is_back(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.kill(w.variant(2).name, down_seconds=2.0)
    w.run_to("succeeded", "rolled-back")
    assert w.lost == 0
    if w.rollout.phase == "rolled-back":
        assert w.rollout.cause in ("gate:errors", "fast-kill")


def test_candidate_fails__rolled_back_with_its_reason(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.fail(w.variant(2).name, FailureReason.CRASH_LOOP, "it ended three times")
    w.run_to("rolled-back", limit=6)
    assert w.rollout.cause == "workload:crash-loop"
    assert "it ended three times" in w.rollout.reason
    assert w.lost == 0


def test_rollback__baseline_just_died__waits_for_it_while_the_candidate_answers(moving: MemoryWorld) -> None:
    w = moving
    w.run_for(1)
    w.cluster.kill(w.variant(1).name, down_seconds=6.0)
    w.roll_back()
    w.run_for(4)
    assert w.rollout.phase == "rolling-back"
    assert w.shares() == {1: 7500, 2: 2500}
    assert "to be healthy" in w.rollout.next_step
    w.run_to("rolled-back", limit=10)
    assert w.shares() == {1: 10_000}


def test_rollback__baseline_never_comes_back__needs_a_person_and_works_once_it_is_mended(
    moving: MemoryWorld,
) -> None:
    w = moving
    baseline = w.variant(1).name
    w.cluster.fail(baseline, FailureReason.BAD_MODEL, "disk error")
    w.roll_back()
    w.run_to("failed", limit=60)
    assert "needs a person" in w.rollout.reason
    assert "disk error" in w.rollout.reason
    assert w.shares() == {1: 7500, 2: 2500}
    w.cluster.mend(baseline)
    w.roll_back()
    w.run_to("rolled-back", limit=10)
    assert w.shares() == {1: 10_000}


def test_baseline_process_vanishes__is_launched_again(w: MemoryWorld) -> None:
    w.cluster._workloads.clear()
    w.run_for(4)
    assert w.workload(1).phase == "ready"
    assert w.shares() == {1: 10_000}
    (backend,) = w.router.routes["triage"].backends
    assert backend_json(backend) == w.workload(1).backend


# --- hands on the router ----------------------------------------------------------------------------------------------


def test_drift__weights_set_by_hand__respected_until_somebody_resumes(moving: MemoryWorld) -> None:
    w = moving
    w.run_for(2)
    w.set_weights_by_hand({1: 6000, 2: 4000})
    w.run_for(6)
    rollout = w.rollout
    assert (rollout.phase, rollout.pause_reason) == ("paused", "drift")
    assert "60%" in rollout.reason
    assert "40%" in rollout.reason
    assert w.shares() == {1: 6000, 2: 4000}
    w.resume()
    w.tick()
    assert w.shares() == {1: 7500, 2: 2500}
    assert w.rollout.step_requests < 60  # the requests under other weights are no exposure of this step
    w.run_to("succeeded")


def test_drift__set_back_by_hand__goes_on_by_itself(moving: MemoryWorld) -> None:
    w = moving
    w.run_for(2)
    w.set_weights_by_hand({1: 6000, 2: 4000})
    w.run_to("paused")
    w.set_weights_by_hand({1: 7500, 2: 2500})
    w.run_to("progressing", limit=3)


def test_drift__found_when_the_stop_is_lifted__is_not_overwritten(moving: MemoryWorld) -> None:
    w = moving
    stop(w, on=True)
    w.run_to("paused")
    w.set_weights_by_hand({1: 9900, 2: 100})
    stop(w, on=False)
    w.run_for(3)
    assert w.rollout.pause_reason == "drift"
    assert w.shares() == {1: 9900, 2: 100}


def test_drift__without_a_rollout__survives_a_backend_that_moves(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2)
    w.run_to("succeeded")
    w.set_weights_by_hand({1: 5000, 2: 5000})
    w.tick()
    w.cluster._workloads.clear()
    w.run_for(4)
    assert w.shares() == {1: 5000, 2: 5000}
    backends = {one.variant: backend_json(one) for one in w.router.routes["triage"].backends}
    assert backends == {w.variant(n).name: w.workload(n).backend for n in (1, 2)}


def test_drift__rolled_back_by_a_person__wins_over_the_hand(moving: MemoryWorld) -> None:
    w = moving
    w.run_for(2)
    w.set_weights_by_hand({1: 6000, 2: 4000})
    w.run_to("paused")
    w.roll_back()
    w.run_to("rolled-back", limit=4)
    assert w.shares() == {1: 10_000}


# --- people ---------------------------------------------------------------------------------------------------------


def test_pause_and_resume__by_a_person__hold_the_share_and_go_on(moving: MemoryWorld) -> None:
    w = moving
    w.pause(why="looking at a ticket")
    w.run_for(8)
    assert (w.rollout.phase, w.shares()) == ("paused", {1: 7500, 2: 2500})
    assert w.rollout.reason == "eli paused the rollout. looking at a ticket"
    w.resume()
    w.run_to("succeeded")


def test_paused__a_bad_candidate_is_rolled_back_all_the_same(moving: MemoryWorld) -> None:
    w = moving
    w.pause()
    w.behave(2, error_rate=0.9)
    assert w.run_to("rolled-back", limit=15).cause in ("gate:errors", "fast-kill")


def test_promote__by_a_manager__skips_the_gates_and_is_audited(moving: MemoryWorld) -> None:
    w = moving
    with pytest.raises(Forbidden):
        promote_rollout(rollout_id=w.rollout.pk, actor=w.engineer, now=w.now)
    w.promote(why="the customer waits")
    w.run_to("succeeded", limit=3)
    assert w.shares() == {2: 10_000}
    event = AuditEvent.objects.get(action="rollout.promote")
    assert (event.actor, event.actor_kind) == ("mara", "person")
    assert "without waiting for the gates" in event.why


def test_promote__candidate_just_died__waits_until_it_is_ready(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.kill(w.variant(2).name, down_seconds=3.0)
    w.promote()
    w.tick()
    assert w.shares() == {1: 7500, 2: 2500}
    w.run(lambda: w.shares() == {2: 10_000} or w.rollout.phase == "rolled-back", limit=12)
    assert w.lost == 0


def test_roll_back__by_a_person__is_the_cause(moving: MemoryWorld) -> None:
    w = moving
    w.roll_back(why="legal asked")
    rollout = w.run_to("rolled-back", limit=4)
    assert rollout.cause == "person"
    assert rollout.cause_sentence == "eli rolled it back. legal asked"


def test_roll_back__while_the_watch_lasts__returns_and_moves_the_alias_back(moving: MemoryWorld) -> None:
    w = moving
    w.run_to("succeeded")
    w.tick()
    assert w.store.models()[0].aliases["triage-production"] == 2
    w.roll_back()
    w.run_to("rolled-back", limit=4)
    w.run_for(1)
    assert w.endpoint.stable == w.variant(1)
    assert w.store.models()[0].aliases["triage-production"] == 1


def test_roll_back__after_the_watch__refused_with_the_way_to_do_it(moving: MemoryWorld) -> None:
    w = moving
    w.run(lambda: w.rollout.phase == "succeeded" and not w.rollout.watching)
    with pytest.raises(Conflict, match="window is over"):
        w.roll_back()


def test_cancel__while_it_launches__drains_the_candidate(w: MemoryWorld) -> None:
    w.start(2)
    w.tick()
    cancel_rollout(rollout_id=w.rollout.pk, actor=w.engineer, now=w.now)
    w.run_for(3)
    assert w.rollout.phase == "cancelled"
    assert w.workload(2).phase == "absent"
    assert w.shares() == {1: 10_000}
    assert not Effect.objects.filter(state="pending").exists()


def test_cancel__after_traffic_moved__illegal(moving: MemoryWorld) -> None:
    with pytest.raises(IllegalTransition) as caught:
        cancel_rollout(rollout_id=moving.rollout.pk, actor=moving.engineer, now=moving.now)
    assert "roll-back" in caught.value.allowed


def test_cancel__launch_that_waits_for_room__is_not_tried_again_later(w: MemoryWorld) -> None:
    w.cluster.room = 1
    w.start(2)
    w.run_for(3)
    cancel_rollout(rollout_id=w.rollout.pk, actor=w.engineer, now=w.now)
    w.cluster.room = 2
    w.run_for(8)
    assert w.variant(2).name not in w.cluster.statuses()


def test_command__with_an_old_revision__conflict_that_says_who_changed_it(moving: MemoryWorld) -> None:
    w = moving
    old = w.rollout.revision
    w.pause(expected_revision=old)
    with pytest.raises(Conflict, match="by eli") as caught:
        w.resume(expected_revision=old)
    assert caught.value.extra["revision"] == old + 1
    assert w.rollout.phase == "paused"


def test_deadline__pauses_as_inconclusive__and_a_resume_lasts(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, rate=0, gates=(ERRORS,)).serve()
    w.start(2, plan=replace(PLAN, deadline_seconds=6))
    w.run_to("paused", limit=20)
    assert w.rollout.pause_reason == "inconclusive"
    w.resume()
    w.run_for(4)
    assert w.rollout.phase == "progressing"


def test_no_traffic__nothing_is_promoted(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, rate=0, gates=(ERRORS,)).serve()
    w.start(2)
    w.behave(2)
    w.run_for(30)
    assert w.shares() == {1: 7500, 2: 2500}


# --- the global stop ------------------------------------------------------------------------------------------------


def test_global_stop__freezes_every_step__and_goes_on_when_lifted(moving: MemoryWorld) -> None:
    w = moving
    stop(w, on=True)
    w.run_for(10)
    assert (w.rollout.phase, w.rollout.pause_reason) == ("paused", "global-stop")
    assert w.shares() == {1: 7500, 2: 2500}
    for command in (w.resume, w.promote):
        with pytest.raises(Refused, match="global stop"):
            command()
    stop(w, on=False)
    w.run_to("succeeded")


def test_global_stop__never_stops_a_rollback(moving: MemoryWorld) -> None:
    w = moving
    stop(w, on=True)
    w.tick()
    w.behave(2, error_rate=0.9)
    w.run_to("rolled-back", limit=15)
    assert w.shares() == {1: 10_000}


def test_global_stop__set_while_a_promotion_waits_for_the_router__holds_it(moving: MemoryWorld) -> None:
    w = moving
    w.router.refuse = "not now"
    w.promote()
    w.tick()
    stop(w, on=True)
    w.router.refuse = ""
    w.run_for(6)
    assert w.shares() == {1: 7500, 2: 2500}
    assert "global stop" in w.rollout.reason
    stop(w, on=False)
    w.run_to("succeeded", limit=8)


def test_global_stop__nothing_starts(w: MemoryWorld) -> None:
    stop(w, on=True)
    with pytest.raises(Refused, match="global stop"):
        w.start(2)


# --- other workers --------------------------------------------------------------------------------------------------


def test_command__between_observe_and_commit__the_decision_is_dropped_and_made_anew(
    moving: MemoryWorld,
) -> None:
    w = moving
    evidence = Evidence.objects.count()
    w.clock.advance(2.0)
    w.use(2.0)
    w.calls.hooks["signals.read_all"] = lambda: (
        w.pause()
    )  # after the rollout was read, before the decision is written
    w.reconcile()
    assert (w.rollout.phase, w.rollout.pause_reason) == ("paused", "person")
    assert Evidence.objects.count() == evidence
    requests = w.router.counted("triage")[ROUTER].arms[w.variant(2).name].ended
    w.run_for(2)
    newest = Evidence.objects.order_by("-index")[:1].get()
    assert newest.interval["seconds"] > 2.5  # the dropped interval is in the next one
    assert newest.interval["arms"]["candidate"]["requests"] >= requests


def test_command__while_nothing_is_decided__the_loop_does_not_write_old_counts_over_it(
    moving: MemoryWorld,
) -> None:
    w = moving
    w.run_for(2)
    w.set_weights_by_hand({1: 6000, 2: 4000})
    w.run_to("paused")
    w.run(lambda: w.rollout.step_requests >= 40)
    w.clock.advance(2.0)
    w.use(2.0)
    w.calls.hooks["signals.read_all"] = w.resume  # starts the step's exposure anew
    w.reconcile()
    assert w.rollout.phase == "progressing"
    assert w.rollout.step_requests == 0


def test_command__while_it_is_paused__no_evidence_tells_of_a_phase_that_was_over(moving: MemoryWorld) -> None:
    w = moving
    w.pause()
    w.tick()
    w.clock.advance(2.0)
    w.use(2.0)
    w.calls.hooks["signals.read_all"] = w.roll_back
    w.reconcile()
    rolled_back_at = w.rollout.decided_at
    assert not Evidence.objects.filter(ended_at__gte=rolled_back_at, decision__phase="paused").exists()


def test_two_workers__one_reconciles_the_other_leaves_it(moving: MemoryWorld) -> None:
    w = moving
    others: list[bool] = []
    w.calls.hooks["cluster.statuses"] = lambda: others.append(w.reconcile_now())
    w.reconcile_now()
    assert others == [False]


def test_stalled_worker__wakes_after_its_lease__writes_nothing(moving: MemoryWorld) -> None:
    w = moving
    w.run(lambda: w.rollout.step_requests >= 10 and w.rollout.step_index == 0)

    def another_worker_takes_over() -> None:
        w.clock.advance(61.0)
        w.pause()
        assert w.reconcile()
        w.resume()
        assert w.reconcile()

    w.clock.advance(2.0)
    w.calls.hooks["signals.read_all"] = another_worker_takes_over
    before = w.workers
    w.reconcile()
    assert w.workers == before + 3
    token = w.endpoint.fencing_token
    assert w.endpoint.applied["shares"] == w.endpoint.desired_shares
    newest = Rollout.objects.get().revision
    w.tick()
    assert w.endpoint.fencing_token == token + 1
    assert Rollout.objects.get().revision >= newest
    w.run_to("succeeded")


def test_stalled_worker__in_the_middle_of_publishing__its_router_refuses_and_its_row_stays_open(
    moving: MemoryWorld,
) -> None:
    w = moving

    def another_worker_rolls_back() -> None:
        w.clock.advance(61.0)
        w.roll_back()
        assert w.reconcile()

    w.run(lambda: w.rollout.step_index == 0 and w.rollout.step_requests >= 10)
    w.calls.hooks["router.apply"] = another_worker_rolls_back
    w.run_to("rolled-back", limit=10)
    assert w.shares() == {1: 10_000}
    assert w.endpoint.applied["shares"] == {w.variant(1).name: 10_000}


# --- kill -9 at every call ------------------------------------------------------------------------------------------

SHORT_PLAN = replace(
    canary((50,), hold_seconds=2, min_requests=10, watch_seconds=4), launch_seconds=200, no_data_seconds=300
)


def _promoted(w: MemoryWorld) -> bool:
    return w.rollout.phase == "succeeded" and not w.rollout.watching


def _rolled_back(w: MemoryWorld) -> bool:
    return w.rollout.phase == "rolled-back"


STORIES = {"promoted": (0.0, _promoted), "rolled-back": (0.9, _rolled_back)}


def _tell(folder: Path, story: str, kill: Kill) -> tuple[object, ...]:
    """The story from its start, and how it ended."""
    error_rate, is_over = STORIES[story]
    w = MemoryWorld(folder, gates=(ERRORS,), rate=30, ready_after=1.0).serve()
    w.calls.kill = kill
    w.start(2, plan=SHORT_PLAN)
    w.behave(2, error_rate=error_rate)

    def ended() -> bool:
        if w.endpoint.lease_owner:
            w.clock.advance(61.0)  # the killed worker's lease has to run out
        return is_over(w) and not Effect.objects.filter(state="pending").exists()

    w.run(ended, limit=40, seconds=2.0)
    w.run_for(1)
    assert len(kill.killed) >= 6 or not kill.when
    tags = {n: w.store.version("triage", n).tags.get("headgate.decision") for n in (1, 2)}
    moves = AuditEvent.objects.filter(action="alias.moved").count()
    return (
        w.rollout.phase,
        w.rollout.cause,
        w.shares(),
        dict(w.store.models()[0].aliases),
        tags,
        sorted(w.cluster.statuses()),
        moves,
        w.history(),
    )


@pytest.mark.parametrize("story", sorted(STORIES))
def test_kill_9__before_or_after_every_call_that_writes__the_story_ends_the_same(
    tmp_path: Path, story: str
) -> None:
    """Every different writing call kills the worker that makes it first; the next worker makes it again."""
    ends = tell_with_kills(lambda folder, kill: _tell(folder, story, kill), tmp_path)
    assert ends["before"] == ends[""]
    assert ends["after"] == ends[""]
