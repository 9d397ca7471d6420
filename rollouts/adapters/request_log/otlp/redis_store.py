"""Answered requests in Redis.

A hash for each cluster and minute. It runs out as a whole, its size is one number, and an entry needs no key and no
time to live of its own, which would take more memory than what is kept. Minutes are those of Redis's own clock, so it
does not matter what the clocks of receivers and readers show.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from controlplane.kernel.errors import Unavailable
from controlplane.kernel.foreign import words_of
from controlplane.sealing.senders import checked_cluster
from rollouts.adapters.request_log.otlp.records import Answered
from rollouts.adapters.request_log.otlp.stores import (
    KEPT_SECONDS,
    MOST_KEPT,
    SILENT_AFTER,
    in_parts,
    unpacked,
)

MINUTE = 60
MINUTES = int(KEPT_SECONDS) // MINUTE + 1  # that are kept, the present one among them
NEWEST = 2  # of these, which hold nearly all that is asked for
ANSWER_SECONDS = 2.0  # that Redis has for one answer: a turn of the loop waits for it
LEFT_ALONE = 10.0  # seconds, after it did not answer: no further turn waits for it
PREFIX = "headgate:answered"
ALIVE = f"{PREFIX}:receiver"

log = logging.getLogger(__name__)


class RedisAnswers:
    """An AnswerStore in one Redis server (not a Redis Cluster: a question reads several keys).

    address   redis://, rediss:// or unix://
    most      entries of a cluster
    monotonic seconds that only grow
    """

    def __init__(
        self, address: str, *, most: int = MOST_KEPT, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = redis.Redis.from_url(
            address,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 1),  # a connection that a restarted server cut is noticed by using it
            retry_on_error=[redis.ConnectionError],
            protocol=2,
        )
        self._most = most
        self._monotonic = monotonic
        self._left_alone_until = 0.0
        self._full: dict[str, str] = {}  # by cluster, the minute that alone holds all that may be kept

    def keep(self, cluster: str, answers: Sequence[Answered]) -> None:
        """See AnswerStore. Two questions, however many they are. Where the present minute alone holds as many as may be
        kept, further ones are not, and that is told in our log."""
        if not answers:
            return
        with self._asked():
            minutes = self._minutes(cluster)
            newest = minutes[0]
            if self._full.get(cluster) == newest:
                log.error("request_log.full cluster=%s not_kept=%s", cluster, len(answers))
                return
            pipe = self._redis.pipeline(transaction=False)
            pipe.hset(newest, mapping={one.request_id: one.packed() for one in answers})
            pipe.expire(newest, MINUTES * MINUTE)
            for minute in minutes:
                pipe.hlen(minute)
            _, _, *sizes = pipe.execute()
            gone, left = [], sum(sizes)
            for minute, size in zip(reversed(minutes[1:]), reversed(sizes[1:]), strict=True):
                if left <= self._most:
                    break
                gone.append(minute)
                left -= size
            if gone:
                self._redis.unlink(*gone)
            if left >= self._most:
                self._full[cluster] = newest

    def find(self, cluster: str, request_ids: Collection[str]) -> Mapping[str, Answered]:
        """See AnswerStore. The newest minutes are asked first, the others for what was not there."""
        found: dict[str, bytes] = {}
        with self._asked():
            minutes = self._minutes(cluster)
            for part in in_parts(request_ids):
                for some in (minutes[:NEWEST], minutes[NEWEST:]):
                    missing = [name for name in part if name not in found]
                    if missing:
                        found |= self._find(some, missing)
        return unpacked(found.items())

    def beat(self) -> None:
        with self._asked():
            self._redis.set(ALIVE, "1", ex=int(SILENT_AFTER))

    def is_fed(self) -> bool:
        with self._asked():
            return bool(self._redis.exists(ALIVE))

    def close(self) -> None:
        """Closes the connections; the next call makes new ones."""
        self._redis.close()

    def _find(self, minutes: Sequence[str], names: Sequence[str]) -> dict[str, bytes]:
        """Of an id in several minutes, the newest."""
        pipe = self._redis.pipeline(transaction=False)
        for minute in reversed(minutes):
            pipe.hmget(minute, list(names))
        return {
            name: value
            for values in pipe.execute()
            for name, value in zip(names, values, strict=True)
            if value is not None
        }

    def _minutes(self, cluster: str) -> list[str]:
        """The keys of the cluster's minutes, the newest first."""
        answer: Any = self._redis.time()
        now = int(answer[0]) // MINUTE
        return [f"{PREFIX}:{checked_cluster(cluster)}:{now - back}" for back in range(MINUTES + 1)]

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Raises Unavailable for whatever Redis does instead of answering, and at once while it is left alone."""
        now = self._monotonic()
        if now < self._left_alone_until:
            raise Unavailable("Redis did not answer a moment ago.", fix="See whether it runs.")
        try:
            yield
        except redis.ResponseError as error:  # it answers: it is full, or takes no writes
            raise Unavailable(
                f"Redis refused: {words_of(str(error))}", fix="See its log and `maxmemory`."
            ) from error
        except (redis.RedisError, OSError) as error:
            self._left_alone_until = self._monotonic() + LEFT_ALONE
            raise Unavailable(
                f"Redis does not answer: {type(error).__name__}.", fix="See whether it runs."
            ) from error
