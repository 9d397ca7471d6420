"""Ticks that piled up: a worker that comes back finds one message for every second that it was away."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock


class Ticks:
    """Lets one tick begin, and the next one `seconds` later at the earliest. Safe for several threads.

    clock   seconds that run steadily
    """

    def __init__(self, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._began: float | None = None
        self._lock = Lock()

    def may_begin(self) -> bool:
        """True for a tick that is to be done; the next one is counted from now on."""
        with self._lock:
            now = self._clock()
            if self._began is not None and now - self._began < self._seconds:
                return False
            self._began = now
            return True
