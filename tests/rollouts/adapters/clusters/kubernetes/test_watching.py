"""What is kept of a kind of objects, while watches end, fail and are told odd things."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.clusters.kubernetes.client import GROUPS, POD, ObjectKind
from rollouts.adapters.clusters.kubernetes.errors import Expired, Transient, UnknownKind
from rollouts.adapters.clusters.kubernetes.watching import WatchedKind
from tests.standins.running import wait_until

Step = Exception | list[tuple[str, dict[str, Any]]]


def thing(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, **more}


class ScriptedLists:
    """Lists and watches, each what a test said it would be; the last watch lasts until the test ends."""

    def __init__(self, lists: list[Any], watches: list[Step]) -> None:
        self.lists, self.watches = lists, watches
        self.versions: list[str] = []
        self.over = threading.Event()

    def list(self, kind: ObjectKind, selector: str = "") -> tuple[list[dict[str, Any]], str]:
        found = self.lists.pop(0)
        if isinstance(found, Exception):
            raise found
        items, version = found
        return items, version

    def watch(self, kind: ObjectKind, selector: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        self.versions.append(version)
        if not self.watches:
            self.over.wait(30)
            return
        step = self.watches.pop(0)
        if isinstance(step, Exception):
            raise step
        yield from step


Make = Callable[..., tuple[WatchedKind, ScriptedLists]]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[tuple[WatchedKind, ScriptedLists]] = []

    def of(lists: list[Any], watches: list[Step], **more: Any) -> tuple[WatchedKind, ScriptedLists]:
        script = ScriptedLists(lists, watches)
        watched = WatchedKind(script, more.pop("kind", POD), "", pause=lambda seconds: None, **more)
        made.append((watched, script))
        return watched, script

    yield of
    for watched, script in made:
        watched.stop()
        script.over.set()


def names(watched: WatchedKind) -> list[str]:
    return sorted(watched.objects())


def test_objects__listed_then_watched__are_as_the_last_event_says(make: Make) -> None:
    events: Step = [
        ("ADDED", thing("b", 8)),
        ("MODIFIED", thing("a", 9, x=1)),
        ("DELETED", thing("b", 10)),
        ("BOOKMARK", {"metadata": {"resourceVersion": "20"}}),
    ]
    watched, script = make([([thing("a", 5)], "7")], [events])
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 2, 10)
    assert watched.objects() == {"a": thing("a", 9, x=1)}
    assert script.versions == ["7", "20"]  # from the bookmark on, and without another list


def test_watch__too_old__lists_again(make: Make) -> None:
    watched, script = make([([thing("a", 5)], "7"), ([thing("b", 90)], "95")], [Expired("too old")])
    watched.objects()
    wait_until("it watches on", lambda: len(script.versions) == 2, 10)
    assert (names(watched), script.versions) == (["b"], ["7", "95"])


def test_server__away__is_not_known_and_then_goes_on_from_where_it_was(make: Make) -> None:
    hold = threading.Event()
    watched, script = make([([thing("a", 5)], "7")], [Transient("no answer")])
    watched._pause = lambda seconds: hold.wait(10)
    watched.begin()

    def unknown() -> bool:
        try:
            watched.objects()
        except Unavailable as error:
            return "no answer" in str(error)
        return False

    wait_until("it is not known", unknown, 10)
    script.watches.append([("ADDED", thing("b", 8))])
    hold.set()
    wait_until("it is known again", lambda: not unknown() and names(watched) == ["a", "b"], 10)
    assert script.versions[:2] == ["7", "7"]


def test_first_list__fails__is_unavailable_at_once(make: Make) -> None:
    hold = threading.Event()
    watched, _ = make([Transient("no answer")], [])
    watched._pause = lambda seconds: hold.wait(10)
    with pytest.raises(Unavailable, match="no answer"):
        watched.objects()
    watched.stop()
    hold.set()


def test_put__own_write__is_seen_at_once_and_not_undone_by_an_older_event(make: Make) -> None:
    watched, _ = make([([thing("a", 5)], "7")], [])
    assert names(watched) == ["a"]
    watched.put(thing("a", 12, x="ours"))
    watched._see("MODIFIED", thing("a", 9, x="older"))
    assert watched.objects()["a"]["x"] == "ours"


def test_put__what_was_deleted_since__does_not_come_back(make: Make) -> None:
    watched, _ = make([([thing("a", 5)], "7")], [])
    assert names(watched) == ["a"]
    watched._see("DELETED", thing("a", 20))
    watched.put(thing("a", 12))
    assert names(watched) == []


def test_kind__that_the_cluster_does_not_know__is_none_where_it_is_optional(make: Make) -> None:
    hold = threading.Event()
    watched, _ = make([UnknownKind("no such kind")], [], kind=GROUPS, optional=True)
    watched._pause = lambda seconds: hold.wait(10)
    assert names(watched) == []
    watched.stop()
    hold.set()


def test_event__that_is_odd__ends_no_thread_and_lists_again(make: Make) -> None:
    odd: Step = [("ADDED", {"metadata": {}})]
    watched, script = make([([thing("a", 5)], "7"), ([thing("b", 9)], "9")], [odd])
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 2, 10)
    assert names(watched) == ["b"]


def test_change__of_an_object__wakes_who_waits(make: Make) -> None:
    woken = threading.Event()
    watched, _ = make([([], "7")], [[("ADDED", thing("a", 8))]], wake=woken.set)
    watched.begin()
    assert woken.wait(10)


def test_list__of_a_cluster_that_was_restored__is_all_that_there_is(make: Make) -> None:
    """Versions begin again from the backup: what was kept has larger ones, and is gone all the same."""
    watched, script = make(
        [([thing("a", 500), thing("b", 501)], "600"), ([thing("b", 40)], "50")],
        [[("DELETED", thing("c", 700))], Expired("too large"), [("ADDED", thing("c", 60))]],
    )
    watched.objects()
    wait_until("it watches on", lambda: len(script.versions) == 4, 10)
    assert watched.objects() == {"b": thing("b", 40), "c": thing("c", 60)}


def test_put__while_it_is_listed__is_kept_although_the_list_is_older(make: Make) -> None:
    class PutsMeanwhile(ScriptedLists):
        def list(self, kind: ObjectKind, selector: str = "") -> tuple[list[dict[str, Any]], str]:
            watched.put(thing("a", 12, x="ours"))
            return [thing("a", 5)], "7"

    watched = WatchedKind(PutsMeanwhile([], []), POD, "")
    watched._list()
    assert watched.objects()["a"]["x"] == "ours"
    watched.stop()


def test_put__older_than_the_list_that_does_not_have_it__does_not_come_back(make: Make) -> None:
    watched, _ = make([([], "20")], [])
    assert names(watched) == []
    watched.put(thing("a", 12))
    assert names(watched) == []


def test_deleted__thousands_of_objects__are_not_remembered(make: Make) -> None:
    watched, _ = make([([], "7")], [])
    assert names(watched) == []
    before = sum(len(one) for one in vars(watched).values() if isinstance(one, dict))
    for number in range(1000):
        watched._see("ADDED", thing(f"event-{number}", 10 + 2 * number))
        watched._see("DELETED", thing(f"event-{number}", 11 + 2 * number))
    assert sum(len(one) for one in vars(watched).values() if isinstance(one, dict)) == before


def test_watch__too_old_again_and_again__is_listed_with_pauses(make: Make) -> None:
    pauses: list[float] = []
    watched, script = make([([], "7")] * 4, [Expired("too old")] * 3)
    watched._pause = pauses.append
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 4, 10)
    assert len(pauses) == 2  # after the first one it lists at once
    assert all(pause > 0 for pause in pauses)


def test_kind__of_which_there_were_some__is_unknown_for_a_moment_and_not_empty(make: Make) -> None:
    """An API server that starts does not know the kinds of others yet."""
    hold = threading.Event()
    watched, _ = make(
        [([thing("a", 5)], "7"), UnknownKind("not yet"), ([thing("a", 5)], "9")],
        [Expired("too old")],
        kind=GROUPS,
        optional=True,
    )
    watched._pause = lambda seconds: hold.wait(10)
    watched.begin()

    def unknown() -> bool:
        try:
            watched.objects()
        except Unavailable as error:
            return "not yet" in str(error)
        return False

    wait_until("it is not known", unknown, 10)
    hold.set()
    wait_until("it is known again", lambda: not unknown() and names(watched) == ["a"], 10)
