from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from threading import Event

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.request_log.otlp.pending import BEAT_SECONDS, Pending
from rollouts.adapters.request_log.otlp.records import Answered
from tests.rollouts.adapters.request_log.otlp.sending import answered
from tests.standins.running import wait_until


class Store:
    """Keeps what it is given, unless it is away or chokes on a cluster."""

    def __init__(self) -> None:
        self.away = False
        self.chokes_on = ""
        self.kept: list[tuple[str, str]] = []
        self.beats = 0
        self.asked = Event()

    def keep(self, cluster: str, answers: Sequence[Answered]) -> None:
        self.asked.set()
        if self.away:
            raise Unavailable("The store is away.")
        if cluster == self.chokes_on:
            raise RuntimeError("it chokes")
        self.kept += [(cluster, one.request_id) for one in answers]

    def find(self, cluster: str, request_ids: Collection[str]) -> Mapping[str, Answered]:
        return {}

    def beat(self) -> None:
        if self.away:
            raise Unavailable("The store is away.")
        self.beats += 1

    def is_fed(self) -> bool:
        return True


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def pending(store: Store, now: list[float]) -> Iterator[Pending]:
    found = Pending(store, most=5, pause_seconds=0.02, monotonic=lambda: now[0])
    found.start()
    yield found
    found.close(5)


def names(*numbers: int) -> list[Answered]:
    return [answered(f"request-{number}") for number in numbers]


def test_add__entries_of_two_clusters__reach_the_store(store: Store, pending: Pending) -> None:
    pending.add("paris", names(1, 2))
    pending.add("oslo", names(1))
    wait_until("all are kept", lambda: len(store.kept) == 3)
    assert store.kept == [("paris", "request-1"), ("paris", "request-2"), ("oslo", "request-1")]


def test_add__store_away__waits_and_tells_it_once(
    store: Store, pending: Pending, caplog: pytest.LogCaptureFixture
) -> None:
    store.away = True
    with caplog.at_level(logging.INFO):
        pending.add("paris", names(1))
        wait_until("it was tried", lambda: store.asked.is_set())
        pending.add("paris", names(2))
        store.asked.clear()
        wait_until("it was tried again", lambda: store.asked.is_set())
        store.away = False
        wait_until("all are kept", lambda: len(store.kept) == 2)
        wait_until("it says so", lambda: "receiver.store_back" in caplog.text)
    assert [name for _, name in store.kept] == ["request-1", "request-2"]
    assert caplog.text.count("receiver.store_away") == 1


def test_add__too_many_wait__the_oldest_are_lost_and_told(
    store: Store, pending: Pending, caplog: pytest.LogCaptureFixture
) -> None:
    store.away = True
    for number in range(8):
        pending.add("paris", names(number))
    wait_until("some are lost", lambda: pending.lost == 3)
    store.away = False
    wait_until("the others are kept", lambda: len(store.kept) == 5)
    assert [name for _, name in store.kept] == [f"request-{number}" for number in range(3, 8)]
    assert "receiver.lost" in caplog.text


def test_add__store_chokes_on_one_cluster__the_others_are_kept(
    store: Store, pending: Pending, caplog: pytest.LogCaptureFixture
) -> None:
    store.chokes_on = "paris"
    pending.add("paris", names(1))
    pending.add("oslo", names(2))
    wait_until("the other one is kept", lambda: store.kept == [("oslo", "request-2")])
    assert pending.lost == 1
    assert "receiver.not_kept cluster=paris" in caplog.text


def test_close__what_waits__is_handed_over_first(store: Store) -> None:
    pending = Pending(store)
    pending.start()
    pending.add("paris", names(1, 2, 3))
    assert pending.close(5) == 0
    assert len(store.kept) == 3


def test_close__store_away__says_how_many_no_store_has(store: Store) -> None:
    store.away = True
    pending = Pending(store, pause_seconds=0.02)
    pending.start()
    pending.add("paris", names(1, 2, 3))
    assert pending.close(0.3) == 3


def test_beat__nothing_comes__is_made_at_once_and_not_again_too_soon(
    store: Store, pending: Pending, now: list[float]
) -> None:
    wait_until("it beat", lambda: store.beats == 1)
    pending.add("paris", names(1))
    wait_until("it is kept", lambda: len(store.kept) == 1)
    now[0] += BEAT_SECONDS
    pending.add("paris", names(2))
    wait_until("it beat again", lambda: store.beats == 2)
