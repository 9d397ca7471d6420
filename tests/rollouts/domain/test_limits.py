"""What a cluster can give, and how it refuses what it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.images import Image
from rollouts.domain.limits import Limits

NOTHING = Limits()
SOME = Limits(
    resources=frozenset({"memory_mb"}),
    replicas=4,
    images=frozenset({"registry.example/vllm"}),
    accelerators=frozenset({"nvidia.com/gpu"}),
)
ASKS: dict[str, Any] = {"resources": (), "replicas": 1, "image": None, "accelerators": None}


def refusal(limits: Limits, **asked: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        limits.check(**{**ASKS, **asked}, prefix="serving.")
    return caught.value


def test_check__nothing_asked__is_fine() -> None:
    NOTHING.check(**ASKS)


def test_check__what_it_gives__is_fine() -> None:
    SOME.check(
        resources=["memory_mb"],
        replicas=4,
        image=Image("registry.example/vllm", "v1"),
        accelerators=Accelerators(8, "nvidia.com/gpu"),
    )


def test_check__another_image__names_those_that_it_has() -> None:
    found = refusal(SOME, image=Image("registry.example/vllm-evil", "v1"))
    assert (found.field, found.message) == (
        "serving.image",
        "This cluster starts no engine from the image registry.example/vllm-evil.",
    )
    assert found.fix == "Leave it out, or use one of: registry.example/vllm."


def test_check__image_where_there_are_none__says_so() -> None:
    found = refusal(NOTHING, image=Image("registry.example/vllm", "v1"))
    assert (found.field, found.message) == (
        "serving.image",
        "This cluster starts no engine from a container image.",
    )
    assert found.fix == "Leave it out, or serve the endpoint on another cluster."


def test_check__another_accelerator__names_those_that_it_has() -> None:
    found = refusal(SOME, accelerators=Accelerators(1, "amd.com/gpu"))
    assert (found.field, found.message) == (
        "serving.accelerators.resource",
        "This cluster gives an engine no amd.com/gpu to itself.",
    )
    assert found.fix == "Leave it out, or use one of: nvidia.com/gpu."


def test_check__accelerators_where_there_are_none__says_so() -> None:
    found = refusal(NOTHING, accelerators=Accelerators(1, "nvidia.com/gpu"))
    assert (found.field, found.message) == (
        "serving.accelerators",
        "This cluster gives an engine no accelerators to itself.",
    )


@pytest.mark.parametrize(
    ("asked", "field"),
    [({"replicas": 5}, "serving.replicas"), ({"resources": ["tpu"]}, "serving.resources.tpu")],
)
def test_check__more_than_it_gives__names_the_field(asked: dict[str, Any], field: str) -> None:
    assert refusal(SOME, **asked).field == field


def test_check__server_where_none_is_adopted__names_the_field() -> None:
    assert refusal(NOTHING, adopts="llama").field == "serving.adopts"
    Limits(adopts=True).check(**ASKS, adopts="llama")
