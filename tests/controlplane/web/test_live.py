"""Hints for open pages: published in a transaction, read by one poller, handed to those who asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from controlplane.web import live
from controlplane.web.live import (
    EVERYTHING,
    Feed,
    FeedSource,
    Hint,
    Outbox,
    PollReading,
    PollWindow,
    Rereading,
    TopicRows,
    newest_id,
    publish,
    read_missed,
    read_window,
)
from controlplane.web.models import LiveEvent

NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)
POLLS_A_SECOND = round(1 / live.POLL_SECONDS)


def topics_in_order() -> list[str]:
    return list(LiveEvent.objects.order_by("id").values_list("topic", flat=True))


def add(*topics: str) -> int:
    """Rows as other transactions wrote them; returns the newest id."""
    LiveEvent.objects.bulk_create(LiveEvent(topic=topic, at=NOW) for topic in topics)
    return newest_id()


# --- publishing ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_publish__topics__one_row_each_in_order() -> None:
    publish("rollout:1", "overview", "rollout:1", now=NOW)
    assert topics_in_order() == ["rollout:1", "overview"]


@pytest.mark.django_db
def test_publish__again_in_the_same_transaction__adds_no_row() -> None:
    with transaction.atomic():
        publish("rollout:1", now=NOW)
        with transaction.atomic():
            publish("rollout:1", "overview", now=NOW)
    assert topics_in_order() == ["rollout:1", "overview"]


@pytest.mark.django_db
def test_publish__what_said_it_before_was_rolled_back__says_it_again() -> None:
    def publish_and_fail() -> None:
        with transaction.atomic():
            publish("overview", now=NOW)
            raise RuntimeError

    with transaction.atomic():
        with pytest.raises(RuntimeError):
            publish_and_fail()
        publish("overview", now=NOW)
    assert topics_in_order() == ["overview"]


@pytest.mark.django_db(transaction=True)
def test_publish__another_transaction_of_the_same_moment__has_a_row_of_its_own() -> None:
    for _ in range(2):
        with transaction.atomic():
            publish("overview", now=NOW)
    publish("overview", now=NOW)
    publish("overview", now=NOW)
    assert topics_in_order() == ["overview"] * 4


@pytest.mark.django_db
def test_publish__transaction_fails__says_nothing() -> None:
    def publish_and_fail() -> None:
        with transaction.atomic():
            publish("overview", now=NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        publish_and_fail()
    assert topics_in_order() == []


@pytest.mark.django_db
def test_publish__many__throws_old_ones_away() -> None:
    LiveEvent.objects.create(topic="old", at=NOW - timedelta(minutes=11))
    LiveEvent.objects.create(topic="young", at=NOW - timedelta(minutes=9))
    for number in range(live.PRUNE_EVERY):
        publish(f"rollout:{number}", now=NOW)
    assert set(LiveEvent.objects.exclude(at=NOW).values_list("topic", flat=True)) == {"young"}


# --- what a poll reads ----------------------------------------------------------------------------------------------


class Poller:
    """The poller by hand: one call a poll, on the database of the test."""

    def __init__(self) -> None:
        self.rereading = Rereading(newest_id())
        self.rows = 0

    def poll(self) -> list[Hint]:
        reading = read_window(self.rereading.window)
        self.rows = max(self.rows, len(reading.topics or ()))
        return self.rereading.changed(reading)


@pytest.mark.django_db
@pytest.mark.parametrize("rate", [200, 2_000])
def test_poll__so_many_hints_a_second__a_new_one_is_handed_out_by_the_next_poll(rate: int) -> None:
    """20 seconds, twice as long as rows are read again; 90 topics change all the time, one only now and then."""
    poller = Poller()
    for number in range(20 * POLLS_A_SECOND):
        noise = [f"rollout:{row % 90}" for row in range(rate // POLLS_A_SECOND)]
        own = [f"endpoint:{number}"] if number % 3 == 0 else []
        half = len(noise) // 2
        newest = add(*noise[:half], *own, *noise[half:])
        hints = poller.poll()
        assert [hint.topic for hint in hints if hint.topic.startswith("endpoint")] == own
        assert hints[-1].id == newest
        assert len(hints) == len({hint.topic for hint in hints}) <= 91
    assert poller.rows <= 90 + live.REREAD_POLLS


@pytest.mark.django_db
def test_poll__ten_times_as_many_hints__costs_the_same_two_queries() -> None:
    poller = Poller()
    costs = []
    for count in (10, 100):
        add(*["overview"] * count)
        with CaptureQueriesContext(connection) as captured:
            assert [hint.topic for hint in poller.poll()] == ["overview"]
        costs.append(len(captured))
    assert costs == [2, 2]


@pytest.mark.django_db
def test_poll__nothing_new__says_nothing() -> None:
    poller = Poller()
    add("overview")
    assert len(poller.poll()) == 1
    assert [poller.poll() for _ in range(3 * live.REREAD_POLLS)] == [[]] * 3 * live.REREAD_POLLS


@pytest.mark.django_db
@pytest.mark.parametrize("late_by", [1, live.REREAD_POLLS - 1])
def test_poll__transaction_that_commits_late__is_not_lost_though_its_topic_was_heard_since(
    late_by: int,
) -> None:
    LiveEvent.objects.create(id=100, topic="other", at=NOW)
    poller = Poller()
    LiveEvent.objects.create(id=111, topic="overview", at=NOW)  # and 110 is not committed yet
    assert poller.poll() == [Hint(111, "overview")]
    for number in range(1, late_by):
        LiveEvent.objects.create(id=111 + number, topic="other", at=NOW)
        assert poller.poll() == [Hint(111 + number, "other")]
    LiveEvent.objects.create(id=110, topic="overview", at=NOW)
    assert poller.poll() == [Hint(111, "overview")]
    assert poller.poll() == []


@pytest.mark.django_db
def test_poll__more_topics_than_are_told_apart__says_that_everything_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "MOST_TOPICS", 3)
    poller = Poller()
    newest = add(*(f"rollout:{number}" for number in range(10)))
    assert poller.poll() == [Hint(newest, EVERYTHING)]
    assert poller.rows == 4


@pytest.mark.django_db
def test_poll__more_rows_than_are_read__says_that_everything_changed_and_goes_on_when_it_is_calm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "MOST_ROWS", 50)
    poller = Poller()
    newest = add(*["overview"] * 51)
    assert poller.poll() == [Hint(newest, EVERYTHING)]
    for _ in range(live.REREAD_POLLS):
        poller.poll()
    newest = add("rollout:1")
    assert poller.poll() == [Hint(newest, "rollout:1")]


@pytest.mark.django_db
def test_missed__since_an_id__each_wanted_topic_once_with_its_newest_row() -> None:
    first = add("overview")
    newest = add("overview", "rollout:9", "rollout:1", "overview")
    assert read_missed(first, ["overview", "rollout:1"]) == [
        Hint(newest - 1, "rollout:1"),
        Hint(newest, "overview"),
    ]
    assert read_missed(newest, ["overview"]) == []


@pytest.mark.django_db
@pytest.mark.parametrize("why", ["rows are gone", "too many rows"])
def test_missed__too_long_ago_to_know__all_its_topics(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "too many rows":
        monkeypatch.setattr(live, "MOST_ROWS", 5)
    first = add("overview")
    newest = add(*["rollout:9"] * 10)
    if why == "rows are gone":
        LiveEvent.objects.filter(id__lte=first + 2).delete()
    assert read_missed(first, ["overview", "rollout:1"]) == [
        Hint(newest, "overview"),
        Hint(newest, "rollout:1"),
    ]


# --- what one client has not taken yet --------------------------------------------------------------------------------


def taken(outbox: Outbox) -> list[Hint]:
    async def run() -> list[Hint]:
        return [await outbox.take() for _ in range(len(outbox))]

    return asyncio.run(run())


def test_outbox__client_that_takes_nothing__holds_each_topic_once_with_its_newest_id() -> None:
    outbox = Outbox(["overview", "rollout:1"])
    for number in range(10_000):
        outbox.put(Hint(number, ("overview", "rollout:1", "rollout:2")[number % 3]))
    assert len(outbox) == 2
    assert taken(outbox) == [Hint(9_997, "rollout:1"), Hint(9_999, "overview")]


def test_outbox__hints_that_came_out_of_order__are_taken_oldest_first() -> None:
    outbox = Outbox(["overview", "rollout:1"])
    outbox.put(Hint(11, "overview"))
    outbox.put(Hint(10, "rollout:1"))
    assert [hint.id for hint in taken(outbox)] == [10, 11]


def test_outbox__everything__stands_for_all_that_waits_and_comes() -> None:
    outbox = Outbox(["overview"])
    outbox.put(Hint(1, "overview"))
    outbox.put(Hint(2, EVERYTHING))
    outbox.put(Hint(3, "overview"))
    assert taken(outbox) == [Hint(2, EVERYTHING)]


# --- the feed -----------------------------------------------------------------------------------------------------


class Table:
    """A table in memory that may fail, and that may let a smaller id appear late."""

    def __init__(self) -> None:
        self.rows: list[Hint] = []
        self.failures = 0

    async def read(self, window: PollWindow) -> PollReading:
        if self.failures:
            self.failures -= 1
            raise DatabaseError("gone for a moment")
        ids: dict[str, list[int]] = {}
        for row in self.rows:
            if row.id > window.after:
                ids.setdefault(row.topic, []).append(row.id)
        found = [
            TopicRows(topic, max(rows), len(rows), sum(row > window.then for row in rows))
            for topic, rows in ids.items()
        ]
        return PollReading(await self.newest(), sorted(found, key=lambda one: -one.newest))

    async def missed(self, last_id: int, topics: Iterable[str]) -> list[Hint]:
        return [row for row in self.rows if row.id > last_id and row.topic in topics]

    async def newest(self) -> int:
        return max((row.id for row in self.rows), default=0)

    def feed(self) -> Feed:
        source = FeedSource(newest=self.newest, window=self.read, missed=self.missed)
        return Feed(source=source, poll_seconds=0.01)


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
    assert first_hints(table, ["overview"], 2, later=later) == [Hint(11, "overview")] * 2


def test_listen__database_fails_for_a_moment__goes_on() -> None:
    table = Table()
    table.failures = 3
    assert first_hints(table, ["overview"], 1, later=[Hint(1, "overview")]) == [Hint(1, "overview")]


def test_listen__more_topics_than_are_told_apart__every_page_hears_of_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "MOST_TOPICS", 0)
    assert first_hints(Table(), ["overview"], 1, later=[Hint(5, "rollout:1")]) == [Hint(5, EVERYTHING)]


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
