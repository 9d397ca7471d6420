"""What is refused of a serving spec on a cluster with this profile."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.kubernetes.container import CONTAINER_ENGINES
from rollouts.adapters.clusters.kubernetes.names import LONGEST_LABEL, object_name
from rollouts.adapters.clusters.kubernetes.spec_checks import check_spec
from rollouts.domain.accelerators import Accelerators
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of

HASH = "7d9f8c6b5f"  # the longest
KEDA = {"kind": "keda", "prometheus": "http://prometheus:9090"}


def refused_field(variant: str, count: int, *, replicas: int = 1, **profile: Any) -> str:
    """The field that is refused; empty: nothing is."""
    spec = spec_of(variant=variant, accelerators=Accelerators(count, "nvidia.com/gpu"), replicas=replicas)
    try:
        check_spec(spec, profile_of(accelerators_per_node=8, replicas=64, **profile), CONTAINER_ENGINES)
    except InvalidInput as error:
        return error.field
    return ""


@given(st.integers(1, 70), st.integers(1, 64), st.none() | st.integers(1, 64))
def test_check_spec__group_of_any_length__is_refused_just_where_a_label_would_be_too_long(
    length: int, replicas: int, added: int | None
) -> None:
    """A label of a group's pods is the name of their StatefulSet, one a replica, with a hash of the revision."""
    variant = "v" * length
    more: dict[str, Any] = {} if added is None else {"autoscaler": {**KEDA, "most": added}}
    last = max(replicas, added or 1) - 1
    fits = len(f"{object_name(variant)}-{last}-{HASH}") <= LONGEST_LABEL
    assert refused_field(variant, 16, replicas=replicas, **more) == ("" if fits else "accelerators.count")


def test_check_spec__long_name_on_one_node__is_taken() -> None:
    assert refused_field("v" * 52, 8, replicas=64) == ""


def test_check_spec__group_with_a_long_name__says_how_long_it_may_be_and_what_to_do() -> None:
    spec = spec_of(variant="v" * 52, accelerators=Accelerators(16, "nvidia.com/gpu"))
    with pytest.raises(InvalidInput, match=r"at most 50 characters, and v{52} has 52") as caught:
        check_spec(spec, profile_of(accelerators_per_node=8), CONTAINER_ENGINES)
    assert caught.value.fix == "Ask for at most 8, or use an endpoint with a shorter name."
