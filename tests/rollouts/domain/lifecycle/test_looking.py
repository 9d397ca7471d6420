"""When an endpoint is looked at again: not later than a decision may follow from time alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.lifecycle.decision import ArmView, RolloutView
from rollouts.domain.lifecycle.looking import RESYNC_SECONDS, next_look
from rollouts.domain.lifecycle.plan import canary
from rollouts.domain.lifecycle.states import ACTIVE, PauseReason, Phase
from rollouts.services.loop.restored import QUIET_SECONDS

NOW = 100_000.0
PLAN = canary((5, 50), hold_seconds=60, min_requests=10, watch_seconds=900)
LOOKED_AT_BY_THE_INTERVAL = (Phase.PROGRESSING, Phase.PAUSED, Phase.SUCCEEDED)


def view(phase: Phase = Phase.PROGRESSING, **changes: Any) -> RolloutView:
    values: dict[str, Any] = {
        "phase": phase,
        "pause_reason": PauseReason.NONE,
        "plan": PLAN,
        "arms": (ArmView("baseline", "chat-v1", "v1"), ArmView("candidate", "chat-v2", "v2")),
        "step_index": 0,
        "phase_since": NOW - 30,
        "step_since": NOW - 30,
        "step_requests": 0,
        "measured_at": NOW - 3,
        "created_at": NOW - 60,
    }
    return RolloutView(**values | changes)


def looks_in(rollout: RolloutView | None, **changes: Any) -> float:
    values: dict[str, Any] = {"interval_ends": NOW + 5, "unsettled": False, "watched": False}
    return next_look(rollout, now=NOW, **values | changes) - NOW


def test_idle_endpoint__is_looked_at_after_a_slow_while() -> None:
    assert looks_in(None) == RESYNC_SECONDS


def test_endpoint__with_requests_or_in_trouble__is_looked_at_when_the_interval_ends() -> None:
    assert looks_in(None, watched=True) == 5
    assert looks_in(None, watched=True, interval_ends=NOW - 1) == 0


def test_idle_endpoint__is_looked_at_while_another_control_plane_waits_for_it() -> None:
    assert RESYNC_SECONDS < QUIET_SECONDS


@pytest.mark.parametrize("rollout", [None, view()])
def test_anything_on_its_way__is_looked_at_in_the_next_tick(rollout: RolloutView | None) -> None:
    assert looks_in(rollout, unsettled=True) == 0


@pytest.mark.parametrize("phase", sorted(ACTIVE - set(LOOKED_AT_BY_THE_INTERVAL)))
def test_rollout__that_waits_for_the_world__is_looked_at_in_the_next_tick(phase: Phase) -> None:
    assert looks_in(view(phase)) == 0


@pytest.mark.parametrize("phase", LOOKED_AT_BY_THE_INTERVAL)
def test_rollout__with_traffic__is_looked_at_when_the_interval_ends(phase: Phase) -> None:
    assert looks_in(view(phase)) == 5


SOONER: dict[str, dict[str, Any]] = {
    "the step ends": {"step_since": NOW - 58},
    "the deadline ends": {"phase_since": NOW - PLAN.deadline_seconds + 2},
    "nothing was measured for too long": {"measured_at": NOW - 598, "step_since": NOW - 598},
    "the watch ends": {"phase": Phase.SUCCEEDED, "watch_until": NOW + 2},
}


@pytest.mark.parametrize("case", sorted(SOONER))
def test_rollout__whose_time_ends_within_the_interval__is_looked_at_then(case: str) -> None:
    assert looks_in(view(**SOONER[case])) == pytest.approx(2)


@given(
    phase=st.sampled_from(Phase),
    ends=st.floats(-100, 100),
    since=st.floats(0, 10**6),
    step=st.integers(-1, 2),
)
def test_any_rollout__is_never_looked_at_later_than_its_interval_ends(
    phase: Phase, ends: float, since: float, step: int
) -> None:
    made = looks_in(view(phase, step_since=NOW - since, step_index=step), interval_ends=NOW + ends)
    assert 0 <= made <= max(0, ends) + 1e-9
