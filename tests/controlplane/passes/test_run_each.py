"""The one mechanism by which a pass survives its items."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, Rejected, Unavailable
from controlplane.passes.models import ItemTrouble, PassRun
from controlplane.passes.selectors import troubles_by_pass
from controlplane.passes.services import Pauses, Report, one_run, run_each

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
PAUSES = Pauses(first=10, longest=60)


class House:
    """A pass over letters. `faults` says what doing one raises; `done` is what was done, in order."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.faults: dict[str, BaseException | Callable[[], object]] = {}
        self.done: list[str] = []
        self.tried: list[str] = []

    def work(self, item: str) -> None:
        self.tried.append(item)
        fault = self.faults.get(item)
        if isinstance(fault, BaseException):
            raise fault
        if fault is not None:
            fault()
        self.done.append(item)

    def run(self, items: str = "abcd", **options: Any) -> Report:
        self.done, self.tried = [], []
        options = {"pauses": PAUSES, **options}
        return run_each(
            name="letters", items=items, key=str, label=str.upper, work=self.work, clock=self.clock, **options
        )


@pytest.fixture
def house() -> House:
    return House()


def refuse() -> object:
    return int("a number")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Unavailable("It failed (500).", fix="Look into its log."), "It failed (500). Look into its log."),
        (TimeoutError("timed out"), "TimeoutError: timed out"),
        (refuse, "ValueError: invalid literal for int() with base 10: 'a number'"),
        (KeyError("name"), "KeyError: 'name'"),
        (RecursionError(), "RecursionError"),
    ],
    ids=["error", "time-out", "odd-value", "missing-field", "no-words"],
)  # fmt: skip
def test_run__one_item_fails__all_others_are_done_and_it_keeps_its_words(
    house: House, fault: Any, words: str
) -> None:
    house.faults["b"] = fault
    report = house.run()
    assert house.done == ["a", "c", "d"]
    assert (report.done, report.failed, report.news) == (3, 1, True)
    trouble = ItemTrouble.objects.get()
    assert (trouble.pass_name, trouble.item, trouble.label, trouble.error) == ("letters", "b", "B", words)
    assert (trouble.attempts, trouble.first_failed_at, trouble.next_attempt_at) == (
        1, NOW, NOW + timedelta(seconds=10),
    )  # fmt: skip


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_run__told_to_end__ends(house: House, end: type[BaseException]) -> None:
    house.faults["b"] = end()
    with pytest.raises(end):
        house.run()
    assert not ItemTrouble.objects.exists()


def test_run__item_failed_a_moment_ago__left_alone_until_its_pause_is_over(house: House) -> None:
    house.faults["a"] = KeyError("x")
    house.run()
    house.clock.advance(9)
    assert (house.run().waiting, house.tried) == (1, ["b", "c", "d"])
    house.clock.advance(1)
    house.run()
    assert house.tried == ["b", "c", "d", "a"]


def test_run__fails_again_and_again__pauses_grow_to_the_longest_and_it_is_tried_for_ever(
    house: House,
) -> None:
    house.faults["a"] = KeyError("x")
    pauses = []
    for _ in range(40):
        house.run("a")
        found = ItemTrouble.objects.get()
        pauses.append((found.next_attempt_at - house.clock.now()).total_seconds())
        house.clock.advance(pauses[-1])
    assert pauses[:5] == [10, 20, 40, 60, 60]
    assert pauses[-1] == 60
    assert (found.attempts, found.first_failed_at) == (40, NOW)


def test_run__item_works_again__trouble_is_forgotten(house: House) -> None:
    house.faults["a"] = KeyError("x")
    house.run()
    del house.faults["a"]
    house.clock.advance(10)
    assert house.run().news
    assert not ItemTrouble.objects.exists()
    assert not house.run().news


def test_run__item_is_no_more__trouble_is_forgotten(house: House) -> None:
    house.faults["a"] = KeyError("x")
    house.run()
    house.run("bcd")
    assert not ItemTrouble.objects.exists()


def test_run__several_failed__the_one_tried_longest_ago_comes_first(house: House) -> None:
    house.faults["c"] = KeyError("x")
    house.run("c")
    house.clock.advance(1)
    house.faults["a"] = KeyError("x")
    house.run("ac", pauses=PAUSES)
    house.clock.advance(30)
    house.run()
    assert house.tried == ["b", "d", "c", "a"]


def test_run__room_for_few__bad_ones_take_one_place_and_no_more(house: House) -> None:
    for letter in "abc":
        house.faults[letter] = KeyError("x")
    house.run("abc")
    house.clock.advance(60)
    report = house.run("abcdef", most=3)
    assert house.done == ["d", "e"]
    assert len(house.tried) == 3
    assert report.left == 3


def test_run__time_is_over__the_next_run_begins_with_what_was_left(house: House) -> None:
    for letter in "abcd":
        house.faults[letter] = lambda: house.clock.advance(4)
    assert house.run(seconds=8).left == 2
    assert house.done == ["a", "b"]
    house.run(seconds=8)
    assert house.done == ["c", "d"]
    house.run(seconds=8)
    assert house.done == ["a", "b"]


@pytest.mark.parametrize("others", [0, 500])
def test_run__source_is_down__one_word_of_it_and_no_item_is_blamed(house: House, others: int) -> None:
    def source() -> None:
        raise Unavailable("MLflow does not answer.")

    items = "".join(chr(1000 + number) for number in range(others)) + "b"
    house.faults = {item: Unavailable("No answer.") for item in items}
    report = house.run(items, source=source)
    assert report.source == "MLflow does not answer."
    assert (len(house.tried), report.failed, report.left) == (1, 0, others)
    assert not ItemTrouble.objects.exists()


def test_run__source_answers__the_item_is_to_blame(house: House) -> None:
    house.faults["b"] = Unavailable("MLflow failed (500).")
    report = house.run(source=lambda: None)
    assert (report.source, report.failed, house.done) == ("", 1, ["a", "c", "d"])


def test_run__source_said_no_to_one_item__it_is_not_asked_whether_it_is_there(house: House) -> None:
    house.faults["b"] = Rejected("It may not be read.")
    house.run(source=lambda: pytest.fail("it answered a moment ago"))
    assert house.done == ["a", "c", "d"]


def test_run__work_breaks_its_transaction__only_that_is_rolled_back(house: House) -> None:
    def breaks() -> None:
        with transaction.atomic():
            PassRun.objects.create(name="half")
            PassRun.objects.create(name="half")

    house.faults["b"] = breaks
    house.run()
    assert house.done == ["a", "c", "d"]
    assert "IntegrityError" in ItemTrouble.objects.get().error
    assert not PassRun.objects.filter(name="half").exists()


@pytest.mark.parametrize("number", [3, 300])
def test_run__nothing_fails__queries_do_not_grow_with_the_items(house: House, number: int) -> None:
    with CaptureQueriesContext(connection) as queries:
        house.run("".join(chr(1000 + letter) for letter in range(number)), seconds=60)
    assert len(queries) == 2


def test_run__names_of_any_kind__are_kept_apart() -> None:
    names = ["x" * 300, "x" * 300 + "y", "a b", "a\nb", "zero\x00byte", "lone \ud800", "🧪 model", ""]

    def work(item: str) -> None:
        raise InvalidInput(f"{item} is odd.")

    for _ in range(2):
        run_each(name="names", items=names, key=str, work=work, clock=ManualClock(NOW), label=str)
    assert ItemTrouble.objects.count() == len(names)
    assert all(len(row.error) <= 500 and len(row.label) <= 300 for row in ItemTrouble.objects.all())


@pytest.mark.parametrize(
    "text",
    [
        "http://ana:hunter2@mlflow:5000 does not answer",
        "Authorization: Bearer hunter2hunter2",
        "password=hunter2 is wrong",
        '{"api_key": "hunter2"}',
        "MLFLOW_TRACKING_TOKEN=hunter2",
    ],
)
def test_run__error_holds_a_secret__it_is_hidden(
    house: House, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.faults["b"] = RuntimeError(text)
    house.run()
    assert "hunter2" not in ItemTrouble.objects.get().error
    assert "[hidden]" in ItemTrouble.objects.get().error
    assert "hunter2" not in caplog.text


def test_one_run__another_is_under_way__waits_its_turn_but_not_for_a_dead_one() -> None:
    clock = ManualClock(NOW)
    with one_run(name="letters", clock=clock, seconds=60) as first:
        assert first
        with one_run(name="letters", clock=clock, seconds=60) as second:
            assert not second
        with one_run(name="others", clock=clock, seconds=60) as other:
            assert other
        clock.advance(60)
        with one_run(name="letters", clock=clock, seconds=60) as third:
            assert third
    with one_run(name="letters", clock=clock, seconds=60) as last:
        assert last


def test_troubles__by_pass__are_counted_with_the_oldest(house: House) -> None:
    assert troubles_by_pass() == ()
    house.faults["b"] = KeyError("x")
    house.run()
    house.clock.advance(5)
    house.faults["c"] = KeyError("y")
    house.run()
    (found,) = troubles_by_pass()
    assert (found.pass_name, found.count, found.since, found.label) == ("letters", 2, NOW, "B")
    assert found.sentence == "2 items fail; longest B: KeyError: 'x'"


@pytest.mark.django_db(transaction=True)
def test_run__several_at_once__one_fails_and_the_others_are_done(house: House) -> None:
    house.faults["b"] = KeyError("x")
    report = house.run(threads=3)
    assert (sorted(house.done), report.failed) == (["a", "c", "d"], 1)
