"""What is made of the answers of whoever counts endpoints, and of their absence."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Unavailable
from rollouts.adapters.routers.gateway_api.counted import CountedRoute, EndpointsAnswer
from rollouts.adapters.routers.gateway_api.endpoints import BLIND_SECONDS, EndpointQuestions
from tests.rollouts.adapters.routers.gateway_api.routes import V2
from tests.standins.running import wait_until

ROUTE = CountedRoute("chat", "team-a", {(0, 1): V2}, {}, since=1.0)
NONE = EndpointsAnswer(f"edge-1 has no endpoints for {V2}", seen=True)
READY = EndpointsAnswer()


class Counting:
    """Whoever counts. `says` is None while it is away."""

    def __init__(self) -> None:
        self.says: EndpointsAnswer | None = READY
        self.asked = 0

    def lacking(self, route: CountedRoute) -> EndpointsAnswer:
        assert route == ROUTE
        self.asked += 1
        if self.says is None:
            raise Unavailable("Prometheus does not answer.")
        return self.says


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def questions(counting: Counting, clock: ManualClock) -> EndpointQuestions:
    return EndpointQuestions(counting.lacking, clock, moment_seconds=30)


@pytest.mark.parametrize("answer", [READY, NONE], ids=["ready", "without"])
def test_lack__answered__is_the_answer(
    questions: EndpointQuestions, counting: Counting, answer: EndpointsAnswer
) -> None:
    counting.says = answer
    assert questions.lack(ROUTE, 3, seen=False) == answer


def test_lack__no_answer_yet__waits_a_moment_and_is_asked_once(clock: ManualClock) -> None:
    goes_on = threading.Event()
    asked = []

    def ask(route: CountedRoute) -> EndpointsAnswer:
        asked.append(route)
        assert goes_on.wait(30)
        return READY

    made = EndpointQuestions(ask, clock, moment_seconds=0.05)
    clock.advance(2 * BLIND_SECONDS)
    began = time.monotonic()
    for _ in range(3):
        assert made.lack(ROUTE, 3, seen=False).words.startswith("whoever counts has not said yet")
    assert time.monotonic() - began < 10
    goes_on.set()
    wait_until("its answer is read", lambda: made.lack(ROUTE, 3, seen=False) == READY)
    assert asked[:1] == [ROUTE]


def test_lack__nobody_can_say__waits_so_long_and_no_longer(
    questions: EndpointQuestions, counting: Counting, clock: ManualClock
) -> None:
    counting.says = None
    words = "nobody can say which endpoints there are: Prometheus does not answer"
    assert questions.lack(ROUTE, 3, seen=False) == EndpointsAnswer(words)
    clock.advance(BLIND_SECONDS - 1)
    assert questions.lack(ROUTE, 3, seen=False).words == words
    clock.advance(2)
    assert questions.lack(ROUTE, 3, seen=False) == READY


def test_lack__nobody_can_say_of_whom_a_lack_was_seen__waits_for_an_answer(
    questions: EndpointQuestions, counting: Counting, clock: ManualClock
) -> None:
    counting.says = None
    for _ in range(3):
        answer = questions.lack(ROUTE, 3, seen=True)
        assert (answer.words[:14], answer.seen) == ("nobody can say", True)
        clock.advance(2 * BLIND_SECONDS)
    counting.says = READY
    assert questions.lack(ROUTE, 3, seen=True) == READY


def test_lack__an_answer_came_between__the_time_begins_anew(
    questions: EndpointQuestions, counting: Counting, clock: ManualClock
) -> None:
    for says in (None, EndpointsAnswer("edge-1 was not scraped since (3 s ago)"), None):
        counting.says = says
        assert questions.lack(ROUTE, 3, seen=False).words
        clock.advance(BLIND_SECONDS - 1)
    assert questions.lack(ROUTE, 3, seen=False).words


def test_lack__another_revision__the_time_begins_anew(
    questions: EndpointQuestions, counting: Counting, clock: ManualClock
) -> None:
    counting.says = None
    questions.lack(ROUTE, 3, seen=False)
    clock.advance(2 * BLIND_SECONDS)
    assert questions.lack(ROUTE, 4, seen=False).words
