"""The state table: every state and event, and what the rest of the code relies on."""

from __future__ import annotations

import itertools

import pytest

from controlplane.kernel.errors import IllegalTransition
from rollouts.domain.lifecycle.states import (
    ACTIVE,
    FINAL,
    TRAFFIC_MOVES,
    Event,
    Phase,
    allowed_events,
    transition,
)

P, E = Phase, Event
# The whole grid, written down a second time by hand: a change of the table must be made here too.
GRID: dict[Phase, dict[Event, Phase]] = {
    P.PENDING: {
        E.PROVISION: P.PROVISIONING,
        E.CANCEL: P.CANCELLED,
        E.ROLL_BACK: P.CANCELLED,
        E.SUPERSEDE: P.SUPERSEDED,
        E.RESTORE: P.SUPERSEDED,
    },
    P.PROVISIONING: {
        E.START: P.PROGRESSING,
        E.DROP: P.PROVISIONING,
        E.CANCEL: P.CANCELLED,
        E.ROLL_BACK: P.ROLLING_BACK,
        E.SUPERSEDE: P.SUPERSEDED,
        E.RESTORE: P.SUPERSEDED,
    },
    P.PROGRESSING: {
        E.ADVANCE: P.PROGRESSING,
        E.REWEIGHT: P.PROGRESSING,
        E.DROP: P.PROGRESSING,
        E.PAUSE: P.PAUSED,
        E.PROMOTE: P.PROMOTING,
        E.ROLL_BACK: P.ROLLING_BACK,
        E.RESTORE: P.SUPERSEDED,
    },
    P.PAUSED: {
        E.RESUME: P.PROGRESSING,
        E.PAUSE: P.PAUSED,
        E.DROP: P.PAUSED,
        E.PROMOTE: P.PROMOTING,
        E.ROLL_BACK: P.ROLLING_BACK,
        E.RESTORE: P.SUPERSEDED,
    },
    P.PROMOTING: {E.FINISH: P.SUCCEEDED, E.ROLL_BACK: P.ROLLING_BACK, E.RESTORE: P.SUPERSEDED},
    P.SUCCEEDED: {E.ROLL_BACK: P.ROLLING_BACK},
    P.ROLLING_BACK: {E.RETURN: P.ROLLED_BACK, E.GIVE_UP: P.FAILED, E.RESTORE: P.SUPERSEDED},
    P.FAILED: {E.ROLL_BACK: P.ROLLING_BACK},
    P.ROLLED_BACK: {},
    P.CANCELLED: {},
    P.SUPERSEDED: {},
}


def test_grid__covers_every_phase() -> None:
    assert set(GRID) == set(Phase)


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_transition__every_pair__as_the_grid_says(phase: Phase, event: Event) -> None:
    expected = GRID[phase].get(event)
    if expected is not None:
        assert transition(phase, event) is expected
        assert event.value in allowed_events(phase)
        return
    with pytest.raises(IllegalTransition) as caught:
        transition(phase, event)
    assert (caught.value.state, caught.value.event) == (phase.value, event.value)
    assert caught.value.allowed == allowed_events(phase)
    assert event.value not in caught.value.allowed


def test_active_and_final__split_the_phases() -> None:
    assert set(Phase) == ACTIVE | FINAL
    assert not ACTIVE & FINAL


def test_rolling_back__is_possible_wherever_traffic_may_be_on_the_candidate() -> None:
    for phase in TRAFFIC_MOVES | {P.SUCCEEDED, P.FAILED, P.PROVISIONING}:
        assert transition(phase, E.ROLL_BACK) is P.ROLLING_BACK


def test_final_phases__move_only_back() -> None:
    for phase in FINAL:
        assert set(GRID[phase]) <= {E.ROLL_BACK}
