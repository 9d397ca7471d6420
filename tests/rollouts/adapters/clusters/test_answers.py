from __future__ import annotations

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet

import pytest

from rollouts.adapters.clusters.answers import LastAnswers


class Engine:
    """Says `word`; while it hangs nothing comes."""

    def __init__(self) -> None:
        self.word = "good"
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.asked = 0

    def ask(self) -> str:
        self.asked += 1
        assert self.goes_on.wait(30)
        return self.word


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_answer__comes_at_once__is_the_newest(engine: Engine) -> None:
    answers: LastAnswers[str] = LastAnswers()
    assert answers.of("a", engine.ask) == "good"
    engine.word = "bad"
    assert answers.of("a", engine.ask) == "bad"


def test_answer__engine_hangs__is_the_one_before_and_it_is_asked_once(engine: Engine) -> None:
    answers: LastAnswers[str] = LastAnswers()
    answers.of("a", engine.ask)
    engine.goes_on.clear()
    engine.word = "silent"
    assert [answers.of("a", engine.ask) for _ in range(3)] == ["good"] * 3
    assert engine.asked == 2
    engine.goes_on.set()
    assert until_it_says(answers, engine, "silent")


def until_it_says(answers: LastAnswers[str], engine: Engine, word: str) -> bool:
    return any(answers.of("a", engine.ask) == word for _ in range(50))


def test_answer__one_hangs__another_is_answered_by_itself(engine: Engine) -> None:
    answers: LastAnswers[str] = LastAnswers()
    answers.of("a", engine.ask)
    engine.goes_on.clear()
    answers.of("a", engine.ask)
    assert answers.of("b", lambda: "well") == "well"
    engine.goes_on.set()


def test_answer__another_process__is_not_the_one_of_the_process_before(engine: Engine) -> None:
    answers: LastAnswers[str] = LastAnswers()
    assert answers.of(("a", 1), engine.ask) == "good"
    engine.word = "loading"
    assert answers.of(("a", 2), engine.ask) == "loading"


def test_answer__cannot_be_asked__raises_and_is_asked_again(engine: Engine) -> None:
    answers: LastAnswers[str] = LastAnswers()

    def fails() -> str:
        raise TimeoutError("odd")

    with pytest.raises(TimeoutError, match="odd"):
        answers.of("a", fails)
    assert answers.of("a", engine.ask) == "good"


class EndsAtTheLastMoment(Future[str]):
    """Is not done when the waiting ends, and done right after that."""

    def result(self, timeout: float | None = None) -> str:
        if timeout is not None and not self.done():
            self.set_result("good")
            raise NotYet
        return super().result(timeout)


def test_answer__comes_just_when_the_waiting_ends__is_taken(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: LastAnswers[str] = LastAnswers()
    answers.of("a", engine.ask)
    monkeypatch.setattr(answers._pool, "submit", lambda ask: EndsAtTheLastMoment())
    assert answers.of("a", engine.ask) == "good"
