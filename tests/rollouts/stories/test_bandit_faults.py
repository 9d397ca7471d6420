"""Faults while a bandit learns: whoever is out loses the traffic whatever else is wrong, and nobody grows blindly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import Conflict, IllegalTransition, InvalidInput
from rollouts.domain.engines import FailureReason
from rollouts.models import Arm, Effect, Evidence, EvidencePack, HistoryEvent
from rollouts.services.commands.rollouts import set_global_stop
from tests.rollouts.memory_world import BANDIT, ERRORS, Kill, MemoryWorld, tell_with_kills

pytestmark = [pytest.mark.story, pytest.mark.django_db]

BEST_IS_3 = {1: 0.5, 2: 0.3, 3: 0.05}
ALIKE = {1: 0.1, 2: 0.1, 3: 0.1}


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path, gates=(ERRORS,)).serve()


@pytest.fixture
def moving(w: MemoryWorld) -> MemoryWorld:
    """Versions 1, 2 and 3 at a third each; nobody is better."""
    w.start(2, others=(3,), plan=BANDIT)
    w.users_rate(ALIKE)
    w.run_to("progressing")
    w.run_for(1)
    return w


def stop(w: MemoryWorld, on: bool) -> None:
    set_global_stop(on=on, why="incident 12", actor=w.manager, now=w.now)


def out(w: MemoryWorld, number: int, *, limit: int = 15) -> Arm:
    """Version `number` fails until it is out; then what was decided is done."""
    w.behave(number, error_rate=0.9)
    w.run(lambda: w.arm(number).dropped_at is not None, limit=limit)
    w.tick()
    return w.arm(number)


def between_intervals(w: MemoryWorld) -> None:
    """Until an interval just ended: what happens now is seen at the engine before it is seen in the traffic."""
    before = Evidence.objects.count()
    w.run(lambda: Evidence.objects.count() > before, limit=4)


EQUAL = {1: 3_334, 2: 3_333, 3: 3_333}
LOWERED = {1: 6_667, 2: 3_333}


# --- frozen: lowering goes on, raising waits ------------------------------------------------------------------------


def test_paused__bad_arm_leaves__its_share_goes_to_the_baseline_and_stays_there(moving: MemoryWorld) -> None:
    w = moving
    w.pause()
    assert w.shares() == EQUAL
    assert out(w, 3).dropped_cause in ("guardrail", "fast-kill")
    assert (w.rollout.phase, w.rollout.pause_reason) == ("paused", "person")
    w.run_for(8)
    assert w.shares() == LOWERED
    assert w.workload(3).phase == "absent"
    w.resume()
    w.run(lambda: w.shares().get(2, 0) > LOWERED[2], limit=12)
    assert 3 not in w.shares()


def test_global_stop__bad_arm_leaves__its_share_goes_to_the_baseline(moving: MemoryWorld) -> None:
    w = moving
    stop(w, on=True)
    w.tick()
    out(w, 3)
    w.run_for(6)
    assert (w.rollout.phase, w.rollout.pause_reason) == ("paused", "global-stop")
    assert w.shares() == LOWERED
    stop(w, on=False)
    w.run(lambda: w.shares().get(2, 0) > LOWERED[2], limit=12)


def test_global_stop__set_while_a_drop_waits_for_the_router__the_drop_goes_on_and_nobody_grows(
    moving: MemoryWorld,
) -> None:
    w = moving
    w.router.refuse = "not now"
    out(w, 3)
    assert w.shares() == EQUAL
    assert w.endpoint.desired_shares[w.variant(2).name] > EQUAL[2]
    stop(w, on=True)
    w.router.refuse = ""
    w.run_for(3)
    assert w.shares() == LOWERED
    w.run_for(4)
    assert w.shares() == LOWERED


def test_cluster_silent__bad_arm_leaves_all_the_same_and_nobody_grows(moving: MemoryWorld) -> None:
    w = moving
    w.cluster.outage = "connection refused"
    out(w, 3)
    w.run_for(6)
    assert w.shares() == LOWERED
    w.cluster.outage = ""
    w.run(lambda: w.shares().get(2, 0) > LOWERED[2], limit=12)
    w.run(lambda: w.workload(3).phase == "absent", limit=60)


def test_weights_set_by_hand__bad_arm_leaves__the_others_keep_the_hands_weights_until_a_person_resumes(
    moving: MemoryWorld,
) -> None:
    w = moving
    w.set_weights_by_hand({1: 2_000, 2: 4_000, 3: 4_000})
    w.run_to("paused", limit=4)
    assert w.rollout.pause_reason == "drift"
    out(w, 3)
    w.run_for(6)
    assert (w.rollout.phase, w.rollout.pause_reason) == ("paused", "person")
    assert w.shares() == {1: 6_000, 2: 4_000}
    w.resume()
    w.run_for(2)
    assert w.rollout.phase == "progressing"


def test_weights_set_by_hand__are_respected_until_somebody_resumes(moving: MemoryWorld) -> None:
    w = moving
    w.set_weights_by_hand({1: 2_000, 2: 4_000, 3: 4_000})
    w.run_for(6)
    assert w.shares() == {1: 2_000, 2: 4_000, 3: 4_000}
    w.resume()
    w.tick()
    assert w.shares() == EQUAL


# --- engines die ----------------------------------------------------------------------------------------------------


def test_engine_of_an_arm_fails__the_arm_leaves_with_the_engines_words(moving: MemoryWorld) -> None:
    w = moving
    lost = w.lost
    between_intervals(w)
    w.cluster.fail(w.variant(3).name, FailureReason.CRASH_LOOP, "it ended three times")
    w.run(lambda: w.arm(3).dropped_at is not None, limit=3)
    assert w.arm(3).dropped_cause == "workload"
    assert "it ended three times" in w.arm(3).dropped_sentence
    w.run_for(4)
    assert w.lost == lost == 0
    assert 3 not in w.shares()
    verdict = {arm["name"]: arm for arm in w.rollout.verdicts["arms"]}["candidate-2"]
    assert (verdict["state"], verdict["cause"]) == ("dropped", "workload")
    assert "it ended three times" in verdict["sentence"]
    newest = Evidence.objects.order_by("-index")[:1].get()
    assert newest.interval["dropped"] == ["candidate-2"]
    assert w.rollout.phase == "progressing"


def test_engines_of_all_candidates_fail__rolled_back(moving: MemoryWorld) -> None:
    w = moving
    between_intervals(w)
    for number in (2, 3):
        w.cluster.fail(w.variant(number).name, FailureReason.CRASH_LOOP, "it ended three times")
    rollout = w.run_to("rolled-back", limit=6)
    assert rollout.cause == "workload:crash-loop"
    assert w.shares() == {1: 10_000}
    assert w.lost == 0


def test_engine_that_restarts__is_never_given_more_meanwhile(w: MemoryWorld) -> None:
    w.start(2, others=(3,), plan=BANDIT)
    w.users_rate(BEST_IS_3)
    w.run_to("progressing")
    w.run_for(3)
    before = w.shares()[3]
    w.cluster.kill(w.variant(3).name, down_seconds=4.0)
    for _ in range(3):
        w.tick()
        if w.workload(3).phase == "unready":
            assert w.shares().get(3, 0) <= before
    assert w.lost == 0


# --- nothing answers for a while ------------------------------------------------------------------------------------


def test_router_down__in_the_middle_of_a_reweight__nothing_is_lost_and_it_goes_on(w: MemoryWorld) -> None:
    w.start(2, others=(3,), plan=BANDIT)
    w.users_rate(BEST_IS_3)
    w.run_to("progressing")
    before = w.shares()

    def dies() -> None:
        w.router.down = True

    w.calls.hooks["router.apply"] = dies
    w.run(lambda: w.router.down, limit=30)
    w.run_for(5)
    assert w.endpoint.observed_shares == {w.variant(n).name: bp for n, bp in before.items()}
    assert "does not answer" in w.endpoint.router_problem
    w.router.down = False
    rollout = w.run_to("succeeded", "rolled-back", "paused")
    assert rollout.phase == "succeeded", rollout.reason
    assert rollout.candidate == w.variant(3)
    assert w.lost == 0


def test_nobody_looks_for_two_minutes__the_broker_is_lost__it_goes_on_from_there(w: MemoryWorld) -> None:
    w.start(2, others=(3,), plan=BANDIT)
    w.users_rate(BEST_IS_3)
    w.run_to("progressing")
    for _ in range(12):
        w.clock.advance(10.0)
        w.use(1.0)
    rollout = w.run_to("succeeded", "rolled-back", "paused")
    assert rollout.phase == "succeeded", rollout.reason
    assert rollout.candidate == w.variant(3)


def test_counters_cannot_be_read__longer_than_the_plan_allows__nobody_is_blamed_and_nobody_wins(
    moving: MemoryWorld,
) -> None:
    w = moving
    w.signals.outage = "connection refused"
    shares = w.shares()
    w.run_for(3 * w.rollout.parsed_plan.no_data_seconds)
    assert (w.rollout.phase, w.shares()) == ("progressing", shares)
    assert "cannot be measured" in w.rollout.reason
    w.signals.outage = ""
    w.run(lambda: "cannot be measured" not in w.rollout.reason, limit=10)


def test_baseline_down__bad_arm_that_answers_is_out_but_keeps_answering_until_the_baseline_is_back(
    moving: MemoryWorld,
) -> None:
    w = moving
    w.pause()
    w.behave(3, error_rate=0.35)
    w.run(lambda: w.rollout.verdicts["gates"]["candidate-2"]["evidence"] > 5, limit=12)
    w.cluster.kill(w.variant(1).name, down_seconds=8.0)
    w.run(lambda: w.workload(1).phase == "ready" and w.arm(3).dropped_at is not None, limit=40)
    w.run_for(3)
    assert 3 not in w.shares()
    assert w.shares()[2] == EQUAL[2]


def test_evidence_that_cannot_be_read__ratings_of_it_are_left_out_and_a_person_can_roll_back(
    moving: MemoryWorld,
) -> None:
    w = moving
    w.run_for(3)
    rows = list(Evidence.objects.filter(rollout=w.rollout).order_by("index"))
    EvidencePack.objects.create(
        rollout=w.rollout,
        first=rows[0].index,
        last=rows[-1].index,
        began_at=rows[0].ended_at,
        ended_at=rows[-1].ended_at,
        rows=b"",
        series=b"",
        digest=rows[-1].digest,
    )
    Evidence.objects.all().delete()
    w.run_for(3)
    assert w.rollout.feedback_interval > rows[-1].index
    w.roll_back()
    w.run_to("rolled-back", limit=8)
    assert w.shares() == {1: 10_000}


# --- people ---------------------------------------------------------------------------------------------------------


def test_promote__without_an_arm__asks_for_the_choice_and_names_it(moving: MemoryWorld) -> None:
    w = moving
    with pytest.raises(InvalidInput, match="which one") as caught:
        w.promote()
    assert caught.value.field == "arm"
    assert "candidate-2 (v3)" in caught.value.fix
    assert w.rollout.phase == "progressing"


@pytest.mark.parametrize("arm", ["baseline", "candidate-7"])
def test_promote__an_arm_that_cannot_win__is_refused(moving: MemoryWorld, arm: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        moving.promote(arm=arm)
    assert caught.value.field == "arm"


def test_promote__an_arm_that_left__is_refused(moving: MemoryWorld) -> None:
    out(moving, 3)
    with pytest.raises(InvalidInput, match="left the race"):
        moving.promote(arm="candidate-2")
    moving.promote()  # only one is left: there is no choice to make
    assert moving.run_to("succeeded", limit=6).candidate == moving.variant(2)


def test_promote__is_audited_with_the_arm(moving: MemoryWorld) -> None:
    moving.promote(arm="candidate-2", why="the customer waits")
    event = AuditEvent.objects.get(action="rollout.promote")
    assert event.after is not None
    assert event.after["arm"] == "candidate-2"
    assert event.after["dropped"] == ["candidate"]


def test_roll_back__by_a_person__drains_all_and_ends_the_race(moving: MemoryWorld) -> None:
    w = moving
    w.roll_back(why="legal asked")
    w.run_to("rolled-back", limit=4)
    w.run_for(3)
    assert w.rollout.cause == "person"
    assert sorted(w.cluster.statuses()) == [w.variant(1).name]
    with pytest.raises((Conflict, IllegalTransition)):
        w.promote(arm="candidate")


def test_dropped_arm__is_never_routed_again(moving: MemoryWorld) -> None:
    w = moving
    out(w, 3)
    w.behave(3)
    name = w.variant(3).name

    for _ in range(30):
        w.tick()
        assert w.shares().get(3, 0) == 0
        assert w.endpoint.desired_shares.get(name, 0) == 0


# --- kill -9 at every call ------------------------------------------------------------------------------------------

SHORT = replace(BANDIT, watch_seconds=4, launch_seconds=300, no_data_seconds=400)
STORIES = {
    "won": ({1: 0.8, 2: 0.7, 3: 0.02}, 0.0, "succeeded"),
    "all out": ({1: 0.1, 2: 0.1, 3: 0.1}, 0.9, "rolled-back"),
}


def _tell(folder: Path, story: str, kill: Kill) -> tuple[object, ...]:
    """The story from its start, and how it ended."""
    down, error_rate, ends = STORIES[story]
    w = MemoryWorld(folder, gates=(ERRORS,), rate=40, ready_after=1.0).serve()
    w.calls.kill = kill
    w.start(2, others=(3,), plan=SHORT)
    w.users_rate(down)

    def ended() -> bool:
        for number in (2, 3):
            w.behave(number, error_rate=error_rate if w.rollout.step_index >= 0 else 0.0)
        if w.endpoint.lease_owner:
            w.clock.advance(61.0)  # the killed worker's lease has to run out
        over = w.rollout.phase == ends and not w.rollout.watching
        return over and not Effect.objects.filter(state="pending").exists()

    w.run(ended, limit=80, seconds=2.0)
    w.run_for(1)
    assert len(kill.killed) >= 6 or not kill.when
    told = HistoryEvent.objects.filter(rollout=w.rollout)
    return (
        w.rollout.phase,
        w.rollout.candidate.version.number,
        w.shares(),
        dict(w.store.models()[0].aliases),
        {n: w.store.version("triage", n).tags.get("headgate.decision") for n in (1, 2, 3)},
        sorted(w.cluster.statuses()),
        AuditEvent.objects.filter(action="alias.moved").count(),
        sorted(
            told.filter(kind__in=("start", "promote", "finish", "roll-back", "return")).values_list("kind")
        ),
        sorted(Arm.objects.filter(rollout=w.rollout, dropped_at__isnull=False).values_list("name")),
    )


@pytest.mark.parametrize("story", sorted(STORIES))
def test_kill_9__before_or_after_every_call_that_writes__the_bandit_ends_the_same(
    tmp_path: Path, story: str
) -> None:
    """Every different writing call kills the worker that makes it first; the next worker makes it again."""
    ends = tell_with_kills(lambda folder, kill: _tell(folder, story, kill), tmp_path)
    assert ends["before"] == ends[""]
    assert ends["after"] == ends[""]
