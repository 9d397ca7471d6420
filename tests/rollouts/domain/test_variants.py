"""Variants: named by what they are, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.record.intervals import ArmCounts, Interval, LatencyCounts, ProbePair
from rollouts.domain.variants import ServingSpec, variant_digest, variant_name

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
    ],
)
def test_digest__any_other_content__differs(other: ServingSpec) -> None:
    digests = {
        variant_digest(manifest_digest=m, spec=s) for m in ("sha256:aa", "sha256:bb") for s in (SPEC, other)
    }
    assert len(digests) == 4


def test_name__holds_endpoint_version_and_hash() -> None:
    assert variant_name(endpoint="chat", version=15, digest="sha256:3f9a1c77") == "chat-v15-3f9a1c"


def test_spec__to_json_and_back__is_the_same() -> None:
    assert ServingSpec.from_json(SPEC.to_json()) == SPEC


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
