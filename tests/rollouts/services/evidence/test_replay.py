"""A recorded rollout is done again, byte by byte; what was changed afterwards is found and named."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import QuerySet

from controlplane.access.actors import HEADGATE
from controlplane.kernel.errors import InvalidInput, NotFound, Refused
from rollouts.domain.engines import FailureReason
from rollouts.domain.record.recorded import TamperedEvidence, evidence_digest
from rollouts.models import Evidence, EvidencePack, GatePolicyVersion, LoopDecision, ReplayRun, Rollout
from rollouts.services.commands.rollouts import set_global_stop
from rollouts.services.errands.packing import pack_evidence
from rollouts.services.evidence import replay
from rollouts.services.evidence.replay import ReplayPart, forget_replays, replay_part, replay_whole
from rollouts.services.evidence.report import ReplayReport
from rollouts.services.policies.versions import define_gate_policy
from tests.rollouts.memory_world import BANDIT, ERRORS, LATENCY, LONG_PLAN, QUALITY, MemoryWorld
from tests.rollouts.replaying import assert_identical, over, promoted, replayed

pytestmark = [pytest.mark.story, pytest.mark.django_db]


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path).serve()


# --- the stories, again ---------------------------------------------------------------------------------------------


def test_promoted__through_every_step_and_the_watch__is_identical(w: MemoryWorld) -> None:
    w.start(2, plan=LONG_PLAN)
    w.behave(2, accuracy=1.0)
    w.run_to("succeeded")
    w.run(lambda: not w.rollout.watching)
    report = assert_identical(w)
    assert "identical" in report.sentence


def test_rolled_back_by_quality__is_identical(w: MemoryWorld) -> None:
    w.start(3)
    w.behave(3, accuracy=0.1)
    w.run_to("rolled-back")
    assert_identical(w)


def test_rolled_back_by_latency__is_identical(w: MemoryWorld) -> None:
    w.start(4)
    w.behave(4, ttft_seconds=0.6, duration_seconds=0.9)
    w.run_to("rolled-back")
    assert_identical(w)


def test_killed_fast__is_identical(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(QUALITY, LATENCY)).serve()
    w.start(3)
    w.run_to("progressing")
    w.behave(3, error_rate=0.95)
    w.run_to("rolled-back", limit=12)
    assert w.rollout.cause == "fast-kill"
    assert_identical(w)


def test_paused_and_resumed_by_people__is_identical(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("progressing")
    w.run_for(3)
    w.pause()
    w.run_for(4)
    w.resume()
    w.run_to("succeeded")
    assert_identical(w)


def test_held_by_the_global_stop__is_identical(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("progressing")
    set_global_stop(on=True, actor=w.manager, now=w.now, why="incident")
    w.run_for(4)
    assert w.rollout.phase == "paused"
    set_global_stop(on=False, actor=w.manager, now=w.now, why="over")
    w.run_to("succeeded")
    assert_identical(w)


def test_router_outage_and_missing_data__is_identical(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("progressing")
    w.run_for(3)
    w.router.down = True
    w.run_for(8)
    w.router.down = False
    w.run_for(2)
    w.cluster.outage = "the process manager is away"
    w.run_for(5)
    w.cluster.outage = ""
    w.run_to("succeeded", "rolled-back")
    assert any(row.interval["missing"] or row.interval["broken"] for row in w.rollout.evidence.all())
    assert_identical(w)


def test_engine_dies__rolled_back__is_identical(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("progressing")
    w.run_for(3)
    w.cluster.kill(w.variant(2).name, down_seconds=100.0)
    w.run_to("rolled-back", limit=20)
    assert_identical(w)


def test_launch_that_failed__has_decisions_only__is_identical(w: MemoryWorld) -> None:
    rollout = w.start(2)
    w.cluster.fail(rollout.candidate.name, FailureReason.NO_MEMORY, "no room for the cache")
    w.run_to("rolled-back")
    report = replayed(w)
    assert (report.outcome, report.intervals) == ("identical", 0)
    assert report.decisions == w.rollout.next_decision >= 3


def test_rollout_under_way__as_far_as_it_came__is_identical(w: MemoryWorld) -> None:
    w.start(2)
    w.run_to("progressing")
    w.run_for(6)
    assert_identical(w)


# --- packed ---------------------------------------------------------------------------------------------------------


# --- changed afterwards ---------------------------------------------------------------------------------------------


def assert_tampered(w: MemoryWorld, row: str) -> TamperedEvidence:
    with pytest.raises(TamperedEvidence) as caught:
        replayed(w)
    assert caught.value.row == row
    assert row in str(caught.value)
    return caught.value


def test_a_count_changed__refused_with_the_interval(w: MemoryWorld) -> None:
    promoted(w)
    row = Evidence.objects.get(rollout=w.rollout, index=3)
    row.interval["arms"]["candidate"]["errors"] += 1
    row.save()
    assert assert_tampered(w, "interval 3").extra == {"row": "interval 3"}


@pytest.mark.parametrize("part", ["situation", "verdicts", "decision"])
def test_another_part_changed__refused(w: MemoryWorld, part: str) -> None:
    promoted(w)
    row = Evidence.objects.get(rollout=w.rollout, index=2)
    changed = {"situation": "now", "verdicts": "reason", "decision": "reason"}[part]
    getattr(row, part)[changed] = 1.5
    row.save()
    assert_tampered(w, "interval 2")


def test_a_row_removed__refused_with_the_one_that_is_missing(w: MemoryWorld) -> None:
    promoted(w)
    Evidence.objects.filter(rollout=w.rollout, index=4).delete()
    assert_tampered(w, "interval 4")


def test_the_last_row_removed__refused(w: MemoryWorld) -> None:
    promoted(w)
    last = w.rollout.next_interval - 1
    Evidence.objects.filter(rollout=w.rollout, index=last).delete()
    assert_tampered(w, f"interval {last}")


def test_all_rows_removed__refused(w: MemoryWorld) -> None:
    promoted(w)
    Evidence.objects.filter(rollout=w.rollout).delete()
    assert_tampered(w, "interval 0")


def test_two_rows_swapped__refused(w: MemoryWorld) -> None:
    promoted(w)
    for found, wanted in ((1, 1_000), (2, 1), (1_000, 2)):
        Evidence.objects.filter(rollout=w.rollout, index=found).update(index=wanted)
    assert_tampered(w, "interval 1")


def test_a_row_written_anew_with_its_digest__breaks_the_chain_at_the_next(w: MemoryWorld) -> None:
    promoted(w)
    rows = list(Evidence.objects.filter(rollout=w.rollout, index__in=(1, 2)).order_by("index"))
    rows[1].decision["reason"] = "All is well."
    rows[1].digest = evidence_digest(
        before=rows[0].digest,
        interval=rows[1].interval,
        situation=rows[1].situation,
        verdicts=rows[1].verdicts,
        decision=rows[1].decision,
    )
    rows[1].save()
    assert_tampered(w, "interval 3")


def test_a_decision_between_changed_or_removed__refused(w: MemoryWorld) -> None:
    promoted(w)
    kept = LoopDecision.objects.get(rollout=w.rollout, number=1)
    LoopDecision.objects.filter(pk=kept.pk).update(decision={**kept.decision, "reason": "other"})
    assert_tampered(w, "decision 1")
    kept.save()
    LoopDecision.objects.filter(rollout=w.rollout, number=w.rollout.next_decision - 1).delete()
    assert_tampered(w, f"decision {w.rollout.next_decision - 1}")


def test_a_pack_cut_short__refused(w: MemoryWorld) -> None:
    over(w)
    pack_evidence(now=w.now + timedelta(hours=2))
    pack = EvidencePack.objects.get()
    EvidencePack.objects.update(rows=bytes(pack.rows)[:-20])
    assert_tampered(w, "interval 0")


def test_the_digest_of_a_pack_changed__refused(w: MemoryWorld) -> None:
    over(w)
    pack_evidence(now=w.now + timedelta(hours=2))
    EvidencePack.objects.update(digest="sha256:0")
    assert_tampered(w, f"the pack of intervals 0 to {w.rollout.next_interval - 1}")


def test_the_gate_policy_changed__refused(w: MemoryWorld) -> None:
    promoted(w)
    stored = w.rollout.gate_policy
    rows: QuerySet[GatePolicyVersion] = QuerySet(GatePolicyVersion).filter(
        pk=stored.pk
    )  # past what keeps versions immutable
    rows.update(body={**stored.body, "on_no_data": "rollback"})
    assert_tampered(w, f"the gate policy {stored}")


def test_the_plan_changed__refused(w: MemoryWorld) -> None:
    promoted(w)
    plan = {**w.rollout.plan, "watch_seconds": 11}
    Rollout.objects.filter(pk=w.rollout.pk).update(plan=plan)
    assert_tampered(w, "the plan")


def test_the_kept_verdicts_changed__differs_and_is_named(w: MemoryWorld) -> None:
    promoted(w)
    verdicts = w.rollout.verdicts
    verdicts["verdicts"][0]["verdict"] = "fail"
    Rollout.objects.filter(pk=w.rollout.pk).update(verdicts=verdicts)
    report = replayed(w)
    assert (report.outcome, report.kept) == ("differs", False)
    assert report.first_other is not None
    assert report.first_other["row"] == "the rollout itself"
    assert report.first_other["path"] == "verdicts.verdicts[0].verdict"


def test_evidence_of_an_older_version__is_refused_and_not_called_tampered(w: MemoryWorld) -> None:
    promoted(w)
    Evidence.objects.filter(rollout=w.rollout).update(situation={})
    with pytest.raises(Refused, match="did not keep") as caught:
        replayed(w)
    assert caught.value.code == "evidence-not-replayable"


# --- other software -------------------------------------------------------------------------------------------------


def test_other_software__promises_the_same_verdicts_only(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(w)
    monkeypatch.setattr(replay, "software", lambda: "numpy of the future")
    report = replayed(w)
    assert (report.outcome, report.promise, report.kept) == ("identical", "equal", True)
    assert "numpy" in report.recorded_with[0]


def with_other_words(w: MemoryWorld) -> None:
    """As if an earlier version had worded the sentence of the last verdict."""
    verdicts = w.rollout.verdicts
    verdicts["reason"] = "Worded otherwise then."
    Rollout.objects.filter(pk=w.rollout.pk).update(verdicts=verdicts)


def test_other_software__words_a_sentence_differently__is_identical_and_counts_it(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(w)
    with_other_words(w)
    monkeypatch.setattr(replay, "software", lambda: "better words")
    report = replayed(w)
    assert (report.outcome, report.kept, report.reworded) == ("identical", True, 1)
    assert "identical, every verdict, number and decision. 1 sentence is worded" in report.sentence
    assert report.first_reworded is not None
    assert report.first_reworded["path"] == "verdicts.reason"


def test_same_software__a_sentence_is_worded_differently__breaks_the_promise(w: MemoryWorld) -> None:
    promoted(w)
    with_other_words(w)
    report = replayed(w)
    assert (report.promise, report.kept) == ("identical", False)
    assert "although the software is the same" in report.sentence


# --- in parts -------------------------------------------------------------------------------------------------------


def play_on(rollout: Rollout, part: ReplayPart, w: MemoryWorld) -> None:
    """Asks for part after part until there is a report."""
    while part.report is None:
        part = replay_part(actor=HEADGATE, rollout=rollout, key=part.key, now=w.now)


@pytest.fixture
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "STEPS_A_LOOK", 4)
    monkeypatch.setattr(replay, "PART_SECONDS", 0.0)


@pytest.mark.usefixtures("short_parts")
def test_parts__of_a_long_replay__end_with_the_same_report(w: MemoryWorld) -> None:
    promoted(w)
    rollout = Rollout.objects.select_related("endpoint", "gate_policy").get(pk=w.rollout.pk)
    part = replay_part(actor=HEADGATE, rollout=rollout, now=w.now)
    parts = 1
    while part.report is None:
        assert part.key is not None
        assert part.done < part.total == w.rollout.next_interval + w.rollout.next_decision
        part = replay_part(actor=HEADGATE, rollout=rollout, key=part.key, now=w.now)
        parts += 1
    assert parts >= 2
    assert part.report.outcome == "identical"
    assert not ReplayRun.objects.exists()


@pytest.mark.usefixtures("short_parts")
def test_parts__of_a_long_replay__took_as_long_as_all_of_them(w: MemoryWorld) -> None:
    promoted(w)
    rollout = Rollout.objects.select_related("endpoint", "gate_policy").get(pk=w.rollout.pk)
    part = replay_part(actor=HEADGATE, rollout=rollout, now=w.now)
    while part.report is None:
        part = replay_part(actor=HEADGATE, rollout=rollout, key=part.key, now=w.now + timedelta(seconds=60))
    assert part.report.seconds >= 60


@pytest.mark.usefixtures("short_parts")
def test_parts__tampered_behind_the_first__is_still_refused(w: MemoryWorld) -> None:
    promoted(w)
    rollout = Rollout.objects.select_related("endpoint", "gate_policy").get(pk=w.rollout.pk)
    part = replay_part(actor=HEADGATE, rollout=rollout, now=w.now)
    assert part.key is not None
    last = w.rollout.next_interval - 1
    Evidence.objects.filter(rollout=w.rollout, index=last).update(digest="sha256:0")
    with pytest.raises(TamperedEvidence, match=f"interval {last}"):
        play_on(rollout, part, w)


@pytest.mark.usefixtures("short_parts")
def test_parts__nobody_asks_on__are_forgotten(w: MemoryWorld) -> None:
    promoted(w)
    part = replay_part(actor=HEADGATE, rollout=w.rollout, now=w.now)
    forget_replays(now=w.now + timedelta(hours=2))
    with pytest.raises(NotFound):
        replay_part(actor=HEADGATE, rollout=w.rollout, key=part.key, now=w.now)


# --- another policy -------------------------------------------------------------------------------------------------


def what_if(w: MemoryWorld, *gates: Mapping[str, Any], **policy: Any) -> ReplayReport:
    total = sum(gate.get("weight", 1.0) for gate in gates)
    body = {"gates": [{**gate, "weight": gate.get("weight", 1.0) / total} for gate in gates], **policy}
    made = define_gate_policy(actor=HEADGATE, name="other", body=body, now=w.now)
    rollout = Rollout.objects.select_related("endpoint", "gate_policy").get(pk=w.rollout.pk)
    return replay_whole(rollout=rollout, policy=made)


def test_stricter_policy__on_a_bad_rollout__rolls_back_earlier(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=({**ERRORS, "mode": "tolerant"}, LATENCY)).serve()
    w.start(3)
    w.run_to("progressing")
    w.behave(3, error_rate=0.15)
    w.run_to("rolled-back")
    assert w.rollout.cause == "gate:errors"
    report = what_if(w, ERRORS)
    assert report.outcome == "differs"
    assert report.recorded is not None
    assert report.replayed is not None
    assert report.first is not None
    recorded, other = report.recorded["rollback"], report.replayed["rollback"]
    assert 0 < other["after"] < recorded["after"]
    assert other["cause"] == "gate:errors"
    assert "Error rate" in other["sentence"]
    assert report.first["replayed"]["event"] == "roll-back"
    assert report.first["recorded"]["event"] != "roll-back"
    assert report.first["moment"]["after"] == other["after"]
    assert "the traffic would have been different too" in report.limit


def test_laxer_policy__on_a_bad_rollout__would_not_have_rolled_back(w: MemoryWorld) -> None:
    w.start(3)
    w.behave(3, accuracy=0.1)
    w.run_to("rolled-back")
    report = what_if(w, ERRORS, LATENCY)
    assert report.recorded is not None
    assert report.replayed is not None
    assert report.recorded["rollback"]["cause"] == "gate:quality"
    assert report.replayed["rollback"] is None
    assert report.outcome == "differs"


def test_gate_on_what_was_never_sent__has_no_data_and_is_not_refused(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS, LATENCY)).serve()
    w.start(2)
    while w.rollout.phase != "succeeded":
        w.tick(probe=False)
    report = what_if(w, QUALITY, ERRORS)
    assert report.replayed is not None
    assert report.replayed["verdicts"]["quality"] == "no_data"
    assert report.replayed["passed"] is None
    assert report.first is not None
    assert report.first["recorded"]["event"] == "promote"


def test_slo_that_was_not_recorded__is_refused_with_the_field_and_the_edges(w: MemoryWorld) -> None:
    promoted(w)
    with pytest.raises(InvalidInput, match="other edges") as caught:
        what_if(w, ERRORS, {**LATENCY, "slo_seconds": 0.27})
    assert caught.value.field == "gates[1].slo_seconds"
    assert "250 ms" in caught.value.fix


def test_the_same_policy__is_a_replay(w: MemoryWorld) -> None:
    promoted(w)
    rollout = Rollout.objects.select_related("endpoint", "gate_policy").get(pk=w.rollout.pk)
    assert replay_whole(rollout=rollout, policy=rollout.gate_policy).kind == "replay"


# --- bandits --------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path: Path) -> MemoryWorld:
    """A bandit of versions 2 and 3 against 1, with users who rate; version 3 is the best."""
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2, others=(3,), plan=BANDIT)
    w.users_rate({1: 0.5, 2: 0.3, 3: 0.05})
    return w


def test_bandit__with_a_winner__is_identical(three: MemoryWorld) -> None:
    three.run_to("succeeded", "rolled-back", "paused")
    assert three.rollout.phase == "succeeded"
    three.run(lambda: not three.rollout.watching)
    assert_identical(three)


def test_bandit__arm_dropped_by_its_guardrail__is_identical_packed_too(three: MemoryWorld) -> None:
    three.run_to("progressing")
    three.behave(3, error_rate=0.3)
    three.run_to("succeeded", "rolled-back", "paused")
    three.run(lambda: not three.rollout.watching)
    assert_identical(three)
    assert pack_evidence(now=three.now + timedelta(hours=2)) == 1
    assert_identical(three)


def test_bandit__arm_that_never_launches__is_identical(three: MemoryWorld) -> None:
    three.cluster.fail(three.variant(2).name, FailureReason.NO_MEMORY, "no room for the cache")
    three.run_to("succeeded", "rolled-back", "paused")
    assert_identical(three)


def test_bandit__paused_and_resumed__is_identical(three: MemoryWorld) -> None:
    three.run_to("progressing")
    three.run_for(6)
    three.pause()
    three.run_for(5)
    three.resume()
    three.run_for(10)
    assert_identical(three)


def test_bandit__under_a_policy_that_fails_sooner__names_the_arm(three: MemoryWorld) -> None:
    three.run_to("progressing")
    three.behave(3, error_rate=0.3)
    three.run_to("succeeded", "rolled-back", "paused")
    report = what_if(three, ERRORS, alpha=0.4)
    assert report.recorded is not None
    assert report.replayed is not None
    left = {
        side["policy"]: min(c["after"] for c in side["changes"] if c["verdict"] in ("dropped", "eliminated"))
        for side in (report.recorded, report.replayed)
    }
    assert left["other@1"] <= left["default@1"]
