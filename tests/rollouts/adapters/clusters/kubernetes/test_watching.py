"""What is kept of a kind of objects, while watches end, fail and are told odd things."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.clusters.kubernetes.client import GROUPS, POD, ObjectKind
from rollouts.adapters.clusters.kubernetes.errors import Expired, Transient, UnknownKind
from rollouts.adapters.clusters.kubernetes.watching import PerObject, WatchedKind
from tests.standins.running import wait_until

Step = Exception | Iterable[tuple[str, dict[str, Any]]]


def thing(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}, **more}


class ScriptedLists:
    """Lists and watches, each what a test said it would be; the last watch lasts until the test ends."""

    def __init__(self, lists: list[Any], watches: list[Step]) -> None:
        self.lists, self.watches = lists, watches
        self.versions: list[str] = []
        self.over = threading.Event()
        self.waits = threading.Event()

    def list(self, kind: ObjectKind, selector: str = "") -> tuple[list[dict[str, Any]], str]:
        found = self.lists.pop(0)
        if isinstance(found, Exception):
            raise found
        items, version = found
        return items, version

    def watch(self, kind: ObjectKind, selector: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        self.versions.append(version)
        if not self.watches:
            self.waits.set()
            self.over.wait(30)
            return
        step = self.watches.pop(0)
        if isinstance(step, Exception):
            raise step
        yield from step


class HangingLists(ScriptedLists):
    """Nothing ever comes back."""

    def list(self, kind: ObjectKind, selector: str = "") -> tuple[list[dict[str, Any]], str]:
        self.over.wait(30)
        raise Transient("it is over")


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


ODD: Any = [
    {},
    {"metadata": {}},
    {"metadata": None},
    {"metadata": {"name": 7, "resourceVersion": 8}},
    "a text",
    None,
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_event__of_an_odd_object__hides_no_other(make: Make, odd: Any) -> None:
    events: Step = [("ADDED", odd), ("ADDED", thing("b", 9)), ("DELETED", odd), ("BOOKMARK", odd)]
    watched, script = make([([thing("a", 5)], "7")], [events])
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 2, 10)
    assert (names(watched), script.versions) == (["a", "b"], ["7", "9"])


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_list__with_an_odd_object__has_the_others(make: Make, odd: Any) -> None:
    watched, _ = make([([thing("a", 5), odd, thing("b", 6)], "7")], [])
    assert names(watched) == ["a", "b"]


def test_kind__that_the_cluster_does_not_know__is_asked_for_once_a_minute(make: Make) -> None:
    pauses: list[float] = []
    watched, script = make([UnknownKind("no such kind")] * 3 + [([], "7")], [], kind=GROUPS, optional=True)
    watched._pause = pauses.append
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 1, 10)
    assert len(pauses) == 3
    assert min(pauses) >= 30


def test_event__of_a_type_that_nobody_knows__changes_nothing(make: Make) -> None:
    watched, script = make([([thing("a", 5)], "7")], [[("RENAMED", thing("b", 8))]])
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 2, 10)
    assert names(watched) == ["a"]


def test_event__older_than_the_deletion_of_its_object__brings_nothing_back(make: Make) -> None:
    events: Step = [("DELETED", thing("a", 9)), ("MODIFIED", thing("a", 8)), ("ADDED", thing("a", 5))]
    watched, script = make([([thing("a", 5)], "7")], [events])
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 2, 10)
    assert names(watched) == []


def test_event__that_comes_twice__wakes_once(make: Make) -> None:
    woken: list[None] = []
    events: Step = [("ADDED", thing("a", 8)), ("ADDED", thing("a", 8)), ("BOOKMARK", thing("", 9))]
    watched, script = make([([], "7")], [events], wake=lambda: woken.append(None))
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 2, 10)
    assert len(woken) == 2  # after the list, and for the object


def test_server__that_answers_again__wakes_who_waits(make: Make) -> None:
    woken: list[None] = []
    back: Step = [("BOOKMARK", thing("", 7))]
    watched, script = make([([], "7")], [Transient("no answer"), back], wake=lambda: woken.append(None))
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 3, 10)
    assert len(woken) == 2


def test_objects__of_a_server_that_never_answers__keep_only_the_first_ones_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rollouts.adapters.clusters.kubernetes.watching.FIRST_SECONDS", 0.2)
    script = HangingLists([], [])
    watched = WatchedKind(script, POD, "")
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(Unavailable, match="not yet said"):
            watched.objects()
    lasted = time.monotonic() - began
    watched.stop()
    script.over.set()
    assert lasted < 2  # 4 s if each had waited


def test_refusal__that_follows_the_first_answer_again_and_again__is_met_with_pauses(make: Make) -> None:
    """A server answers 200 and then says that the version is too old: it must not be listed without end."""
    pauses: list[float] = []

    def refused() -> Iterator[tuple[str, dict[str, Any]]]:
        yield "BOOKMARK", thing("", 7)
        raise Expired("too old")

    watched, script = make([([], "7")] * 4, [refused() for _ in range(3)])
    watched._pause = pauses.append
    watched.begin()
    wait_until("it watches on", lambda: len(script.versions) == 4, 10)
    assert len(pauses) == 2


def test_per_object__one_of_them_changed__only_that_one_is_made_anew() -> None:
    made: list[str] = []

    def name_of(one: Mapping[str, Any]) -> str:
        made.append(one["name"])
        return str(one["name"])

    kept = PerObject(name_of)
    objects: dict[str, dict[str, Any]] = {name: {"name": name} for name in ("a", "b", "c")}
    kept.of(objects)
    made.clear()
    objects = {"a": objects["a"], "b": dict(objects["b"])}
    assert kept.of(objects) == {"a": "a", "b": "b"}
    assert made == ["b"]


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


def until_it_lasts(watched: WatchedKind, script: ScriptedLists) -> None:
    """Until all watches that the test wrote down have ended, and the last one lasts."""
    watched.begin()
    wait_until("the last watch lasts", lambda: not script.watches and script.waits.is_set(), 10)


def test_watch__ends_at_once_again_and_again__is_met_with_growing_pauses(make: Make) -> None:
    pauses: list[float] = []
    watched, script = make([([], "7")] * 7, [[]] * 6, draw=lambda: 1.0)
    watched._pause = pauses.append
    until_it_lasts(watched, script)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 20.0]


def test_watch__ends_at_once_twice__is_listed_anew(make: Make) -> None:
    """No watch tells what happened: without a list it would stay unknown without a word."""
    watched, script = make([([thing("a", 5)], "7"), ([thing("b", 90)], "95")], [[], []])
    until_it_lasts(watched, script)
    assert (names(watched), script.versions) == (["b"], ["7", "7", "95"])


def test_watch__ends_at_once_with_nothing_newer__counts_as_one_that_told_nothing(make: Make) -> None:
    pauses: list[float] = []
    watched, script = make([([], "7")] * 4, [[("BOOKMARK", thing("", 7))] for _ in range(3)])
    watched._pause = pauses.append
    until_it_lasts(watched, script)
    assert len(pauses) == 3


def test_watch__of_one_event_each_that_is_newer__is_asked_on_without_a_pause(make: Make) -> None:
    pauses: list[float] = []
    watched, script = make([([], "7")], [[("ADDED", thing("a", version))] for version in (8, 9, 10)])
    watched._pause = pauses.append
    until_it_lasts(watched, script)
    assert (pauses, script.versions) == ([], ["7", "8", "9", "10"])


def test_watch__quiet_for_its_normal_time__goes_on_at_once_from_where_it_was(make: Make) -> None:
    pauses: list[float] = []
    seconds = iter(range(0, 60_000, 60))
    watched, script = make([([], "7")], [[], [], []], steady=lambda: float(next(seconds)))
    watched._pause = pauses.append
    until_it_lasts(watched, script)
    assert (pauses, script.versions) == ([], ["7"] * 4)


def test_refusal__behind_an_event_that_is_not_newer__is_met_with_pauses(make: Make) -> None:
    pauses: list[float] = []

    def refused() -> Iterator[tuple[str, dict[str, Any]]]:
        yield "BOOKMARK", thing("", 7)
        yield "BOOKMARK", thing("", 7)
        raise Expired("too old")

    watched, script = make([([], "7")] * 4, [refused() for _ in range(3)])
    watched._pause = pauses.append
    until_it_lasts(watched, script)
    assert len(pauses) == 2
