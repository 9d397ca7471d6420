"""What a route table says without an Envoy: weights of any sum are shares."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.foreign import Fields
from rollouts.adapters.routers.envoy_routes import ASSIGNED, cluster_name, split_in_force


def dump(**weights: int) -> Fields:
    """A route table of the endpoint `chat` with these weights by variant."""
    clusters = [{"name": cluster_name(ASSIGNED, "chat", name), "weight": w} for name, w in weights.items()]
    weighted: dict[str, Any] = {"name": "chat", "route": {"weighted_clusters": {"clusters": clusters}}}
    return Fields({"virtual_hosts": [{"routes": [weighted]}]})


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ({"a": 9_500, "b": 500}, {"a": 9_500, "b": 500}),
        ({"a": 10_000, "b": 0}, {"a": 10_000}),
        ({"a": 50, "b": 50}, {"a": 5_000, "b": 5_000}),
        ({"a": 1, "b": 1, "c": 1}, {"a": 3_334, "b": 3_333, "c": 3_333}),
        ({"a": 60_000, "b": 40_000}, {"a": 6_000, "b": 4_000}),
        ({"a": 1_000_000, "b": 1}, {"a": 10_000}),
        ({"a": 0, "b": 0}, {}),
    ],
)
def test_split_in_force__weights_of_any_sum__are_told_as_shares(
    weights: dict[str, int], shares: dict[str, int]
) -> None:
    found = split_in_force(dump(**weights), "chat")
    assert found is not None
    assert (found.shares, found.named, found.generation) == (shares, frozenset(weights), 0)


def test_split_in_force__another_endpoint__is_none() -> None:
    assert split_in_force(dump(a=10_000), "draw") is None
