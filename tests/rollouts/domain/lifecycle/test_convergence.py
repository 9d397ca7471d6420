"""What brings the world back to what was decided never moves a share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.engines import EngineView, WorkloadPhase
from rollouts.domain.lifecycle.convergence import keep_stable, relaunch, scale_in
from rollouts.domain.lifecycle.decision import ArmView
from rollouts.domain.lifecycle.effects import AnyEffect, EnsureWorkload, HoldScaleIn, SetTraffic
from rollouts.domain.lifecycle.states import Phase
from tests.rollouts.domain.lifecycle.test_decide import B, C, view

V1 = "chat-v1-aaaaaa"
READY = EngineView(V1, WorkloadPhase.READY, ready=1, desired=1)
ENGINES = st.one_of(
    st.none(), st.builds(EngineView, st.just(V1), st.sampled_from(WorkloadPhase), ready=st.integers(0, 2))
)
NAMES = st.sets(st.sampled_from("abcd"))
SPLITS = st.dictionaries(st.sampled_from([V1, "chat-v2-bbbbbb"]), st.integers(0, 10_000), min_size=1)


@given(engine=ENGINES, wanted=st.booleans(), waits=st.booleans(), shares=SPLITS)
def test_keep_stable__endpoint_that_has_a_route__never_moves_a_share(
    engine: EngineView | None, wanted: bool, waits: bool, shares: dict[str, int]
) -> None:
    effects = keep_stable(V1, engine, wanted=wanted, launch_waits=waits, desired_shares=shares)
    assert not [effect for effect in effects if isinstance(effect, SetTraffic)]


def test_keep_stable__first_route__is_all_to_the_stable_variant_once_it_is_ready() -> None:
    effects = keep_stable(V1, READY, wanted=True, launch_waits=False, desired_shares={})
    assert effects[0] == SetTraffic({V1: 10_000}, V1)
    for unknown in (None, EngineView(V1, WorkloadPhase.STARTING)):
        assert keep_stable(V1, unknown, wanted=True, launch_waits=False, desired_shares={}) == ()


def test_keep_stable__not_to_run_any_more__is_launched_once() -> None:
    shares = {V1: 10_000}
    asked = keep_stable(V1, None, wanted=False, launch_waits=False, desired_shares=shares)
    assert asked == (EnsureWorkload(V1),)
    assert keep_stable(V1, None, wanted=False, launch_waits=True, desired_shares=shares) == ()


@given(names=NAMES, known=NAMES, asked=NAMES)
def test_relaunch__only_what_is_wanted_unknown_and_not_asked_for(
    names: set[str], known: set[str], asked: set[str]
) -> None:
    again = relaunch(sorted(names), known, asked)
    assert {effect.variant for effect in again if isinstance(effect, EnsureWorkload)} == names - known - asked
    assert all(isinstance(effect, EnsureWorkload) for effect in again)


# --- scale-in ---------------------------------------------------------------------------------------------------------


def scaled(phase: Phase | None, held: dict[str, bool | None]) -> tuple[AnyEffect, ...]:
    """With both variants wanted."""
    return scale_in(None if phase is None else view(phase), held, (B, C), {})


@pytest.mark.parametrize(
    "phase",
    [
        Phase.PROVISIONING,
        Phase.PROGRESSING,
        Phase.PAUSED,
        Phase.PROMOTING,
        Phase.SUCCEEDED,
        Phase.ROLLING_BACK,
    ],
)
def test_scale_in__rollout_that_goes_on__is_held_for_its_arms(phase: Phase) -> None:
    assert scaled(phase, {B: False, C: False}) == (HoldScaleIn(B, True), HoldScaleIn(C, True))
    assert scaled(phase, {B: True, C: True}) == ()


@pytest.mark.parametrize("phase", [None, Phase.PENDING])
def test_scale_in__nothing_compared__is_let_go(phase: Phase | None) -> None:
    assert scaled(phase, {B: True, C: False}) == (HoldScaleIn(B, False),)


@pytest.mark.parametrize("held", [{}, {B: None, C: None}], ids=["unknown", "nothing scales it"])
def test_scale_in__nothing_to_hold__asks_for_nothing(held: dict[str, bool | None]) -> None:
    assert scaled(Phase.PROGRESSING, held) == ()


def test_scale_in__asked_for_already__is_not_asked_for_again() -> None:
    assert scale_in(view(), {B: False, C: True}, (B, C), {B: True}) == ()


def test_scale_in__asked_for_and_not_wanted_any_more__is_asked_for_the_other_way() -> None:
    assert scale_in(None, {B: False}, (B,), {B: True}) == (HoldScaleIn(B, False),)


def test_scale_in__what_is_drained__is_left_as_it_is() -> None:
    assert scale_in(None, {B: True, C: True}, (C,), {}) == (HoldScaleIn(C, False),)


def test_scale_in__arm_that_left_the_race_and_runs_still__is_let_go() -> None:
    gone = ArmView("candidate", C, "v2", dropped=True)
    rollout = view(arms=(ArmView("baseline", B, "v1"), gone))
    assert scale_in(rollout, {B: True, C: True}, (B, C), {}) == (HoldScaleIn(C, False),)
