"""Told tokens: what one write for all endpoints keeps, and what it does while others write and the cluster is away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.clusters.kubernetes import tokens
from rollouts.adapters.clusters.kubernetes.client import ObjectKind
from rollouts.adapters.clusters.kubernetes.errors import Stale, Transient
from rollouts.adapters.clusters.kubernetes.tokens import SILENT_SECONDS, ToldTokens
from tests.rollouts.adapters.clusters.kubernetes.memory import INSTALLATION, MemoryObjects


class CountedObjects(MemoryObjects):
    """Counts what is asked; `away` is raised instead of every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.away: Exception | None = None

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.away is not None:
            raise self.away

    def get(self, kind: ObjectKind, name: str) -> dict[str, Any] | None:
        self._ask("get")
        return super().get(kind, name)

    def pages(self, kind: ObjectKind, selector: str = "") -> Iterator[tuple[list[dict[str, Any]], str]]:
        self._ask("list")
        yield self.list(kind)

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self._ask("create")
        if ("ConfigMap", body["metadata"]["name"]) in self.objects:
            raise Stale("it exists already")
        return super().apply(body, None)

    def apply(self, body: Mapping[str, Any], seen: Mapping[str, Any] | None, **more: Any) -> dict[str, Any]:
        self._ask("apply")
        return super().apply(body, seen, **more)


class Steps:
    """A thread of told tokens that takes a step when a test says so."""

    def __init__(self) -> None:
        self._go, self._taken = threading.Semaphore(0), threading.Semaphore(0)
        self._begun = False

    def pause(self, seconds: float) -> None:
        self._taken.release()
        self._go.acquire(timeout=30)

    def first(self) -> None:
        """Waits until the step that the first question began is over."""
        assert self._taken.acquire(timeout=30)

    def step(self) -> None:
        self._go.release()
        assert self._taken.acquire(timeout=30)

    def end(self) -> None:
        self._go.release()


@pytest.fixture
def server() -> CountedObjects:
    return CountedObjects()


Make = Callable[..., tuple[ToldTokens, Steps]]


@pytest.fixture
def make(server: CountedObjects) -> Iterator[Make]:
    made: list[tuple[ToldTokens, Steps]] = []

    def of(**more: Any) -> tuple[ToldTokens, Steps]:
        steps = Steps()
        told = ToldTokens(server, INSTALLATION, pause=steps.pause, **more)
        made.append((told, steps))
        return told, steps

    yield of
    for told, steps in made:
        told.stop()
        steps.end()


def kept(server: CountedObjects) -> dict[str, int]:
    found: dict[str, int] = json.loads(server.objects["ConfigMap", object_name()]["data"]["tokens"])
    return found


def object_name() -> str:
    from_installation: str = ToldTokens(MemoryObjects(), INSTALLATION)._name  # type: ignore[arg-type]
    return from_installation


def told_by_others(server: CountedObjects, found: Mapping[str, int]) -> None:
    """Another process writes the object."""
    labels = {"headgate.dev/installation": INSTALLATION}
    data = {"tokens": json.dumps(found)}
    server.keep({"kind": "ConfigMap", "metadata": {"name": object_name(), "labels": labels}, "data": data})


def test_tell__thousand_endpoints__are_one_write(make: Make, server: CountedObjects) -> None:
    told, steps = make()
    told.tell("first", 0)
    steps.first()
    server.asked.clear()
    for number in range(1_000):
        assert told.tell(f"e{number}", 7) == 7
    steps.step()
    assert server.asked == ["get", "create"]
    assert kept(server) == {f"e{number}": 7 for number in range(1_000)}


def test_tell__once_more__is_one_write_without_a_read(make: Make, server: CountedObjects) -> None:
    told, steps = make()
    told.tell("chat", 5)
    steps.first()
    steps.step()
    server.asked.clear()
    assert told.tell("chat", 6) == 6
    steps.step()
    assert (server.asked, kept(server)) == (["apply"], {"chat": 6})


def test_nobody_tells__nothing_is_asked(make: Make, server: CountedObjects) -> None:
    told, steps = make()
    told.tell("chat", 5)
    steps.first()
    steps.step()
    server.asked.clear()
    for _ in range(3):
        steps.step()
    assert server.asked == []


def test_tell__older_token__is_answered_by_the_newest_of_whoever_told(
    make: Make, server: CountedObjects
) -> None:
    told_by_others(server, {"chat": 12})
    told, steps = make()
    assert told.tell("chat", 9) == 12
    steps.first()
    steps.step()
    assert kept(server) == {"chat": 12}


def test_tell__token_of_a_writer_before_there_was_the_object__is_known(
    make: Make, server: CountedObjects
) -> None:
    """Whoever comes from an older version finds what writers left behind."""
    metadata = {
        "name": "fence.x.chat",
        "labels": {"headgate.dev/installation": INSTALLATION},
        "annotations": {"headgate.dev/endpoint-name": "chat"},
    }
    server.keep({"kind": "ConfigMap", "metadata": metadata, "data": {"token": "31"}})
    server.keep({"kind": "ConfigMap", "metadata": {"name": "odd"}, "data": None})
    told, _ = make()
    assert told.tell("chat", 9) == 31


def test_exchange__others_wrote_in_between__keeps_the_larger_one_of_each(
    make: Make, server: CountedObjects
) -> None:
    told, steps = make()
    told.tell("chat", 5)
    steps.first()
    steps.step()
    told.tell("chat", 6)
    told.tell("mail", 8)
    told_by_others(server, {"chat": 20, "mail": 2, "news": 3})
    steps.step()
    assert kept(server) == {"chat": 20, "mail": 8, "news": 3}
    assert told.tell("chat", 7) == 20


def test_exchange__others_write_all_the_time__is_tried_again_later(
    make: Make, server: CountedObjects
) -> None:
    told, steps = make()
    told.tell("chat", 5)
    steps.first()
    steps.step()
    told.tell("chat", 6)
    server.fail_write["ConfigMap", object_name()] = Stale("it was changed")
    steps.step()
    with pytest.raises(Unavailable, match="again and again"):
        told.tell("chat", 7)
    server.fail_write.clear()
    steps.step()
    assert (told.tell("chat", 7), kept(server)) == (7, {"chat": 6})


def test_object__taken_away__comes_back_with_all_that_is_known(make: Make, server: CountedObjects) -> None:
    told_by_others(server, {"mail": 4})
    told, steps = make()
    told.tell("chat", 5)
    steps.first()
    steps.step()
    del server.objects["ConfigMap", object_name()]
    told.tell("chat", 6)
    steps.step()
    assert kept(server) == {"mail": 4, "chat": 6}


@pytest.mark.parametrize(
    "odd",
    [None, {}, {"tokens": "no JSON"}, {"tokens": "[1]"}, {"tokens": '{"chat": "9", "mail": true, "x": -1}'}],
)
def test_object__that_somebody_spoilt__is_written_anew(make: Make, server: CountedObjects, odd: Any) -> None:
    labels = {"headgate.dev/installation": INSTALLATION}
    server.keep({"kind": "ConfigMap", "metadata": {"name": object_name(), "labels": labels}, "data": odd})
    told, steps = make()
    assert told.tell("chat", 5) == 5
    steps.first()
    steps.step()
    assert kept(server) == {"chat": 5}


def test_server__away__is_said_at_once_and_nothing_told_is_lost(make: Make, server: CountedObjects) -> None:
    told, steps = make()
    told.tell("chat", 5)
    steps.first()
    steps.step()
    told.tell("chat", 6)
    server.away = Transient("no answer")
    steps.step()
    began = time.monotonic()
    for number in range(200):  # as many as a cluster has endpoints
        with pytest.raises(Unavailable, match="no answer"):
            told.tell(f"e{number}", 7)
    assert time.monotonic() - began < 2
    server.away = None
    steps.step()
    assert (told.tell("chat", 6), kept(server)) == (6, {"chat": 6})


def test_server__that_never_answered__keeps_those_who_ask_first_waiting_all_together(
    make: Make, server: CountedObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "FIRST_SECONDS", 0.2)
    over = threading.Event()

    def hangs(kind: ObjectKind, selector: str = "") -> Any:
        over.wait(30)
        raise Transient("it is over")

    monkeypatch.setattr(server, "pages", hangs)
    told, _ = make()
    began = time.monotonic()
    for number in range(20):
        with pytest.raises(Unavailable, match="does not say"):
            told.tell(f"e{number}", 7)
    lasted = time.monotonic() - began
    over.set()
    assert lasted < 2  # 4 s if each had waited


def test_server__that_hangs__is_not_known_any_more_after_a_while(make: Make, server: CountedObjects) -> None:
    now = [0.0]
    told, steps = make(steady=lambda: now[0])
    told.tell("chat", 5)
    steps.first()
    assert told.tell("chat", 0) == 5
    now[0] += SILENT_SECONDS + 1
    with pytest.raises(Unavailable, match="does not say"):
        told.tell("chat", 0)
    steps.step()
    assert told.tell("chat", 0) == 5


def test_exchange__more_endpoints_than_it_has_room_for__keeps_those_that_were_told_last(
    make: Make, server: CountedObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MOST_ENDPOINTS", 2)
    told, steps = make()
    told.tell("chat", 5)
    steps.first()
    for endpoint in ("mail", "news", "chat"):
        told.tell(endpoint, 6)
        steps.step()
    assert kept(server) == {"news": 6, "chat": 6}
