"""What a cluster is asked to run: the version's files, and everything that its serving spec says."""

from __future__ import annotations

from dataclasses import fields

import pytest

from registry.domain.manifest import Manifest
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.images import Image
from rollouts.domain.variants import ServingSpec
from rollouts.services.workload_specs import workload_spec

SPEC = ServingSpec(
    engine="another",
    arguments={"max-model-len": 256},
    environment={"OMP_NUM_THREADS": "2"},
    resources={"memory_mb": 3000},
    replicas=3,
    image=Image.stored("registry.example/vllm:1.0"),
    accelerators=Accelerators(2, "nvidia.com/gpu"),
    adopts="llama",
)


@pytest.mark.parametrize("name", [one.name for one in fields(ServingSpec)])
def test_workload_spec__each_part_of_the_serving_spec__reaches_the_cluster(name: str) -> None:
    made = workload_spec(variant="v", endpoint="e", source="s", manifest=Manifest.of([]), spec=SPEC)
    assert getattr(SPEC, name) != getattr(ServingSpec(), name), "what is not set would prove nothing"
    assert getattr(made, name) == getattr(SPEC, name)


def test_workload_spec__variant_endpoint_and_files__are_those_that_were_given() -> None:
    files = Manifest.of([])
    made = workload_spec(
        variant="triage-v2-abc", endpoint="triage", source="models:/m-2", manifest=files, spec=SPEC
    )
    assert (made.variant, made.endpoint, made.source) == ("triage-v2-abc", "triage", "models:/m-2")
    assert made.manifest is files
