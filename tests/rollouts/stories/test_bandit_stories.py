"""Bandits on the real loop, in a world in memory: who wins, who leaves and why, and what users see of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.access.actors import HEADGATE
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.engines import FailureReason
from rollouts.domain.lifecycle.plan import Plan, canary
from rollouts.domain.record.readings import ROUTER
from rollouts.models import Arm, Evidence, HistoryEvent, ProbeResult
from rollouts.services.commands.rollouts import cancel_rollout
from rollouts.services.policies.versions import define_gate_policy
from tests.rollouts.memory_world import BANDIT, ERRORS, PLAN, QUALITY, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]

BEST_IS_3 = {1: 0.5, 2: 0.3, 3: 0.05}
TIE = {1: 0.5, 2: 0.05, 3: 0.05}


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path, gates=(ERRORS,)).serve()


def start(w: MemoryWorld, down: dict[int, float], *, plan: Plan = BANDIT) -> MemoryWorld:
    """A bandit of versions 2 and 3 against 1, with users who rate."""
    w.start(2, others=(3,), plan=plan)
    w.users_rate(down)
    return w


def learning(w: MemoryWorld, down: dict[int, float], *, plan: Plan = BANDIT) -> MemoryWorld:
    start(w, down, plan=plan).run_to("progressing")
    return w


def _written(w: MemoryWorld) -> dict[str, Any]:
    """The policy in use, as a person would write it."""
    body = w.endpoint.gate_policy.body
    return {name: value for name, value in body.items() if name not in ("name", "version")}


def arms(w: MemoryWorld) -> dict[str, str]:
    return {arm.name: arm.dropped_cause for arm in Arm.objects.filter(rollout=w.rollout)}


# --- a winner -------------------------------------------------------------------------------------------------------


def test_three_arms__the_best_wins__has_all_traffic_and_mlflow_knows(w: MemoryWorld) -> None:
    start(w, BEST_IS_3)
    rollout = w.run_to("succeeded", "rolled-back", "paused")
    assert rollout.phase == "succeeded", rollout.reason
    assert rollout.candidate == w.variant(3)
    assert w.shares() == {3: 10_000}
    assert w.endpoint.stable == w.variant(3)
    assert arms(w) == {"baseline": "", "candidate": "evidence", "candidate-2": ""}
    assert "v3 wins" in " ".join(HistoryEvent.objects.values_list("detail", flat=True))
    assert w.lost == 0
    w.run(lambda: not w.rollout.watching)
    w.run_for(2)
    assert w.store.models()[0].aliases["triage-production"] == 3
    assert [w.workload(number).phase for number in (1, 2, 3)] == ["absent", "absent", "ready"]


def test_bad_arm__answers_best_but_fails__is_dropped_by_its_guardrail_and_never_wins(w: MemoryWorld) -> None:
    learning(w, BEST_IS_3)
    w.behave(3, error_rate=0.3)
    rollout = w.run_to("succeeded", "rolled-back", "paused")
    assert rollout.phase == "succeeded", rollout.reason
    assert rollout.candidate == w.variant(2)
    assert w.arm(3).dropped_cause == "guardrail"
    assert "Error rate" in w.arm(3).dropped_sentence
    assert w.workload(3).phase == "absent"


def test_error_burst__of_one_arm__is_killed_fast_and_the_others_go_on(w: MemoryWorld) -> None:
    learning(w, BEST_IS_3)
    w.run_for(2)
    w.behave(3, error_rate=0.95)
    w.run(lambda: w.arm(3).dropped_at is not None, limit=8)
    assert w.arm(3).dropped_cause in ("fast-kill", "guardrail")
    assert w.rollout.phase == "progressing"
    w.tick()
    assert w.shares().get(3, 0) == 0
    assert sum(w.shares().values()) == 10_000


def test_winner__that_turns_bad__the_watch_returns_to_the_baseline(w: MemoryWorld) -> None:
    start(w, BEST_IS_3)
    w.run_to("succeeded")
    w.behave(3, error_rate=0.9)
    rollout = w.run_to("rolled-back", limit=12)
    assert rollout.cause == "fast-kill"
    assert w.shares() == {1: 10_000}
    assert w.endpoint.stable == w.variant(1)
    w.run_for(2)
    assert w.store.models()[0].aliases["triage-production"] == 1
    assert w.workload(3).phase == "absent"


# --- no winner ------------------------------------------------------------------------------------------------------

SOON = replace(BANDIT, deadline_seconds=24)


def test_tie__at_the_deadline__says_a_or_b_and_waits_for_a_person(w: MemoryWorld) -> None:
    start(w, TIE, plan=SOON)
    rollout = w.run_to("succeeded", "rolled-back", "paused")
    assert (rollout.phase, rollout.pause_reason) == ("paused", "inconclusive")
    assert "v2 or v3" in rollout.reason
    assert "promote one of them" in rollout.next_step
    w.run_for(6)
    assert w.rollout.phase == "paused"
    w.promote(arm="candidate-2")
    w.run_to("succeeded", limit=4)
    assert w.rollout.candidate == w.variant(3)
    assert w.arm(2).dropped_cause == "person"
    assert w.shares() == {3: 10_000}
    w.run_for(2)
    assert w.workload(2).phase == "absent"


def test_tie__resumed__learns_on_with_the_shares_it_had(w: MemoryWorld) -> None:
    start(w, TIE, plan=SOON)
    w.run_to("paused")
    held = w.shares()
    w.run_for(3)
    assert w.shares() == held
    w.resume()
    w.tick()
    assert w.rollout.phase == "progressing"
    assert sum(w.shares().values()) == 10_000


def test_deadline__policy_that_rolls_back__does_so_with_its_cause(w: MemoryWorld) -> None:
    body = {**_written(w), "on_inconclusive": "rollback"}
    policy = define_gate_policy(actor=HEADGATE, name="strict", body=body, now=w.now)
    w.start(2, others=(3,), plan=SOON, gate_policy=policy)
    w.users_rate(TIE)
    rollout = w.run_to("succeeded", "rolled-back", "paused")
    assert (rollout.phase, rollout.cause) == ("rolled-back", "inconclusive")
    assert "the policy rolls back" in rollout.cause_sentence
    assert w.shares() == {1: 10_000}


def test_deadline_of_a_canary__policy_that_rolls_back__does_so_with_its_cause(w: MemoryWorld) -> None:
    body = {**_written(w), "on_no_data": "rollback"}
    w.rate = 0
    policy = define_gate_policy(actor=HEADGATE, name="strict", body=body, now=w.now)
    w.start(2, plan=replace(PLAN, deadline_seconds=6), gate_policy=policy)
    rollout = w.run_to("rolled-back", "paused", limit=20)
    assert (rollout.phase, rollout.cause) == ("rolled-back", "no-data")
    assert "a gate has no data" in rollout.cause_sentence


def test_baseline__is_the_best__everybody_returns_to_it(w: MemoryWorld) -> None:
    start(w, {1: 0.02, 2: 0.4, 3: 0.5})
    rollout = w.run_to("succeeded", "rolled-back", "paused")
    assert (rollout.phase, rollout.cause) == ("rolled-back", "bandit:baseline")
    assert "v1 keeps all traffic" in rollout.cause_sentence
    assert arms(w) == {"baseline": "", "candidate": "evidence", "candidate-2": "evidence"}
    assert w.shares() == {1: 10_000}
    w.run_for(3)
    assert [w.workload(number).phase for number in (1, 2, 3)] == ["ready", "absent", "absent"]
    tags = [w.store.version("triage", n).tags.get("headgate.decision") for n in (1, 2, 3)]
    assert tags == ["serving", "rolled-back", "rolled-back"]
    assert w.store.models()[0].aliases["triage-production"] == 1


def test_baseline__that_cannot_win__keeps_its_share_as_comparator(w: MemoryWorld) -> None:
    start(w, {1: 0.9, 2: 0.05, 3: 0.05})
    w.run(lambda: (w.rollout.verdicts or {"arms": [{}]})["arms"][0].get("state") == "eliminated")
    w.run_for(4)
    assert w.rollout.phase == "progressing"
    assert w.shares()[1] == 1_000
    assert arms(w)["baseline"] == ""


def test_every_candidate__fails__rolled_back_with_the_last_guardrail_as_cause(w: MemoryWorld) -> None:
    learning(w, BEST_IS_3)
    w.behave(2, error_rate=0.3)
    w.behave(3, error_rate=0.3)
    rollout = w.run_to("succeeded", "rolled-back", "paused")
    assert (rollout.phase, rollout.cause) == ("rolled-back", "gate:errors")
    assert "No candidate is left" in rollout.cause_sentence


# --- launches -------------------------------------------------------------------------------------------------------


def test_launch__of_one_arm_fails__the_rest_goes_on_without_it(w: MemoryWorld) -> None:
    start(w, {1: 0.5, 2: 0.05})
    w.cluster.fail(w.variant(3).name, FailureReason.NO_MEMORY, "5 GB are missing")
    rollout = w.run_to("succeeded", "rolled-back", "paused")
    assert rollout.phase == "succeeded", rollout.reason
    assert rollout.candidate == w.variant(2)
    assert w.arm(3).dropped_cause == "launch"
    assert "5 GB are missing" in w.arm(3).dropped_sentence
    assert [arm["name"] for arm in rollout.verdicts["arms"]] == ["baseline", "candidate"]
    assert all("candidate-2" not in row.interval["arms"] for row in Evidence.objects.all())
    assert w.lost == 0


def test_launch__one_arm_has_no_room__is_dropped_when_its_time_is_over(w: MemoryWorld) -> None:
    w.cluster.room = 2
    start(w, {1: 0.5, 2: 0.05})
    w.run(lambda: w.rollout.phase == "progressing", limit=40)
    dropped = [arm for arm in Arm.objects.filter(rollout=w.rollout) if arm.dropped_cause]
    assert [arm.dropped_cause for arm in dropped] == ["launch"]
    assert "was not ready within 20 s" in dropped[0].dropped_sentence
    assert len(w.shares()) == 2


def test_launch__of_every_arm_fails__rolled_back(w: MemoryWorld) -> None:
    start(w, BEST_IS_3)
    for number in (2, 3):
        w.cluster.fail(w.variant(number).name, FailureReason.BAD_MODEL, "no such architecture")
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "launch:bad-model"
    assert rollout.traffic_at is None
    assert w.shares() == {1: 10_000}


def test_cancel__while_they_launch__drains_them_all(w: MemoryWorld) -> None:
    start(w, BEST_IS_3)
    w.tick()
    cancel_rollout(rollout_id=w.rollout.pk, actor=w.engineer, now=w.now)
    w.run_for(3)
    assert w.rollout.phase == "cancelled"
    assert sorted(w.cluster.statuses()) == [w.variant(1).name]


def test_launch__no_traffic_moves_until_each_arm_answered_itself(w: MemoryWorld) -> None:
    start(w, BEST_IS_3)
    w.behave(3, error_rate=1.0)
    w.run_for(8)
    assert w.rollout.phase == "provisioning"
    assert w.shares() == {1: 10_000}
    assert "until v3 answers" in w.rollout.reason
    w.behave(3, error_rate=0.0)
    w.run_to("progressing", limit=3)


# --- what is measured -----------------------------------------------------------------------------------------------


def test_evidence__every_answer_is_fed_once_with_the_shares_it_was_assigned_under(w: MemoryWorld) -> None:
    start(w, TIE)
    w.run(lambda: "reweight" in w.history())
    w.run_for(16)
    rows = [row.interval for row in Evidence.objects.order_by("index")]
    assert all(sum(row["shares"].values()) == 10_000 for row in rows)
    assert any(row.get("answer_shares", row["shares"]) != row["shares"] for row in rows)
    for arm in ("baseline", "candidate", "candidate-2"):
        answered = sum(row["arms"][arm]["requests"] - row["arms"][arm]["errors"] for row in rows)
        assert 0 < sum(row["arms"][arm]["answers"] for row in rows) <= answered
    down = {1: 0.5, 2: 0.05, 3: 0.05}
    for number, arm in ((1, "baseline"), (2, "candidate"), (3, "candidate-2")):
        answers = sum(row["arms"][arm]["answers"] for row in rows)
        rated = sum(row["arms"][arm]["thumbs_down"] for row in rows) / answers
        assert rated == pytest.approx(down[number], abs=0.13)


def test_canary__a_step_in_between__ratings_of_two_shares_are_never_added_up(w: MemoryWorld) -> None:
    w.start(2, plan=canary((20, 80), hold_seconds=8, min_requests=1))
    w.users_rate({1: 0.2, 2: 0.2})
    w.run(lambda: w.rollout.step_index == 1)
    w.run_for(3)
    w.world = replace(w.world, feedback_seconds=9.0)  # ratings take longer for a while: many are ripe at once
    w.run_for(8)
    w.world = replace(w.world, feedback_seconds=4.0)
    w.run_for(8)
    rows = [row.interval for row in Evidence.objects.order_by("index")]
    for row in (row for row in rows if row["arms"] and row["arms"]["candidate"]["answers"]):
        counts = row["arms"]
        share = counts["candidate"]["answers"] / (
            counts["candidate"]["answers"] + counts["baseline"]["answers"]
        )
        assert share < 0.35 or share > 0.65


def test_counts__of_an_arm_that_left__are_what_the_users_sent_to_the_last_request(w: MemoryWorld) -> None:
    learning(w, BEST_IS_3)
    w.behave(3, error_rate=0.2)
    w.run(lambda: w.arm(3).dropped_at is not None)
    w.run_for(3)
    counters = w.router.counted("triage")[ROUTER].arms[w.variant(3).name]
    assert (w.arm(3).requests, w.arm(3).errors) == (counters.ended, counters.errors)


def test_reweights_that_are_skipped__are_told_once_until_the_weights_move(w: MemoryWorld) -> None:
    plan = replace(BANDIT, settings=BanditSpec(burn_in=60, reweight_seconds=4, min_change_bp=5_000))
    start(w, {1: 0.1, 2: 0.1, 3: 0.1}, plan=plan)
    w.run(lambda: "Weights kept" in w.titles())
    w.run_for(14)
    assert w.titles().count("Weights kept") == 1
    assert "reweight" not in w.history()


def test_reweight__is_set_read_back_and_told_with_its_numbers(w: MemoryWorld) -> None:
    learning(w, TIE)
    w.run(lambda: "reweight" in w.history())
    w.run_for(2)
    told = HistoryEvent.objects.get(rollout=w.rollout, kind="reweight")
    assert told.title == "Weights recalculated"
    assert "v1 33.34% → 10%" in told.detail
    wanted = w.rollout.verdicts["wanted"]
    assert w.shares() == {1: wanted["baseline"], 2: wanted["candidate"], 3: wanted["candidate-2"]}
    assert {arm.name: arm.observed_bp for arm in w.rollout.arms.all()} == wanted


def test_probes__each_prompt_goes_to_all_arms_and_the_baseline_is_asked_once(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(QUALITY, ERRORS), rate=30).serve()
    start(w, {})
    w.behave(2, accuracy=1.0)
    w.behave(3, accuracy=0.1)
    w.run_to("progressing")
    asked = w.calls.names.count("prober.ask")
    w.tick()
    drawn = ProbeResult.objects.filter(rollout=w.rollout)
    numbers = set(drawn.values_list("number", flat=True))
    assert drawn.count() == 2 * len(numbers)
    assert w.calls.names.count("prober.ask") - asked == 3 * w.world.probe_pairs
    w.run(lambda: w.arm(3).dropped_at is not None)
    assert w.arm(3).dropped_cause == "guardrail"
    assert "Golden-set score" in w.arm(3).dropped_sentence
    w.tick()
    drawn.delete()
    w.tick()
    assert set(drawn.values_list("arm", flat=True)) == {"candidate"}
