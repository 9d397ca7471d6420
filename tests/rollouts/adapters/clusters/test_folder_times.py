"""How long an engine runs and a drain takes, over a clock that jumps."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from controlplane.kernel.clock import ManualClock
from rollouts.adapters.clusters.folder import Drain, Runs

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.mark.parametrize("jump", [0, 3600, -3600])
def test_runs__clock_jumps__is_as_old_as_it_is(clock: ManualClock, jump: float) -> None:
    runs = Runs(7, NOW.timestamp(), reading=clock.reading())
    clock.advance(30)
    clock.jump(jump)
    assert Runs.from_json(runs.to_json()).seconds(clock.reading()) == 30


def test_runs__of_an_earlier_version__goes_by_the_clock(clock: ManualClock) -> None:
    kept = Runs(7, NOW.timestamp()).to_json()
    del kept["reading"]
    clock.advance(30)
    assert Runs.from_json(kept).seconds(clock.reading()) == 30


@pytest.mark.parametrize("jump", [0, 3600, -3600])
def test_drain__clock_jumps__takes_as_long_as_it_may(clock: ManualClock, jump: float) -> None:
    drain = Drain(clock.reading(), 120, idle=clock.reading())
    clock.advance(50)
    clock.jump(jump)
    assert Drain.from_json(drain.to_json()).left(clock.reading()) == 70


def test_drain__of_an_earlier_version__goes_on(clock: ManualClock) -> None:
    began = NOW.timestamp()
    kept = {"requested_at": began, "deadline": began + 120, "idle_since": began, "stopping": False}
    clock.advance(50)
    assert Drain.from_json(kept).left(clock.reading()) == 70
