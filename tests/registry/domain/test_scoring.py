from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.scoring import Scorer, score


@pytest.mark.parametrize(
    ("answer", "expected", "result"),
    [
        ("billing", "billing", 1.0),
        (" billing\n", "billing", 1.0),
        ("Billing", "billing", 0.0),
        ("", "billing", 0.0),
    ],
)
def test_exact__white_space_around__does_not_count(answer: str, expected: str, result: float) -> None:
    assert score(answer, expected, Scorer.EXACT) == result


@pytest.mark.parametrize(
    ("answer", "expected", "result"),
    [
        ("It goes to BILLING now.", "billing", 1.0),
        ("it takes 3   days", "takes 3 days", 1.0),
        ("shipping", "billing", 0.0),
    ],
)
def test_contains__case_and_spaces__do_not_count(answer: str, expected: str, result: float) -> None:
    assert score(answer, expected, Scorer.CONTAINS) == result


@pytest.mark.parametrize(
    ("answer", "expected", "result"),
    [
        ("The refund takes three days.", "refund takes three days", 1.0),  # articles and marks fall away
        ("refund three", "refund takes three days", 2 * 1.0 * 0.5 / 1.5),  # precision 1, recall 1/2
        ("a a refund refund", "refund", 2 * 0.5 * 1.0 / 1.5),  # a repeated word counts once
        ("nothing", "refund", 0.0),
        ("", "refund", 0.0),
        ("the", "a", 1.0),  # nothing is left on either side
    ],
)
def test_token_f1__known_pairs__as_in_squad(answer: str, expected: str, result: float) -> None:
    assert score(answer, expected, Scorer.TOKEN_F1) == pytest.approx(result)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ('{"queue": "billing", "urgent": true}', 1.0),
        ('{"urgent": true, "queue": "billing", "note": "x"}', 1.0),
        ('{"queue": "billing"}', 0.5),
        ('{"queue": "billing", "urgent": 1}', 0.5),
        ('{"queue": ["billing"], "urgent": "true"}', 0.0),
        ("[]", 0.0),
        ("Sure! {}", 0.0),
        ("[" * 100_000, 0.0),
    ],
)
def test_json__share_of_expected_leaves__scored(answer: str, result: float) -> None:
    assert score(answer, '{"queue": "billing", "urgent": true}', Scorer.JSON) == result


def test_json__whole_number_written_as_fraction__is_the_same_number() -> None:
    assert score("[1.0]", "[1]", Scorer.JSON) == 1.0


def test_json__empty_object_expected__only_an_empty_object_fits() -> None:
    assert (score("{}", "{}", Scorer.JSON), score("[]", "{}", Scorer.JSON)) == (1.0, 0.0)


def test_score__unknown_scorer__value_error() -> None:
    with pytest.raises(ValueError, match="bleu"):
        score("a", "a", "bleu")


@given(answer=st.text(), expected=st.text(min_size=1), scorer=st.sampled_from(list(Scorer)))
def test_score__any_text__lies_between_nought_and_one(answer: str, expected: str, scorer: Scorer) -> None:
    wanted = json.dumps(expected) if scorer is Scorer.JSON else expected
    assert 0.0 <= score(answer, wanted, scorer) <= 1.0


@given(text=st.text(min_size=1), scorer=st.sampled_from([Scorer.EXACT, Scorer.CONTAINS, Scorer.TOKEN_F1]))
def test_score__answer_is_what_was_expected__one(text: str, scorer: Scorer) -> None:
    assert score(text, text, scorer) == 1.0
