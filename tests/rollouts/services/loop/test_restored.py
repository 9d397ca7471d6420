"""The database is restored from an older copy while the router and the cluster went on: control is taken again, and no
traffic is changed by what the copy believes before a person said so."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from controlplane.kernel.errors import Refused
from controlplane.web.models import Heartbeat
from rollouts.domain.engines import FailureReason
from rollouts.domain.restored import Restored, RestoredState
from rollouts.models import Endpoint, HistoryEvent, Rollout
from rollouts.ports import EngineApi
from rollouts.services.loop.restored import report_restored
from rollouts.services.preview.checks import endpoint_checks
from tests.rollouts.memory_world import ERRORS, MemoryWorld
from tests.rollouts.older_copy import (
    Copy,
    choose,
    promote_2,
    restored_before_the_end,
    restored_before_the_promotion,
    route,
    run,
    wait_until_quiet,
)
from tests.rollouts.probing import probe_rollouts

pytestmark = [pytest.mark.story, pytest.mark.django_db]

SEALING = "rollouts.services.commands.endpoints.sealed_spec"
LICENCE = {"MODEL_LICENCE": "the licence of sentinel"}


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path, gates=(ERRORS,), rate=20).serve()


# --- found out ------------------------------------------------------------------------------------------------------


def test_copy__restored__is_found_out_in_the_first_turn_and_told(
    w: MemoryWorld, caplog: pytest.LogCaptureFixture
) -> None:
    restored_before_the_promotion(w)
    with caplog.at_level(logging.WARNING):
        w.tick()
    assert w.endpoint.restored_state == "watching"
    assert "This database is an older copy" in caplog.text
    assert HistoryEvent.objects.filter(kind="restored").exists()
    report_restored(now=w.now)
    part = Heartbeat.objects.get(name="restored copy")
    assert not part.ok
    assert "triage: waits until nobody newer is at work" in part.message


def test_copy__restored__has_control_again_within_a_minute_and_changes_no_traffic_by_itself(
    w: MemoryWorld,
) -> None:
    name = restored_before_the_promotion(w)
    before = w.endpoint.fencing_token
    writes = len([call for call in w.calls.names if call in ("router.apply", "cluster.drain")])
    wait_until_quiet(w)
    assert w.endpoint.restored_state == "held"
    assert w.endpoint.fencing_token > before
    assert w.router.claim("triage", token=0) <= w.endpoint.fencing_token
    assert w.endpoint.restored["served"] == {name: 10_000}
    assert w.endpoint.restored["believed"] == {w.variant(1).name: 10_000}
    run(w, 10)
    assert route(w) == {name: 10_000}
    assert len([call for call in w.calls.names if call in ("router.apply", "cluster.drain")]) == writes
    assert w.lost == 0


@pytest.mark.parametrize(
    ("after", "way_out"), [(1, "Try again in a minute."), (0, "A release manager chooses first")]
)
def test_preview__endpoint_of_a_restored_copy__says_that_it_cannot_start_and_why(
    w: MemoryWorld, after: int, way_out: str
) -> None:
    restored_before_the_promotion(w)
    if after:
        run(w, after)
    else:
        wait_until_quiet(w)
    refused = [check for check in endpoint_checks(w.endpoint) if check.code == "restored-copy"]
    assert [check.state for check in refused] == ["refused"]
    assert way_out in refused[0].fix


def test_copy__held__keeps_mlflow_as_it_is(w: MemoryWorld) -> None:
    restored_before_the_promotion(w)
    w.write_back()  # before the loop had its first look
    wait_until_quiet(w)
    assert w.store.models()[0].aliases["triage-production"] == 2


def test_copy__of_what_serves__goes_on_by_itself(w: MemoryWorld) -> None:
    copy = Copy()
    run(w, 5)
    copy.restore()
    wait_until_quiet(w)
    assert w.endpoint.restored_state == ""
    promote_2(w)


def test_copy__made_while_a_route_was_not_in_force__does_not_date_the_next_one_by_it(w: MemoryWorld) -> None:
    Endpoint.objects.update(accepted_at=w.now)
    copy = Copy()
    run(w, 5)
    copy.restore()
    w.cluster.apis["vllm"] = EngineApi(("/v1/completions",))
    w.router.lag_seconds = 1_000
    wait_until_quiet(w)
    assert w.endpoint.restored_state == ""
    run(w, 2)
    assert w.endpoint.accepted_at is not None, "the router has accepted other calls since"
    assert w.endpoint.router_problem == ""


def test_copy__younger_than_every_write__is_no_restored_copy(w: MemoryWorld) -> None:
    copy = Copy()
    copy.restore()
    run(w, 2)
    assert w.endpoint.restored_state == ""


def test_newer_lease_of_this_very_database__is_no_restored_copy(w: MemoryWorld) -> None:
    def another_worker_takes_over() -> None:
        w.clock.advance(61.0)
        assert w.reconcile()

    w.clock.advance(2.0)
    w.calls.hooks["router.claim"] = another_worker_takes_over
    w.reconcile()
    assert w.endpoint.restored_state == ""


def test_other_control_plane__at_work__is_told_and_never_taken_over_from(w: MemoryWorld) -> None:
    other = 1_000
    w.router.claim("triage", token=other)
    for _ in range(20):
        other += 5
        w.router.claim("triage", token=other)
        w.tick(5.0, probe=False)
    assert w.endpoint.restored_state == "rival"
    assert w.router.claim("triage", token=0) == other, "its writer was never outbid"
    wait_until_quiet(w)  # it ended
    assert w.endpoint.restored_state == ""
    assert w.endpoint.fencing_token > other


def test_other_control_plane__a_few_leases_ahead__is_not_outbid_before_it_was_quiet_for_long_enough(
    w: MemoryWorld,
) -> None:
    other = w.endpoint.fencing_token + 3
    w.router.claim("triage", token=other)
    for _ in range(4):  # each turn's lease adds one to our own token
        w.tick(4.0, probe=False)
        assert w.router.claim("triage", token=0) == other
    assert w.endpoint.restored_state == "watching"
    wait_until_quiet(w)
    assert w.endpoint.restored_state == ""
    assert w.router.claim("triage", token=0) > other


def test_other_control_plane__a_few_leases_ahead_and_at_work__is_a_rival(w: MemoryWorld) -> None:
    other = w.endpoint.fencing_token + 3
    w.router.claim("triage", token=other)
    w.tick(4.0, probe=False)
    w.router.claim("triage", token=other + 1)  # its next lease: by then ours is as large
    w.clock.advance(4.0)
    Endpoint.objects.update(fencing_token=other + 5)
    w.reconcile()
    assert w.endpoint.restored_state == "rival"
    assert w.router.claim("triage", token=0) == other + 1


@pytest.mark.parametrize("silent", ["router", "cluster"])
def test_copy__one_that_holds_the_token_does_not_answer__is_not_taken_for_quiet(
    w: MemoryWorld, silent: str
) -> None:
    other = w.endpoint.fencing_token + 3
    for part in (w.router, w.cluster):
        part.claim("triage", token=other)
    w.tick(4.0, probe=False)
    assert w.endpoint.restored_state == "watching"
    if silent == "router":
        w.router.down = True
    else:
        w.cluster.outage = "no route"
    wait_until_quiet(w)
    assert w.endpoint.restored_state == "watching"
    assert Restored.from_json(w.endpoint.restored).newest == other
    w.router.down, w.cluster.outage = False, ""
    run(w, 5)
    assert w.endpoint.restored_state == ""


def test_clock__jumps_forward_while_somebody_may_be_at_work__is_no_reason_to_take_over(
    w: MemoryWorld,
) -> None:
    restored_before_the_promotion(w)
    run(w, 3)
    w.clock.jump(3600)
    run(w, 3)
    assert w.endpoint.restored_state == "watching"


def test_report__every_state__has_words_and_it_ends_with_the_last_one(w: MemoryWorld) -> None:
    for state in RestoredState:
        Endpoint.objects.update(restored_state=state)
        report_restored(now=w.now)
        part = Heartbeat.objects.filter(name="restored copy").first()
        assert (part is None) is (state is RestoredState.NONE)
    Endpoint.objects.update(restored_state="")
    report_restored(now=w.now)
    assert not Heartbeat.objects.filter(name="restored copy").exists()


def test_report__state_of_a_newer_version__is_told_and_the_others_are_too(w: MemoryWorld) -> None:
    Endpoint.objects.update(restored_state="merging")
    report_restored(now=w.now)
    part = Heartbeat.objects.get(name="restored copy")
    assert "triage: in a state unknown here, 'merging'" in part.message


# --- held -----------------------------------------------------------------------------------------------------------


def test_held__commands_and_new_rollouts__are_refused_with_the_way_out(w: MemoryWorld) -> None:
    restored_before_the_end(w)
    wait_until_quiet(w)
    assert w.rollout.phase == "progressing", "what the copy believes is not gone on with"
    assert route(w) == {w.variant(2).name: 10_000}
    for command in (w.pause, w.promote, w.roll_back):
        with pytest.raises(Refused) as refused:
            command()
        assert refused.value.code == "restored-copy"
    assert probe_rollouts(w.worlds).done == 0


def test_copy__in_a_rollback__does_not_return_traffic_by_itself(w: MemoryWorld) -> None:
    w.start(2)
    w.run_to("progressing")
    w.router.refuse = "no"
    w.roll_back()
    w.run_to("rolling-back", limit=3)
    copy = Copy()
    w.router.refuse = ""
    w.run_to("rolled-back")
    promote_2(w)
    copy.restore()
    wait_until_quiet(w)
    run(w, 10)
    assert w.endpoint.restored_state == "held"
    assert route(w) == {w.variant(2).name: 10_000}


# --- kept -----------------------------------------------------------------------------------------------------------


# --- returned -------------------------------------------------------------------------------------------------------


def test_return__what_the_database_says_is_ready_before_it_gets_traffic(w: MemoryWorld) -> None:
    name = restored_before_the_promotion(w)
    wait_until_quiet(w)
    w.cluster.ready_after = 6.0
    choose(w, "return")
    run(w, 4)
    assert w.endpoint.restored_state == "returning"
    assert "to be ready" in w.endpoint.restored["problem"]
    assert route(w) == {name: 10_000}
    run(w, 8)
    assert w.endpoint.restored_state == ""
    assert route(w) == {w.variant(1).name: 10_000}
    assert w.lost == 0


def test_return__with_a_rollout_under_way__it_goes_on_and_the_time_between_does_not_count(
    w: MemoryWorld,
) -> None:
    w.start(2)
    w.run(lambda: w.shares().get(2) == 2500)
    copy = Copy()
    w.roll_back()
    w.run_to("rolled-back")
    for _ in range(10):  # longer than a rollout goes without data
        w.tick(4.0, probe=False)
    copy.restore()
    wait_until_quiet(w)
    assert w.endpoint.restored_state == "held"
    choose(w, "return")
    w.run_to("succeeded")
    assert w.lost == 0


def test_return__what_the_database_says_cannot_run__another_choice_is_possible(w: MemoryWorld) -> None:
    name = restored_before_the_promotion(w)
    wait_until_quiet(w)
    w.cluster.fail(w.variant(1).name, FailureReason.NO_MEMORY, "no memory")
    choose(w, "return")
    run(w, 4)
    assert "no memory" in w.endpoint.restored["problem"]
    choose(w, "keep")
    run(w, 2)
    assert w.endpoint.restored_state == ""
    assert route(w) == {name: 10_000}
    assert Rollout.objects.count() == 0
