"""The stages of each strategy: when time alone may bring a decision, and when only evidence is missing."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.domain.bandits import BanditSpec
from rollouts.domain.lifecycle.decision import ArmView, RolloutView
from rollouts.domain.lifecycle.plan import Plan, canary
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.domain.strategies import STRATEGIES, strategy_of

STEPS = canary((5, 50), hold_seconds=60, min_requests=10)
RACE = Plan("bandit", settings=BanditSpec())
BEGAN = 1_000.0


def view(plan: Plan, **changes: Any) -> RolloutView:
    values: dict[str, Any] = {
        "phase": Phase.PROGRESSING,
        "pause_reason": PauseReason.NONE,
        "plan": plan,
        "arms": (ArmView("baseline", "chat-v1", "v1"), ArmView("candidate", "chat-v2", "v2")),
        "step_index": 1,
        "phase_since": BEGAN,
        "step_since": BEGAN,
        "step_requests": 0,
        "measured_at": BEGAN,
        "created_at": BEGAN,
    }
    return RolloutView(**values | changes)


def exposed(plan: Plan, **changes: Any) -> bool:
    values: dict[str, Any] = {"stage": 0, "seconds": 60.0, "requests": 10}
    return strategy_of(plan).is_exposed(plan, **values | changes)


def test_stages__of_steps__is_one_for_each_and_of_a_race_one() -> None:
    assert STRATEGIES["canary"].stages(STEPS) == 2
    assert STRATEGIES["bandit"].stages(RACE) == 1


def test_moments__of_a_step__is_the_end_of_its_time() -> None:
    assert list(strategy_of(STEPS).moments(view(STEPS))) == [BEGAN + 60]


@pytest.mark.parametrize("changes", [{"step_since": None}, {"step_index": -1}, {"step_index": 2}])
def test_moments__in_no_step__are_none(changes: dict[str, Any]) -> None:
    assert list(strategy_of(STEPS).moments(view(STEPS, **changes))) == []


def test_moments__of_a_race__are_none() -> None:
    assert list(strategy_of(RACE).moments(view(RACE, step_index=0))) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"seconds": 59.9}, False),
        ({"requests": 9}, False),
        ({"stage": -1}, False),
        ({"stage": 2}, False),
    ],
)
def test_exposed__a_step__has_its_time_and_its_requests(changes: dict[str, Any], found: bool) -> None:
    assert exposed(STEPS, **changes) is found


def test_exposed__a_race__learns_until_its_end() -> None:
    assert not exposed(RACE, seconds=1e9, requests=10**9)


def test_expected_steps__last_as_long_as_their_time_and_their_requests_take() -> None:
    # 5% of 1 request/s: 10 requests take 200 s, which is longer than the hold.
    assert list(strategy_of(STEPS).expected_steps(STEPS, 1.0)) == [(500, 200.0), (5_000, 60.0)]
    assert list(strategy_of(RACE).expected_steps(RACE, 1.0)) == []
