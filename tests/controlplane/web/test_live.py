"""Hints for open pages: published in a transaction, read by one poller, handed to those who asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, transaction

from controlplane.web import live
from controlplane.web.live import Feed, Hint, newest_id, publish, read_after
from controlplane.web.models import LiveEvent

NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)


@pytest.mark.django_db
def test_publish__topics__are_read_in_order() -> None:
    publish("rollout:1", "overview", "rollout:1", now=NOW)
    hints = read_after(0)
    assert [hint.topic for hint in hints] == ["rollout:1", "overview"]
    assert newest_id() == hints[-1].id
    assert read_after(hints[0].id) == hints[1:]


@pytest.mark.django_db
def test_publish__transaction_fails__says_nothing() -> None:
    def publish_and_fail() -> None:
        with transaction.atomic():
            publish("overview", now=NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        publish_and_fail()
    assert read_after(0) == []


@pytest.mark.django_db
def test_publish__many__throws_old_ones_away() -> None:
    LiveEvent.objects.create(id=1, topic="overview", at=NOW - timedelta(minutes=11))
    LiveEvent.objects.create(id=live.PRUNE_EVERY - 1, topic="overview", at=NOW - timedelta(minutes=9))
    publish("overview", now=NOW)
    assert [hint.id for hint in read_after(0)] == [live.PRUNE_EVERY - 1, live.PRUNE_EVERY]


class Table:
    """A table in memory that may fail, and that may let a smaller id appear late."""

    def __init__(self) -> None:
        self.rows: list[Hint] = []
        self.failures = 0

    async def read(self, last_id: int) -> list[Hint]:
        if self.failures:
            self.failures -= 1
            raise DatabaseError("gone for a moment")
        return sorted((row for row in self.rows if row.id > last_id), key=lambda row: row.id)

    async def newest(self) -> int:
        return max((row.id for row in self.rows), default=0)

    def feed(self) -> Feed:
        return Feed(read=self.read, newest=self.newest, poll_seconds=0.01)


async def hints(stream: AsyncIterator[Hint | None], count: int) -> list[Hint]:
    found: list[Hint] = []
    async for hint in stream:
        if hint is not None:
            found.append(hint)
        if len(found) == count:
            break
    return found


def first_hints(
    table: Table,
    topics: list[str],
    count: int,
    *,
    last_id: int | None = None,
    later: list[Hint] | None = None,
) -> list[Hint]:
    async def run() -> list[Hint]:
        stream = table.feed().listen(topics, last_id=last_id)
        collecting = asyncio.create_task(hints(stream, count))
        for hint in later or []:
            await asyncio.sleep(0.02)
            table.rows.append(hint)
        async with asyncio.timeout(5):
            return await collecting

    return asyncio.run(run())


def test_listen__new_hints__only_those_asked_for() -> None:
    later = [Hint(1, "rollout:1"), Hint(2, "rollout:2"), Hint(3, "overview")]
    assert first_hints(Table(), ["rollout:1", "overview"], 2, later=later) == [later[0], later[2]]


def test_listen__last_event_id__gives_what_was_missed_first() -> None:
    table = Table()
    table.rows = [Hint(4, "overview"), Hint(5, "overview"), Hint(6, "rollout:9")]
    found = first_hints(table, ["overview"], 2, last_id=4, later=[Hint(7, "overview")])
    assert found == [Hint(5, "overview"), Hint(7, "overview")]


def test_listen__transaction_that_commits_late__is_not_lost() -> None:
    table = Table()
    later = [Hint(11, "overview"), Hint(10, "overview")]
    assert first_hints(table, ["overview"], 2, later=later) == later


def test_listen__database_fails_for_a_moment__goes_on() -> None:
    table = Table()
    table.failures = 3
    assert first_hints(table, ["overview"], 1, later=[Hint(1, "overview")]) == [Hint(1, "overview")]


def test_listen__nobody_left__stops_polling() -> None:
    async def run() -> bool:
        feed = Table().feed()
        stream = feed.listen(["overview"], last_id=None)
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
        return feed._task is not None and feed._task.done()

    assert asyncio.run(run())
