"""Celery's beat for a clock that jumps.

Celery reckons when a task is next due by the clock on the wall: after a jump back by an hour it would send nothing for
that hour, and the loop would stand still.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery.beat import PersistentScheduler

SMALLEST_JUMP = 1.0  # seconds


class SteadyScheduler(PersistentScheduler):
    """The persistent scheduler; after a jump of the clock, and at the start, nothing was last sent in the future."""

    wall: Callable[[], float] = staticmethod(time.time)
    steady: Callable[[], float] = staticmethod(time.monotonic)
    _offset: float | None = None

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        offset = self.wall() - self.steady()
        if self._offset is None or abs(offset - self._offset) >= SMALLEST_JUMP:
            self._begin_anew()
        self._offset = offset
        return super().tick(*args, **kwargs)

    def _begin_anew(self) -> None:
        for entry in self.schedule.values():
            now = entry.default_now()
            entry.last_run_at = min(entry.last_run_at or now, now)
        self._heap = None  # the order of what is due next, by the clock from before
