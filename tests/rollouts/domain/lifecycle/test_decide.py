"""The decision, phase by phase: one behaviour a test."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.kernel.errors import IllegalTransition, InvalidInput
from rollouts.domain.engines import EngineView, FailureReason, WorkloadPhase
from rollouts.domain.gates.outage import Outage
from rollouts.domain.lifecycle.decide import decide, pause, promote, resume
from rollouts.domain.lifecycle.decision import (
    GLOBAL_STOP,
    ArmView,
    Decision,
    GatesView,
    RolloutView,
    Seen,
)
from rollouts.domain.lifecycle.effects import DrainWorkload, EnsureWorkload, SetTraffic, WriteBack
from rollouts.domain.lifecycle.moves import cancel, end_watch, roll_back
from rollouts.domain.lifecycle.plan import canary
from rollouts.domain.lifecycle.states import Event, PauseReason, Phase
from rollouts.domain.lifecycle.way_back import RELAUNCH_SECONDS, RETURN_PATIENCE_SECONDS

NOW = 100_000.0
PLAN = canary((5, 25, 50), hold_seconds=60, min_requests=100, watch_seconds=900)
B, C = "chat-v1-aaaaaa", "chat-v2-bbbbbb"
BACK = SetTraffic({B: 10_000}, B)
PASS = GatesView(all_required_pass=True, passed_sentence="All 3 gates passed.")
QUIET = GatesView(waiting="Quality is not decided yet.")


def view(phase: Phase = Phase.PROGRESSING, **changes: Any) -> RolloutView:
    base = RolloutView(
        phase=phase,
        pause_reason=PauseReason.NONE,
        plan=PLAN,
        arms=(ArmView("baseline", B, "v1"), ArmView("candidate", C, "v2")),
        step_index=-1 if phase in (Phase.PENDING, Phase.PROVISIONING) else 0,
        phase_since=NOW - 10,
        step_since=None if phase in (Phase.PENDING, Phase.PROVISIONING) else NOW - 10,
        step_requests=0,
        measured_at=NOW - 3,
        created_at=NOW - 60,
        cause_sentence="it was bad",
    )
    return replace(base, **changes)


def status(variant: str, phase: WorkloadPhase = WorkloadPhase.READY, **changes: Any) -> EngineView:
    return EngineView(variant, phase, ready=int(phase is WorkloadPhase.READY), desired=1, **changes)


def seen(**changes: Any) -> Seen:
    """All is well; `engines` replaces single engines, None takes one away."""
    engines = {name: status(name) for name in (B, C)} | changes.pop("engines", {})
    base = Seen(
        engines={name: one for name, one in engines.items() if one is not None},
        desired_shares={B: 9_500, C: 500},
        in_force=True,
        routed=frozenset({B, C}),
        healthy=frozenset({B, C}),
        answered=frozenset({C}),
        split={B: 9_500, C: 500},
    )
    return replace(base, **changes)


def after(rollout: RolloutView, world: Seen, gates: GatesView = QUIET) -> Decision:
    return decide(rollout, world, gates, NOW)


def stays(decision: Decision, rollout: RolloutView) -> bool:
    return decision.event is None and decision.phase is rollout.phase and decision.effects == ()


SHORT = EngineView(C, WorkloadPhase.READY, ready=2, desired=3)
EXPOSED: dict[str, Any] = {"step_since": NOW - 61, "step_requests": 100}
LAST: dict[str, Any] = {**EXPOSED, "step_index": 2}
AT_ZERO: dict[str, Any] = {"desired_shares": {B: 10_000, C: 0}}


# --- pending --------------------------------------------------------------------------------------------------------


def test_pending__launches_both__baseline_first() -> None:
    made = after(view(Phase.PENDING), seen())
    assert made.event is Event.PROVISION
    assert made.effects == (EnsureWorkload(B), EnsureWorkload(C))


def test_pending__global_stop__stays() -> None:
    rollout = view(Phase.PENDING)
    assert stays(after(rollout, seen(hold=GLOBAL_STOP)), rollout)


# --- provisioning ---------------------------------------------------------------------------------------------------


def test_provisioning__everything_ready_and_answering__moves_the_first_share() -> None:
    made = after(view(Phase.PROVISIONING), seen(**AT_ZERO))
    assert (made.event, made.step_index) == (Event.START, 0)
    assert made.effects == (SetTraffic({B: 9_500, C: 500}, B),)


def test_provisioning__candidate_ready_but_not_routed__routes_it_at_zero_once() -> None:
    made = after(view(Phase.PROVISIONING), seen(desired_shares={B: 10_000}, routed=frozenset({B})))
    assert made.effects == (SetTraffic({B: 10_000, C: 0}, B),)
    again = after(view(Phase.PROVISIONING), seen(**AT_ZERO, routed=frozenset({B})))
    assert again.effects == ()


WAITS: dict[str, dict[str, Any]] = {
    "cluster silent": {"engines": {B: None, C: None}},
    "candidate loads": {"engines": {C: status(C, WorkloadPhase.STARTING)}},
    "candidate is short": {"engines": {C: SHORT}},
    "candidate was ready": {"engines": {C: status(C, WorkloadPhase.UNREADY)}},
    "baseline down": {"engines": {B: status(B, WorkloadPhase.UNREADY)}},
    "router silent": {"routed": None, "in_force": False},
    "not in force": {"in_force": False},
    "no forced answer": {"answered": frozenset()},
    "global stop": {"hold": GLOBAL_STOP},
    "set by hand": {"drift": {B: 10_000}, "in_force": False},
}


@pytest.mark.parametrize("case", sorted(WAITS))
def test_provisioning__anything_missing__no_traffic_moves_and_the_reason_says_what(case: str) -> None:
    rollout = view(Phase.PROVISIONING)
    made = after(rollout, seen(**AT_ZERO, **WAITS[case]))
    assert stays(made, rollout)
    assert made.reason
    assert made.next_step


@pytest.mark.parametrize(
    "case",
    sorted(set(WAITS) - {"candidate loads", "candidate is short", "candidate was ready", "no forced answer"}),
)
def test_provisioning__ready_but_something_else_takes_long__is_no_launch_failure(case: str) -> None:
    rollout = view(Phase.PROVISIONING, phase_since=NOW - 10 * PLAN.launch_seconds)
    assert stays(after(rollout, seen(**AT_ZERO, **WAITS[case])), rollout)


def test_provisioning__candidate_failed__rolls_back_with_the_engines_words() -> None:
    broken = status(C, WorkloadPhase.FAILED, reason=FailureReason.NO_MEMORY, message="5 GB are missing")
    made = after(view(Phase.PROVISIONING), seen(engines={C: broken}))
    assert (made.event, made.cause) == (Event.ROLL_BACK, "launch:no-memory")
    assert "5 GB are missing" in made.cause_sentence


def test_provisioning__not_ready_in_time__rolls_back() -> None:
    loading = seen(engines={C: status(C, WorkloadPhase.STARTING, message="loading shard 3 of 9")})
    late = view(Phase.PROVISIONING, phase_since=NOW - PLAN.launch_seconds - 1)
    made = after(late, loading)
    assert made.cause == "launch:timeout"
    assert "loading shard 3 of 9" in made.reason


def test_provisioning__files_came_late__its_time_begins_when_they_were_here() -> None:
    asked = view(Phase.PROVISIONING, phase_since=NOW - 10 * PLAN.launch_seconds)
    for since, stays_so in ((PLAN.launch_seconds, True), (PLAN.launch_seconds + 1, False)):
        loading = replace(status(C, WorkloadPhase.STARTING), files_at=NOW - since)
        assert stays(after(asked, seen(engines={C: loading})), asked) is stays_so


def test_provisioning__files_were_here_before_it_was_asked_for__its_time_begins_with_the_question() -> None:
    late = view(Phase.PROVISIONING, phase_since=NOW - PLAN.launch_seconds - 1)
    loading = replace(status(C, WorkloadPhase.STARTING), files_at=late.phase_since - 1_000)
    assert after(late, seen(engines={C: loading})).cause == "launch:timeout"


def test_provisioning__ready_but_never_answers_through_the_router__rolls_back() -> None:
    late = view(Phase.PROVISIONING, phase_since=NOW - 2 * PLAN.launch_seconds - 1)
    made = after(late, seen(**AT_ZERO, answered=frozenset()))
    assert made.cause == "launch:timeout"
    assert "did not answer through the router" in made.reason


def test_provisioning__was_whole_and_lost_some_replicas__is_waited_for_as_long_as_the_rollout_may_take() -> (
    None
):
    lost = {"engines": {C: replace(SHORT, was_whole=True)}}
    asked = view(Phase.PROVISIONING, phase_since=NOW - 10 * PLAN.launch_seconds)
    assert stays(after(asked, seen(**AT_ZERO, **lost)), asked)
    never = view(Phase.PROVISIONING, phase_since=NOW - PLAN.deadline_seconds - 1)
    assert after(never, seen(**AT_ZERO, **lost)).cause == "launch:timeout"


@pytest.mark.parametrize("ready", [2, 3])
def test_provisioning__a_replica_crashes_again_and_again__is_not_waited_for(ready: int) -> None:
    crashing = replace(SHORT, ready=ready, was_whole=True, restarts=3, started_at=NOW - 1)
    asked = view(Phase.PROVISIONING, phase_since=NOW - 10 * PLAN.launch_seconds)
    made = after(asked, seen(**AT_ZERO, answered=frozenset(), engines={C: crashing}))
    assert made.cause == "launch:timeout"


def test_provisioning__was_never_whole__rolls_back_and_says_how_many_are_ready() -> None:
    late = view(Phase.PROVISIONING, phase_since=NOW - PLAN.launch_seconds - 1)
    made = after(late, seen(engines={C: SHORT}))
    assert made.cause == "launch:timeout"
    assert "2 of 3 replicas are ready" in made.reason


@pytest.mark.parametrize("phase", [Phase.PROVISIONING, Phase.PROGRESSING])
def test_candidate_is_short__the_cluster_says_why__so_does_the_rollout(phase: Phase) -> None:
    unplaced = replace(SHORT, message="0 of 3 nodes have a free GPU.")
    exposed = {} if phase is Phase.PROVISIONING else EXPOSED
    made = after(view(phase, **exposed), seen(engines={C: unplaced}))
    assert made.reason.endswith("2 of 3 replicas are ready (0 of 3 nodes have a free GPU).")


def test_provisioning__a_replica_was_just_restarted__has_time_to_answer_through_the_router_again() -> None:
    asked = view(Phase.PROVISIONING, phase_since=NOW - 10 * PLAN.launch_seconds)
    for since, stays_so in ((2 * PLAN.launch_seconds, True), (2 * PLAN.launch_seconds + 1, False)):
        whole = replace(SHORT, ready=3, started_at=NOW - since)
        world = seen(**AT_ZERO, answered=frozenset(), engines={C: whole})
        assert stays(after(asked, world), asked) is stays_so


# --- progressing ----------------------------------------------------------------------------------------------------


def test_progressing__exposure_reached__advances() -> None:
    made = after(view(**EXPOSED), seen())
    assert (made.event, made.step_index) == (Event.ADVANCE, 1)
    assert made.effects == (SetTraffic({B: 7_500, C: 2_500}, B),)


@pytest.mark.parametrize("changes", [{"step_since": NOW - 59}, {"step_requests": 99}])
def test_progressing__too_little_time_or_requests__holds(changes: dict[str, Any]) -> None:
    rollout = view(**{**EXPOSED, **changes})
    made = after(rollout, seen())
    assert stays(made, rollout)
    assert made.reason.startswith("Holding 5%")


@pytest.mark.parametrize("measured_at", [None, NOW - 62])
def test_progressing__step_without_requests_and_nothing_counted_since_it_began__holds_and_says_so(
    measured_at: float | None,
) -> None:
    timed = replace(PLAN, steps=(replace(PLAN.steps[0], min_requests=0), *PLAN.steps[1:]))
    rollout = view(plan=timed, step_since=NOW - 61, measured_at=measured_at)
    made = after(rollout, seen())
    assert stays(made, rollout)
    assert made.reason == f"Held at 5%: nothing was counted of {C} since this step began."
    assert after(replace(rollout, measured_at=NOW - 60), seen()).event is Event.ADVANCE


def test_progressing__step_that_requires_a_pass__waits_for_it() -> None:
    strict = replace(PLAN, steps=(replace(PLAN.steps[0], require_pass=True), *PLAN.steps[1:]))
    rollout = view(plan=strict, **EXPOSED)
    assert stays(after(rollout, seen()), rollout)
    assert after(rollout, seen(), PASS).event is Event.ADVANCE


def test_progressing__last_step_without_every_pass__waits_and_says_for_what() -> None:
    rollout = view(**LAST)
    made = after(rollout, seen())
    assert stays(made, rollout)
    assert "Quality is not decided yet." in made.reason


def test_progressing__last_step_with_every_pass__promotes() -> None:
    made = after(view(**LAST), seen(), PASS)
    assert (made.event, made.step_index) == (Event.PROMOTE, 3)
    assert made.effects == (SetTraffic({B: 0, C: 10_000}, B),)
    assert made.reason == "All 3 gates passed."


@pytest.mark.parametrize("where", [EXPOSED, LAST])
@pytest.mark.parametrize(
    "candidate", [None, status(C, WorkloadPhase.UNREADY), status(C, WorkloadPhase.STARTING), SHORT]
)
def test_progressing__candidate_not_ready_or_unknown__gets_no_more_traffic(
    where: dict[str, Any], candidate: EngineView | None
) -> None:
    rollout = view(**where)
    assert stays(after(rollout, seen(engines={C: candidate}), PASS), rollout)


def test_progressing__candidate_has_a_part_of_its_replicas__keeps_its_share_and_says_how_many() -> None:
    made = after(view(**LAST), seen(engines={C: SHORT}), PASS)
    assert (made.event, made.reason) == (None, f"Held at 50%: of {C}, 2 of 3 replicas are ready.")


def test_rolling_back__baseline_has_a_part_of_its_replicas__all_traffic_returns_to_it() -> None:
    short = EngineView(B, WorkloadPhase.READY, ready=1, desired=3)
    made = after(view(Phase.ROLLING_BACK), seen(engines={B: short}))
    assert made.effects == (SetTraffic({B: 10_000}, B),)


@pytest.mark.parametrize("world", [{"in_force": False}, {"in_force": False, "routed": None}])
def test_progressing__share_not_in_force__holds(world: dict[str, Any]) -> None:
    rollout = view(**EXPOSED)
    assert stays(after(rollout, seen(**world)), rollout)


def test_progressing__router_refused__says_its_words() -> None:
    made = after(view(step_since=None), seen(in_force=False, rejected="no such cluster"))
    assert "no such cluster" in made.reason


def test_progressing__global_stop__pauses_without_an_effect() -> None:
    made = after(view(**LAST), seen(hold=GLOBAL_STOP), PASS)
    assert (made.event, made.pause_reason, made.effects) == (Event.PAUSE, PauseReason.GLOBAL_STOP, ())


def test_progressing__drift__pauses_without_an_effect() -> None:
    made = after(view(**LAST), seen(drift={B: 8_000, C: 2_000}, in_force=False), PASS)
    assert (made.event, made.pause_reason, made.effects) == (Event.PAUSE, PauseReason.DRIFT, ())
    assert "80%" in made.reason


def test_progressing__deadline__pauses_as_inconclusive() -> None:
    made = after(view(phase_since=NOW - PLAN.deadline_seconds - 1), seen())
    assert made.pause_reason is PauseReason.INCONCLUSIVE


# --- danger, wherever traffic is on the candidate -------------------------------------------------------------------

MOVING = [view(), view(Phase.PAUSED, pause_reason=PauseReason.PERSON), view(Phase.PROMOTING, step_index=3)]
WATCHED = view(Phase.SUCCEEDED, step_index=3, watching=True, watch_until=NOW + 500)
ANYWHERE = pytest.mark.parametrize("rollout", [*MOVING, WATCHED], ids=lambda rollout: rollout.phase.value)
STOPPED = seen(hold=GLOBAL_STOP)


@ANYWHERE
@pytest.mark.parametrize(
    "world", [seen(), STOPPED, seen(engines={B: None, C: None}, routed=None, in_force=False)]
)
def test_danger__gate_failed__rolls_back_even_in_a_stop_and_blind(rollout: RolloutView, world: Seen) -> None:
    made = after(
        rollout, world, GatesView(rollback=True, cause="gate:quality", cause_sentence="Quality fell.")
    )
    assert (made.event, made.cause, made.cause_sentence) == (Event.ROLL_BACK, "gate:quality", "Quality fell.")
    assert made.effects == (EnsureWorkload(B),)


@ANYWHERE
def test_danger__fast_kill__comes_before_the_gate(rollout: RolloutView) -> None:
    gates = GatesView(rollback=True, cause="gate:errors", cause_sentence="x", fast_kill="90% failed.")
    assert after(rollout, seen(), gates).cause == "fast-kill"


@ANYWHERE
@pytest.mark.parametrize("phase", [WorkloadPhase.FAILED, WorkloadPhase.ABSENT])
def test_danger__candidate_failed_or_gone__rolls_back(rollout: RolloutView, phase: WorkloadPhase) -> None:
    made = after(rollout, seen(engines={C: status(C, phase)}))
    assert made.event is Event.ROLL_BACK
    assert made.cause == f"workload:{phase.value}"


SILENT: dict[str, Any] = {
    "phase_since": NOW - 2000,
    "step_since": NOW - 2000,
    "measured_at": NOW - PLAN.no_data_seconds - 1,
}


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED])
def test_danger__nothing_measured_for_too_long__rolls_back(phase: Phase) -> None:
    made = after(view(phase, **SILENT), seen(routed=None, in_force=False))
    assert (made.event, made.cause) == (Event.ROLL_BACK, "no-data")


def test_danger__nothing_measured_but_not_for_too_long__stays() -> None:
    assert after(view(**{**SILENT, "measured_at": NOW - PLAN.no_data_seconds + 1}), seen()).event is None


UNREAD: dict[str, Any] = {**SILENT, "unread_at": NOW - 2}
BROKEN = GatesView(waiting="Errors: the router does not answer.", open_because="error")


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED])
def test_danger__source_cannot_be_read_for_too_long__says_nothing_of_the_candidate(phase: Phase) -> None:
    assert after(view(phase, **UNREAD), seen(), BROKEN).event is None


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED])
def test_danger__source_cannot_be_read_and_the_policy_rolls_back_then__rolls_back(phase: Phase) -> None:
    moved_on = {"step_since": NOW - 5}  # a step's beginning moves on meanwhile
    made = after(view(phase, **UNREAD | moved_on), seen(), replace(BROKEN, reaction="rollback"))
    assert (made.event, made.cause) == (Event.ROLL_BACK, "no-data")


def test_danger__source_read_again_and_the_candidate_stays_silent__rolls_back_after_its_own_time() -> None:
    since = {**SILENT, "unread_at": NOW - PLAN.no_data_seconds}
    assert after(view(**since), seen()).event is None
    since["unread_at"] -= 1
    assert after(view(**since), seen()).cause == "no-data"


def test_step__source_cannot_be_read__is_held_and_told_once() -> None:
    made = after(view(**EXPOSED, unread_at=NOW - 1), seen(), BROKEN)
    assert made.event is None
    assert (
        made.reason
        == "Held at 5%: what happens there cannot be measured. Errors: the router does not answer."
    )
    assert (made.title, made.once) == ("Measurements cannot be read", True)


def test_last_step__all_passed_and_the_source_cannot_be_read__is_not_promoted() -> None:
    assert after(view(**LAST, unread_at=NOW - 1), seen(), PASS).event is None


def test_step__measured_again__goes_on() -> None:
    assert after(view(**EXPOSED, unread_at=NOW - 30), seen()).event is Event.ADVANCE


def test_source_cannot_be_read__danger_that_needs_no_counters__rolls_back() -> None:
    failed = {C: status(C, WorkloadPhase.FAILED)}
    assert after(view(**UNREAD), seen(engines=failed), BROKEN).event is Event.ROLL_BACK


def test_view__source_could_always_be_read__keeps_the_bytes_of_older_evidence() -> None:
    assert "unread_at" not in view().to_json()
    later = view(unread_at=NOW)
    assert RolloutView.from_json(later.to_json(), PLAN) == later


def test_danger__share_never_came_in_force_and_nothing_measured__rolls_back() -> None:
    made = after(
        view(**{**SILENT, "step_since": None, "measured_at": None}), seen(routed=None, in_force=False)
    )
    assert made.cause == "no-data"


# --- paused ---------------------------------------------------------------------------------------------------------


def paused(why: PauseReason) -> RolloutView:
    return view(Phase.PAUSED, pause_reason=why)


def test_paused__by_a_person_while_no_hold_is_there__goes_on_waiting_for_one() -> None:
    assert after(paused(PauseReason.PERSON), seen()).event is None


@pytest.mark.parametrize("why", [PauseReason.PERSON, PauseReason.INCONCLUSIVE, PauseReason.NO_DATA])
def test_paused__for_a_person__waits_for_one(why: PauseReason) -> None:
    rollout = paused(why)
    made = after(rollout, seen(), PASS)
    assert stays(made, rollout)
    assert made.pause_reason is why


def test_paused__stop_lifted__resumes() -> None:
    made = after(paused(PauseReason.GLOBAL_STOP), seen())
    assert (made.event, made.pause_reason) == (Event.RESUME, PauseReason.NONE)
    assert made.effects == (SetTraffic({B: 9_500, C: 500}, B),)


def test_paused__stop_still_on__stays() -> None:
    assert after(paused(PauseReason.GLOBAL_STOP), STOPPED).event is None


def test_paused__stop_lifted_but_weights_set_by_hand__pauses_for_that_instead() -> None:
    made = after(paused(PauseReason.GLOBAL_STOP), seen(drift={B: 10_000}, in_force=False))
    assert (made.event, made.pause_reason, made.effects) == (Event.PAUSE, PauseReason.DRIFT, ())


def test_paused__hand_set_weights_are_back__resumes() -> None:
    assert after(paused(PauseReason.DRIFT), seen()).event is Event.RESUME


@pytest.mark.parametrize("world", [seen(drift={B: 10_000}), seen(routed=None), STOPPED])
def test_paused__drift_not_known_to_be_gone__stays(world: Seen) -> None:
    assert after(paused(PauseReason.DRIFT), world).event is None


# --- promoting and the watch ----------------------------------------------------------------------------------------

PROMOTING = view(Phase.PROMOTING, step_index=3)
ALL_ON_C: dict[str, Any] = {"desired_shares": {B: 0, C: 10_000}}


def test_promoting__read_back__succeeds_and_tells_mlflow() -> None:
    made = after(PROMOTING, seen(**ALL_ON_C))
    assert made.event is Event.FINISH
    assert made.effects == (WriteBack(C, C, "promoted"),)


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PROMOTING])
def test_larger_share_is_decided__candidate_has_lost_replicas_meanwhile__says_so(phase: Phase) -> None:
    world = seen(in_force=False, desired_shares={B: 5_000, C: 5_000}, engines={C: SHORT})
    made = after(view(phase, step_since=None), world)
    assert made.reason.endswith(f"Of {C}, 2 of 3 replicas are ready.")


@pytest.mark.parametrize(
    "world", [{}, {"routed": None}, {"drift": {B: 5_000, C: 5_000}}, {"hold": GLOBAL_STOP}]
)
def test_promoting__not_in_force__waits(world: dict[str, Any]) -> None:
    assert stays(after(PROMOTING, seen(**ALL_ON_C, in_force=False, **world)), PROMOTING)


def test_watch__lasts__nothing_changes() -> None:
    assert stays(after(WATCHED, seen(**ALL_ON_C)), WATCHED)


OVER = replace(WATCHED, watch_until=NOW - 1)


def test_watch__over__drains_the_old_variant() -> None:
    made = after(OVER, seen(**ALL_ON_C))
    assert made.end_watch
    assert made.effects == (SetTraffic({C: 10_000}, C), DrainWorkload(B))


@pytest.mark.parametrize("world", [{"routed": None}, {"drift": {B: 5_000, C: 5_000}}, {}])
def test_watch__over_but_the_route_is_not_as_it_should_be__waits(world: dict[str, Any]) -> None:
    made = after(OVER, seen(**ALL_ON_C, in_force=False, **world))
    assert not made.end_watch
    assert made.effects == ()


def test_watch__over_but_nothing_can_be_measured__keeps_the_old_variant_warm() -> None:
    made = after(replace(OVER, unread_at=NOW - 1), seen(**ALL_ON_C))
    assert not made.end_watch
    assert made.effects == ()
    assert "cannot be measured" in made.reason


def test_watch__ended__nothing_happens_any_more() -> None:
    ended = replace(OVER, watching=False)
    made = after(ended, seen(engines={C: status(C, WorkloadPhase.FAILED)}), GatesView(rollback=True))
    assert stays(made, ended)


def test_end_watch__for_a_rollout_to_the_old_variant__keeps_it() -> None:
    made = end_watch(WATCHED, sentence="x", keep_baseline=True)
    assert made.effects == (SetTraffic({C: 10_000}, C),)


# --- rolling back ---------------------------------------------------------------------------------------------------

RETURNING = view(Phase.ROLLING_BACK)
DOWN = status(B, WorkloadPhase.UNREADY)


def test_rolling_back__baseline_ready__all_traffic_to_it() -> None:
    assert after(RETURNING, seen()).effects == (BACK,)


def test_rolling_back__global_stop_or_drift__does_not_hold_it() -> None:
    assert after(RETURNING, STOPPED).effects == (BACK,)
    assert after(RETURNING, seen(drift={C: 10_000}, in_force=False)).effects == (BACK,)


def test_rolling_back__in_force__returns_tells_mlflow_and_drains() -> None:
    made = after(RETURNING, seen(desired_shares={B: 10_000}))
    assert made.event is Event.RETURN
    assert made.effects == (WriteBack(B, C, "rolled-back"), DrainWorkload(C))
    assert made.reason == "it was bad"


def test_rolling_back__router_silent__waits_and_says_so() -> None:
    made = after(RETURNING, seen(desired_shares={B: 10_000}, in_force=False, routed=None))
    assert stays(made, RETURNING)
    assert "does not answer" in made.next_step


def test_rolling_back__baseline_down_and_candidate_answers__waits_for_the_baseline() -> None:
    made = after(RETURNING, seen(engines={B: DOWN}))
    assert stays(made, RETURNING)
    assert B in made.next_step


def test_rolling_back__both_down__goes_to_the_baseline() -> None:
    made = after(RETURNING, seen(engines={B: DOWN, C: status(C, WorkloadPhase.UNREADY)}))
    assert made.effects == (BACK,)


def test_rolling_back__split_in_force_but_baseline_down__is_not_over() -> None:
    made = after(RETURNING, seen(engines={B: DOWN}, desired_shares={B: 10_000}))
    assert made.event is None


def test_rolling_back__cluster_silent__the_routers_health_check_decides() -> None:
    blind = {"engines": {B: None, C: None}}
    assert after(RETURNING, seen(**blind)).effects == (BACK,)
    assert stays(after(RETURNING, seen(**blind, healthy=frozenset({C}))), RETURNING)


def test_rolling_back__cluster_silent_for_long__never_gives_up() -> None:
    old = replace(RETURNING, phase_since=NOW - 10 * RETURN_PATIENCE_SECONDS)
    assert after(old, seen(engines={B: None, C: None}, healthy=frozenset())).event is None


def test_rolling_back__baseline_does_not_come_back__needs_a_person() -> None:
    old = replace(RETURNING, phase_since=NOW - RETURN_PATIENCE_SECONDS - 1)
    made = after(old, seen(engines={B: DOWN}))
    assert made.event is Event.GIVE_UP
    assert made.effects == ()


def test_rolling_back__baseline_failed__is_given_time_to_be_launched_again() -> None:
    broken = seen(engines={B: status(B, WorkloadPhase.FAILED, message="disk error")})
    assert after(replace(RETURNING, phase_since=NOW - RELAUNCH_SECONDS + 1), broken).event is None
    made = after(replace(RETURNING, phase_since=NOW - RELAUNCH_SECONDS - 1), broken)
    assert made.event is Event.GIVE_UP
    assert "disk error" in made.reason


def test_rolling_back__traffic_never_moved__ends_whatever_the_baseline_does() -> None:
    made = after(replace(RETURNING, step_index=-1), seen(engines={B: DOWN}, desired_shares={B: 10_000}))
    assert made.event is Event.RETURN


# --- final phases and people ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [Phase.ROLLED_BACK, Phase.CANCELLED, Phase.FAILED, Phase.SUPERSEDED])
def test_final__nothing_happens(phase: Phase) -> None:
    rollout = view(phase)
    made = after(
        rollout, seen(engines={C: status(C, WorkloadPhase.FAILED)}), GatesView(rollback=True, fast_kill="x")
    )
    assert stays(made, rollout)


@pytest.mark.parametrize(
    "phase", [Phase.PROVISIONING, *(view.phase for view in MOVING), Phase.SUCCEEDED, Phase.FAILED]
)
def test_roll_back__by_a_person__possible(phase: Phase) -> None:
    made = roll_back(view(phase), cause="person", sentence="ana rolled it back.")
    assert (made.phase, made.cause) == (Phase.ROLLING_BACK, "person")


def test_roll_back__before_anything_was_launched__cancels_without_an_effect() -> None:
    made = roll_back(view(Phase.PENDING), cause="person", sentence="ana rolled it back.")
    assert (made.phase, made.effects) == (Phase.CANCELLED, ())


def test_cancel__while_launching__restores_the_route_and_drains() -> None:
    assert cancel(view(Phase.PROVISIONING), sentence="x").effects == (BACK, DrainWorkload(C))


@pytest.mark.parametrize("move", [pause, resume, promote])
def test_moves__in_a_final_phase__are_illegal(move: Any) -> None:
    more = {"why": PauseReason.PERSON, "next_step": ""} if move is pause else {}
    with pytest.raises(IllegalTransition):
        move(view(Phase.ROLLED_BACK), sentence="x", **more)


def test_resume__goes_on_with_its_step() -> None:
    made = resume(view(Phase.PAUSED, step_index=1), sentence="x")
    assert (made.step_index, made.effects) == (1, (SetTraffic({B: 7_500, C: 2_500}, B),))


def test_json__of_a_decision_that_drops_nobody__has_no_word_of_it() -> None:
    assert not {"drops", "winner", "once"} & set(after(view(**LAST), seen(), PASS).to_json())


def test_promote__canary_with_an_arm_that_it_has_not__names_the_field() -> None:
    with pytest.raises(InvalidInput) as caught:
        promote(view(), sentence="x", arm="candidate-2")
    assert caught.value.field == "arm"
    assert promote(view(), sentence="x", arm="candidate").event is Event.PROMOTE


@pytest.mark.parametrize("because", ["inconclusive", "no-data", "error"])
def test_progressing__deadline_and_a_policy_that_rolls_back__labelled_with_what_was_open(
    because: Any,
) -> None:
    late = view(phase_since=NOW - PLAN.deadline_seconds - 1)
    made = after(late, seen(), replace(QUIET, open_because=because, reaction="rollback"))
    assert (made.event, made.cause) == (Event.ROLL_BACK, because)
    assert after(late, seen(), replace(QUIET, open_because=because)).event is Event.PAUSE


# --- the baseline is out of order -----------------------------------------------------------------------------------

OUT = Outage(NOW - 30, 30.0, 300, 290, 250, "no replica of it was seen ready")


def test_progressing__baseline_out_of_order__holds_whatever_the_exposure_and_says_since_when() -> None:
    rollout = view(**EXPOSED)
    made = after(rollout, seen(), GatesView(outage=OUT))
    assert stays(made, rollout)
    assert made.reason.startswith("Held at 5%. The baseline has been out of order for 30 s")
    assert made.title == "v1 has been out of order since 03:46:10 UTC"
    assert made.once


def test_progressing__baseline_out_of_order_at_the_last_step__is_not_promoted_by_an_earlier_pass() -> None:
    rollout = view(**LAST)
    assert stays(after(rollout, seen(), replace(PASS, outage=OUT)), rollout)


def test_progressing__deadline_while_the_baseline_is_out_of_order__does_not_send_everybody_back_to_it() -> (
    None
):
    late = view(phase_since=NOW - PLAN.deadline_seconds - 1)
    open_gates = GatesView(open_because="inconclusive", reaction="rollback", outage=OUT)
    made = after(late, seen(), open_gates)
    assert (made.phase, made.pause_reason) == (Phase.PAUSED, PauseReason.INCONCLUSIVE)
    back = after(late, seen(), replace(open_gates, outage=replace(OUT, over=True)))
    assert back.phase is Phase.ROLLING_BACK


def test_progressing__baseline_out_of_order_and_a_gate_fails__rolls_back() -> None:
    failed = GatesView(rollback=True, cause="gate:errors", cause_sentence="Errors.", outage=OUT)
    assert after(view(), seen(), failed).event is Event.ROLL_BACK


def test_progressing__baseline_in_order_again__goes_on_and_tells_how_long_it_was() -> None:
    made = after(view(), seen(), GatesView(outage=replace(OUT, over=True)))
    assert made.event is None
    assert made.title == "v1 works again after 30 s (since 03:46:10 UTC)"
    assert "290 of its 300 requests failed" in made.detail


def test_progressing__advance_in_the_interval_after_an_outage__tells_of_the_advance() -> None:
    made = after(view(**EXPOSED), seen(), GatesView(outage=replace(OUT, over=True)))
    assert made.event is Event.ADVANCE
    assert made.title == "Moving traffic 5% to 25%"
