"""Whole rollouts on the real loop, in a world in memory: what is decided, why, and what users see of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.kernel.errors import Conflict, InvalidInput, Refused, TamperedFile
from rollouts.domain.engines import FailureReason
from rollouts.domain.record.readings import ROUTER
from rollouts.domain.record.recorded import evidence_digest
from rollouts.models import Arm, Effect, Evidence, MinuteSample
from tests.rollouts.memory_world import ALL_GATES, ERRORS, LATENCY, LONG_PLAN, PLAN, QUALITY, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path).serve()


# --- promoted -------------------------------------------------------------------------------------------------------


def test_better_candidate__goes_through_every_step__is_promoted_and_told_to_mlflow(w: MemoryWorld) -> None:
    w.start(2, plan=LONG_PLAN)
    w.behave(2, accuracy=1.0)
    seen: list[int] = []

    def look() -> bool:
        share = w.shares().get(2, 0)
        if not seen or seen[-1] != share:
            seen.append(share)
        return w.rollout.phase == "succeeded"

    w.run(look)
    rollout = w.rollout
    assert seen == [0, 500, 2500, 5000, 10000]
    assert rollout.verdicts["all_required_pass"]
    assert rollout.reason.startswith("Promoted: v2 has all traffic")
    assert w.endpoint.stable == rollout.candidate
    assert w.endpoint.previous == rollout.baseline
    assert w.lost == 0
    w.run_for(1)
    assert w.store.models()[0].aliases["triage-production"] == 2
    assert w.store.version("triage", 2).tags["headgate.decision"] == "promoted"


def test_watch__ends__drains_the_old_variant_and_leaves_the_new_one(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    assert w.workload(1).wanted
    w.run(lambda: not w.rollout.watching)
    w.run_for(2)
    assert not w.workload(1).wanted
    assert w.workload(1).phase == "absent"
    assert w.shares() == {2: 10_000}
    assert w.router.routes["triage"].fallback == w.variant(2).name
    assert [b.variant for b in w.router.routes["triage"].backends] == [w.variant(2).name]
    assert w.lost == 0


def test_next_rollout__during_the_watch__ends_it_and_drains_the_old_variant(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    first = w.rollout
    w.start(3)
    w.behave(3, accuracy=1.0)
    first.refresh_from_db()
    assert not first.watching
    w.run_for(3)
    assert w.workload(1).phase == "absent"
    assert w.run_to("succeeded").baseline == w.variant(2)
    assert w.lost == 0


def test_next_rollout__to_the_watched_old_variant__keeps_it_running(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=0.7)
    w.run_to("succeeded")
    process = w.workload(1).process_started_at
    w.start(1)
    w.run_to("progressing")
    assert w.workload(1).process_started_at == process
    assert w.run_to("succeeded").candidate == w.variant(1)


# --- rolled back ----------------------------------------------------------------------------------------------------


def test_worse_answers__green_everywhere_else__rolled_back_by_the_quality_gate(w: MemoryWorld) -> None:
    w.start(3)
    w.behave(3, accuracy=0.1)
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "gate:quality"
    assert "Golden-set score" in rollout.cause_sentence
    assert rollout.reason == rollout.cause_sentence
    assert w.shares() == {1: 10_000}
    assert {arm.name: arm.observed_bp for arm in rollout.arms.all()} == {"baseline": 10_000, "candidate": 0}
    assert w.endpoint.stable == w.variant(1)
    assert w.lost == 0
    w.run_for(3)
    assert w.workload(3).phase == "absent"
    assert w.store.version("triage", 3).tags["headgate.decision"] == "rolled-back"
    assert w.store.models()[0].aliases["triage-production"] == 1


def test_slow_candidate__rolled_back_by_the_latency_gate(w: MemoryWorld) -> None:
    w.start(4)
    w.behave(4, ttft_seconds=0.6, duration_seconds=0.9)
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "gate:ttft"
    assert "Time to first token" in rollout.cause_sentence


def test_error_burst__without_an_error_gate__killed_fast(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(QUALITY, LATENCY)).serve()
    w.start(3)
    w.run_to("progressing")
    w.behave(3, error_rate=0.95)
    rollout = w.run_to("rolled-back", limit=12)
    assert rollout.cause == "fast-kill"
    assert "failed within" in rollout.cause_sentence


def test_few_errors__rolled_back_by_the_error_gate(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS, LATENCY)).serve()
    w.start(3)
    w.behave(3, error_rate=0.2)
    assert w.run_to("rolled-back").cause == "gate:errors"


def test_bad_candidate_after_promotion__the_watch_returns_to_the_old_variant(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    w.behave(2, error_rate=0.9)
    rollout = w.run_to("rolled-back", limit=12)
    assert rollout.cause == "fast-kill"
    assert w.shares() == {1: 10_000}
    assert w.endpoint.stable == w.variant(1)
    w.run_for(2)
    assert w.store.models()[0].aliases["triage-production"] == 1


# --- launches that fail ---------------------------------------------------------------------------------------------


def test_launch__engine_fails__rolled_back_with_reason_and_log_tail_kept(w: MemoryWorld) -> None:
    rollout = w.start(2)
    w.cluster.fail(
        rollout.candidate.name, FailureReason.NO_MEMORY, "the cache needs 5 GB more than there are"
    )
    w.run_to("rolled-back")
    rollout = w.rollout
    assert rollout.cause == "launch:no-memory"
    assert "the cache needs 5 GB more" in rollout.reason
    w.run_for(2)
    assert any("no-memory" in line for line in w.workload(2).log_tail)
    assert rollout.traffic_at is None
    assert w.shares() == {1: 10_000}
    assert w.lost == 0


def test_launch__file_changed_on_this_machine__refused_before_anything_starts(w: MemoryWorld) -> None:
    folder = w.files_of(2)
    folder.chmod(0o755)
    (folder / "model.safetensors").chmod(0o644)
    (folder / "model.safetensors").write_bytes(b"other weights")
    w.start(2)
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "launch:tampered-file"
    assert "model.safetensors" in rollout.reason
    assert w.variant(2).name not in w.cluster.statuses()


def test_start__version_found_changed_before__refused_with_the_file_named(w: MemoryWorld) -> None:
    (w.files_of(2) / "model.safetensors").chmod(0o644)
    (w.files_of(2) / "model.safetensors").write_bytes(b"other weights")
    w.start(2)
    w.run_to("rolled-back")
    with pytest.raises((Refused, InvalidInput, TamperedFile), match=r"model\.safetensors"):
        w.start(2)


def test_launch__never_ready__rolled_back_when_its_time_is_over(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path).serve()
    w.cluster.ready_after = 10_000.0
    w.start(2)
    rollout = w.run_to("rolled-back", limit=40)
    assert rollout.cause == "launch:timeout"
    assert "was not ready within 20 s" in rollout.reason


def test_launch__no_room_yet__waits_and_starts_when_there_is_room(w: MemoryWorld) -> None:
    w.cluster.room = 1
    w.start(2)
    w.run_for(5)
    assert w.rollout.phase == "provisioning"
    assert "There is no room" in w.rollout.reason
    launches = w.calls.names.count("cluster.ensure")
    assert launches <= 5  # with growing pauses, not at every tick
    w.cluster.room = 2
    w.behave(2, accuracy=1.0)
    w.run_to("progressing", limit=15)


def test_retry__after_a_failed_launch__counts_as_the_next_attempt_and_succeeds(w: MemoryWorld) -> None:
    name = w.start(2).candidate.name
    w.cluster.fail(name, FailureReason.BAD_MODEL, "no such architecture")
    w.run_to("rolled-back")
    w.cluster.mend(name)
    again = w.start(2)
    w.behave(2, accuracy=1.0)
    assert again.attempt == 2
    w.run_to("succeeded")


# --- what is written down -------------------------------------------------------------------------------------------


def test_evidence__every_row__is_chained_to_the_one_before(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    rows = list(Evidence.objects.filter(rollout=w.rollout).order_by("index"))
    assert [row.index for row in rows] == list(range(len(rows)))
    assert len(rows) > 4
    before = None
    for row in rows:
        made = evidence_digest(
            before=before,
            interval=row.interval,
            situation=row.situation,
            verdicts=row.verdicts,
            decision=row.decision,
        )
        assert made == row.digest
        before = row.digest


def test_counts__of_arms_and_minutes__are_what_the_users_sent(w: MemoryWorld) -> None:
    w.start(3)
    w.behave(3, error_rate=0.2)
    w.run_to("rolled-back")
    w.run_for(3)
    arms = {arm.name: arm for arm in Arm.objects.filter(rollout=w.rollout)}
    counters = w.router.counted("triage")[ROUTER].arms
    assert arms["candidate"].requests == counters[w.variant(3).name].ended
    assert arms["candidate"].errors == counters[w.variant(3).name].errors == arms["candidate"].failed
    minutes = MinuteSample.objects.filter(variant=w.variant(3))
    assert sum(minute.requests for minute in minutes) == counters[w.variant(3).name].ended


def test_fallbacks__of_a_dead_candidate__are_blamed_and_no_user_sees_them(w: MemoryWorld) -> None:
    w.start(2)
    w.run_to("progressing")
    w.behave(2, accuracy=1.0)
    w.run_for(3)
    lost = w.lost
    w.cluster.kill(w.variant(2).name, down_seconds=100.0)
    rollout = w.run_to("rolled-back", limit=20)
    candidate = Arm.objects.get(rollout=rollout, name="candidate")
    assert rollout.cause in ("fast-kill", "gate:errors")
    assert candidate.fallbacks > 0
    assert candidate.failed == 0
    assert w.lost == lost == 0


def test_idle_tick__writes_next_to_nothing(w: MemoryWorld) -> None:
    w.run_for(3)
    writes = []
    for _ in range(2):  # one of any two may end an interval
        with CaptureQueriesContext(connection) as queries:
            w.tick()
        writes.append([q["sql"] for q in queries if q["sql"].startswith(("INSERT", "UPDATE", "DELETE"))])
    quiet = min(writes, key=len)
    assert len(quiet) <= 3, quiet  # claim, hold, release
    assert Effect.objects.filter(state="pending").count() == 0


# --- bad input ------------------------------------------------------------------------------------------------------


def test_start__second_rollout__conflict_and_the_first_goes_on(w: MemoryWorld) -> None:
    first = w.start(2)
    w.run_to("progressing")
    with pytest.raises(Conflict, match=f"#{first.pk}"):
        w.start(3)
    assert w.rollout.pk == first.pk


def test_start__unknown_version__names_those_that_exist(w: MemoryWorld) -> None:
    with pytest.raises(InvalidInput, match="v4, v3, v2, v1") as caught:
        w.start(9)
    assert caught.value.field == "version"


def test_start__slo_that_is_no_edge__names_both_neighbours(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=({**LATENCY, "slo_seconds": 0.27}, QUALITY)).serve()
    with pytest.raises(InvalidInput) as caught:
        w.start(2)
    edges = caught.value.extra
    assert edges["below"] < 0.27 < edges["above"]


def test_start__the_variant_that_serves__refused(w: MemoryWorld) -> None:
    with pytest.raises(InvalidInput, match="is what serves now"):
        w.start(1)


def test_start__baseline_not_ready__refused(w: MemoryWorld) -> None:
    w.cluster.kill(w.variant(1).name, down_seconds=30.0)
    w.tick()
    with pytest.raises(Refused, match="not ready"):
        w.start(2)


def test_supersede__before_traffic_moved__ends_the_first_and_drains_it(w: MemoryWorld) -> None:
    first = w.start(2)
    w.tick()
    w.start(3, supersede=True)
    w.behave(3, accuracy=1.0)
    first.refresh_from_db()
    assert first.phase == "superseded"
    w.run_to("succeeded")
    assert w.workload(2).phase == "absent"


def test_supersede__by_the_same_variant__its_engine_goes_on_running(w: MemoryWorld) -> None:
    w.start(2)
    w.tick()
    w.start(2, supersede=True, note="other plan")
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    assert w.workload(2).phase == "ready"


def test_supersede__after_traffic_moved__conflict(w: MemoryWorld) -> None:
    w.start(2)
    w.run_to("progressing")
    with pytest.raises(Conflict):
        w.start(3, supersede=True)


def test_gates_of_the_stories__are_the_policy_in_use(w: MemoryWorld) -> None:
    keys = [gate.key for gate in w.endpoint.gate_policy.policy.gates]
    assert keys == [gate["key"] for gate in ALL_GATES]
    assert PLAN.steps[-1].share_bp == 5_000
