"""The one reader of foreign data: a value of the kind that was asked for, or InvalidInput that names the place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import (
    INT64,
    ODD_ANSWER,
    Fields,
    number_of,
    parsed,
    shown_value,
    storable,
    words_of,
)
from tests.standins.odd import BODIES, DEEP, LONG_NUMBER, VALUES, one_of_long, written

SAID = "What MLflow says of llama"
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), one_of_long(VALUES)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
READERS: tuple[Callable[[Fields], object], ...] = (
    lambda raw: raw.text("x"),
    lambda raw: raw.exact("x", "", longest=10),
    lambda raw: raw.whole("x", 0, least=0, most=9),
    lambda raw: raw.number("x", 0.0, least=0.0, most=1.0),
    lambda raw: raw.flag("x", False),
    lambda raw: raw.texts("x"),
    lambda raw: [*raw.parts("x")],
    lambda raw: raw.part("x").part("y").text("z", ""),
    lambda raw: raw.needed("x"),
)


def refusal_of(call: Callable[[], object]) -> InvalidInput | None:
    try:
        call()
    except InvalidInput as error:
        return error
    return None


@given(JSON, st.sampled_from(READERS))
def test_fields__any_json__a_value_or_invalid_input_with_the_code(
    value: Any, read: Callable[[Fields], object]
) -> None:
    refused = refusal_of(lambda: read(Fields({"x": value}, SAID)))
    if refused is not None:
        assert refused.code == ODD_ANSWER
        assert refused.message.startswith(f"{SAID} cannot be understood: x")
        assert len(refused.message) < 300
        refused.message.encode()


@given(st.one_of(st.binary(), one_of_long(BODIES), JSON.map(written)))
def test_parsed__any_bytes__json_or_invalid_input(body: bytes) -> None:
    refused = refusal_of(lambda: parsed(body))
    assert refused is None or refused.code == ODD_ANSWER


def test_parsed__bytes_that_are_no_text__spoil_their_own_place_only() -> None:
    raw = Fields(parsed(b'{"a": "\xff\xfe", "b": "fine"}'))
    assert (raw.text("a"), raw.text("b")) == ("\ufffd\ufffd", "fine")


def test_parsed__number_of_5000_digits__spoils_its_own_place_only() -> None:
    raw = Fields(parsed(written({"a": LONG_NUMBER, "b": 7})))
    assert raw.whole("b") == 7
    with pytest.raises(InvalidInput, match="a is inf, which is no whole number"):
        raw.whole("a")


def test_parsed__nested_without_end__invalid_input() -> None:
    with pytest.raises(InvalidInput, match="nested too deeply"):
        parsed(written({"a": DEEP}))


@pytest.mark.parametrize(
    ("value", "number"), [(7, 7), ("7", 7), ("-7", -7), (INT64, INT64), (str(INT64), INT64)]
)
def test_whole__whole_number_or_its_text__is_one(value: Any, number: int) -> None:
    assert Fields({"x": value}).whole("x") == number


@pytest.mark.parametrize(
    "value", [True, 7.0, "7.0", "", " 7", "1_000", "١٢", "7" * 40, INT64 + 1, math.nan, [], {}, "seven"]
)
def test_whole__anything_else__refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="x is "):
        Fields({"x": value}).whole("x")


@pytest.mark.parametrize(
    ("value", "number"), [(7, 7.0), ("7.5", 7.5), ("1e3", 1000.0), ("+.5", 0.5), (10**400, None)]
)
def test_number__finite__is_one(value: Any, number: float | None) -> None:
    if number is None:
        with pytest.raises(InvalidInput, match="not finite"):
            Fields({"x": value}).number("x")
    else:
        assert Fields({"x": value}).number("x") == number


@pytest.mark.parametrize("value", [True, "1_000", "١", " 7", "0x10", "much", None, [], "7" * 40])
def test_number__anything_else__refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        Fields({"x": value}).number("x")


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Infinity", math.nan])
def test_number__not_finite__refused_unless_allowed(value: Any) -> None:
    with pytest.raises(InvalidInput, match="not finite"):
        number_of(value, SAID, "x")
    assert not math.isfinite(number_of(value, SAID, "x", finite=False))


def test_null__where_text_was_due__is_the_default_and_where_a_list_was_due_refused() -> None:
    raw = Fields({"x": None}, SAID)
    assert raw.text("x", "none") == "none"
    with pytest.raises(InvalidInput, match="x is null, which is no list"):
        raw.entries("x")
    with pytest.raises(InvalidInput, match="x is null, which is no object"):
        raw.part("x")


def test_parts__one_entry_is_odd__its_place_is_named() -> None:
    raw = Fields({"data": {"tags": [{"key": "a"}, {"key": 7}]}}, SAID)
    with pytest.raises(InvalidInput) as refused:
        [tag.text("key") for tag in raw.part("data").parts("tags")]
    assert refused.value.message == f"{SAID} cannot be understood: data.tags.1.key is 7, which is no text."
    assert refused.value.field == "data.tags.1.key"


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_storable__any_text__no_nul_and_no_half_characters(text: str) -> None:
    found = storable(text)
    assert len(found) == len(text)
    assert "\x00" not in found
    found.encode()


@given(st.one_of(st.binary(), st.text(alphabet=st.characters(exclude_categories=()))), st.integers(2, 50))
def test_words__anything__one_printable_paragraph_of_bounded_length(said: bytes | str, longest: int) -> None:
    found = words_of(said, longest)
    assert len(found) <= longest
    assert found.isprintable()


def test_shown_value__nested_without_end__is_not_walked_into() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    assert shown_value(value) == "a list"
    assert shown_value(10**5000) == "a number too large to be shown"
    while value:  # Python itself ends so many nested lists one after the other
        value = value[0]


def test_texts_by_name__object__is_its_texts() -> None:
    assert Fields({"labels": {"a": "b", "c\x00": ""}}).texts_by_name("labels") == {"a": "b", "c\ufffd": ""}
    assert Fields({}).texts_by_name("labels") == {}


def test_wholes_by_name__object__is_its_numbers_within_the_bounds() -> None:
    assert Fields({"shares": {"v1": 9_500, "v2": "500"}}).wholes_by_name("shares", least=0, most=10_000) == {
        "v1": 9_500,
        "v2": 500,
    }


@pytest.mark.parametrize("value", [{"v1": 10_001}, {"v1": True}, {"v1": None}, {"v1": []}, [], "no"])
def test_wholes_by_name__anything_else__cannot_be_understood(value: object) -> None:
    with pytest.raises(InvalidInput):
        Fields({"shares": value}).wholes_by_name("shares", least=0, most=10_000)
