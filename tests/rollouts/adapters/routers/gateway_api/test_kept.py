"""Questions to others who may hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.routers.gateway_api.kept import MOST_KEPT, KeptQuestions
from tests.standins.running import wait_until


@pytest.fixture
def kept() -> KeptQuestions[str, int]:
    return KeptQuestions("asks")


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Nobody answers before it is set."""
    made = threading.Event()
    yield made
    made.set()


def taken(kept: KeptQuestions[str, int], question: str) -> Callable[[], int]:
    found = wait_until("there is an answer", lambda: kept.take(question, until=time.monotonic() + 0.05))
    assert found is not None
    return found


def test_take__answer_came__gives_it_once(kept: KeptQuestions[str, int]) -> None:
    kept.begin("how many", lambda: 7)
    assert taken(kept, "how many")() == 7
    assert kept.take("how many", until=time.monotonic()) is None


def test_take__no_answer_until_then__is_none_and_comes_later(
    kept: KeptQuestions[str, int], gate: threading.Event
) -> None:
    kept.begin("how many", lambda: 7 if gate.wait(30) else 0)
    assert kept.take("how many", until=time.monotonic() + 0.05) is None
    gate.set()
    assert taken(kept, "how many")() == 7


def test_begin__asked_already__is_not_asked_again(
    kept: KeptQuestions[str, int], gate: threading.Event
) -> None:
    asked = []

    def ask() -> int:
        asked.append(1)
        return 7 if gate.wait(30) else 0

    for _ in range(3):
        kept.begin("how many", ask)
    gate.set()
    assert taken(kept, "how many")() == 7
    assert asked == [1]


def test_take__asking_raised__raises_it_when_it_is_read(kept: KeptQuestions[str, int]) -> None:
    def ask() -> int:
        raise Unavailable("Nobody is there.")

    kept.begin("how many", ask)
    with pytest.raises(Unavailable, match="Nobody is there"):
        taken(kept, "how many")()


def test_begin__many_for_whose_answer_nobody_comes__are_not_kept_for_ever(
    kept: KeptQuestions[str, int], gate: threading.Event
) -> None:
    for number in range(MOST_KEPT + 10):
        kept.begin(str(number), lambda: 7 if gate.wait(30) else 0)
    assert len(kept._asked) <= MOST_KEPT
