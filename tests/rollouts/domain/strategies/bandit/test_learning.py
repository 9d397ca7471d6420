"""A bandit's decisions, one behaviour a test: launches, who leaves, how shares move, how it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.kernel.errors import IllegalTransition, InvalidInput
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.engines import EngineView, FailureReason, WorkloadPhase
from rollouts.domain.lifecycle.decide import decide, pause, promote, resume
from rollouts.domain.lifecycle.decision import (
    GLOBAL_STOP,
    ArmView,
    Decision,
    Drop,
    GatesView,
    RaceView,
    RolloutView,
    Seen,
)
from rollouts.domain.lifecycle.effects import DrainWorkload, EnsureWorkload, SetTraffic, WriteBack
from rollouts.domain.lifecycle.moves import cancel, roll_back
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import Event, PauseReason, Phase

NOW = 100_000.0
PLAN = Plan(strategy="bandit", steps=(), settings=BanditSpec(), watch_seconds=900)
B, C2, C3 = "chat-v1-aaaaaa", "chat-v2-bbbbbb", "chat-v3-cccccc"
ARMS = (
    ArmView("baseline", B, "v1", 2_000),
    ArmView("candidate", C2, "v2", 4_000),
    ArmView("candidate-2", C3, "v3", 4_000),
)
EVEN = {B: 2_000, C2: 4_000, C3: 4_000}
WANTED = {"baseline": 2_000, "candidate": 4_000, "candidate-2": 4_000}
OUT_3 = Drop("candidate-2", "guardrail", "Error rate: 9% against 1%.", "gate:errors")
OUT_2 = Drop("candidate", "evidence", "Eliminated: the evidence was 21 of 20.", "bandit:baseline")


def view(phase: Phase = Phase.PROGRESSING, *, gone: tuple[str, ...] = (), **changes: Any) -> RolloutView:
    before = phase in (Phase.PENDING, Phase.PROVISIONING)
    base = RolloutView(
        phase=phase,
        pause_reason=PauseReason.PERSON if phase is Phase.PAUSED else PauseReason.NONE,
        plan=PLAN,
        step_index=-1 if before else 0,
        phase_since=NOW - 10,
        step_since=None if before else NOW - 10,
        step_requests=0,
        measured_at=NOW - 3,
        created_at=NOW - 60,
        cause_sentence="it was bad",
        arms=tuple(replace(arm, dropped=True, share_bp=0) if arm.name in gone else arm for arm in ARMS),
    )
    return replace(base, **changes)


def status(variant: str, phase: WorkloadPhase = WorkloadPhase.READY, **changes: Any) -> EngineView:
    return EngineView(variant, phase, ready=int(phase is WorkloadPhase.READY), desired=1, **changes)


def short(variant: str) -> EngineView:
    return EngineView(variant, WorkloadPhase.READY, ready=2, desired=3)


def seen(**changes: Any) -> Seen:
    """All is well; `engines` replaces single engines, None takes one away."""
    engines = {name: status(name) for name in (B, C2, C3)} | changes.pop("engines", {})
    base = Seen(
        desired_shares=EVEN,
        in_force=True,
        routed=frozenset({B, C2, C3}),
        healthy=frozenset({B, C2, C3}),
        engines={name: one for name, one in engines.items() if one is not None},
        answered=frozenset({C2, C3}),
        split=EVEN,
    )
    return replace(base, **changes)


SILENT = seen(engines={B: None, C2: None, C3: None})


def bandit(*left: Drop, wanted: dict[str, int] = WANTED, **changes: Any) -> GatesView:
    base = RaceView(
        wanted=wanted,
        left=left,
        gates={"candidate": GatesView(), "candidate-2": GatesView()},
        sentence="All three arms remain.",
        detail="About 5 min more.",
        tie_sentence="v2 or v3: the choice is yours.",
    )
    return GatesView(open_because="inconclusive", race=replace(base, **changes))


QUIET = bandit()
AFTER_3 = {"baseline": 2_000, "candidate": 8_000, "candidate-2": 0}
WITHOUT_3 = bandit(OUT_3, wanted=AFTER_3)
LOWERED = SetTraffic({B: 6_000, C2: 4_000}, B)


def after(rollout: RolloutView, world: Seen, gates: GatesView = QUIET) -> Decision:
    return decide(rollout, world, gates, NOW)


def stays(decision: Decision, rollout: RolloutView) -> bool:
    return decision.event is None and decision.phase is rollout.phase and decision.effects == ()


# --- launching ------------------------------------------------------------------------------------------------------

AT_ZERO: dict[str, Any] = {"desired_shares": {B: 10_000, C2: 0, C3: 0}, "split": {B: 10_000}}
LAUNCHING = view(Phase.PROVISIONING)


def test_pending__launches_all__baseline_first() -> None:
    made = after(view(Phase.PENDING), seen())
    assert made.effects == (EnsureWorkload(B), EnsureWorkload(C2), EnsureWorkload(C3))


def test_provisioning__all_ready_and_answering__starts_with_the_shares_of_the_analysis() -> None:
    made = after(LAUNCHING, seen(**AT_ZERO))
    assert (made.event, made.step_index) == (Event.START, 0)
    assert made.effects == (SetTraffic(EVEN, B),)


def test_provisioning__not_routed_yet__routes_all_at_zero_once() -> None:
    bare = seen(desired_shares={B: 10_000}, routed=frozenset({B}), split={B: 10_000})
    made = after(LAUNCHING, bare)
    assert made.effects == (SetTraffic({B: 10_000, C2: 0, C3: 0}, B),)
    assert after(LAUNCHING, seen(**AT_ZERO, routed=frozenset({B}))).effects == ()


WAITS: dict[str, Seen] = {
    "cluster silent": replace(SILENT, **AT_ZERO),
    "one loads": seen(**AT_ZERO, engines={C3: status(C3, WorkloadPhase.STARTING)}),
    "one is short": seen(**AT_ZERO, engines={C3: short(C3)}),
    "one unknown": seen(**AT_ZERO, engines={C3: None}),
    "baseline down": seen(**AT_ZERO, engines={B: status(B, WorkloadPhase.UNREADY)}),
    "router silent": seen(**AT_ZERO, routed=None, in_force=False),
    "not in force": seen(**AT_ZERO, in_force=False),
    "one does not answer": seen(**AT_ZERO, answered=frozenset({C2})),
    "global stop": seen(**AT_ZERO, hold=GLOBAL_STOP),
    "set by hand": seen(**AT_ZERO, drift={B: 10_000}, in_force=False),
}


@pytest.mark.parametrize("case", sorted(WAITS))
def test_provisioning__anything_missing__no_traffic_moves_and_the_reason_says_what(case: str) -> None:
    made = after(LAUNCHING, WAITS[case])
    assert stays(made, LAUNCHING)
    assert made.reason
    assert made.next_step


def test_provisioning__one_arm_failed__is_dropped_and_drained_and_the_rest_goes_on() -> None:
    broken = status(C3, WorkloadPhase.FAILED, reason=FailureReason.NO_MEMORY, message="5 GB are missing")
    made = after(LAUNCHING, seen(**AT_ZERO, engines={C3: broken}))
    assert (made.event, made.phase) == (Event.DROP, Phase.PROVISIONING)
    assert [(drop.arm, drop.cause, drop.blame) for drop in made.drops] == [
        ("candidate-2", "launch", "launch:no-memory")
    ]
    assert made.effects == (DrainWorkload(C3),)
    assert "5 GB are missing" in made.reason


def test_provisioning__all_arms_failed__rolls_back_with_the_reason() -> None:
    broken = {name: status(name, WorkloadPhase.FAILED, reason=FailureReason.BAD_MODEL) for name in (C2, C3)}
    made = after(LAUNCHING, seen(**AT_ZERO, engines=broken))
    assert (made.event, made.cause) == (Event.ROLL_BACK, "launch:bad-model")
    assert len(made.drops) == 2


def test_provisioning__one_arm_late__is_dropped_when_its_time_is_over() -> None:
    late = view(Phase.PROVISIONING, phase_since=NOW - PLAN.launch_seconds - 1)
    loading = status(C3, WorkloadPhase.STARTING, message="loading shard 3 of 9")
    made = after(late, seen(**AT_ZERO, engines={C3: loading}))
    assert made.drops[0].blame == "launch:timeout"
    assert "loading shard 3 of 9" in made.drops[0].sentence


def test_provisioning__files_of_one_arm_came_late__its_time_begins_when_they_were_here() -> None:
    asked = view(Phase.PROVISIONING, phase_since=NOW - 10 * PLAN.launch_seconds)
    loading = replace(status(C3, WorkloadPhase.STARTING), files_at=NOW - PLAN.launch_seconds)
    assert stays(after(asked, seen(**AT_ZERO, engines={C3: loading})), asked)


def test_provisioning__one_never_answers_through_the_router__is_dropped() -> None:
    late = view(Phase.PROVISIONING, phase_since=NOW - 2 * PLAN.launch_seconds - 1)
    made = after(late, seen(**AT_ZERO, answered=frozenset({C2})))
    assert [drop.arm for drop in made.drops] == ["candidate-2"]


def test_provisioning__one_was_whole_and_lost_some_replicas__stays_in_the_race() -> None:
    asked = view(Phase.PROVISIONING, phase_since=NOW - 10 * PLAN.launch_seconds)
    lost = replace(short(C3), was_whole=True)
    assert stays(after(asked, seen(**AT_ZERO, engines={C3: lost})), asked)
    back = replace(short(C3), ready=3, started_at=NOW - 5)
    assert stays(after(asked, seen(**AT_ZERO, engines={C3: back}, answered=frozenset({C2}))), asked)


def test_provisioning__one_was_dropped__starts_without_it() -> None:
    wanted = {"baseline": 5_000, "candidate": 5_000}
    rollout = view(Phase.PROVISIONING, gone=("candidate-2",))
    made = after(rollout, seen(**AT_ZERO, engines={C3: None}), bandit(wanted=wanted))
    assert made.event is Event.START
    assert made.effects == (SetTraffic({B: 5_000, C2: 5_000}, B),)


# --- who leaves -----------------------------------------------------------------------------------------------------


def test_learning__an_arm_left__its_share_follows_the_evidence_at_once() -> None:
    made = after(view(), seen(), WITHOUT_3)
    assert (made.event, made.drops) == (Event.DROP, (OUT_3,))
    assert made.effects == (SetTraffic({B: 2_000, C2: 8_000}, B), DrainWorkload(C3))
    assert OUT_3.sentence in made.reason


FROZEN: dict[str, tuple[RolloutView, Seen]] = {
    "paused": (view(Phase.PAUSED), seen()),
    "global stop": (view(), seen(hold=GLOBAL_STOP)),
    "router silent": (view(), seen(routed=None, in_force=False)),
    "cluster silent": (view(), SILENT),
    "other arm not ready": (view(), seen(engines={C2: status(C2, WorkloadPhase.UNREADY)})),
    "other arm unknown": (view(), seen(engines={C2: None})),
}


@pytest.mark.parametrize("case", sorted(FROZEN))
def test_learning__an_arm_left_while_frozen__its_share_goes_to_the_baseline(case: str) -> None:
    rollout, world = FROZEN[case]
    made = after(rollout, world, WITHOUT_3)
    assert (made.event, made.phase, made.drops) == (Event.DROP, rollout.phase, (OUT_3,))
    assert made.effects == (LOWERED, DrainWorkload(C3))
    assert made.pause_reason is rollout.pause_reason


def test_learning__an_arm_left_under_weights_set_by_hand__the_others_keep_them_for_a_person() -> None:
    hand = {B: 1_000, C2: 5_000, C3: 4_000}
    made = after(view(), seen(split=hand, drift=hand, in_force=False), WITHOUT_3)
    assert (made.event, made.pause_reason) == (Event.PAUSE, PauseReason.PERSON)
    assert made.effects == (SetTraffic({B: 5_000, C2: 5_000}, B), DrainWorkload(C3))
    assert made.drops == (OUT_3,)


@pytest.mark.parametrize("reason", [PauseReason.NONE, PauseReason.DRIFT])
def test_learning__a_dropped_arm_has_traffic_by_hand__loses_it_and_a_person_resumes(
    reason: PauseReason,
) -> None:
    hand = {B: 1_000, C2: 5_000, C3: 4_000}
    rollout = view(Phase.PAUSED if reason else Phase.PROGRESSING, gone=("candidate-2",), pause_reason=reason)
    made = after(rollout, seen(split=hand, drift=hand, in_force=False), WITHOUT_3)
    assert (made.event, made.phase, made.pause_reason) == (Event.PAUSE, Phase.PAUSED, PauseReason.PERSON)
    assert made.effects == (SetTraffic({B: 5_000, C2: 5_000}, B),)


def test_learning__baseline_down__an_arm_that_answers_keeps_its_traffic_until_then() -> None:
    down = {B: status(B, WorkloadPhase.UNREADY)}
    made = after(view(Phase.PAUSED), seen(engines=down), WITHOUT_3)
    assert (made.drops, made.effects) == ((OUT_3,), (DrainWorkload(C3),))
    later = view(Phase.PAUSED, gone=("candidate-2",))
    assert after(later, seen(engines=down), WITHOUT_3).effects == ()
    assert after(later, seen(), WITHOUT_3).effects == (LOWERED,)


def test_learning__baseline_and_the_arm_down__its_traffic_goes_to_the_baseline() -> None:
    down = {name: status(name, WorkloadPhase.UNREADY) for name in (B, C3)}
    assert LOWERED in after(view(Phase.PAUSED), seen(engines=down), WITHOUT_3).effects


def test_learning__drop_waits_behind_an_arm_that_may_not_grow__is_replaced_by_a_lowering() -> None:
    pending = {B: 2_000, C2: 8_000}
    rollout = view(gone=("candidate-2",))
    blocked = seen(desired_shares=pending, in_force=False, engines={C2: status(C2, WorkloadPhase.UNREADY)})
    assert after(rollout, blocked, WITHOUT_3).effects == (LOWERED,)
    under_way = seen(desired_shares=pending, in_force=False)
    assert after(rollout, under_way, WITHOUT_3).effects == ()


def test_learning__lowered_while_frozen__follows_the_evidence_once_free() -> None:
    lowered = seen(desired_shares=LOWERED.shares, split=LOWERED.shares)
    made = after(view(gone=("candidate-2",)), lowered, WITHOUT_3)
    assert (made.event, made.effects) == (Event.REWEIGHT, (SetTraffic({B: 2_000, C2: 8_000}, B),))


@pytest.mark.parametrize("phase", [WorkloadPhase.FAILED, WorkloadPhase.ABSENT])
def test_learning__engine_failed_or_gone__the_arm_leaves(phase: WorkloadPhase) -> None:
    made = after(view(), seen(engines={C3: status(C3, phase)}))
    assert [(drop.arm, drop.cause) for drop in made.drops] == [("candidate-2", "workload")]
    assert made.effects[0] == LOWERED  # the evidence does not know of it yet


@pytest.mark.parametrize("world", [seen(), seen(hold=GLOBAL_STOP), SILENT])
@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED])
def test_learning__nobody_left__rolls_back_with_the_last_cause(phase: Phase, world: Seen) -> None:
    made = after(view(phase, gone=("candidate",)), world, bandit(OUT_2, OUT_3))
    assert (made.event, made.cause) == (Event.ROLL_BACK, "gate:errors")
    assert made.drops == (OUT_3,)
    assert "v1 keeps all traffic" in made.cause_sentence
    assert OUT_3.sentence in made.cause_sentence


def test_learning__baseline_is_proven_best__rolls_back_as_that() -> None:
    made = after(view(gone=("candidate-2",)), seen(), bandit(OUT_2, OUT_3, winner="baseline"))
    assert (made.event, made.cause) == (Event.ROLL_BACK, "bandit:baseline")


def test_learning__nothing_measured_for_too_long__rolls_back() -> None:
    old: dict[str, Any] = {"phase_since": NOW - 9_000, "step_since": NOW - 9_000, "measured_at": NOW - 601}
    for phase in (Phase.PROGRESSING, Phase.PAUSED):
        assert after(view(phase, **old), seen(routed=None, in_force=False)).cause == "no-data"


# --- shares ---------------------------------------------------------------------------------------------------------

MOVED = bandit(wanted={"baseline": 1_000, "candidate": 6_000, "candidate-2": 3_000})


def test_reweight__wanted_shares_differ__are_set_with_the_numbers_told() -> None:
    made = after(view(), seen(), MOVED)
    assert (made.event, made.phase, made.step_index) == (Event.REWEIGHT, Phase.PROGRESSING, 0)
    assert made.effects == (SetTraffic({B: 1_000, C2: 6_000, C3: 3_000}, B),)
    assert (made.title, made.detail) == ("Weights recalculated", "v1 20% → 10%, v2 40% → 60%, v3 40% → 30%")


def test_reweight__same_shares__stays_and_says_where_it_stands() -> None:
    rollout = view()
    made = after(rollout, seen())
    assert stays(made, rollout)
    assert (made.reason, made.next_step, made.title) == ("All three arms remain.", "About 5 min more.", "")


def test_reweight__skipped__is_a_note_to_be_told_once() -> None:
    made = after(view(), seen(), bandit(skipped="Weights kept: the change would be 1 pp."))
    assert made.event is None
    assert (made.title, made.once) == ("Weights kept", True)


@pytest.mark.parametrize(
    "arm", [None, status(C2, WorkloadPhase.UNREADY), status(C2, WorkloadPhase.STARTING), short(C2)]
)
def test_reweight__who_would_grow_is_not_known_to_be_ready__waits(arm: EngineView | None) -> None:
    rollout = view()
    made = after(rollout, seen(engines={C2: arm}), MOVED)
    assert stays(made, rollout)
    assert "v2" in made.next_step


def test_reweight__waits__names_nobody_who_would_not_grow() -> None:
    made = after(view(), seen(engines={C2: short(C2), C3: short(C3)}), MOVED)
    assert "until v2 (2 of 3 replicas are ready) is known" in made.next_step


@pytest.mark.parametrize("world", [{"in_force": False}, {"in_force": False, "routed": None}])
def test_reweight__the_last_one_is_not_in_force__waits(world: dict[str, Any]) -> None:
    rollout = view()
    assert stays(after(rollout, seen(**world), MOVED), rollout)


def test_reweight__analysis_does_not_know_yet_who_left__waits_for_it() -> None:
    rollout = view(gone=("candidate-2",))
    world = seen(desired_shares=LOWERED.shares, split=LOWERED.shares)
    assert stays(after(rollout, world, MOVED), rollout)


def test_learning__global_stop_and_drift__hold_without_an_effect() -> None:
    made = after(view(), seen(hold=GLOBAL_STOP), MOVED)
    assert (made.event, made.pause_reason, made.effects) == (Event.PAUSE, PauseReason.GLOBAL_STOP, ())
    assert made.title == "Held at v2 40%, v3 40%"
    made = after(view(), seen(drift={B: 10_000}, in_force=False), MOVED)
    assert (made.event, made.pause_reason, made.effects) == (Event.PAUSE, PauseReason.DRIFT, ())


def test_paused__nobody_left__stays_whatever_the_evidence_wants() -> None:
    rollout = view(Phase.PAUSED)
    assert stays(after(rollout, seen(), MOVED), rollout)


def test_resume__goes_on_with_the_shares_that_were_asked_for() -> None:
    made = resume(view(Phase.PAUSED), sentence="x")
    assert made.effects == (SetTraffic(EVEN, B),)
    made = resume(view(Phase.PAUSED, gone=("candidate-2",)), sentence="x")
    assert made.effects == (LOWERED,)


# --- the end --------------------------------------------------------------------------------------------------------

ONE_LEFT = view(gone=("candidate",))
ALONE: dict[str, Any] = {
    "desired_shares": {B: 2_000, C3: 8_000},
    "split": {B: 2_000, C3: 8_000},
}
WINS = bandit(OUT_2, wanted={"baseline": 2_000, "candidate": 0, "candidate-2": 8_000}, winner="candidate-2")


def test_winner__is_promoted_and_becomes_the_candidate() -> None:
    made = after(ONE_LEFT, seen(**ALONE), WINS)
    assert (made.event, made.winner, made.step_index) == (Event.PROMOTE, "candidate-2", 1)
    assert made.effects == (SetTraffic({B: 0, C3: 10_000}, B),)
    assert made.drops == ()


@pytest.mark.parametrize(
    "world",
    [
        {"hold": GLOBAL_STOP},
        {"drift": {B: 10_000}, "in_force": False},
        {"in_force": False},
        {"routed": None, "in_force": False},
        {"engines": {C3: status(C3, WorkloadPhase.UNREADY)}},
        {"engines": {C3: None}},
    ],
)
def test_winner__anything_in_the_way__is_not_promoted(world: dict[str, Any]) -> None:
    made = after(ONE_LEFT, seen(**ALONE, **world), WINS)
    assert made.event in (None, Event.PAUSE)
    assert made.effects == ()


def test_winner__has_lost_some_replicas__says_how_many_are_ready() -> None:
    made = after(ONE_LEFT, seen(**ALONE, engines={C3: short(C3)}), WINS)
    assert stays(made, ONE_LEFT)
    assert made.reason.endswith("It is promoted when all its replicas are ready: 2 of 3 replicas are ready.")


def test_sole_survivor__whose_gates_are_open__waits() -> None:
    waiting = bandit(OUT_2, wanted={"baseline": 2_000, "candidate": 0, "candidate-2": 8_000})
    assert stays(after(ONE_LEFT, seen(**ALONE), waiting), ONE_LEFT)


LATE = view(phase_since=NOW - PLAN.deadline_seconds - 1)


def test_deadline__several_left__pauses_with_a_or_b() -> None:
    made = after(LATE, seen())
    assert (made.event, made.pause_reason) == (Event.PAUSE, PauseReason.INCONCLUSIVE)
    assert "v2 or v3" in made.reason


@pytest.mark.parametrize("because", ["inconclusive", "no-data", "error"])
def test_deadline__policy_says_rollback__labelled_with_what_was_open(because: Any) -> None:
    made = after(LATE, seen(), replace(QUIET, open_because=because, reaction="rollback"))
    assert (made.event, made.cause) == (Event.ROLL_BACK, because)


def test_deadline__a_winner_in_time__is_promoted_all_the_same() -> None:
    late = replace(ONE_LEFT, phase_since=LATE.phase_since)
    assert after(late, seen(**ALONE), WINS).event is Event.PROMOTE


def test_promote__by_a_person__the_others_leave_and_are_drained() -> None:
    made = promote(view(Phase.PAUSED), sentence="ana", arm="candidate-2")
    assert made.winner == "candidate-2"
    assert made.effects == (SetTraffic({B: 0, C3: 10_000}, B), DrainWorkload(C2))
    assert [(drop.arm, drop.cause) for drop in made.drops] == [("candidate", "person")]


@pytest.mark.parametrize(
    ("rollout", "arm"),
    [
        (view(), ""),
        (view(), "baseline"),
        (view(), "candidate-9"),
        (view(gone=("candidate",)), "candidate"),
    ],
)
def test_promote__no_arm_that_could_win__names_the_field_and_the_choice(
    rollout: RolloutView, arm: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        promote(rollout, sentence="ana", arm=arm)
    assert caught.value.field == "arm"
    assert "candidate-2 (v3)" in caught.value.fix


def test_moves__in_a_final_phase__are_illegal() -> None:
    with pytest.raises(IllegalTransition):
        promote(view(Phase.ROLLED_BACK), sentence="x", arm="candidate")
    with pytest.raises(IllegalTransition):
        pause(view(Phase.ROLLED_BACK), why=PauseReason.PERSON, sentence="x", next_step="")


PROMOTED: dict[str, Any] = {"candidate_arm": "candidate-2", "step_index": 1, "gone": ("candidate",)}
ALL_ON_3: dict[str, Any] = {"desired_shares": {B: 0, C3: 10_000}, "split": {C3: 10_000}}


def test_promoting__read_back__tells_mlflow_of_the_winner() -> None:
    made = after(view(Phase.PROMOTING, **PROMOTED), seen(**ALL_ON_3), WINS)
    assert (made.event, made.effects) == (Event.FINISH, (WriteBack(C3, C3, "promoted"),))


@pytest.mark.parametrize("phase", [Phase.PROMOTING, Phase.SUCCEEDED])
def test_after_promotion__the_winners_own_gates_send_everybody_back(phase: Phase) -> None:
    bad = GatesView(rollback=True, cause="gate:errors", cause_sentence="Errors rose.")
    watched: dict[str, Any] = {"watching": True, "watch_until": NOW + 100}
    rollout = view(phase, **PROMOTED, **watched)
    made = after(rollout, seen(**ALL_ON_3), bandit(gates={"candidate-2": bad}))
    assert (made.event, made.cause) == (Event.ROLL_BACK, "gate:errors")
    others = bandit(gates={"candidate": bad, "candidate-2": GatesView()})
    assert after(rollout, seen(**ALL_ON_3), others).event is not Event.ROLL_BACK


def test_watch__over__only_the_winner_stays() -> None:
    over = view(Phase.SUCCEEDED, **PROMOTED, watching=True, watch_until=NOW - 1)
    made = after(over, seen(**ALL_ON_3))
    assert made.end_watch
    assert made.effects == (SetTraffic({C3: 10_000}, C3), DrainWorkload(B))


def test_rolling_back__in_force__every_candidate_is_tagged_and_drained() -> None:
    back: dict[str, Any] = {"desired_shares": {B: 10_000}, "split": {B: 10_000}}
    made = after(view(Phase.ROLLING_BACK), seen(**back))
    assert made.event is Event.RETURN
    assert made.effects == (
        WriteBack(B, C2, "rolled-back"),
        WriteBack(B, C3, "rolled-back"),
        DrainWorkload(C2),
        DrainWorkload(C3),
    )


def test_rolling_back__baseline_down_and_a_candidate_answers__waits_for_the_baseline() -> None:
    down = {B: status(B, WorkloadPhase.UNREADY)}
    returning = view(Phase.ROLLING_BACK)
    assert stays(after(returning, seen(engines=down)), returning)
    all_down = {name: status(name, WorkloadPhase.UNREADY) for name in (B, C2, C3)}
    assert after(returning, seen(engines=all_down)).effects == (SetTraffic({B: 10_000}, B),)


def test_rolling_back__baseline_down_and_a_dropped_arm_answers__waits_for_the_baseline() -> None:
    down = {B: status(B, WorkloadPhase.UNREADY)}
    returning = view(Phase.ROLLING_BACK, gone=("candidate", "candidate-2"))
    assert stays(after(returning, seen(engines=down)), returning)
    assert after(returning, seen()).effects == (SetTraffic({B: 10_000}, B),)


def test_cancel__while_launching__drains_every_candidate() -> None:
    made = cancel(LAUNCHING, sentence="x")
    assert made.effects == (SetTraffic({B: 10_000}, B), DrainWorkload(C2), DrainWorkload(C3))


def test_roll_back__by_a_person__possible_in_any_phase_with_traffic() -> None:
    for phase in (Phase.PROVISIONING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING, Phase.SUCCEEDED):
        assert roll_back(view(phase), cause="person", sentence="ana").phase is Phase.ROLLING_BACK


# --- plain data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rollout", [view(), view(Phase.PAUSED, gone=("candidate",)), LAUNCHING])
def test_view_and_seen__through_json__are_the_same(rollout: RolloutView) -> None:
    assert RolloutView.from_json(rollout.to_json(), rollout.plan) == rollout
    for world in (seen(), SILENT, seen(drift=EVEN, hold=GLOBAL_STOP)):
        assert Seen.from_json(world.to_json()) == world


def test_decision__of_a_drop__keeps_who_left_and_why() -> None:
    data = after(view(), seen(), WITHOUT_3).to_json()
    assert data["event"] == "drop"
    assert data["drops"] == [OUT_3.to_json()]
    assert "winner" not in data
