"""What an anchor keeps, and how much of it a cluster takes."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.kubernetes.container import CONTAINER_ENGINES
from rollouts.adapters.clusters.kubernetes.objects import check_launch
from rollouts.adapters.clusters.kubernetes.record import MOST_BYTES
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import made, spec_of


def spec_with(*names: str) -> Any:
    return spec_of(manifest=Manifest.of(ManifestEntry(name, 1, "aa" * 32) for name in names))


def size_of(spec: Any) -> int:
    """As the API server counts: the values of the ConfigMap in UTF-8, all together."""
    return sum(len(value.encode()) for value in made(spec).anchor["data"].values())


def full(*, over: int) -> Any:
    """A spec whose anchor has this many bytes more than a ConfigMap holds; some letters have several."""
    names = [f"{'ü' * 500}/{number:03}" for number in range(900)]
    left = MOST_BYTES - size_of(spec_with(*names, "n")) + over
    assert left >= 0
    return spec_with(*names, "n" * (left + 1))


def test_objects__of_as_many_bytes_as_a_config_map_holds__are_made() -> None:
    assert size_of(full(over=0)) == MOST_BYTES == 1_048_576


def test_objects__of_one_byte_more__are_refused_before_anything_is_made() -> None:
    with pytest.raises(InvalidInput) as caught:
        made(full(over=1))
    assert caught.value.field == "version"
    assert caught.value.message.startswith(
        "What the cluster keeps of chat-v7-3f9a1c has 1,048,577 bytes, and a ConfigMap holds 1,048,576: the list of the"
        " version's 901 files has "
    )
    assert caught.value.fix


def test_check_launch__of_one_byte_more__says_the_same() -> None:
    check_launch(full(over=0), profile_of(), installation="8d1f2c", engines=CONTAINER_ENGINES)
    with pytest.raises(InvalidInput, match="1,048,577 bytes"):
        check_launch(full(over=1), profile_of(), installation="8d1f2c", engines=CONTAINER_ENGINES)
