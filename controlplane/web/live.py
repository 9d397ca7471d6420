"""The live stream: services publish topics, open pages hear of them and fetch what changed.

Events carry a topic and an id, never content. They are hints: a page that misses one refetches on its own
clock. One poller a process reads the table, however many pages are open, and asks what changed, not how often: its
cost and its lag do not grow with the rate of hints. What is too much to tell apart is told as EVERYTHING.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from django.db import DatabaseError, close_old_connections, connection, transaction
from django.db.models import Count, Max, Min, Q

from controlplane.web.models import LiveEvent

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

KEEP = timedelta(minutes=10)
PRUNE_EVERY = 256
POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
STREAM_SECONDS = 300.0
REREAD_POLLS = 20  # how long a transaction may last whose hints are still heard
MOST_ROWS = 50_000  # that are counted by one poll: 5,000 hints a second
MOST_TOPICS = 500  # that are told apart by one poll
EVERYTHING = "everything"  # a topic that every page hears: fetch all, whatever you follow


@dataclass(frozen=True, slots=True)
class Hint:
    """Something about `topic` changed; `id` is that of its newest row."""

    id: int
    topic: str


class _Said:
    """Marks a topic as published in this transaction. Django keeps what is to be done on commit, and forgets what
    belongs to a savepoint that was rolled back."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def __call__(self) -> None:
        """Nothing is left to do on commit: the row is in the transaction."""


def publish(*topics: str, now: datetime) -> None:
    """Tells open pages that `topics` changed. Call it in the transaction of the change.

    A topic has one row a transaction: all of it is seen at the same moment, so a second row would say nothing. Rows of
    other transactions are never counted on: a page may have fetched between their commit and ours.
    """
    said = {mark.topic for _, mark, *_ in connection.run_on_commit if isinstance(mark, _Said)}
    fresh = [topic for topic in dict.fromkeys(topics) if topic not in said]
    made = LiveEvent.objects.bulk_create([LiveEvent(topic=topic, at=now) for topic in fresh])
    for topic in fresh:
        transaction.on_commit(_Said(topic))
    if any(event.id % PRUNE_EVERY == 0 for event in made):
        LiveEvent.objects.filter(at__lt=now - KEEP).delete()


# --- what is read -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PollWindow:
    """What a poll reads: rows with an id larger than `after`. The next one will begin at `then`."""

    after: int
    then: int


@dataclass(frozen=True, slots=True)
class TopicRows:
    """The rows of a topic in a window: the newest id, how many, and how many of them the next poll will read again."""

    topic: str
    newest: int
    rows: int
    again: int


@dataclass(frozen=True, slots=True)
class PollReading:
    """What a poll read: the newest id of all, and the topics, those with the newest rows first.

    topics  at most MOST_TOPICS + 1; None when there were more than MOST_ROWS rows, which are not read at all
    """

    newest: int
    topics: Sequence[TopicRows] | None


def read_window(window: PollWindow) -> PollReading:
    """All rows of the window, counted by topic. 2 queries."""
    newest = newest_id()
    if newest - window.after > MOST_ROWS:
        return PollReading(newest, None)
    rows = (
        LiveEvent.objects.filter(id__gt=window.after, id__lte=newest)
        .values("topic")
        .annotate(newest=Max("id"), rows=Count("id"), again=Count("id", filter=Q(id__gt=window.then)))
        .order_by("-newest")
        .values_list("topic", "newest", "rows", "again")
    )
    return PollReading(newest, [TopicRows(*row) for row in rows[: MOST_TOPICS + 1]])


def read_missed(last_id: int, topics: Iterable[str]) -> list[Hint]:
    """What a client missed that saw `last_id` last: each topic at most once, oldest first. At most 2 queries.

    When that is long ago, so that rows are gone or too many to be read, all its topics.
    """
    kept = LiveEvent.objects.aggregate(oldest=Min("id"), newest=Max("id"))
    if kept["newest"] is None or kept["newest"] <= last_id:
        return []
    wanted = sorted(set(topics))
    if last_id + 1 < kept["oldest"] or kept["newest"] - last_id > MOST_ROWS:
        return [Hint(kept["newest"], topic) for topic in wanted]
    rows = LiveEvent.objects.filter(id__gt=last_id, topic__in=wanted).values("topic")
    found = rows.annotate(newest=Max("id")).order_by("newest").values_list("newest", "topic")
    return [Hint(*row) for row in found]


def newest_id() -> int:
    """The largest id so far, 0 when there is none."""
    return LiveEvent.objects.order_by("-id").values_list("id", flat=True).first() or 0


class Rereading:
    """Which topics changed since the last poll, found by counting.

    A transaction that began earlier may commit later with a smaller id, so the rows of the last few polls are counted
    again: a topic that has another number of rows than the last poll saw in the same window has changed.
    """

    def __init__(self, newest: int) -> None:
        self._marks: deque[int] = deque([newest], maxlen=REREAD_POLLS)
        self._known: dict[str, int] = {}

    @property
    def window(self) -> PollWindow:
        """What the next poll has to read."""
        full = len(self._marks) == REREAD_POLLS
        return PollWindow(self._marks[0], self._marks[1 if full else 0])

    def changed(self, reading: PollReading) -> list[Hint]:
        """The hints of a reading of `window`, the newest last: one for EVERYTHING when it is too much to tell apart."""
        self._marks.append(max(reading.newest, self._marks[-1]))
        topics = reading.topics
        before, self._known = self._known, {one.topic: one.again for one in topics or ()}
        if topics is None or len(topics) > MOST_TOPICS:
            return [Hint(reading.newest, EVERYTHING)]
        hints = [Hint(one.newest, one.topic) for one in topics if one.rows != before.get(one.topic, 0)]
        return sorted(hints, key=lambda hint: hint.id)


class Outbox:
    """Hints that one client has not taken yet: each topic at most once, whatever happens meanwhile."""

    def __init__(self, topics: Iterable[str]) -> None:
        self.topics = frozenset(topics)
        self._hints: dict[str, Hint] = {}
        self._filled = asyncio.Event()

    def put(self, hint: Hint) -> None:
        """Keeps the newest hint of a topic that the client asked for. EVERYTHING stands for all of them."""
        if hint.topic == EVERYTHING:
            self._hints = {EVERYTHING: hint}
        elif hint.topic in self.topics and EVERYTHING not in self._hints:
            self._hints[hint.topic] = hint
        if self._hints:
            self._filled.set()

    async def take(self) -> Hint:
        """The oldest hint, as soon as there is one: after a lost connection a client asks for what came after it."""
        await self._filled.wait()
        hint = min(self._hints.values(), key=lambda hint: hint.id)
        del self._hints[hint.topic]
        if not self._hints:
            self._filled.clear()
        return hint

    def __len__(self) -> int:
        return len(self._hints)


# --- who hears of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedSource:
    """How a feed reads the table, without holding up the event loop."""

    newest: Callable[[], Awaitable[int]]
    window: Callable[[PollWindow], Awaitable[PollReading]]
    missed: Callable[[int, frozenset[str]], Awaitable[list[Hint]]]


class Feed:
    """Reads new hints for all subscribers of one event loop and hands each the topics it asked for."""

    def __init__(self, *, source: FeedSource, poll_seconds: float) -> None:
        self._source, self._poll_seconds = source, poll_seconds
        self._outboxes: set[Outbox] = set()
        self._task: asyncio.Task[None] | None = None
        self._polling = asyncio.Event()

    async def listen(self, topics: Iterable[str], *, last_id: int | None) -> AsyncIterator[Hint | None]:
        """Hints on `topics`, and EVERYTHING, as they come; None is a heartbeat. Ends after STREAM_SECONDS.

        With `last_id` (what the client saw last) the hints since then come first. A client that takes them slowly
        gets the newest hint of a topic and none of those before it.
        """
        outbox = Outbox(topics)
        self._outboxes.add(outbox)
        if self._task is None or self._task.done():
            self._polling.clear()
            self._task = asyncio.create_task(self._poll())
        loop = asyncio.get_running_loop()
        ends = loop.time() + STREAM_SECONDS
        try:
            yield None
            await (
                self._polling.wait()
            )  # What is committed from here on reaches the outbox; the rest is read below.
            if last_id is not None:
                for hint in await self._source.missed(last_id, outbox.topics):
                    yield hint
            while (left := ends - loop.time()) > 0:
                try:
                    yield await asyncio.wait_for(outbox.take(), min(HEARTBEAT_SECONDS, left))
                except TimeoutError:
                    yield None
        finally:
            self._outboxes.discard(outbox)

    async def _poll(self) -> None:
        """Runs while anybody listens."""
        rereading = Rereading(await self._read_newest())
        self._polling.set()
        while self._outboxes:
            await asyncio.sleep(self._poll_seconds)
            try:
                reading = await self._source.window(rereading.window)
            except DatabaseError:
                log.warning(
                    "live.read_failed", exc_info=True
                )  # Pages fall back to their own clock meanwhile.
                continue
            for hint in rereading.changed(reading):
                for outbox in self._outboxes:
                    outbox.put(hint)

    async def _read_newest(self) -> int:
        while True:
            try:
                return await self._source.newest()
            except DatabaseError:
                log.warning("live.read_failed", exc_info=True)
                await asyncio.sleep(self._poll_seconds)


_feeds: WeakKeyDictionary[asyncio.AbstractEventLoop, Feed] = WeakKeyDictionary()
_reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")


def feed() -> Feed:
    """The feed of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _feeds:
        source = FeedSource(newest=_aside(newest_id), window=_aside(read_window), missed=_aside(read_missed))
        _feeds[loop] = Feed(source=source, poll_seconds=POLL_SECONDS)
    return _feeds[loop]


def _aside(read: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """`read` in the reader's thread."""

    async def ask(*args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(_with_live_connection, read, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(_reader, call)

    return ask


def _with_live_connection(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    close_old_connections()
    return call(*args, **kwargs)
