"""Two verdicts or decisions are compared by their bytes, by what they say, and sentences by the numbers in them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rollouts.domain.record.comparing import SENTENCES, compare


@pytest.mark.parametrize(
    ("recorded_value", "replayed_value", "same"),
    [
        ({"evidence": 20.0}, {"evidence": 20.0 * (1 + 1e-12)}, True),
        ({"evidence": 20.0}, {"evidence": 20.0 * (1 + 1e-8)}, False),
        ({"low": 0.1234567}, {"low": 0.12345670001}, True),
        ({"low": 0.1}, {"low": 0.2}, False),
        ({"low": None}, {"low": 0.2}, False),
        ({"verdict": "pass"}, {"verdict": "fail"}, False),
        ({"sentence": "0.10"}, {"sentence": "0.11"}, True),  # rounded in another last digit
        ({"finding": ""}, {"finding": "The baseline itself is over this limit: 3%."}, False),
        ({"fast_kill": None}, {"fast_kill": "Errors."}, False),
        ({"rollback": False}, {"rollback": True}, False),
        ({"n_candidate": 5}, {"n_candidate": 6}, False),
        ({"forecast_requests": 512}, {"forecast_requests": 513}, True),
        ({"effects": []}, {"effects": [{"kind": "x"}]}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
    ],
)
def test_compare__what_differs__matters_when_it_says_something_else(
    recorded_value: dict[str, Any], replayed_value: dict[str, Any], same: bool
) -> None:
    found = compare(recorded_value, replayed_value)
    assert not found.identical
    assert found.same is same


def test_compare__numbers_by_value__are_identical() -> None:
    assert compare({"a": [1, 2.0]}, {"a": (1.0, 2)}).identical


def test_compare__largest_gap_of_log_e__is_told() -> None:
    found = compare(
        {"x": [{"evidence": 1.0}, {"evidence": 2.0}]}, {"x": [{"evidence": 1.1}, {"evidence": 4.0}]}
    )
    assert found.log_e == pytest.approx(math.log(2))
    assert found.first_other is not None
    assert found.first_other.path == "x[0].evidence"


# --- sentences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", sorted(SENTENCES))
def test_compare__sentence_says_the_same_numbers_in_other_words__is_identical(field: str) -> None:
    found = compare(
        {"verdicts": [{field: "the odds against chance are 218 to 1, 80 roll back"}]},
        {"verdicts": [{field: "218 to 1 that this is no accident; at 80 to 1 it is rolled back"}]},
    )
    assert (found.identical, found.same, found.reworded) == (True, True, 1)
    assert found.first_reworded is not None
    assert found.first_reworded.path == f"verdicts[0].{field}"


@pytest.mark.parametrize(
    ("recorded_words", "replayed_words"),
    [
        ("Odds of 218 to 1.", "219 to 1 that this is no accident."),
        ("1.5% failed.", "15% failed."),
        ("It changed by +0.4 pp.", "It changed by −0.4 pp."),
        ("15,604 requests.", "Many requests."),
        ("5 of 5 requests failed.", "5 of 10 requests failed."),  # one 5 is not said any more
        ("It changed by -0.4 pp.", "It changed by 0.4 pp."),
        ("Chance explains it once in 1e-9.", "Chance explains it once in 1e9."),
    ],
)
def test_compare__sentence_whose_number_changed__is_a_difference(
    recorded_words: str, replayed_words: str
) -> None:
    found = compare({"sentence": recorded_words}, {"sentence": replayed_words})
    assert (found.identical, found.reworded) == (False, 0)


def test_compare__number_changed_in_field_and_sentence__says_something_else() -> None:
    found = compare(
        {"n_candidate": 512, "sentence": "512 requests were counted."},
        {"n_candidate": 513, "sentence": "It was counted on 513 requests."},
    )
    assert not found.same
    assert found.first_other is not None
    assert found.first_other.path == "n_candidate"


@pytest.mark.parametrize("field", ["label", "cause", "phase", "kind", "verdict", "baseline"])
def test_compare__words_in_a_field_that_is_no_sentence__are_data(field: str) -> None:
    assert not compare({field: "one"}, {field: "another"}).same


@pytest.mark.parametrize("field", sorted(SENTENCES))
@pytest.mark.parametrize("swapped", [False, True])
def test_compare__sentence_where_there_was_none__says_something_else(field: str, swapped: bool) -> None:
    with_it: dict[str, Any] = {"arms": [{field: "v2 or v3"}]}
    without: dict[str, Any] = {"arms": [{}]}
    found = compare(without, with_it) if swapped else compare(with_it, without)
    assert (found.identical, found.same, found.reworded) == (False, False, 0)


def test_compare__names_of_variants__are_no_signs() -> None:
    found = compare({"reason": "tickets-v2 failed."}, {"reason": "It is v2 that failed."})
    assert (found.identical, found.reworded) == (True, 1)


@pytest.mark.parametrize(("recorded_value", "replayed_value"), [(True, 1), (False, 0), (1, True)])
def test_compare__true_and_one__are_not_identical(recorded_value: object, replayed_value: object) -> None:
    assert not compare({"rollback": recorded_value}, {"rollback": replayed_value}).identical


def test_compare__text_that_reads_like_nothing__is_not_nothing() -> None:
    assert not compare({"cause": "(nothing)"}, {}).same
