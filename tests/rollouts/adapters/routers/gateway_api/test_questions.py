"""Asking whether a proxy serves a route."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.routers.gateway_api.questions import AskServed, RouteQuestions
from rollouts.adapters.routers.gateway_api.user import ServedAnswer
from tests.standins.running import wait_until

HOST, A, B = "chat.example", "chat-v1-aaaa", "chat-v2-bbbb"


class Proxy:
    """One with revision 7 of the route, whose engines all answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.revision = 7
        self.instead: dict[str, str] = {}
        self.goes_on = threading.Event()
        self.goes_on.set()

    def served(self, host: str, variant: str) -> ServedAnswer:
        assert host == HOST
        self.asked.append(variant)
        assert self.goes_on.wait(30)
        by = self.instead.get(variant, variant)
        if not by:
            raise Unavailable("The gateway answers HTTP 500.")
        return ServedAnswer(by, self.revision)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.goes_on.set()


def questions(ask: AskServed, moment_seconds: float = 20.0) -> RouteQuestions:
    return RouteQuestions(ask, moment_seconds=moment_seconds)


def test_unproven__the_variant_answers_by_the_revision__is_proven_by_one_request(proxy: Proxy) -> None:
    assert questions(proxy.served).unproven(HOST, 7, every=(), some=[A, B]) == ""
    assert proxy.asked == [A]


@pytest.mark.parametrize("every", [(), (A,)])
def test_unproven__older_revision__is_told(proxy: Proxy, every: tuple[str, ...]) -> None:
    words = questions(proxy.served).unproven(HOST, 8, every=every, some=[A])
    assert words == f"{A} answered by revision 7 of the route, not by 8"


def test_unproven__another_variant_answers__is_told(proxy: Proxy) -> None:
    proxy.instead = {B: A}
    assert questions(proxy.served).unproven(HOST, 7, every=[B], some=()) == f"{B} was asked, but {A} answered"


def test_unproven__one_of_some_is_dead__the_next_one_proves_it(proxy: Proxy) -> None:
    proxy.instead = {A: ""}
    assert questions(proxy.served).unproven(HOST, 7, every=(), some=[A, B]) == ""


def test_unproven__one_of_every_is_dead__is_not_proven(proxy: Proxy) -> None:
    proxy.instead = {A: ""}
    words = questions(proxy.served).unproven(HOST, 7, every=[A, B], some=())
    assert words == "The gateway answers HTTP 500."


def test_unproven__nobody_to_ask__is_not_proven(proxy: Proxy) -> None:
    assert questions(proxy.served).unproven(HOST, 7, every=(), some=()) != ""


def test_unproven__no_answer_yet__is_not_asked_again_and_read_later(proxy: Proxy) -> None:
    proxy.goes_on.clear()
    made = questions(proxy.served, 0.05)
    for _ in range(3):
        assert made.unproven(HOST, 7, every=[A], some=()) == f"{A} has not answered yet"
    proxy.goes_on.set()
    wait_until("its answer is read", lambda: not made.unproven(HOST, 7, every=[A], some=()))
    assert proxy.asked == [A]


def test_unproven__not_yet_by_the_newest__is_asked_anew(proxy: Proxy) -> None:
    made = questions(proxy.served)
    assert made.unproven(HOST, 8, every=[A], some=()) != ""
    proxy.revision = 8
    assert made.unproven(HOST, 8, every=[A], some=()) == ""
