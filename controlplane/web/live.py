"""The live stream: services publish topics, open pages hear of them and fetch what changed.

Events carry a topic and an id, never content. They are hints: a page that misses one refetches on its own
clock. One poller a process reads the table, however many pages are open.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from django.db import DatabaseError, close_old_connections

from controlplane.web.models import LiveEvent

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

KEEP = timedelta(minutes=10)
PRUNE_EVERY = 256
POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
STREAM_SECONDS = 300.0
REREAD_POLLS = 10
BACKLOG = 500


@dataclass(frozen=True, slots=True)
class Hint:
    """Something about `topic` changed; ids only grow."""

    id: int
    topic: str


def publish(*topics: str, now: datetime) -> None:
    """Tells open pages that `topics` changed. Call it in the transaction of the change."""
    made = LiveEvent.objects.bulk_create([LiveEvent(topic=topic, at=now) for topic in dict.fromkeys(topics)])
    if any(event.id % PRUNE_EVERY == 0 for event in made):
        LiveEvent.objects.filter(at__lt=now - KEEP).delete()


def read_after(last_id: int) -> list[Hint]:
    """Hints with a larger id, oldest first, at most BACKLOG."""
    rows = LiveEvent.objects.filter(id__gt=last_id).order_by("id").values_list("id", "topic")[:BACKLOG]
    return [Hint(*row) for row in rows]


def newest_id() -> int:
    """The largest id so far, 0 when there is none."""
    return LiveEvent.objects.order_by("-id").values_list("id", flat=True).first() or 0


Reader = Callable[[int], Awaitable[list[Hint]]]


class Feed:
    """Reads new hints for all subscribers of one event loop and hands each the topics it asked for."""

    def __init__(self, *, read: Reader, newest: Callable[[], Awaitable[int]], poll_seconds: float) -> None:
        self._read, self._newest, self._poll_seconds = read, newest, poll_seconds
        self._queues: dict[asyncio.Queue[Hint], frozenset[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._polling = asyncio.Event()

    async def listen(self, topics: Iterable[str], *, last_id: int | None) -> AsyncIterator[Hint | None]:
        """Hints on `topics` as they come; None is a heartbeat. Ends after STREAM_SECONDS.

        With `last_id` (what the client saw last) the hints since then come first.
        """
        wanted = frozenset(topics)
        queue: asyncio.Queue[Hint] = asyncio.Queue()
        self._queues[queue] = wanted
        if self._task is None or self._task.done():
            self._polling.clear()
            self._task = asyncio.create_task(self._poll())
        loop = asyncio.get_running_loop()
        ends = loop.time() + STREAM_SECONDS
        try:
            yield None
            await (
                self._polling.wait()
            )  # What is committed from here on reaches the queue; the rest is read below.
            if last_id is not None:
                for hint in await self._read(last_id):
                    if hint.topic in wanted:
                        yield hint
            while (left := ends - loop.time()) > 0:
                try:
                    yield await asyncio.wait_for(queue.get(), min(HEARTBEAT_SECONDS, left))
                except TimeoutError:
                    yield None
        finally:
            self._queues.pop(queue, None)

    async def _poll(self) -> None:
        """Runs while anybody listens.

        A transaction that began earlier may commit later with a smaller id, so the ids of the last few
        polls are read again and those already handed out are left out.
        """
        floor = await self._read_newest()
        self._polling.set()
        recent: deque[int] = deque([floor], maxlen=REREAD_POLLS)
        seen: set[int] = {floor}
        while self._queues:
            await asyncio.sleep(self._poll_seconds)
            try:
                hints = await self._read(recent[0])
            except DatabaseError:
                log.warning(
                    "live.read_failed", exc_info=True
                )  # Pages fall back to their own clock meanwhile.
                continue
            fresh = [hint for hint in hints if hint.id not in seen]
            for hint in fresh:
                for queue, wanted in self._queues.items():
                    if hint.topic in wanted:
                        queue.put_nowait(hint)
            seen.update(hint.id for hint in fresh)
            recent.append(max(seen))
            seen = {known for known in seen if known >= recent[0]}

    async def _read_newest(self) -> int:
        while True:
            try:
                return await self._newest()
            except DatabaseError:
                log.warning("live.read_failed", exc_info=True)
                await asyncio.sleep(self._poll_seconds)


_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, Feed] = WeakKeyDictionary()
_reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")


def feed() -> Feed:
    """The feed of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _feeds:
        _feeds[loop] = Feed(read=_read_aside, newest=_newest_aside, poll_seconds=POLL_SECONDS)
    return _feeds[loop]


async def _read_aside(last_id: int) -> list[Hint]:
    return await asyncio.get_running_loop().run_in_executor(
        _reader, _with_live_connection, read_after, last_id
    )


async def _newest_aside() -> int:
    return await asyncio.get_running_loop().run_in_executor(_reader, _with_live_connection, newest_id)


def _with_live_connection(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    close_old_connections()
    return call(*args, **kwargs)
