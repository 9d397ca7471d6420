"""The pages of gate policies: list, one with its versions, the next version, which endpoint uses which."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.access.actors import HEADGATE
from controlplane.access.roles import Role
from rollouts.domain.gates.outlook import ExpectedTraffic, explain_policy
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.templates import DEFAULT_GATES
from rollouts.models import Endpoint, GatePolicyVersion, MinuteSample
from rollouts.services.policies.versions import define_gate_policy
from rollouts.ui.policies import page as policy_page
from rollouts.ui.policies.form import form_of
from tests import factories
from tests.factories.endpoints import POLICY_BODY
from tests.rollouts.ui.conftest import HTMX
from tests.rollouts.ui.policies.test_form import sent_of

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
BODY: dict[str, Any] = POLICY_BODY


def define(name: str = "triage-default", **changes: Any) -> GatePolicyVersion:
    return define_gate_policy(actor=HEADGATE, name=name, body={**BODY, **changes}, now=NOW)


def text_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return unescape(response.content.decode())


def queries(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path, headers=HTMX).status_code == 200
    return len(captured)


# --- the list ---------------------------------------------------------------------------------------------------


def test_list__policies__newest_version_with_users_and_rollouts(viewer: Client) -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.rollout_paused(of=endpoint, now=NOW)
    define(alpha=0.01)
    text = text_of(viewer, "/policies")
    assert 'triage-default</a> <span class="tag">@2</span>' in text
    assert "4 gates, α 0.01" in text
    assert 'href="/endpoints/triage">triage</a> <span class="tag">@1</span>' in text  # not the newest
    assert "1, 1 active" in text
    assert "New policy: Needs release manager." in text


def test_list__none__says_how_to_store_one(manager: Client) -> None:
    text = text_of(manager, "/policies")
    assert "No gate policy yet" in text
    assert 'href="/policies/new"' in text


def test_list__more_of_everything__costs_no_more_queries(viewer: Client) -> None:
    endpoint = factories.endpoint(now=NOW)
    few = queries(viewer, "/policies")
    for number in range(8):
        define(f"policy-{number}")
        define(f"policy-{number}", alpha=0.01)
        factories.endpoint(f"e{number}", of=endpoint.model, now=NOW)
    factories.rollout_rolled_back(of=endpoint, now=NOW)
    assert queries(viewer, "/policies") == few


def test_list__more_than_a_page__goes_on_behind_the_last_name(viewer: Client) -> None:
    for number in range(27):
        define(f"p{number:02}")
    first = text_of(viewer, "/policies")
    assert "p24</a>" in first
    assert "p25</a>" not in first
    assert "p25</a>" in text_of(viewer, "/policies?after=p24")


def test_sidebar_and_search__policies__are_found(viewer: Client) -> None:
    define()
    assert '<a href="/policies" data-letter="p"' in text_of(viewer, "/")
    assert "triage-default@1" in text_of(viewer, "/search?q=triage-def")


# --- one policy -------------------------------------------------------------------------------------------------


def test_page__newest__gates_explanation_and_where_used(manager: Client) -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(endpoint, minutes=30, now=NOW)
    factories.rollout_rolled_back(of=endpoint, now=NOW)
    text = text_of(manager, "/policies/triage-default")
    for gate in endpoint.gate_policy.policy.gates:
        assert gate.describe() in text
    assert "is rolled back by them by mistake in at most 5 of 100 rollouts" in text
    assert "Measured (triage, the last 24 h):" in text
    assert "Newest rollouts under it" in text
    assert "Edit as @2" in text
    assert "This is the first version" in text


def test_page__older_version__is_marked_and_compared_with_any_other(viewer: Client) -> None:
    define()
    define(alpha=0.01)
    define(alpha=0.01, beta=0.1)
    text = text_of(viewer, "/policies/triage-default?version=1&against=3")
    assert "Older version" in text
    assert "What changed from @3 to @1" in text
    assert "<del>0.01</del></td>" in text.replace("\n", "")
    assert "<ins>0.05</ins>" in text
    assert "Edit: Needs release manager." in text


@pytest.mark.parametrize(
    ("steps", "words", "since"),
    [
        (((5_000, 36_000.0),), r"[\d.]+ (s|min|h)", ""),
        (((500, 600.0), (2_500, 36_000.0)), r"[\d.]+ (s|min|h)", "from 25% on"),
        (((500, 600.0), (2_500, 5.0)), r"[\d.]+ (s|min|h), after the plan", "from 25% on"),
        (((500, 600.0),), "not in sight", ""),
    ],
)
def test_gate_line__plan__says_how_long_and_from_which_step_on(
    steps: tuple[tuple[int, float], ...], words: str, since: str
) -> None:
    policy = GatePolicy(name="default", version=1, gates=DEFAULT_GATES)
    told = explain_policy(policy, traffic=ExpectedTraffic(), steps=steps, exposures=()).gates[0]
    line = policy_page.gate_line(policy.gates[0], told)
    assert re.fullmatch(words, line.passes)
    assert line.passes_from == since


def test_page__assumed_numbers__are_stated(viewer: Client) -> None:
    factories.endpoint(now=NOW)
    text = text_of(viewer, "/policies/triage-default?numbers=-")
    assert "Assumed: 10 requests/s" in text
    assert "Measured" not in text


@pytest.mark.parametrize(
    "path",
    [
        "/policies/nothing",
        "/policies/triage-default?version=9",
        "/policies/triage-default?against=9",
        "/policies/triage-default?numbers=nobody",
    ],
)
def test_page__what_is_not_there__is_not_found(viewer: Client, path: str) -> None:
    define()
    assert viewer.get(path).status_code == 404


def test_page__more_of_everything__costs_no_more_queries(viewer: Client) -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(endpoint, minutes=3, now=NOW)
    factories.rollout_rolled_back(of=endpoint, now=NOW)
    define(alpha=0.01)
    few = queries(viewer, "/policies/triage-default")
    for number in range(6):
        define(alpha=0.02 + number / 100)
        factories.rollout_rolled_back(
            of=factories.endpoint(f"z{number}", of=endpoint.model, now=NOW), now=NOW
        )
    MinuteSample.objects.all().delete()
    factories.minutes_of_traffic(endpoint, minutes=60, now=NOW)
    assert queries(viewer, "/policies/triage-default") == few


def test_page__many_versions__are_shown_a_page_at_a_time(viewer: Client) -> None:
    for number in range(22):
        define(warm_up_requests=number)
    text = text_of(viewer, "/policies/triage-default")
    assert 'href="?before=3"' in text
    assert 'href="?version=3"' in text
    assert 'href="?version=2"' not in text
    assert 'href="?version=2"' in text_of(viewer, "/policies/triage-default?before=3")


# --- which endpoint uses which ------------------------------------------------------------------------------------


def test_page__more_versions_than_can_be_compared__offers_the_nearest_and_counts_the_others(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_page, "COMPARABLE_SHOWN", 2)
    first = factories.gate_policy()
    GatePolicyVersion.objects.bulk_create(
        GatePolicyVersion(
            name=first.name, version=number, body=first.body, digest=first.digest, created_at=first.created_at
        )
        for number in range(2, 9)
    )
    text = viewer.get(f"/policies/{first.name}?version=4&against=1").content.decode()
    assert re.findall(r'<option value="(\d)"', text) == ["5", "3", "1"]
    assert "4 more: show one near them first" in text


def test_page__more_rollouts_than_are_shown__says_of_how_many_and_leads_to_them(
    viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy_page, "ROLLOUTS_SHOWN", 1)
    endpoint = factories.endpoint()
    made = [factories.rollout_promoted(of=endpoint, watching=False) for _ in range(2)]
    name = endpoint.gate_policy.name
    text = viewer.get(f"/policies/{name}").content.decode()
    assert "1 of 2." in text
    assert f'href="/rollouts?policy={name}"' in text
    listed = viewer.get(f"/rollouts?policy={name}").content.decode()
    assert all(f'id="row-{one.pk}"' in listed for one in made)
    assert f"?policy={name}&amp;show=active" in listed
    assert 'id="row-' not in viewer.get("/rollouts?policy=another").content.decode()


def test_use__newer_version__is_the_endpoint_s_from_now_on(manager: Client) -> None:
    factories.endpoint(now=NOW)
    define(alpha=0.01)
    text = text_of(manager, "/policies/triage-default")
    assert 'name="expected" value="triage-default@1"' in text
    response = manager.post(
        "/policies/triage-default/use",
        {"endpoint": "triage", "version": "2", "expected": "triage-default@1"},
    )
    assert response.status_code == 303
    assert str(Endpoint.objects.get().gate_policy) == "triage-default@2"
    assert "triage uses triage-default@2" in text_of(manager, response.headers["Location"].partition("#")[0])


def test_use__changed_meanwhile__conflicts_and_says_so(manager: Client) -> None:
    factories.endpoint(now=NOW)
    define(alpha=0.01)
    response = manager.post(
        "/policies/triage-default/use", {"endpoint": "triage", "version": "2", "expected": "old@7"}
    )
    assert response.status_code == 409
    assert "triage uses triage-default@1 meanwhile" in unescape(response.content.decode())


def test_use__engineer__is_forbidden(engineer: Client) -> None:
    factories.endpoint(now=NOW)
    define(alpha=0.01)
    response = engineer.post("/policies/triage-default/use", {"endpoint": "triage", "version": "2"})
    assert response.status_code == 403
    assert "Move an endpoint: Needs release manager." in text_of(engineer, "/policies/triage-default")


# --- the next version ---------------------------------------------------------------------------------------------


def sent(view: Any = "form", *, based_on: Any = 1, **changed: Any) -> dict[str, str]:
    form = form_of(GatePolicy.from_json(BODY), name="triage-default", based_on=based_on, view=view)
    return sent_of(form, **changed)


def post(
    client: Client, data: dict[str, str], *, path: str = "/policies/triage-default/edit"
) -> tuple[int, str]:
    response = client.post(path, data)
    return response.status_code, unescape(response.content.decode())


def store_is_off(text: str) -> bool:
    button = re.search(r'<button [^>]*class="btn primary block"[^>]*>', text)
    assert button is not None
    return " disabled" in button.group()


def test_edit__first_visit__has_every_value_and_nothing_to_store_yet(manager: Client) -> None:
    define()
    text = text_of(manager, "/policies/triage-default/edit")
    assert 'name="margin-0" value="0.05"' in text
    assert 'name="slo-2" value="250"' in text
    assert "triage-default@1 says the same already" in text
    assert store_is_off(text)


def test_edit__explain__is_live_and_stores_nothing(manager: Client) -> None:
    define()
    response = manager.post("/policies/triage-default/edit", sent(alpha="0.01", do="explain"), headers=HTMX)
    text = unescape(response.content.decode())
    assert "<html" not in text
    assert "by mistake in at most 1 of 100 rollouts" in text
    assert "Store as triage-default@2" in text
    assert not store_is_off(text)
    assert GatePolicyVersion.objects.count() == 1


@pytest.mark.parametrize(
    ("changed", "field"),
    [({"delta-1": "lots"}, "delta-1"), ({"alpha": "9"}, "in-alpha"), ({"slo-2": "333"}, "slo-2")],
)
def test_edit__mistake__marks_its_field_and_store_is_off(
    manager: Client, changed: dict[str, str], field: str
) -> None:
    define()
    _, text = post(manager, sent(**changed))
    (marked,) = re.findall(r'<input class="in bad" id="([^"]+)"', text)
    assert marked == field
    assert text.count('aria-invalid="true"') == 1
    assert store_is_off(text)


def test_edit__slo_between_edges__offers_both_neighbours(manager: Client) -> None:
    define()
    _, text = post(manager, sent(**{"slo-2": "333"}))
    assert 'data-fill="slo-2" data-with="300"' in text
    assert 'data-fill="slo-2" data-with="400"' in text


def test_edit__weights__are_summed_live(manager: Client) -> None:
    define()
    _, text = post(manager, sent(**{"weight-0": "0.2"}))
    assert 'id="weights">0.9</b> instead of 1' in text
    assert "The weights of the gates sum to 0.9, not 1." in text


@pytest.mark.parametrize(
    ("change", "gates"),
    [("add-feedback", 5), ("remove-2", 3), ("equal-weights", 4)],
    ids=lambda value: str(value),
)
def test_edit__buttons__work_by_full_posts(manager: Client, change: str, gates: int) -> None:
    define()
    status, text = post(manager, sent(change=change, note="keep me"))
    assert status == 200
    assert text.count('class="gatebox"') == gates
    assert 'value="keep me"' in text
    assert GatePolicyVersion.objects.count() == 1


def test_edit__gate_on_own_counters__has_both_queries_and_a_mistake_at_its_field(manager: Client) -> None:
    define()
    _, text = post(manager, sent(change="add-counter_ratio"))
    assert 'name="bad_query-4" value="tool_call_failures_total{namespace="{{namespace}}",' in text
    typed = {
        "kind-4": "counter_ratio",
        "key-4": "tools",
        "weight-4": "0.1",
        "mode-4": "strict",
        "exposure-4": "30",
    }
    queries = {"bad_query-4": 'x{v="{{version}}"}', "all_query-4": 'y{v="{{variant}}"}', "delta-4": "2"}
    _, text = post(manager, sent(rows="0,1,2,3,4", **typed, **queries))
    assert 'id="bad_query-4-problem"' in text
    assert "bad_query holds {{version}}, which is no placeholder." in text
    assert 'id="all_query-4-problem"' not in text


def test_edit__fixed_limit__has_its_own_fields_and_says_that_it_is_no_test(manager: Client) -> None:
    define()
    _, text = post(manager, sent(change="add-metric_limit"))
    assert 'name="query-4" value="max(DCGM_FI_DEV_GPU_TEMP{namespace="{{namespace}}",' in text
    assert 'name="limit-4" value="85"' in text
    assert 'name="weight-4"' not in text
    assert "A fixed limit, no test of chance." in text
    assert "rollbacks by GPU temperature come on top of the" in text
    typed = {
        "kind-4": "metric_limit",
        "key-4": "heat",
        "query-4": 'x{v="{{variant}}"}',
        "direction-4": "at_most",
    }
    _, text = post(manager, sent(rows="0,1,2,3,4", **typed, **{"limit-4": "warm"}))
    assert 'id="limit-4-problem"' in text


@pytest.mark.parametrize("view", ["form", "yaml"])
def test_save__good_draft__is_stored_and_shown(manager: Client, view: str) -> None:
    define()
    data = sent(view, do="save", note="stricter")
    if view == "yaml":
        data["text"] = data["text"].replace("alpha: 0.05", "alpha: 0.01")
    else:
        data["alpha"] = "0.01"
    response = manager.post("/policies/triage-default/edit", data)
    assert response.status_code == 303
    made = GatePolicyVersion.objects.get(version=2)
    assert (made.policy.alpha, made.created_by, made.note) == (0.01, "release-manager", "stricter")
    assert "triage-default@2 is stored." in text_of(manager, response.headers["Location"])


def test_save__form_and_yaml__store_the_same(manager: Client) -> None:
    define()
    manager.post("/policies/triage-default/edit", sent("form", do="save", alpha="0.01"))
    yaml = sent("yaml", based_on=2, do="save")
    yaml["text"] = yaml["text"].replace("alpha: 0.05", "alpha: 0.01")
    response = manager.post("/policies/triage-default/edit", yaml)
    assert response.headers["Location"] == "/policies/triage-default?version=2&stored=2"
    assert GatePolicyVersion.objects.count() == 2


def test_save__mistake__stores_nothing_and_keeps_what_was_typed(manager: Client) -> None:
    define()
    status, text = post(manager, sent(do="save", note="keep me", **{"delta-1": "lots"}))
    assert status == 400
    assert "Not stored." in text
    assert 'value="lots"' in text
    assert 'value="keep me"' in text
    assert GatePolicyVersion.objects.count() == 1


def test_save__yaml_mistake__names_line_and_field_and_keeps_the_text(manager: Client) -> None:
    define()
    data = sent("yaml", do="save")
    data["text"] = data["text"].replace("slo_seconds: 0.25", "slo_seconds: soon  # why not")
    line = data["text"].splitlines().index("  slo_seconds: soon  # why not") + 1
    status, text = post(manager, data)
    assert status == 400
    assert f'<b>Line {line}</b>, <span class="mono">gates[2].slo_seconds</span>' in text
    assert "slo_seconds: soon  # why not" in text


def test_save__yaml_that_is_none__keeps_the_text(manager: Client) -> None:
    define()
    status, text = post(manager, {"view": "yaml", "text": "alpha: [\n", "based_on": "1", "do": "save"})
    assert status == 400
    assert "this is no YAML" in text
    assert "alpha: [" in text


def test_save__newer_version_meanwhile__conflicts_names_it_and_keeps_the_draft(manager: Client) -> None:
    define()
    define(beta=0.2)
    status, text = post(manager, sent(do="save", alpha="0.01"))
    assert status == 409
    assert "triage-default@2 was stored by Headgate" in text
    assert "Your draft is kept below." in text
    assert '<span class="mono">beta</span> 0.05 → 0.2' in text
    assert 'name="alpha" value="0.01"' in text
    assert "Saving again stores it as @3, on top of that." in text
    assert 'name="since" value="1"' in text
    assert 'name="based_on" value="2"' in text
    assert GatePolicyVersion.objects.count() == 2


def test_switch__to_yaml_and_back__says_the_same(manager: Client) -> None:
    define()
    _, text = post(manager, sent(show="yaml", alpha="0.01"))
    assert "<textarea" in text
    assert "alpha: 0.01" in text
    area = re.search(r"<textarea[^>]*>\n(.*?)</textarea>", text, re.DOTALL)
    assert area is not None
    back = {"view": "yaml", "text": area.group(1), "based_on": "1", "show": "form"}
    assert 'name="alpha" value="0.01"' in post(manager, back)[1]


@pytest.mark.parametrize(
    "data", [sent(show="yaml", alpha="much"), {"view": "yaml", "text": "alpha: much", "show": "form"}]
)
def test_switch__with_mistakes__stays_and_loses_nothing(manager: Client, data: dict[str, str]) -> None:
    define()
    _, text = post(manager, data)
    assert "Nothing that you typed is lost." in text
    assert "much" in text
    assert f'name="view" value="{data["view"]}"' in text


def test_new__copy__is_stored_under_its_own_name(manager: Client) -> None:
    define()
    text = text_of(manager, "/policies/new?copy=triage-default@1")
    assert 'name="margin-0" value="0.05"' in text
    assert "The policy needs a name." in text
    response = manager.post("/policies/new", sent(based_on=0, name="strict", do="save"))
    assert response.headers["Location"] == "/policies/strict?version=1&stored=1"
    assert str(GatePolicyVersion.objects.get(name="strict")) == "strict@1"


def test_new__name_that_is_taken__conflicts(manager: Client) -> None:
    define()
    data = sent(based_on=0, name="triage-default", alpha="0.01")
    assert (
        "triage-default@1 exists. Edit that one, or choose another name."
        in post(manager, data, path="/policies/new")[1]
    )
    assert post(manager, {**data, "do": "save"}, path="/policies/new")[0] == 409
    assert GatePolicyVersion.objects.count() == 1


def test_new__from_nothing__begins_with_the_default_gates(manager: Client) -> None:
    text = text_of(manager, "/policies/new")
    assert text.count('class="gatebox"') == len(DEFAULT_GATES)
    assert text.count('aria-invalid="true"') == 1  # the name that is not there yet


@pytest.mark.parametrize("path", ["/policies/new", "/policies/triage-default/edit"])
@pytest.mark.parametrize("role", [Role.VIEWER, Role.ENGINEER])
def test_edit__role_too_low__is_forbidden(sign_in: Any, path: str, role: Role) -> None:
    define()
    client = sign_in(role)
    assert client.get(path).status_code == 403
    assert client.post(path, sent(do="save", alpha="0.01")).status_code == 403
    assert GatePolicyVersion.objects.count() == 1


def test_edit__more_versions_and_traffic__cost_no_more_queries(manager: Client) -> None:
    endpoint = factories.endpoint(now=NOW)
    path = "/policies/triage-default/edit"
    few = queries(manager, path)
    for number in range(5):
        define(warm_up_requests=number + 1)
        factories.endpoint(f"e{number}", of=endpoint.model, now=NOW)
    assert queries(manager, path) == few


# --- links from elsewhere -------------------------------------------------------------------------------------------


def test_endpoint_and_rollout__policy__leads_to_its_page(viewer: Client) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    link = 'href="/policies/triage-default?version=1"'
    assert link in text_of(viewer, "/endpoints/triage")
    assert link in text_of(viewer, f"/rollouts/{rollout.pk}")


def test_edit__yaml_with_fewer_gates_than_rows_were_sent__is_read_for_itself(manager: Client) -> None:
    stored = define()
    sent = sent_of(form_of(stored.policy, name=stored.name, based_on=stored.version))
    text = "gates:\n- {key: errors, kind: error_rate, delta: 0.01}\n"
    response = manager.post(f"/policies/{stored.name}/edit", {**sent, "view": "yaml", "text": text})
    assert response.status_code == 200
    assert text in unescape(response.content.decode())
