"""Beat goes on sending when the clock jumps."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from controlplane.config.beat import SteadyScheduler

HOUR = 3600.0


class Beat:
    """A scheduler whose clock is ours, and what it sent: task and steady second."""

    def __init__(self, folder: Path) -> None:
        self.steady, self.wall = 0.0, datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp()
        self.sent: list[tuple[str, float]] = []
        self.app = Celery("beat", set_as_current=False)
        self.app.conf.result_expires = None  # no task of Celery's own
        self.app.conf.beat_schedule = {
            "often": {"task": "often", "schedule": 1.0},
            "seldom": {"task": "seldom", "schedule": 5.0},
        }
        self.scheduler: Any = SteadyScheduler(self.app, schedule_filename=str(folder / "schedule"), lazy=True)
        self.scheduler.wall, self.scheduler.steady = lambda: self.wall, lambda: self.steady
        self.scheduler.__dict__["producer"] = None  # no broker is asked for
        self.scheduler.__dict__["apply_async"] = lambda entry, **_: self.sent.append(
            (entry.task, self.steady)
        )
        self.scheduler.setup_schedule()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.wall, tz=UTC)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.steady += 0.1
            self.wall += 0.1
            for _ in range(20):  # one task a tick
                if self.scheduler.tick():
                    break
            else:
                raise AssertionError("it sends without end")

    def counts(self) -> dict[str, int]:
        return {name: sum(task == name for task, _ in self.sent) for name in ("often", "seldom")}


@pytest.fixture
def beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beat]:
    made = Beat(tmp_path)
    # A schedule that was kept on disk asks the app of this process for the time.
    monkeypatch.setattr("celery.schedules.BaseSchedule.now", lambda schedule: made.now())
    yield made
    made.scheduler.close()


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, 24 * HOUR, -24 * HOUR])
def test_clock__jumps__every_task_is_sent_on(beat: Beat, seconds: float) -> None:
    beat.run(11)
    beat.wall += seconds
    beat.sent.clear()
    beat.run(20)
    found = beat.counts()
    assert 17 <= found["often"] <= 22
    assert 3 <= found["seldom"] <= 5


def test_schedule__kept_in_the_future__is_sent_at_once(beat: Beat) -> None:
    for entry in beat.scheduler.schedule.values():
        entry.last_run_at = beat.now() + timedelta(hours=1)
    beat.run(6)
    assert beat.counts()["often"] >= 4
    assert beat.counts()["seldom"] >= 1
