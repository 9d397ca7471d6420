"""The page of a cluster: what may be set, and what the operator added."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from rollouts.models import Cluster
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
