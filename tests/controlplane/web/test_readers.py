"""Numbers and texts of queries and forms: what is one, how large it may be, and that the field is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from controlplane.web.readers import moment_or_none, text, whole_number, whole_number_or_none

ODD = ["x", "nan", "inf", "-1", "1e308", "9" * 5_000, "²", "٣", "0x10", "1_0", "[" * 9, "\U0001f600"]


@pytest.mark.parametrize(
    ("raw", "value"), [("", None), (" ", None), ("0", 0), (" 7 ", 7), ("2147483647", 2**31 - 1)]
)
def test_whole_number_or_none__in_range__is_read(raw: str, value: int | None) -> None:
    assert whole_number_or_none({"version": raw}, "version") == value


@pytest.mark.parametrize("raw", [*ODD, "1.5", "2147483648"])
def test_whole_number_or_none__anything_else__names_the_field(raw: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        whole_number_or_none({"version": raw}, "version")
    assert caught.value.field == "version"


def test_whole_number__missing__names_the_field() -> None:
    with pytest.raises(InvalidInput, match="expected_version is missing") as caught:
        whole_number({}, "expected_version")
    assert caught.value.field == "expected_version"


@pytest.mark.parametrize(("raw", "value"), [("", None), ("7", 7.0), ("1.5", 1.5), ("1e9", 1e9)])
def test_moment_or_none__seconds__are_read(raw: str, value: float | None) -> None:
    assert moment_or_none({"since": raw}, "since") == value


@pytest.mark.parametrize(
    "raw", [one for one in ODD if one not in ("٣", "1_0")]
)  # those are floats for Python
def test_moment_or_none__anything_else__names_the_field(raw: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        moment_or_none({"since": raw}, "since")
    assert caught.value.field == "since"


def test_text__longer_than_it_may_be__is_refused_and_not_cut() -> None:
    assert text({"why": " because "}, "why", longest=7) == "because"
    with pytest.raises(InvalidInput) as caught:
        text({"why": "because!"}, "why", longest=7)
    assert caught.value.field == "why"


@given(st.text(), st.sampled_from([whole_number, whole_number_or_none, moment_or_none]))
def test_reader__any_text__is_a_number_in_range_or_invalid_input(
    raw: str, reader: Callable[..., Any]
) -> None:
    try:
        value = reader({"n": raw}, "n")
    except InvalidInput as error:
        value, field = None, error.field
    else:
        field = "n"
    assert field == "n"
    assert value is None or 0 <= value < 2.6e11
