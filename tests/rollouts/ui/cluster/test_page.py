"""The page of a cluster: what may be set, and what the operator added."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from rollouts.domain.belongings import Belongings, LaunchFound, ModelServer, Orphan
from rollouts.models import Cluster, Workload
from tests import factories
from tests.rollouts.conftest import Declare
from tests.rollouts.ui.conftest import HTMX

pytestmark = pytest.mark.django_db


def test_page__cluster__lists_options_in_words_and_warns_of_nothing(viewer: Client) -> None:
    factories.endpoint()
    text = viewer.get("/clusters/here").content.decode()
    assert "max-num-seqs" in text
    assert "a whole number from 1 to 100000" in text
    assert "Requests that are computed at the same time." in text
    assert "VLLM_LOGGING_LEVEL" in text
    assert "The operator widened" not in text


def test_page__operator_widened_an_engine__warns_naming_what(viewer: Client, declare: Declare) -> None:
    factories.endpoint()
    option = {"kind": "text", "pattern": "[a-z.]+", "help": "Which <b>scheduler</b>."}
    declare(
        vllm={"arguments": {"scheduler-cls": option}, "environment": {"HTTPS_PROXY": "http://user:pw@x:1"}}
    )
    text = viewer.get("/clusters/here").content.decode()
    assert "The operator widened vllm." in text
    assert "<li>argument scheduler-cls</li>" in text
    assert "<li>variable HTTPS_PROXY, always set</li>" in text
    assert "user:pw" not in text
    assert "&lt;b&gt;scheduler" in text


def test_page__declarations_cannot_be_read__says_so_and_the_remedy(viewer: Client, declare: Declare) -> None:
    factories.endpoint()
    declare(mine={"argv": []})
    response = viewer.get("/clusters/here")
    assert response.status_code == 200
    assert "No engine can be launched." in response.content.decode()


def test_page__configuration_with_objects__shows_each_value_by_its_whole_name(viewer: Client) -> None:
    configuration = {
        "gateways": ["edge/a", "edge/b"],
        "profile": {"weights": {"kind": "claim"}, "replicas": 8},
    }
    Cluster.objects.create(name="munich", kind="kubernetes", configuration=configuration, secret="munich")
    text = " ".join(viewer.get("/clusters/munich").content.decode().split())
    for name, value in (
        ("gateways", "edge/a, edge/b"),
        ("profile.weights.kind", "claim"),
        ("profile.replicas", "8"),
        ("secret file", "munich"),
    ):
        assert re.search(f">{name}</th><td[^>]*>{value}</td>", text), (name, value)


def test_page__unknown_cluster__is_404(viewer: Client) -> None:
    assert viewer.get("/clusters/nowhere").status_code == 404


def test_page__htmx__is_the_fragment(viewer: Client) -> None:
    factories.endpoint()
    text = viewer.get("/clusters/here", headers=HTMX).content.decode()
    assert text.strip().startswith('<div class="stack" id="cluster">')


def test_pages_of_endpoint_and_new_rollout__lead_there(engineer: Client) -> None:
    factories.endpoint()
    for address in ("/endpoints/triage", "/rollouts/new"):
        assert 'href="/clusters/here"' in engineer.get(address).content.decode()


# --- what lies there --------------------------------------------------------------------------------------------------


def ago(seconds: float) -> float:
    """A moment of the past. It is asked for by each test: the last of a long run must not find it older."""
    return factories.right_now().timestamp() - seconds


def orphan(waits: str = "") -> Orphan:
    where = "ConfigMap triage-v9-aaaa"
    return Orphan(LaunchFound("triage-v9-aaaa", "triage", where, ago(7_200), ago(3_600)), waits)


def server() -> ModelServer:
    return ModelServer("Deployment <llama>", "vllm/vllm-openai:v1", "meta/llama", "Helm", 1, 2, ago(60))


def keep(*orphans: Orphan, servers: tuple[ModelServer, ...] = ()) -> None:
    Cluster.objects.filter(name="here").update(belongings=Belongings(ago(0), orphans, servers).to_json())


def words_of(client: Client) -> str:
    return " ".join(client.get("/clusters/here").content.decode().split())


def test_page__orphan__has_its_age_and_what_becomes_of_it(viewer: Client) -> None:
    factories.endpoint()
    keep(orphan("A route still names it."))
    text = words_of(viewer)
    assert "ConfigMap triage-v9-aaaa" in text
    assert re.search(r'data-l="Age">2 h<', text)
    assert "A route still names it." in text


def test_page__orphan_that_is_due__says_that_it_goes(viewer: Client) -> None:
    factories.endpoint()
    keep(orphan())
    assert "It is taken away with the next look." in words_of(viewer)


def test_page__server_of_others__is_told_and_escaped(viewer: Client) -> None:
    factories.endpoint()
    keep(servers=(server(),))
    text = words_of(viewer)
    assert "Model servers that Headgate does not manage" in text
    assert "Deployment &lt;llama&gt;" in text
    for value in ("meta/llama", "vllm/vllm-openai:v1", "Helm", "1 / 2"):
        assert f">{value}<" in text


def test_page__nothing_lies_there__says_nothing_of_it(viewer: Client) -> None:
    factories.endpoint()
    keep()
    text = words_of(viewer)
    assert "Orphans" not in text
    assert "does not manage" not in text
    assert "Changed by hand" not in text


def test_page__engine_changed_by_hand__is_told_with_its_endpoint(viewer: Client) -> None:
    made = factories.endpoint()
    Workload.objects.filter(variant=made.stable).update(
        wanted=True, drift="Changed by hand: <b> (by kubectl)."
    )
    text = words_of(viewer)
    assert "Changed by hand: &lt;b&gt; (by kubectl)." in text
    assert 'href="/endpoints/triage"' in text


def test_page__engine_that_is_to_run_no_more__is_not_told(viewer: Client) -> None:
    made = factories.endpoint()
    Workload.objects.filter(variant=made.stable).update(wanted=False, drift="Changed by hand: x.")
    assert "Changed by hand" not in words_of(viewer)


def test_page__many_orphans_and_servers__costs_the_same_queries(
    viewer: Client, django_assert_num_queries: Any
) -> None:
    factories.endpoint()
    with CaptureQueriesContext(connection) as before:
        words_of(viewer)
    keep(*[orphan()] * 30, servers=(server(),) * 30)
    with django_assert_num_queries(len(before)):
        words_of(viewer)
