"""What every store of answered requests promises: in Redis and in files."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, Unavailable
from rollouts.adapters.request_log.otlp.file_store import FileAnswers
from rollouts.adapters.request_log.otlp.redis_store import ALIVE, LEFT_ALONE, MINUTES, PREFIX, RedisAnswers
from rollouts.adapters.request_log.otlp.stores import AnswerStore
from tests.fixtures.redis_server import RunningRedis
from tests.rollouts.adapters.request_log.otlp.sending import answered
from tests.standins.running import free_port

START = datetime(2026, 1, 1, tzinfo=UTC)
CLUSTERS = [f"cluster-{number}" for number in range(20)]
Make = Callable[[int], AnswerStore]


@pytest.fixture(params=["files", pytest.param("redis", marks=pytest.mark.needs("redis"))])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Makes a store that keeps so many requests of a cluster; the same place every time."""
    made: list[RedisAnswers] = []

    def store(most: int) -> AnswerStore:
        if request.param == "files":
            return FileAnswers(tmp_path / "answered", ManualClock(START), most=most)
        made.append(RedisAnswers(request.getfixturevalue("redis").url, most=most))
        return made[-1]

    yield store
    for one in made:
        one.close()


def test_find__what_another_process_kept__is_there(make: Make) -> None:
    make(1000).keep("paris", [answered("request-one"), answered("request-two")])
    assert make(1000).find("paris", ["request-one", "request-two", "request-three"]) == {
        "request-one": answered("request-one"),
        "request-two": answered("request-two"),
    }


def test_find__of_another_cluster__is_not_there(make: Make) -> None:
    store = make(1000)
    store.keep("paris", [answered("request-one")])
    store.keep("oslo", [answered("request-one", status=500)])
    assert store.find("paris", ["request-one"])["request-one"].status == 200
    assert store.find("oslo", ["request-one"])["request-one"].status == 500
    assert store.find("rome", ["request-one"]) == {}


def test_keep__same_id_again__is_the_later_one(make: Make) -> None:
    store = make(1000)
    store.keep("paris", [answered("request-one"), answered("request-one", status=400)])
    store.keep("paris", [answered("request-one", status=500)])
    assert store.find("paris", ["request-one"])["request-one"].status == 500


def test_find__more_ids_than_are_asked_for_at_once__finds_all(make: Make) -> None:
    store = make(10_000)
    names = [f"request-{number}" for number in range(2_500)]
    store.keep("paris", [answered(name) for name in names])
    assert set(store.find("paris", [*names, *(f"unknown-{number}" for number in range(700))])) == set(names)


def test_find__nothing_asked_or_nothing_kept__is_nothing(make: Make) -> None:
    store = make(10)
    assert store.find("paris", ["request-one"]) == {}
    store.keep("paris", [])
    store.keep("paris", [answered("request-one")])
    assert store.find("paris", []) == {}


@pytest.mark.parametrize("name", ["../paris", "Paris", "", "a:b"])
def test_cluster__that_can_be_none__is_refused(make: Make, name: str) -> None:
    with pytest.raises(InvalidInput):
        make(10).keep(name, [answered()])
    with pytest.raises(InvalidInput):
        make(10).find(name, ["request-one"])


def test_is_fed__after_a_beat_alone(make: Make) -> None:
    assert make(10).is_fed() is False
    make(10).beat()
    assert make(10).is_fed() is True


# --- files -------------------------------------------------------------------------------------------------------


def test_files__quarter_of_an_hour__is_kept_and_no_more(tmp_path: Path) -> None:
    clock = ManualClock(START)
    store = FileAnswers(tmp_path, clock)
    store.keep("paris", [answered("request-one")])
    clock.advance(899)
    assert set(store.find("paris", ["request-one"])) == {"request-one"}
    clock.advance(2)
    assert store.find("paris", ["request-one"]) == {}
    store.keep("paris", [answered("request-two")])
    with sqlite3.connect(tmp_path / "paris.sqlite3") as database:
        assert database.execute("select id from answered").fetchall() == [("request-two",)]
    database.close()


def test_files__more_than_may_be_kept__forgets_the_oldest_of_that_cluster(tmp_path: Path) -> None:
    store = FileAnswers(tmp_path, ManualClock(START), most=3)
    store.keep("oslo", [answered("request-0")])
    for number in range(5):
        store.keep("paris", [answered(f"request-{number}")])
    names = [f"request-{number}" for number in range(5)]
    assert set(store.find("paris", names)) == {"request-2", "request-3", "request-4"}
    assert set(store.find("oslo", names)) == {"request-0"}


def test_files__odd_entry__costs_itself_alone_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FileAnswers(tmp_path, ManualClock(START))
    store.keep("paris", [answered("request-one"), answered("request-two")])
    with sqlite3.connect(tmp_path / "paris.sqlite3") as database:
        database.execute("update answered set content = 'nonsense' where id = 'request-one'")
    database.close()
    with caplog.at_level(logging.WARNING):
        assert set(store.find("paris", ["request-one", "request-two"])) == {"request-two"}
    assert "request_log.odd_entries" in caplog.text


def test_files__looked_into_while_they_are_made__are_empty_and_not_broken(tmp_path: Path) -> None:
    store = FileAnswers(tmp_path, ManualClock(START))
    looked: list[object] = []
    ended = Event()

    def look() -> None:
        while not ended.is_set():
            for cluster in CLUSTERS:
                looked.append(store.find(cluster, ["request-one"]))

    thread = Thread(target=look)
    thread.start()
    for cluster in CLUSTERS:
        store.keep(cluster, [answered("request-one")])
    ended.set()
    thread.join()
    assert len(looked) > len(CLUSTERS)
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []


def test_files__made_by_two_receivers_at_once__lose_nothing(tmp_path: Path) -> None:
    first, second = (FileAnswers(tmp_path, ManualClock(START)) for _ in range(2))
    first.keep("paris", [answered("request-one")])
    second._make(tmp_path / "paris.sqlite3")  # it looked before the first one was done
    second.keep("paris", [answered("request-two")])
    assert len(first.find("paris", ["request-one", "request-two"])) == 2


def test_files__no_database__is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "paris.sqlite3").write_bytes(b"no database" * 100)
    store = FileAnswers(tmp_path, ManualClock(START))
    with pytest.raises(Unavailable, match=r"paris\.sqlite3"):
        store.find("paris", ["request-one"])
    with pytest.raises(Unavailable, match=r"paris\.sqlite3"):
        store.keep("paris", [answered()])


def test_files__broken_while_they_are_written__are_written_again_once_they_are_mended(tmp_path: Path) -> None:
    store = FileAnswers(tmp_path, ManualClock(START))
    store.keep("paris", [answered("request-one")])
    with sqlite3.connect(tmp_path / "paris.sqlite3") as database:
        database.execute("drop table answered")
    database.close()
    with pytest.raises(Unavailable):
        store.keep("paris", [answered("request-two")])
    for path in tmp_path.glob("paris.sqlite3*"):
        path.unlink()
    store.keep("paris", [answered("request-two")])
    assert set(store.find("paris", ["request-one", "request-two"])) == {"request-two"}


def test_files__receiver_silent_for_two_minutes__is_not_fed(tmp_path: Path) -> None:
    clock = ManualClock(START)
    store = FileAnswers(tmp_path, clock)
    store.beat()
    clock.advance(121)
    assert store.is_fed() is False


def test_files__are_closed_to_others(tmp_path: Path) -> None:
    store = FileAnswers(tmp_path / "answered", ManualClock(START))
    store.keep("paris", [answered()])
    assert (tmp_path / "answered").stat().st_mode & 0o077 == 0
    assert (tmp_path / "answered" / "paris.sqlite3").stat().st_mode & 0o077 == 0


# --- Redis -------------------------------------------------------------------------------------------------------


def minutes_of(redis: RunningRedis, cluster: str) -> list[str]:
    return sorted(str(key) for key in redis.client.keys(f"{PREFIX}:{cluster}:*"))


@pytest.mark.needs("redis")
def test_redis__every_key__runs_out_by_itself(redis: RunningRedis) -> None:
    store = RedisAnswers(redis.url)
    store.keep("paris", [answered()])
    store.beat()
    (minute,) = minutes_of(redis, "paris")
    assert 900 < redis.client.ttl(minute) <= MINUTES * 60
    assert 0 < redis.client.ttl(ALIVE) <= 120
    assert set(redis.client.keys()) == {minute, ALIVE}
    store.close()


@pytest.mark.needs("redis")
def test_redis__kept_in_an_earlier_minute__is_found_and_the_newest_counts(redis: RunningRedis) -> None:
    store = RedisAnswers(redis.url)
    store.keep("paris", [answered("request-one"), answered("request-two")])
    (minute,) = minutes_of(redis, "paris")
    stem, _, number = minute.rpartition(":")
    redis.client.rename(minute, f"{stem}:{int(number) - MINUTES + 1}")
    store.keep("paris", [answered("request-two", status=400)])
    found = store.find("paris", ["request-one", "request-two"])
    assert (found["request-one"].status, found["request-two"].status) == (200, 400)
    store.close()


@pytest.mark.needs("redis")
def test_redis__more_than_may_be_kept__forgets_the_oldest_minutes_of_that_cluster(
    redis: RunningRedis,
) -> None:
    store = RedisAnswers(redis.url, most=3)
    store.keep("oslo", [answered("request-0")])
    store.keep("paris", [answered("request-0"), answered("request-1")])
    (minute,) = minutes_of(redis, "paris")
    stem, _, number = minute.rpartition(":")
    redis.client.rename(minute, f"{stem}:{int(number) - 3}")
    store.keep("paris", [answered("request-2"), answered("request-3")])
    names = [f"request-{number}" for number in range(4)]
    assert set(store.find("paris", names)) == {"request-2", "request-3"}
    assert set(store.find("oslo", names)) == {"request-0"}
    store.close()


@pytest.mark.needs("redis")
def test_redis__one_minute_holds_all_that_may_be_kept__keeps_no_more_and_says_so(
    redis: RunningRedis, caplog: pytest.LogCaptureFixture
) -> None:
    store = RedisAnswers(redis.url, most=3)
    store.keep("paris", [answered(f"request-{number}") for number in range(3)])
    store.keep("paris", [answered("request-3")])
    store.keep("oslo", [answered("request-3")])
    names = [f"request-{number}" for number in range(4)]
    found = set(store.find("paris", names))
    # In the next minute there is room again, so the one that was left out may have come then.
    assert found in ({"request-0", "request-1", "request-2"}, {"request-3"})
    assert ("request_log.full cluster=paris not_kept=1" in caplog.text) is ("request-3" not in found)
    assert set(store.find("oslo", names)) == {"request-3"}
    store.close()


@pytest.mark.needs("redis")
def test_redis__restarted__is_used_again_and_away_is_said_at_once_meanwhile(redis: RunningRedis) -> None:
    now = [0.0]
    store = RedisAnswers(redis.url, monotonic=lambda: now[0])
    store.keep("paris", [answered()])
    redis.kill()
    for _ in range(2):
        with pytest.raises(Unavailable, match="Redis d"):
            store.find("paris", [])
    redis.start()
    with pytest.raises(Unavailable, match="a moment ago"):
        store.find("paris", [])
    now[0] += LEFT_ALONE
    assert store.find("paris", ["id-of-a-request"]) == {}  # it began empty
    store.close()


@pytest.mark.needs("redis")
def test_redis__full__says_so_and_is_asked_again_at_once(redis: RunningRedis) -> None:
    store = RedisAnswers(redis.url)
    redis.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable, match="Redis refused"):
            store.keep("paris", [answered()])
    finally:
        redis.client.config_set("maxmemory", "0")
    store.keep("paris", [answered()])
    assert set(store.find("paris", ["id-of-a-request"])) == {"id-of-a-request"}
    store.close()


def test_redis__nobody_there__tells_no_password() -> None:
    store = RedisAnswers(f"redis://:sentinel@127.0.0.1:{free_port()}/0")
    with pytest.raises(Unavailable) as caught:
        store.is_fed()
    assert "sentinel" not in str(caught.value)
    store.close()
