"""What engines said last, so that one that hangs keeps nobody waiting who looks at all of them.

An engine is asked in a thread of its own and waited for only a moment. Where its answer is still outstanding then, the
one before it counts; it is at most one ask older, whose time-out bounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from threading import RLock
from typing import Generic, TypeVar

T = TypeVar("T")
MOMENT_SECONDS = 0.2  # a healthy engine answers within a few milliseconds
ASKED_AT_ONCE = 32
MOST_KEPT = 1_000  # engines; those that have gone are forgotten together


class LastAnswers(Generic[T]):
    """The last answer by key, such as a process. Safe for several threads."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=ASKED_AT_ONCE, thread_name_prefix="asks-engines")
        self._lock = RLock()  # a future that is done calls back at once
        self._known: dict[Hashable, T] = {}
        self._asked: dict[Hashable, Future[T]] = {}

    def of(self, key: Hashable, ask: Callable[[], T]) -> T:
        """The answer to `ask`, or the one before it while that takes longer than a moment. The first one is waited for.

        Raises what `ask` raises. `ask` bounds its own time.
        """
        with self._lock:
            if len(self._known) > MOST_KEPT:
                self._known.clear()
            future = self._asked.get(key)
            if future is None:
                future = self._asked[key] = self._pool.submit(ask)
                future.add_done_callback(lambda done: self._keep(key, done))
            is_known = key in self._known
        try:
            return future.result(timeout=MOMENT_SECONDS if is_known else None)
        except NotYet:
            if future.done():  # it is `ask` that took too long, or it ended this very moment: it says which
                return future.result()
        with self._lock:
            if key in self._known:
                return self._known[key]
        return future.result()

    def _keep(self, key: Hashable, done: Future[T]) -> None:
        with self._lock:
            self._asked.pop(key, None)
            if done.exception() is None:
                self._known[key] = done.result()
