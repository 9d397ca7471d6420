"""Turns that are under way in this process, by cluster: one that hangs must not take every thread, however many of its
endpoints are due and however often somebody clicks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

SLOW_AFTER = 1.5  # seconds: two ticks later it is known that a cluster hangs
SLOW_AT_ONCE = 2  # turns of one cluster that take longer than that; no further one begins in a tick
WOKEN_AT_ONCE = 2  # turns of one cluster after clicks; a further one is left to the next tick


class UnderWay:
    """Counts turns. Safe for several threads.

    clock   seconds that run steadily
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._began: dict[str, list[float]] = defaultdict(list)
        self._woken: dict[str, int] = defaultdict(int)

    @contextmanager
    def turn(self, cluster: str) -> Iterator[None]:
        """A turn of endpoints of this cluster, until the block ends."""
        with self._lock:
            began = self._clock()
            self._began[cluster].append(began)
        try:
            yield
        finally:
            with self._lock:
                self._began[cluster].remove(began)

    def hangs(self, cluster: str) -> bool:
        """Whether so many turns wait for this cluster that a tick leaves it alone."""
        with self._lock:
            slow = [began for began in self._began[cluster] if self._clock() - began > SLOW_AFTER]
            return len(slow) >= SLOW_AT_ONCE

    @contextmanager
    def woken(self, cluster: str) -> Iterator[bool]:
        """A turn after a click, until the block ends. False: as many as may be are under way; take none."""
        with self._lock:
            free = self._woken[cluster] < WOKEN_AT_ONCE
            self._woken[cluster] += free
        try:
            yield free
        finally:
            with self._lock:
                self._woken[cluster] -= free
