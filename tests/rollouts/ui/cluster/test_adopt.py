"""The form that adopts a server: what is asked, what is refused, and who may."""

from __future__ import annotations

from typing import Any, cast

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.access.roles import Role
from controlplane.kernel.clock import ManualClock
from rollouts import wiring
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.domain.belongings import Belongings, ModelServer
from rollouts.models import Cluster, Endpoint
from rollouts.services.commands.endpoints import ensure_cluster
from tests import factories
from tests.rollouts.ui.conftest import SignIn
from tests.rollouts.worlds import world_in_memory, worlds_of

pytestmark = pytest.mark.django_db
ADDRESS = "/clusters/here/adopt/llama"
FIT = ModelServer("Deployment llama", "vllm/vllm-openai:v1", "meta/llama support", "Helm", 2, 2)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> MemoryCluster:
    """A cluster on which a server answers to the name `support`, and all else that an endpoint needs."""
    now = factories.right_now()
    factories.model(now=now)
    factories.gate_policy()
    factories.golden_set()
    ensure_cluster(name="here")
    keep(FIT)
    world = world_in_memory(ManualClock(now))
    made = cast(MemoryCluster, world.cluster)
    made.servers = (ModelServer("Deployment llama", "vllm/vllm-openai:v1", "support"),)
    monkeypatch.setattr(wiring, "worlds", lambda: worlds_of(world))
    return made


def keep(*servers: ModelServer) -> None:
    """As the last look at the cluster found them."""
    found = Belongings(factories.right_now().timestamp(), (), servers)
    Cluster.objects.filter(name="here").update(belongings=found.to_json())


def sent(**changes: str) -> dict[str, str]:
    return {
        "endpoint": "support",
        "version": "triage v1",
        "gate_policy": "triage-default",
        "golden_set": "tickets",
    } | changes


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


def test_page__asks_which_version_it_serves_and_offers_its_own_names(
    cluster: MemoryCluster, manager: Client
) -> None:
    text = text_of(manager.get(ADDRESS))
    for option in ("meta/llama", "support", "triage v1", "triage-default@1", "tickets"):
        assert f"<option>{option}</option>" in text
    assert "it does not restart" in text


def test_send__sound__makes_the_endpoint_with_the_server_as_its_baseline(
    cluster: MemoryCluster, manager: Client
) -> None:
    response = manager.post(ADDRESS, sent())
    assert (response.status_code, response["Location"]) == (303, "/endpoints/support")
    stable = Endpoint.objects.get(name="support").stable
    assert stable is not None
    assert (stable.spec.adopts, stable.version.number) == ("llama", 1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"endpoint": "meta/llama"}, "endpoint"),
        ({"version": ""}, "version"),
        ({"version": "triage v" + "9" * 5_000}, "version"),
        ({"gate_policy": "unknown"}, "gate_policy"),
        ({"golden_set": ""}, "golden_set"),
    ],
)
def test_send__wrong_field__is_marked_and_what_was_chosen_stays(
    cluster: MemoryCluster, manager: Client, changes: dict[str, str], field: str
) -> None:
    response = manager.post(ADDRESS, sent(**changes))
    text = text_of(response)
    assert response.status_code == 400
    assert f'id="{field}-problem"' in text
    assert not Endpoint.objects.exists()
    if field != "version":
        assert "<option selected>triage v1</option>" in text


def test_send__server_that_does_not_fit_any_more__says_what_its_owner_can_do(
    cluster: MemoryCluster, manager: Client
) -> None:
    cluster.servers = (ModelServer("Deployment llama", "x", "support", unfit="Give it a readinessProbe."),)
    response = manager.post(ADDRESS, sent())
    assert response.status_code == 400
    assert "Give it a readinessProbe." in text_of(response)
    assert not Endpoint.objects.exists()


def test_send__what_can_name_no_deployment__is_not_asked_of_the_cluster(
    cluster: MemoryCluster, manager: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(cluster, "adoptable", lambda server, endpoint: asked.append(server))
    assert manager.post("/clusters/here/adopt/A%3Fb", sent()).status_code == 404
    assert asked == []
    assert not Endpoint.objects.exists()


def test_send__version_that_is_gone__is_said_above_the_form(cluster: MemoryCluster, manager: Client) -> None:
    response = manager.post(ADDRESS, sent(version="triage v77"))
    assert response.status_code == 404
    assert "Not adopted." in text_of(response)


def test_page__server_that_nobody_saw__is_404(cluster: MemoryCluster, manager: Client) -> None:
    keep()
    assert manager.get(ADDRESS).status_code == 404


def test_page__that_did_not_fit_at_the_last_look__warns(cluster: MemoryCluster, manager: Client) -> None:
    keep(ModelServer("Deployment llama", "x", "support", unfit="It has no <b>probe</b>."))
    assert "It has no &lt;b&gt;probe&lt;/b&gt;." in text_of(manager.get(ADDRESS))


@pytest.mark.parametrize("role", [Role.VIEWER])
def test_page__who_may_not_make_an_endpoint__is_refused(
    cluster: MemoryCluster, sign_in: SignIn, role: Role
) -> None:
    assert sign_in(role).get(ADDRESS).status_code == 403
    assert sign_in(role).post(ADDRESS, sent()).status_code == 403
    assert not Endpoint.objects.exists()


def test_page_of_the_cluster__leads_there__and_says_of_others_why_not(
    cluster: MemoryCluster, manager: Client, viewer: Client
) -> None:
    keep(FIT, ModelServer("Deployment other", "x", "y", unfit="It has no pod that is ready."))
    text = text_of(manager.get("/clusters/here"))
    assert f'href="{ADDRESS}"' in text
    assert "It has no pod that is ready." in text
    assert f'href="{ADDRESS}"' not in text_of(viewer.get("/clusters/here"))


def test_page__many_to_choose_from__costs_the_same_queries(cluster: MemoryCluster, manager: Client) -> None:
    def cost() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            manager.get(ADDRESS)
        return len(queries)

    before = cost()
    for number in range(3):
        factories.golden_set(f"more-{number}")
        keep(FIT, ModelServer(f"Deployment more-{number}", "x"))
    assert cost() == before


def test_page_of_the_endpoint__adopted__says_so_and_that_no_file_was_compared(
    cluster: MemoryCluster, manager: Client
) -> None:
    manager.post(ADDRESS, sent())
    text = text_of(manager.get("/endpoints/support"))
    assert "Adopted server" in text
    assert "llama, as its owner started it; its files were not compared with the version" in text
