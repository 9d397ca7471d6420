"""What the adapter asks of an API server, told answer by answer. All else is tried on a real one (tests/kubernetes)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, Refused, StaleWriter, Unavailable
from controlplane.sealing.keys import KeyRing
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.cluster import KubernetesCluster
from rollouts.adapters.clusters.secrets import SecretStore
from tests.rollouts.adapters.clusters.kubernetes.api_server import ScriptedServer, scripted_server
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import made, spec_of
from tests.rollouts.adapters.clusters.kubernetes.told import MemoryTokens

SPEC = spec_of()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def cluster(server: ScriptedServer) -> KubernetesCluster:
    client = KubernetesClient(server.api_client, "team-a")
    secrets = SecretStore(Path("/nonexistent"), lambda: KeyRing(()))
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    return KubernetesCluster(client, profile_of(), "8d1f2c", clock, secrets, MemoryTokens())


def fence(token: str) -> tuple[int, dict[str, Any]]:
    return 200, {
        "kind": "ConfigMap",
        "metadata": {"name": "fence", "resourceVersion": "3"},
        "data": {"token": token},
    }


def anchor(*, label: str = "8d1f2c", **metadata: Any) -> tuple[int, dict[str, Any]]:
    body = made(SPEC).anchor
    labels = {**body["metadata"]["labels"], "headgate.dev/installation": label}
    return 200, {
        **body,
        "metadata": {**body["metadata"], "labels": labels, "uid": "u1", "resourceVersion": "9", **metadata},
    }


Act = Callable[[KubernetesCluster], None]
acts = pytest.mark.parametrize(
    "act",
    [
        lambda cluster: cluster.ensure(SPEC, token=5),
        lambda cluster: cluster.drain(SPEC.variant, SPEC.endpoint, token=5),
        lambda cluster: cluster.hold_scale_in(SPEC.variant, SPEC.endpoint, on=True, token=5),
    ],
    ids=["ensure", "drain", "hold scale-in"],
)


@acts
@pytest.mark.parametrize("change", [{"label": "of-another"}, {"annotations": {}}])
def test_anchor__of_somebody_else__is_left_alone(
    cluster: KubernetesCluster, server: ScriptedServer, act: Act, change: dict[str, Any]
) -> None:
    server.answers = [anchor(**change)]
    with pytest.raises(Refused, match="not this Headgate's"):
        act(cluster)
    assert {asked.method for asked in server.asked} == {"GET"}


@acts
def test_token__older_than_the_one_that_is_kept__writes_nothing(
    cluster: KubernetesCluster, server: ScriptedServer, act: Act
) -> None:
    server.answers = [anchor(), fence("12")]
    with pytest.raises(StaleWriter):
        act(cluster)
    assert {asked.method for asked in server.asked} == {"GET"}


def test_ensure__while_it_is_being_deleted__is_tried_again_later(
    cluster: KubernetesCluster, server: ScriptedServer
) -> None:
    server.answers = [anchor(deletionTimestamp="2026-01-01T00:00:00Z"), fence("5")]
    with pytest.raises(Unavailable, match="still being deleted"):
        cluster.ensure(SPEC, token=5)


def test_ensure__while_somebody_keeps_it_from_being_deleted__says_who(
    cluster: KubernetesCluster, server: ScriptedServer
) -> None:
    kept: dict[str, Any] = {
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["team.example/backup"],
    }
    server.answers = [anchor(**kept), fence("5")]
    with pytest.raises(Unavailable, match=r"finalizers are taken off: team\.example/backup") as caught:
        cluster.ensure(SPEC, token=5)
    assert (
        caught.value.fix == "It is tried again. Where whoever set a finalizer is gone, take it off by hand."
    )


def test_drain__of_another_endpoint__names_the_field(
    cluster: KubernetesCluster, server: ScriptedServer
) -> None:
    server.answers = [anchor(), fence("5")]
    with pytest.raises(InvalidInput) as caught:
        cluster.drain(SPEC.variant, "other", token=5)
    assert caught.value.field == "endpoint"
