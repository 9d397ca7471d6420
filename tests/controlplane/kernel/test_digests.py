"""Digests do not depend on how a value was spelled or stored."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.digests import canonical_json, digest_of


def test_canonical_json__keys_in_any_order__same_bytes() -> None:
    assert canonical_json({"b": 1, "a": [2]}) == canonical_json({"a": [2], "b": 1}) == b'{"a":[2],"b":1}'


@pytest.mark.parametrize(("number", "stored"), [(1e17, 100_000_000_000_000_000), (5.0, 5), (-0.0, 0)])
def test_digest__number_that_a_database_stores_by_value__is_the_same(number: float, stored: int) -> None:
    assert digest_of({"deep": [{"x": number}]}) == digest_of({"deep": [{"x": stored}]})


def test_digest__numbers_that_differ__differ() -> None:
    assert digest_of(0.1) != digest_of(0.1000000001)


def test_canonical_json__not_a_number__is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json([float("nan")])


@pytest.mark.parametrize("value", [1e23, 1.7e299, 123456789012345678901234567890.0])
def test_digest__of_a_huge_number__survives_a_database_that_stores_it_by_value(value: float) -> None:
    stored = int(Decimal(repr(value)))  # what PostgreSQL's jsonb gives back
    assert stored != int(value)
    assert digest_of({"e": stored}) == digest_of({"e": value})


def test_digest__of_a_number_that_no_float_holds__is_exact() -> None:
    assert digest_of(10**400) != digest_of(10**400 + 1)


LEAVES = (
    st.none()
    | st.booleans()
    | st.text(max_size=5)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


@given(VALUES)
def test_canonical_json__any_value__means_what_it_meant_with_whole_numbers_written_whole(value: Any) -> None:
    read = json.loads(canonical_json(value))

    assert read == nearest(value)
    assert canonical_json(read) == canonical_json(value)
    assert not any(isinstance(number, float) and number.is_integer() for number in numbers(read))


def nearest(value: Any) -> Any:
    """With whole numbers that no float holds exactly as the float nearest to them."""
    if isinstance(value, dict):
        return {key: nearest(item) for key, item in value.items()}
    if isinstance(value, list):
        return [nearest(item) for item in value]
    beyond = isinstance(value, int) and 2**53 < abs(value) < 10**308
    return int(float(value)) if beyond else value


def numbers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return numbers(list(value.values()))
    return [one for item in value for one in numbers(item)] if isinstance(value, list) else [value]
