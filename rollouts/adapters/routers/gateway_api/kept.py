"""Questions to others who may hang: asked in threads of their own, and kept until somebody comes for the answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

ASKED_AT_ONCE = 16
MOST_KEPT = 1_000  # questions whose answer nobody came back for are forgotten together

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")


class KeptQuestions(Generic[Question, Answer]):
    """Safe for several threads. Each question is asked once until its answer was taken.

    name    of its threads, for people
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=ASKED_AT_ONCE, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._asked: dict[Question, Future[Answer]] = {}

    def begin(self, question: Question, ask: Callable[[], Answer]) -> None:
        """Asks, unless it is asked already. `ask` bounds its own time."""
        with self._lock:
            if len(self._asked) > MOST_KEPT:
                self._asked.clear()
            if question not in self._asked:
                self._asked[question] = self._pool.submit(ask)

    def take(self, question: Question, *, until: float) -> Callable[[], Answer] | None:
        """What gives the answer, or raises what asking raised; None when there is no answer until then, on the
        monotonic clock. Whoever takes it has it alone: the question may be asked again."""
        with self._lock:
            future = self._asked.get(question)
        if future is None:
            return None
        wait([future], timeout=max(0.0, until - time.monotonic()))
        if not future.done():
            return None
        with self._lock:
            self._asked.pop(question, None)
        return future.result
