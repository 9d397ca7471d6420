"""Which endpoints the real Envoy has, by the real Prometheus, for the router as an installation wires it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rollouts.adapters.routers.gateway_api.endpoints import BLIND_SECONDS
from rollouts.models import Endpoint
from rollouts.ports import FORCED_VARIANT_HEADER, Backend, Route
from tests.kubernetes.edge import API
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.town import ENDPOINT, Town, town_in
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(900),
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes", "prometheus"),
]

ANOTHER = "another"


@pytest.fixture
def town(kubernetes_lab: KubernetesLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    with town_in(kubernetes_lab, "endpoints", tmp_path, monkeypatch) as found:
        yield found


def test_route__proxy_serves_it_and_nobody_counts_its_endpoints__is_in_force_when_they_are_counted(
    town: Town,
) -> None:
    stable = Endpoint.objects.get(name=ENDPOINT).stable
    assert stable is not None
    backend = Backend(stable.name, "service", name=stable.name)
    route = Route(ANOTHER, {stable.name: 10_000}, (backend,), stable.name, api=API)
    headers = {"Host": town.users.host.replace(ENDPOINT, ANOTHER), FORCED_VARIANT_HEADER: stable.name}

    def settled() -> bool:
        town.world.router.apply(route, token=1)
        seen = town.world.router.observe(ANOTHER)
        return seen is not None and seen.settled

    def served() -> bool:
        return httpx.get(f"{town.users.url}/v1/models", headers=headers, trust_env=False).status_code == 200

    town.prometheus.kill()
    begun = time.monotonic()
    assert not settled()
    wait_until("a proxy serves it", served)
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        assert not settled()
        time.sleep(0.2)
    town.prometheus.start()
    wait_until("it is in force", settled, BLIND_SECONDS)
    assert time.monotonic() - begun < BLIND_SECONDS
