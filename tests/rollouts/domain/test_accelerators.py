"""Accelerators: a count and a resource, as clusters name them."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.accelerators import Accelerators


@pytest.mark.parametrize(
    "resource", ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu", "team/Shared_2"]
)
def test_from_json__what_clusters_have__is_read(resource: str) -> None:
    found = Accelerators.from_json({"count": 8, "resource": resource}, field="accelerators")
    assert (found.count, found.resource, str(found)) == (8, resource, f"8 x {resource}")
    assert Accelerators.stored(found.to_json()) == found


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (2, "accelerators"),
        (["nvidia.com/gpu"], "accelerators"),
        ({}, "accelerators.count"),
        ({"count": 0, "resource": "nvidia.com/gpu"}, "accelerators.count"),
        ({"count": 65, "resource": "nvidia.com/gpu"}, "accelerators.count"),
        ({"count": True, "resource": "nvidia.com/gpu"}, "accelerators.count"),
        ({"count": 1.5, "resource": "nvidia.com/gpu"}, "accelerators.count"),
        ({"count": 1}, "accelerators.resource"),
        ({"count": 1, "resource": "gpu"}, "accelerators.resource"),
        ({"count": 1, "resource": "nvidia.com/"}, "accelerators.resource"),
        ({"count": 1, "resource": "nvidia.com/gpu\n"}, "accelerators.resource"),
        ({"count": 1, "resource": "a" * 253 + "/gpu"}, "accelerators.resource"),
        ({"count": 1, "resource": "nvidia.com/gpu", "kind": "H200"}, "accelerators.kind"),
    ],
)
def test_from_json__anything_else__names_the_field(data: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Accelerators.from_json(data, field="accelerators")
    assert caught.value.field == field
    assert caught.value.fix
