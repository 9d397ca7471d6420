"""An arm that runs something else than what was asked for: nothing moves forward, and everything may still go back."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.domain.lifecycle.changed import arms_that_count, changed_hold
from rollouts.domain.lifecycle.decision import GLOBAL_STOP, ArmView, GatesView, Hold, RolloutView
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP
from rollouts.domain.lifecycle.states import Event, PauseReason, Phase
from tests.rollouts.domain.lifecycle.test_decide import (
    AT_ZERO,
    LAST,
    NOW,
    PASS,
    B,
    C,
    after,
    seen,
    stays,
    view,
)

WORDS = "the image of engine is other:2, launched was vllm:1, by kubectl-edit"


def hold_of(rollout: RolloutView, **altered: str) -> Hold:
    found = changed_hold(rollout, {C: WORDS, **altered})
    assert found is not None
    return found


def held(phase: Phase = Phase.PROGRESSING, **changes: Any) -> tuple[RolloutView, Hold]:
    rollout = view(phase, **changes)
    return rollout, hold_of(rollout)


# --- whose change counts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "names"),
    [
        (Phase.PENDING, ["v2"]),
        (Phase.PROVISIONING, ["v2"]),
        (Phase.PROGRESSING, ["v1", "v2"]),
        (Phase.PAUSED, ["v1", "v2"]),
        (Phase.PROMOTING, ["v2"]),
        (Phase.SUCCEEDED, ["v2"]),
        (Phase.ROLLING_BACK, []),
        (Phase.FAILED, []),
    ],
)
def test_arms_that_count__by_phase__are_those_that_something_is_to_be_proven_of(
    phase: Phase, names: list[str]
) -> None:
    assert [arm.label for arm in arms_that_count(view(phase))] == names


def test_hold__says_of_whom_what_was_changed_and_how_it_ends() -> None:
    found = hold_of(view(), **{B: "the arguments of engine, by ana"})
    assert found == Hold(
        PauseReason.CHANGED,
        "v1 does not run as it was asked for (changed: the arguments of engine, by ana), and "
        f"v2 does not run as it was asked for (changed: {WORDS})",
        "what was changed is undone in the cluster",
    )


@pytest.mark.parametrize("altered", [{}, {C: ""}, {"chat-v9-cccccc": WORDS}])
def test_hold__nothing_known_of_an_arm__is_none(altered: dict[str, str]) -> None:
    assert changed_hold(view(), altered) is None


def test_hold__arm_that_left_the_race__is_nobodys_concern() -> None:
    gone = ArmView("candidate", C, "v2", dropped=True)
    other = ArmView("candidate-2", "chat-v3-cccccc", "v3")
    assert changed_hold(view(arms=(ArmView("baseline", B, "v1"), gone, other)), {C: WORDS}) is None


# --- what the rollout does --------------------------------------------------------------------------------------------


def test_provisioning__candidate_changed__gets_no_share() -> None:
    rollout, hold = held(Phase.PROVISIONING)
    made = after(rollout, seen(**AT_ZERO, hold=hold))
    assert stays(made, rollout)
    assert made.reason == f"Ready to start, but {hold.sentence}."
    assert made.next_step == "It starts when what was changed is undone in the cluster."


def test_progressing__candidate_changed__holds_although_every_gate_passes() -> None:
    rollout, hold = held(**LAST)
    made = after(rollout, seen(hold=hold), PASS)
    assert (made.event, made.pause_reason, made.effects) == (Event.PAUSE, PauseReason.CHANGED, ())
    assert made.reason == f"{hold.sentence}: held at 50%."
    assert made.next_step == (
        "It goes on by itself when what was changed is undone in the cluster. It can be rolled back meanwhile."
    )


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING, Phase.SUCCEEDED])
@pytest.mark.parametrize(
    "gates",
    [GatesView(rollback=True, cause="gate:errors", cause_sentence="bad"), GatesView(fast_kill="bad")],
    ids=["gate", "fast kill"],
)
def test_rollback__whatever_was_changed__is_not_delayed(phase: Phase, gates: GatesView) -> None:
    rollout, hold = held(phase, pause_reason=PauseReason.CHANGED, watching=True, watch_until=NOW + 60)
    assert after(rollout, seen(hold=hold), gates).event is Event.ROLL_BACK


def test_paused__undone__resumes() -> None:
    made = after(view(Phase.PAUSED, pause_reason=PauseReason.CHANGED), seen())
    assert made.event is Event.RESUME
    assert made.reason == "What runs is what was asked for again."


def test_paused__still_changed__says_what_is_changed_now() -> None:
    rollout, hold = held(Phase.PAUSED, pause_reason=PauseReason.CHANGED)
    made = after(rollout, seen(hold=hold))
    assert stays(made, rollout)
    assert made.reason == f"{hold.sentence}: held at 5%."


def test_paused__undone_and_the_global_stop_set__is_held_by_that_from_then_on() -> None:
    made = after(view(Phase.PAUSED, pause_reason=PauseReason.CHANGED), seen(hold=GLOBAL_STOP))
    assert (made.event, made.pause_reason) == (Event.PAUSE, PauseReason.GLOBAL_STOP)


@pytest.mark.parametrize("reason", [PauseReason.GLOBAL_STOP, PauseReason.DRIFT])
def test_paused__for_something_that_is_over__is_held_by_the_change_from_then_on(reason: PauseReason) -> None:
    rollout, hold = held(Phase.PAUSED, pause_reason=reason)
    made = after(rollout, seen(hold=hold))
    assert (made.event, made.pause_reason) == (Event.PAUSE, PauseReason.CHANGED)


def test_paused__undone_but_weights_set_by_hand__pauses_for_that_instead() -> None:
    made = after(view(Phase.PAUSED, pause_reason=PauseReason.CHANGED), seen(drift={B: 10_000}))
    assert (made.event, made.pause_reason) == (Event.PAUSE, PauseReason.DRIFT)


@pytest.mark.parametrize("reason", [PauseReason.CHANGED, PauseReason.DRIFT])
def test_paused__changed_and_weights_set_by_hand__stays_until_both_are_over(reason: PauseReason) -> None:
    rollout, hold = held(Phase.PAUSED, pause_reason=reason)
    assert stays(after(rollout, seen(hold=hold, drift={B: 10_000})), rollout)


@pytest.mark.parametrize("reason", [PauseReason.PERSON, PauseReason.INCONCLUSIVE])
def test_paused__by_a_person__waits_for_that_person(reason: PauseReason) -> None:
    rollout, hold = held(Phase.PAUSED, pause_reason=reason)
    assert stays(after(rollout, seen(hold=hold)), rollout)


def test_promoting__changed_with_all_traffic_in_force__is_not_promoted_yet() -> None:
    rollout, hold = held(Phase.PROMOTING)
    made = after(rollout, seen(hold=hold, split={C: FULL_SHARE_BP}))
    assert stays(made, rollout)
    assert hold.sentence in made.reason


def test_watch__over_while_the_promoted_one_is_changed__keeps_the_old_one_warm() -> None:
    rollout, hold = held(Phase.SUCCEEDED, watching=True, watch_until=NOW - 1)
    made = after(rollout, seen(hold=hold))
    assert not made.end_watch
    assert stays(made, rollout)
    assert made.next_step == "v1 stays warm until what was changed is undone in the cluster."


def test_watch__over_during_the_global_stop__ends_as_ever() -> None:
    rollout = view(Phase.SUCCEEDED, watching=True, watch_until=NOW - 1)
    assert after(rollout, seen(hold=GLOBAL_STOP)).end_watch
