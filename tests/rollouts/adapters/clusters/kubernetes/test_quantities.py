"""Amounts as Kubernetes writes them."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import Fields
from rollouts.adapters.clusters.kubernetes.quantities import MOST_RESOURCES, amounts, thousandths


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("0", 0),
        ("1", 1_000),
        (2, 2_000),
        ("100m", 100),
        ("1.5", 1_500),
        (".5", 500),
        ("5.", 5_000),
        ("1500m", 1_500),
        ("8Gi", 8 * 2**30 * 1_000),
        ("128974848", 128_974_848_000),
        ("129e6", 129_000_000_000),
        ("1E3", 1_000_000),
        ("129M", 129_000_000_000),
        ("1E", 10**21),
        ("7Ti", 7 * 2**40 * 1_000),
        ("+3", 3_000),
        ("2k", 2_000_000),
    ],
)
def test_amount__as_kubernetes_writes_it__is_read(written: object, expected: int) -> None:
    assert thousandths(written, "It", up=True) == thousandths(written, "It", up=False) == expected


def test_amount__finer_than_thousandths__is_rounded_to_the_safe_side() -> None:
    assert (thousandths("1500u", "It", up=True), thousandths("1500u", "It", up=False)) == (2, 1)
    assert (thousandths("1n", "It", up=True), thousandths("1n", "It", up=False)) == (1, 0)


@pytest.mark.parametrize(
    "written",
    [
        "", "much", "-1", "-0.5Gi", "1 Gi", "1gi", "1ki", "0x10", "1e", "1e999", "9" * 41, "99999E", "NaN", "Infinity",
        "1_000", "٣", "1\n", None, True, 1.5, [], {},
    ],
)  # fmt: skip
def test_amount__anything_else__is_refused(written: object) -> None:
    with pytest.raises(InvalidInput, match="It cannot be understood"):
        thousandths(written, "It", up=True)


def test_amounts__by_name__are_read() -> None:
    raw = Fields({"allocatable": {"cpu": "8", "nvidia.com/gpu": 4}})
    assert amounts(raw, "allocatable", "It", up=False) == {"cpu": 8_000, "nvidia.com/gpu": 4_000}
    assert amounts(raw, "capacity", "It", up=False) == {}


@pytest.mark.parametrize(
    "odd", [[], "8", {"cpu": [8]}, {"cpu": None}, {f"r{n}": "1" for n in range(MOST_RESOURCES + 1)}]
)
def test_amounts__odd_object__is_refused(odd: Any) -> None:
    with pytest.raises(InvalidInput):
        amounts(Fields({"allocatable": odd}), "allocatable", "It", up=False)
