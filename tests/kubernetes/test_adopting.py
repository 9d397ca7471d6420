"""A server that ran before Headgate came, on the real control plane and the real gateway: it becomes the baseline under
traffic, a rollout replaces it, and nothing is ever written to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from controlplane.timekeeping.database_clock import CLOCK
from rollouts.adapters.clusters.kubernetes.client import DEPLOYMENTS, POD
from rollouts.domain.lifecycle.plan import canary
from rollouts.models import Endpoint, Rollout, Workload
from rollouts.services.commands.start import start_rollout
from tests.kubernetes.lab import ENGINE, KubernetesLab
from tests.kubernetes.town import ENDPOINT, Town, town_in

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(900),
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes", "prometheus"),
]

PER_SECOND = 100.0
SIGMAS = 5.0
SERVER = "somebodys"
PLAN = replace(
    canary((50,), hold_seconds=8, min_requests=100, watch_seconds=4), launch_seconds=120, no_data_seconds=60
)
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_numbers = count(1)


def deployment() -> dict[str, Any]:
    """As a team wrote it for itself: two replicas, a port and a container name of its own."""
    container = {
        "name": "model",
        "image": f"{ENGINE}@sha256:{'0' * 64}",
        "command": ["vllm", "serve"],
        "args": ["/models/x", "--served-model-name", "meta/llama", ENDPOINT, "--port=9000"],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 9000}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": SERVER},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": SERVER}},
            "template": {"metadata": {"labels": {"app": SERVER}}, "spec": {"containers": [container]}},
        },
    }


@pytest.fixture
def town(kubernetes_lab: KubernetesLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    name = f"adopts{next(_numbers)}"
    with town_in(kubernetes_lab, name, tmp_path, monkeypatch, server=deployment()) as found:
        yield found


def as_it_is(town: Town) -> tuple[Any, ...]:
    """What nobody changed as long as it stays the same: the server's generation, its labels, who wrote it, its pods."""
    found = town.admin.get(DEPLOYMENTS, SERVER)
    assert found is not None
    metadata = found["metadata"]
    pods = town.admin.list(POD, f"app={SERVER}")[0]
    return (
        metadata["generation"],
        metadata.get("labels"),
        sorted({one["manager"] for one in metadata["managedFields"]}),
        sorted((pod["metadata"]["uid"], str(pod["metadata"]["labels"])) for pod in pods),
    )


def ended(rollout: Rollout) -> Rollout:
    return Rollout.objects.get(pk=rollout.pk)


def test_server_of_somebody__adopted_and_replaced_under_traffic__loses_nothing_and_is_left_as_it_was(
    town: Town,
) -> None:
    before = as_it_is(town)
    adopted = Endpoint.objects.get(name=ENDPOINT).stable
    assert adopted is not None
    assert (town.world.cluster.statuses()[adopted.name].ready, town.weights()) == (2, {adopted.name: 10_000})
    with town.users.coming(PER_SECOND):
        rollout = start_rollout(
            endpoint=Endpoint.objects.get(name=ENDPOINT), version_number=2, plan=PLAN,
            worlds=town.worlds, actor=town.manager, now=CLOCK.now(),
        )  # fmt: skip
        candidate = rollout.candidate.name
        town.until("half is moved", lambda: town.weights() == {adopted.name: 5_000, candidate: 5_000})
        begun = town.users.seen()
        town.until("some requests came", lambda: (town.users.seen() - begun).total() > 400)
        drawn = town.users.seen() - begun
        town.until("it is over", lambda: ended(rollout).phase in ("succeeded", "rolled-back"))
        town.until("it was let go", lambda: adopted.name not in town.world.cluster.statuses())
    assert ended(rollout).phase == "succeeded", ended(rollout).reason
    assert town.users.lost == []
    assert abs(drawn[candidate] - drawn.total() / 2) <= SIGMAS * math.sqrt(drawn.total() * 0.25)
    assert town.weights() == {candidate: 10_000}
    assert as_it_is(town) == before
    (server,) = town.world.cluster.belongings().servers
    assert (server.where, server.unfit, server.ready) == (f"Deployment {SERVER}", "", 2)


def test_adopted_baseline__pods_replaced_and_scaled_by_its_owner__loses_nothing(town: Town) -> None:
    adopted = Endpoint.objects.get(name=ENDPOINT).stable
    assert adopted is not None

    def ready() -> int:
        return Workload.objects.get(variant=adopted).ready

    town.until("both are ready", lambda: ready() == 2)
    with town.users.coming(PER_SECOND):
        town.admin.scale(DEPLOYMENTS, SERVER, 3)
        town.until("three are ready", lambda: ready() == 3)
        seen = town.users.seen()
        town.until("some requests came", lambda: (town.users.seen() - seen).total() > 200)
    assert town.users.lost == []
    assert Workload.objects.get(variant=adopted).drift == ""


def test_adopted_server__for_another_endpoint__is_refused(town: Town) -> None:
    with pytest.raises(InvalidInput, match=f"answers for endpoint {ENDPOINT} already"):
        town.world.cluster.adoptable(SERVER, "other")
