"""The clock jumps in the middle of a rollout: nothing is decided early by it, and nothing hangs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction

from rollouts.domain.plan import canary
from rollouts.models import Endpoint, HistoryEvent
from tests.rollouts.memory_world import ERRORS, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]

HOUR, DAY = 3600.0, 86_400.0
JUMPS = (HOUR, -HOUR, DAY, -DAY)
# Nothing here may take as long as the smallest jump, so that a jump that counts as time is seen at once.
SHORT_PLAN = replace(
    canary((25, 50), hold_seconds=3, min_requests=10, watch_seconds=6),
    launch_seconds=20,
    no_data_seconds=30,
    deadline_seconds=600,
)
Moment = tuple[float, str, int, dict[int, int]]


def _tell(
    folder: Path, *, jumps: dict[int, float], error_rate: float = 0.0, inside: str = ""
) -> tuple[list[Moment], MemoryWorld]:
    """What happened when, by time that really passed: phase, step and shares whenever one of them changed.

    jumps    by how many seconds the clock jumps before (`inside`: in the first call of that name in) a tick
    """
    w = MemoryWorld(folder, gates=(ERRORS,), rate=20, ready_after=2.0).serve()
    began = w.clock.reading().steady
    w.start(2, plan=SHORT_PLAN)
    w.behave(2, error_rate=error_rate)
    told: list[Moment] = []
    for tick in range(45):
        if tick in jumps and inside:
            w.calls.hooks[inside] = lambda seconds=jumps[tick]: w.clock.jump(seconds)  # type: ignore[misc]
        elif tick in jumps:
            w.clock.jump(jumps[tick])
        w.tick()
        rollout = w.rollout
        now = (rollout.phase + (" watched" if rollout.watching else ""), rollout.step_index, w.shares())
        if not told or told[-1][1:] != now:
            told.append((w.clock.reading().steady - began, *now))
    return told, w


def _alone(told: Callable[[], tuple[list[Moment], MemoryWorld]]) -> list[Moment]:
    """The story in a transaction of its own that is rolled back, so that the next one begins alike."""
    with transaction.atomic():
        try:
            return told()[0]
        finally:
            transaction.set_rollback(True)


@pytest.mark.parametrize("seconds", JUMPS)
@pytest.mark.parametrize("error_rate", [0.0, 0.5])
def test_jump__between_two_turns_anywhere_in_a_rollout__everything_happens_when_it_would_have(
    tmp_path: Path, seconds: float, error_rate: float
) -> None:
    undisturbed = _alone(lambda: _tell(tmp_path / "calm", jumps={}, error_rate=error_rate))
    assert undisturbed[-1][1] == ("rolled-back" if error_rate else "succeeded")
    first = JUMPS.index(seconds)
    for tick in range(first, int(undisturbed[-1][0]) + 1, len(JUMPS)):
        jumped = _alone(
            lambda tick=tick: _tell(tmp_path / str(tick), jumps={tick: seconds}, error_rate=error_rate)  # type: ignore[misc]
        )
        assert jumped == undisturbed, f"the clock jumped at {tick} s"
