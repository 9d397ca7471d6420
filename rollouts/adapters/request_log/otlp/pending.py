"""Answered requests between the receiver and a store.

A gateway sends what it has once and forgets it, so a store that is away for a while must not cost what came meanwhile.
What came is acknowledged before a store has it: a receiver that is killed loses the last moment (FLUSH_SECONDS), as the
gateway does when it is killed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Thread

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.request_log.otlp.records import Answered
from rollouts.adapters.request_log.otlp.stores import SILENT_AFTER, AnswerStore

MOST_PENDING = 200_000  # over all clusters: three minutes of 1,100 requests a second, about 50 MB
FLUSH_SECONDS = 0.2  # what comes within it goes to the store together
PAUSE_SECONDS = 1.0  # after the store was away
AT_ONCE = 5_000  # that a store is given in one call
BEAT_SECONDS = SILENT_AFTER / 4

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    cluster: str
    answers: Sequence[Answered]


class Pending:
    """Hands answered requests to a store in a thread of its own, in the order in which they came.

    While the store is away they wait; of more than `most` the oldest are lost, and told in the log: it is the newest
    answers that people rate. A cluster of which the store cannot keep something for another reason keeps no other
    one's waiting.
    """

    def __init__(
        self,
        store: AnswerStore,
        *,
        most: int = MOST_PENDING,
        pause_seconds: float = PAUSE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._most = most
        self._pause = pause_seconds
        self._monotonic = monotonic
        self._changed = Condition()
        self._waiting: deque[_Batch] = deque()
        self._number = 0
        self._stopping = False
        self._beat_at = float("-inf")
        self._away = ""  # the words of the store's last failure; "" while it answers
        self._thread = Thread(target=self._run, name="answered-requests", daemon=True)
        self.lost = 0  # entries, since the start

    def start(self) -> None:
        self._thread.start()

    def add(self, cluster: str, answers: Sequence[Answered]) -> None:
        """Takes them all, and forgets the oldest where there are too many. Never waits for the store."""
        with self._changed:
            self._waiting.append(_Batch(cluster, answers))
            self._number += len(answers)
            self._make_room()
            self._changed.notify()

    def close(self, seconds: float) -> int:
        """Hands over what waits, for up to so many seconds, and ends. Returns how many entries no store has."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            return self._number

    def _make_room(self) -> None:
        gone = 0
        while self._number > self._most and self._waiting:
            batch = self._waiting.popleft()
            self._number -= len(batch.answers)
            gone += len(batch.answers)
        if gone:
            self.lost += gone
            log.error("receiver.lost entries=%s %s", gone, self._away)

    def _run(self) -> None:
        while True:
            self._beat()
            with self._changed:
                if not self._waiting and not self._stopping:
                    self._changed.wait(BEAT_SECONDS)
                if self._stopping and not self._waiting:
                    return
                if not self._stopping:
                    self._changed.wait_for(lambda: self._stopping, FLUSH_SECONDS)
                taken, self._waiting = self._waiting, deque()
            left = self._hand_over(taken)
            if left:
                with self._changed:
                    self._waiting.extendleft(reversed(left))
                    self._make_room()
                    stopping = self._changed.wait_for(lambda: self._stopping, self._pause)
                if stopping:
                    time.sleep(FLUSH_SECONDS)  # `close` says for how long it is tried

    def _hand_over(self, batches: Sequence[_Batch]) -> list[_Batch]:
        """Returns what the store could not take because it is away."""
        by_cluster: dict[str, list[Answered]] = {}
        for batch in batches:
            by_cluster.setdefault(batch.cluster, []).extend(batch.answers)
        parts = [
            (cluster, answers[start : start + AT_ONCE])
            for cluster, answers in by_cluster.items()
            for start in range(0, len(answers), AT_ONCE)
        ]
        left: list[_Batch] = []
        for cluster, answers in parts:
            try:
                self._store.keep(cluster, answers)
            except Unavailable as error:
                self._told_away(error)
                left.append(_Batch(cluster, answers))
                continue
            except Exception:  # the boundary of one cluster: what is wrong with its entries is so for ever
                log.exception("receiver.not_kept cluster=%s entries=%s", cluster, len(answers))
                with self._changed:
                    self.lost += len(answers)
            else:
                self._told_back()
            with self._changed:
                self._number -= len(answers)
        return left

    def _beat(self) -> None:
        now = self._monotonic()
        if now - self._beat_at < BEAT_SECONDS:
            return
        try:
            self._store.beat()
        except Unavailable as error:
            self._told_away(error)
        except Exception:  # it must not end the thread that keeps what comes
            log.exception("receiver.no_beat")
        else:
            self._told_back()
            self._beat_at = now

    def _told_away(self, error: Unavailable) -> None:
        if not self._away:
            log.error("receiver.store_away %s What comes is held back meanwhile.", error)
        self._away = error.message

    def _told_back(self) -> None:
        if self._away:
            log.info("receiver.store_back")
        self._away = ""
