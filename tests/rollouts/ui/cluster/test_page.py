"""The page of a cluster: what may be set, and what the operator added."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from rollouts import wiring
from rollouts.domain.belongings import Belongings, LaunchFound, ModelServer, Orphan
from rollouts.domain.trials import TRIED, GatewayTrait, TrialFinding, Trials
from rollouts.models import Cluster, Workload
from rollouts.ports import GatewayTrials
from tests import factories
from tests.rollouts.conftest import Declare
from tests.rollouts.ui.conftest import HTMX
from tests.rollouts.worlds import worlds_of

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


# --- what its router can do -------------------------------------------------------------------------------------------


class Known:
    """Trials of which nobody asks more than what is declared."""

    def declared(self) -> frozenset[GatewayTrait]:
        return frozenset(TRIED)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The cluster has a gateway of which this is known."""

    def know(*findings: TrialFinding, problem: str = "") -> None:
        factories.endpoint()
        worlds = wiring.worlds()
        world = replace(worlds.of("here"), trials=cast(GatewayTrials, Known()))
        monkeypatch.setattr(wiring, "worlds", lambda: worlds_of(world))
        at = ago(7_200)
        trials = (
            Trials("edge <1>", at, findings, "edge <1>", at, problem) if findings or problem else Trials()
        )
        Cluster.objects.filter(name="here").update(trials=trials.to_json())

    return know


def row_of(text: str, words: str) -> str:
    """The row of the table that begins with these words, without its tags."""
    (found,) = re.findall(f">({words}<.*?)</tr>", text)
    return " ".join(re.sub("<[^>]*>", " ", found).split())


def test_page__router_with_nothing_to_try__shows_what_it_declares(viewer: Client) -> None:
    factories.endpoint()
    text = words_of(viewer)
    assert row_of(text, "Send a request to one variant on purpose").endswith("Declared –")
    assert row_of(text, "Keep a caller at the variant that it drew").endswith("Cannot –")
    assert "try_gateway" not in text


def test_page__gateway_that_was_not_tried__says_so(viewer: Client, tried: Callable[..., None]) -> None:
    tried()
    text = words_of(viewer)
    assert "not tried yet" in text
    assert row_of(text, "Keep requests away from a variant with a share of 0").endswith("Declared –")
    assert "manage.py try_gateway here" in text


def test_page__gateway_that_was_tried__shows_what_was_found_in_numbers_and_when(
    viewer: Client, tried: Callable[..., None]
) -> None:
    tried(
        TrialFinding(GatewayTrait.KEEPS_ZERO, True, "a backend with weight 0 got 0 of 200 requests"),
        TrialFinding(GatewayTrait.HEADER_WINS, False, "3 of 20 <b> were answered"),
    )
    text = words_of(viewer)
    assert "tried 2 h ago" in text
    zero = row_of(text, "Keep requests away from a variant with a share of 0")
    assert re.search(
        r"Proven A backend with weight 0 got 0 of 200 requests\. [0-9-]{10} [0-9:]{5} UTC$", zero
    )
    assert "Refuted 3 of 20 &lt;b&gt; were answered." in row_of(
        text, "Send a request to one variant on purpose"
    )
    assert "edge &lt;1&gt;" in text


def test_page__trial_came_to_no_end__says_why(viewer: Client, tried: Callable[..., None]) -> None:
    tried(problem="No node can take it: <0/3>")
    assert "<strong>The last trial came to no end.</strong> No node can take it: &lt;0/3&gt;" in words_of(
        viewer
    )
