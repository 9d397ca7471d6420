"""Variants: named by what they are, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.images import Image
from rollouts.domain.record.intervals import ArmCounts, Interval, LatencyCounts, ProbePair
from rollouts.domain.variants import ServingSpec, variant_digest, variant_name

IMAGE = Image("registry.example/vllm", "v1", "sha256:" + "0" * 64)
SPEC = ServingSpec(arguments={"max-model-len": 256, "dtype": "bfloat16"}, environment={"A": "1"})


def test_digest__same_content_in_another_order__is_the_same() -> None:
    turned = ServingSpec(arguments={"dtype": "bfloat16", "max-model-len": 256}, environment={"A": "1"})
    assert variant_digest(manifest_digest="sha256:aa", spec=SPEC) == variant_digest(
        manifest_digest="sha256:aa", spec=turned
    )


@pytest.mark.parametrize(
    "other",
    [
        ServingSpec(engine="other"),
        ServingSpec(arguments={"max-model-len": 512}),
        ServingSpec(environment={"A": "2"}),
        ServingSpec(resources={"memory_mb": 3}),
        ServingSpec(replicas=2),
        ServingSpec(image=IMAGE),
        ServingSpec(accelerators=Accelerators(1, "nvidia.com/gpu")),
        ServingSpec(adopts="llama"),
    ],
)
def test_digest__any_other_content__differs(other: ServingSpec) -> None:
    digests = {
        variant_digest(manifest_digest=m, spec=s) for m in ("sha256:aa", "sha256:bb") for s in (SPEC, other)
    }
    assert len(digests) == 4


def test_name__holds_endpoint_version_and_hash() -> None:
    assert variant_name(endpoint="chat", version=15, digest="sha256:3f9a1c77") == "chat-v15-3f9a1c"


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        replace(SPEC, image=IMAGE, accelerators=Accelerators(2, "nvidia.com/gpu")),
        ServingSpec(adopts="llama.v1"),
    ],
)
def test_spec__to_json_and_back__is_the_same(spec: ServingSpec, stored: bool) -> None:
    assert ServingSpec.from_json(spec.to_json(), stored=stored) == spec


@pytest.mark.parametrize(
    ("stored", "digest"),
    [
        (
            {"engine": "vllm", "arguments": {}, "environment": {}, "resources": {}, "replicas": 1},
            "sha256:bc2649bac77da862a64c38c5867ca3e82af9f24134d0c39c27cdaa729c151820",
        ),
        (
            {
                "engine": "vllm",
                "arguments": {"max-model-len": 256},
                "environment": {"OMP_NUM_THREADS": "2"},
                "resources": {"memory_mb": 3000},
                "replicas": 2,
            },
            "sha256:f35ab39164970ccb2bf319238d10f725a98be25b3117bbb98c3c49ec227974f0",
        ),
    ],
)
def test_digest__of_a_variant_from_before_there_were_images__is_as_it_was(
    stored: dict[str, Any], digest: str
) -> None:
    """Another digest would be another variant: everything that runs would be launched once more."""
    spec = ServingSpec.from_json(stored, stored=True)
    assert variant_digest(manifest_digest="sha256:aa", spec=spec) == digest
    assert spec.to_json() == stored


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"enginee": "vllm"}, "serving.enginee"),
        ({"arguments": ["a"]}, "serving.arguments"),
        ({"arguments": {"a": [1]}}, "serving.arguments.a"),
        ({"environment": "A=1"}, "serving.environment"),
        ({"replicas": 0}, "serving.replicas"),
        ({"replicas": True}, "serving.replicas"),
        ({"replicas": "2"}, "serving.replicas"),
        ({"resources": {"memory_mb": "much"}}, "serving.resources.memory_mb"),
        ({"image": ""}, "serving.image"),
        ({"image": {"name": "vllm"}}, "serving.image"),
        ({"accelerators": 1}, "serving.accelerators"),
        ({"accelerators": {"count": 0, "resource": "nvidia.com/gpu"}}, "serving.accelerators.count"),
        ({"accelerators": {"count": 1}}, "serving.accelerators.resource"),
    ],
)
def test_spec__bad_input__names_the_field(data: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ServingSpec.from_json(data)
    assert caught.value.field == field


def test_interval__to_json_and_back__is_the_same() -> None:
    counts = ArmCounts(
        10, 2, 11, 1.5, {"ttft": LatencyCounts(8, {0.1: 3, 0.25: 1})}, answers=8, thumbs_down=2, ratings=3
    )
    made = Interval(
        index=7,
        started_at=12.5,
        seconds=5.0,
        share_bp=2_500,
        arms={"baseline": counts, "candidate": counts},
        pairs={"candidate": (ProbePair("3", 1.0, 0.5),)},
        missing={"probes": "nobody answered"},
        broken={"router": "down"},
    )
    assert Interval.from_json(made.to_json()) == made


# --- a server that is adopted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Llama", "a/b", "-llama", "a" * 254, "llama\n", 7, ["llama"], {"a": 1}, 0, False, [], {}]
)
def test_adopts__no_name_of_a_deployment__names_the_field(name: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        ServingSpec.from_json({"adopts": name})
    assert caught.value.field == "serving.adopts"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("arguments", {"max-model-len": 256}),
        ("environment", {"A": "1"}),
        ("resources", {"memory_mb": 3}),
        ("image", "registry.example/vllm:v1"),
        ("accelerators", {"count": 1, "resource": "nvidia.com/gpu"}),
        ("replicas", 2),
    ],
)
def test_adopts__with_anything_that_is_its_owners__names_that(part: str, value: object) -> None:
    with pytest.raises(InvalidInput, match="as its owner started it") as caught:
        ServingSpec.from_json({"adopts": "llama", part: value})
    assert caught.value.field == f"serving.{part}"


def test_adopts__stored_with_its_owners_replicas__is_read_as_it_was() -> None:
    spec = ServingSpec(adopts="llama", replicas=3)
    assert ServingSpec.from_json(spec.to_json(), stored=True) == spec
    assert spec.to_launch == ServingSpec(replicas=3)


def test_to_launch__of_an_adopted_one__is_launched_by_headgate() -> None:
    assert ServingSpec(adopts="llama").to_launch == ServingSpec()
    assert SPEC.to_launch is SPEC
