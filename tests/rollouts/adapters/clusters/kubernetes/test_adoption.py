"""What is asked before a server is adopted. All else of it is in test_adopting.py."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.kubernetes.client import CONFIG_MAP
from tests.rollouts.adapters.clusters.kubernetes.memory import FreshKind, MemoryObjects, cluster_of
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of
from tests.rollouts.adapters.clusters.kubernetes.test_adopting import somebodys_server

SPEC = spec_of(adopts="llama")


@pytest.fixture
def server() -> MemoryObjects:
    return somebodys_server()


def test_server_for__adopted_a_moment_ago_and_the_watch_is_late__is_refused(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    late = cluster_of(server)
    watches: Any = late._watches
    watches._anchors = FreshKind(MemoryObjects(), CONFIG_MAP)
    with pytest.raises(InvalidInput, match="answers for endpoint chat already"):
        late.ensure(spec_of(adopts="llama", endpoint="llama", variant="llama-v1-aaaa"), token=1)


def test_server_for__variant_that_adopted_it_is_being_deleted__can_be_had(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    metadata = server.objects["ConfigMap", SPEC.variant]["metadata"]
    metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert cluster_of(server).adoptable("llama", "llama") == 2
