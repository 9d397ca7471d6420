"""Hypothesis writes a strategy out in full when it has something to say of a test, and raises when that is too long: a
test would fail for that, and not for what it is about."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis.strategies import SearchStrategy

from tests.fuzz import odd as fuzz
from tests.standins.odd import odd_bodies, odd_metrics, odd_values

LONGEST = 30_000  # `hypothesis.internal.reflection.repr_call` warns beyond that


@pytest.mark.parametrize(
    "strategy",
    [
        odd_bodies({"a": [1]}),
        odd_values({"a": [1]}),
        odd_metrics("requests 1"),
        fuzz.texts,
        fuzz.json_values,
        fuzz.paths,
    ],
)
def test_strategy__of_long_values__is_told_in_short(strategy: SearchStrategy[Any]) -> None:
    assert len(repr(strategy)) < LONGEST
