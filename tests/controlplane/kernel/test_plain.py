"""What every value from outside must be, whatever it means."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import Unreadable
from controlplane.kernel.plain import DEEPEST, LARGEST, check_plain, check_text, shown

STORABLE = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | STORABLE | st.integers(-LARGEST, LARGEST) | st.floats(-1e18, 1e18),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STORABLE, inner, max_size=3),
    max_leaves=8,
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@given(PLAIN)
def test_check_plain__what_json_and_both_databases_hold__passes(value: Any) -> None:
    check_plain(value)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"steps": [{"name": "a\x00"}]}, "plan.steps[0].name"),
        ({"steps": ["a", "\ud800"]}, "plan.steps[1]"),
        ({"n": float("nan")}, "plan.n"),
        ({"n": float("inf")}, "plan.n"),
        ({"n": 1e308}, "plan.n"),
        ({"n": 10**4_400}, "plan.n"),
        ({"n": -(2**64)}, "plan.n"),
        ({"n": date(2026, 1, 1)}, "plan.n"),
        ({"n": b"a"}, "plan.n"),
        ({"a": {"\x00": 1}}, "plan.a"),
        ({"a": {"\udfff": 1}}, "plan.a"),
        ({"a": {1: 1}}, "plan.a"),
        (nested(DEEPEST + 1), "plan" + "[0]" * (DEEPEST + 1)),
        (nested(5_000), "plan" + "[0]" * (DEEPEST + 1)),
    ],
)
def test_check_plain__what_a_database_refuses__names_the_place(value: Any, field: str) -> None:
    with pytest.raises(Unreadable) as caught:
        check_plain(value, field="plan")
    assert caught.value.field == field
    json.dumps([caught.value.message, caught.value.field]).encode()


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud800", "x\udfffy"])
def test_check_text__nul_or_half_a_pair__says_which_and_where(text: str) -> None:
    with pytest.raises(Unreadable, match=r"name holds (a NUL|half of a surrogate).* \(place [12]\)"):
        check_text(text, field="name")


@given(st.text())
def test_shown__any_text__can_stand_in_an_answer(text: str) -> None:
    assert "\x00" not in shown(text).encode().decode()
    assert len(shown(text)) <= 80
