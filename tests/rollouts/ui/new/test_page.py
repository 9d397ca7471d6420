"""A new rollout: the form as typed, its live plan, every mistake where it was made, and the start."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client
from django.utils.html import escape

from controlplane.access.actors import HEADGATE
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.images import Image
from rollouts.domain.secrets import SealedSecret
from rollouts.models import Endpoint, GatePolicyVersion, GlobalStop, Rollout
from rollouts.services.policies.versions import define_gate_policy
from rollouts.ui.new.form import Draft, blank_form, read_form, understand
from tests import factories
from tests.rollouts.conftest import Declare
from tests.rollouts.serving_attacks import BY_ARGUMENT
from tests.rollouts.ui.conftest import HTMX

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.fixture
def endpoint() -> Endpoint:
    made = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(made, minutes=30, now=NOW)
    return made


def fields(**changed: str) -> dict[str, str]:
    """What a browser sends for a usual form; a value of None leaves the field out."""
    sent: dict[str, str | None] = {
        "endpoint": "triage",
        "form_of": "triage",
        "version": "2",
        "note": "better refunds",
        "arguments": '{"max-model-len": 256, "max-num-seqs": 32}',
        "watch": "15",
        "share-0": "5",
        "hold-0": "1",
        "requests-0": "50",
        "share-1": "25",
        "hold-1": "1",
        "requests-1": "50",
        "share-2": "50",
        "hold-2": "1",
        "requests-2": "50",
        "mode-quality": "tolerant",
        "margin-quality": "0.05",
        "weight-quality": "0.3",
        "required-quality": "on",
        "mode-errors": "strict",
        "ratio-errors": "1",
        "delta-errors": "2",
        "weight-errors": "0.3",
        "required-errors": "on",
        "objective-ttft": "250",
        "mode-ttft": "tolerant",
        "ratio-ttft": "1.5",
        "delta-ttft": "5",
        "weight-ttft": "0.3",
        "required-ttft": "on",
        "mode-thumbs": "tolerant",
        "ratio-thumbs": "1",
        "delta-thumbs": "10",
        "weight-thumbs": "0.1",
        **changed,
    }
    return {name: value for name, value in sent.items() if value is not None}


def draft(endpoint: Endpoint, **changed: str) -> Draft:
    return understand(read_form(fields(**changed), endpoint=endpoint), endpoint=endpoint)


@pytest.mark.parametrize(
    "arguments", ['{"max-model-len": 512}', '{"max-model-len": 256, "max-num-seqs": 32}']
)
def test_understand__stable_variant_has_a_secret__keeps_it_and_the_page_does_not_hold_it(
    endpoint: Endpoint, client: Client, arguments: str
) -> None:
    secret = SealedSecret("gAAAA-sealed", "9f2c")
    assert endpoint.stable is not None
    spec = replace(endpoint.stable.spec, environment={"MODEL_LICENCE": secret})
    endpoint.stable.serving = spec.to_json()
    endpoint.stable.save()
    serving = draft(endpoint, arguments=arguments).serving or endpoint.stable.spec
    assert serving.environment == {"MODEL_LICENCE": secret}
    client.force_login(factories.person())
    page = client.get("/rollouts/new", fields(arguments=arguments)).content.decode()
    assert "gAAAA" not in page
    assert ("9f2c" in page) is ("512" in arguments)  # the same as an API call


# --- what the form means ------------------------------------------------------------------------------------


def test_understand__usual_form__is_the_plan_and_the_endpoint_s_own_policy(endpoint: Endpoint) -> None:
    found = draft(endpoint)
    assert found.problems == {}
    assert found.plan is not None
    assert [(s.share_bp, s.hold_seconds, s.min_requests) for s in found.plan.steps] == [
        (500, 60, 50),
        (2_500, 60, 50),
        (5_000, 60, 50),
    ]
    assert found.plan.watch_seconds == 900
    assert found.policy == endpoint.gate_policy.policy
    assert found.own_policy is None
    assert found.serving is None


def test_blank_form__read_back__means_the_same(endpoint: Endpoint) -> None:
    form = blank_form(endpoint=endpoint, version="2", like=None)
    found = understand(form, endpoint=endpoint)
    assert found.problems == {}
    assert found.own_policy is None
    assert found.serving is None


def test_blank_form__earlier_rollout__takes_over_its_steps(endpoint: Endpoint) -> None:
    rollout = factories.rollout_rolled_back(of=endpoint, now=NOW)
    form = blank_form(endpoint=endpoint, version="2", like=rollout)
    found = understand(form, endpoint=endpoint)
    assert found.plan == rollout.parsed_plan


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"version": ""}, "version"),
        ({"share-1": "5"}, "share-1"),
        ({"share-2": "100"}, "share-2"),
        ({"share-0": "five"}, "share-0"),
        ({"hold-1": ""}, "hold-1"),
        ({"hold-1": "-3"}, "hold-1"),
        ({"requests-2": "nan"}, "requests-2"),
        ({"watch": "long"}, "watch"),
        ({"arguments": "{"}, "arguments"),
        ({"arguments": "[1]"}, "arguments"),
        ({"arguments": '{"a": {}}'}, "arguments"),
        ({"arguments": '{"a": 1e999}'}, "arguments"),
        ({"arguments": "9" * 5_000}, "arguments"),
        ({"arguments": " " + '"' * 20_001}, "arguments"),
        ({"arguments": '{"a": "\\ud800"}'}, "arguments"),
        ({"arguments": '{"a": "\\u0000"}'}, "arguments"),
        ({"arguments": '{"a": 1e308}'}, "arguments"),
        ({"watch": "1e308"}, "watch"),
        ({"share-0": "1e308"}, "share-0"),
        ({"requests-2": "9" * 5_000}, "requests-2"),
        ({"ratio-ttft": "1e308"}, "gates[2].ratio"),
        ({"note": "x" * 501}, "note"),
        ({"arguments": "[" * 100_000}, "arguments"),
        ({"objective-ttft": ""}, "gates[2].slo_seconds"),
        ({"margin-quality": "2"}, "gates[0].margin"),
        ({"weight-errors": "0.5"}, "gates"),
        ({"mode-errors": "maybe"}, "gates[1].mode"),
        ({"ratio-ttft": "0.5"}, "gates[2].ratio"),
    ],
)
def test_understand__one_mistake__is_found_where_it_was_made(
    endpoint: Endpoint, changed: dict[str, str], field: str
) -> None:
    assert list(draft(endpoint, **changed).problems) == [field]


def test_understand__several_mistakes__are_all_found(endpoint: Endpoint) -> None:
    found = draft(endpoint, version="", arguments="{", **{"share-0": "x", "weight-errors": "1"})
    assert set(found.problems) == {"version", "arguments", "share-0", "gates"}


def test_understand__numbers_as_people_write_them__are_read(endpoint: Endpoint) -> None:
    found = draft(endpoint, **{"requests-2": "1,000", "ratio-ttft": "×1.5"})
    assert found.problems == {}
    assert found.plan is not None
    assert found.plan.steps[2].min_requests == 1_000


def test_understand__changed_gate__is_a_policy_of_this_rollout(endpoint: Endpoint) -> None:
    found = draft(endpoint, **{"objective-ttft": "500", "required-thumbs": "on"})
    assert found.own_policy == found.policy
    assert found.policy.reference == "triage-default@1"
    assert found.policy.gate("ttft").slo_seconds == 0.5
    assert found.policy.gate("thumbs").required
    assert GatePolicyVersion.objects.count() == 1


def test_understand__fixed_limit_of_the_policy__stays_and_may_be_required_or_not(
    engineer: Client, endpoint: Endpoint
) -> None:
    heat = {
        "key": "heat", "label": "GPU temperature", "kind": "metric_limit", "query": 'n{v="{{variant}}"}',
        "limit": 85, "direction": "at_most",
    }  # fmt: skip
    body = endpoint.gate_policy.policy.to_json()
    body["gates"] = [*body["gates"], heat]
    endpoint.gate_policy = define_gate_policy(actor=HEADGATE, name="warm", body=body, now=NOW)
    endpoint.save()
    kept, loose = draft(endpoint, **{"required-heat": "on"}), draft(endpoint)
    assert (kept.problems, kept.own_policy) == ({}, None)
    assert loose.policy.gate("heat") == replace(kept.policy.gate("heat"), required=False)
    text = plan_text(engineer)
    assert "above 85" in text[text.index("Smallest change each gate finds") :]


def test_understand__changed_arguments__are_another_serving_spec(endpoint: Endpoint) -> None:
    found = draft(endpoint, arguments='{"max-model-len": 512}')
    assert found.serving is not None
    assert dict(found.serving.arguments) == {"max-model-len": 512}


def test_understand__changed_arguments__all_else_stays_as_the_stable_variant_has_it(
    endpoint: Endpoint,
) -> None:
    assert endpoint.stable is not None
    spec = replace(
        endpoint.stable.spec,
        resources={"memory_mb": 3_000},
        replicas=3,
        image=Image("registry.example/vllm", "v1"),
        accelerators=Accelerators(2, "nvidia.com/gpu"),
    )
    endpoint.stable.serving = spec.to_json()
    endpoint.stable.save()
    found = draft(endpoint, arguments='{"max-model-len": 512}')
    assert found.serving == replace(spec, arguments={"max-model-len": 512})


@pytest.mark.parametrize(
    ("change", "shares"),
    [
        ("add-step", ["5", "25", "50", "75"]),
        ("remove-step-1", ["5", "50"]),
        ("remove-step-9", ["5", "25", "50"]),
    ],
)
def test_read_form__button__changes_the_steps(endpoint: Endpoint, change: str, shares: list[str]) -> None:
    form = read_form(fields(change=change), endpoint=endpoint)
    assert [step.share for step in form.parts["canary"]] == shares


# --- the page ---------------------------------------------------------------------------------------------------


def plan_text(client: Client, **changed: str) -> str:
    response = client.get("/rollouts/new/plan", fields(**changed), headers=HTMX)
    assert response.status_code == 200
    return response.content.decode()


def start_is_off(text: str) -> bool:
    button = re.search(r'<button [^>]*class="btn primary block"[^>]*>', text)
    assert button is not None
    return " disabled" in button.group()


def test_page__first_visit__is_full_with_a_plan(engineer: Client, endpoint: Endpoint) -> None:
    text = engineer.get("/rollouts/new").content.decode()
    assert 'name="version" value="2" checked' not in text  # 3 is the newest that may be launched
    assert 'name="version" value="3" checked' in text
    assert "Start canary to 5%" in text
    assert "Manifest verified" in text
    assert not start_is_off(text)


def test_plan__cluster_and_counters__are_asked_and_shown_as_every_other_check(
    engineer: Client, endpoint: Endpoint
) -> None:
    text = plan_text(engineer)  # no router runs here
    assert re.search(r"One more engine needs [\d,]+ MB", text)
    assert "Warning: </span>The counters of the endpoint cannot be read now" in text
    assert "Without them these gates cannot judge: Error rate" in text
    assert not start_is_off(text)


def test_page__version_refused__is_shown_with_its_reason(engineer: Client, endpoint: Endpoint) -> None:
    version = endpoint.model.versions.get(number=3)
    version.manifest_state, version.manifest_problem = "changed", "The file config.json differs."
    version.save()
    text = engineer.get("/rollouts/new?version=3").content.decode()
    assert "The file config.json differs." in text
    assert start_is_off(text)


def test_page__older_version_chosen__is_shown_and_the_others_are_counted(
    engineer: Client, endpoint: Endpoint
) -> None:
    for number in range(4, 15):
        factories.version(endpoint.model, number)
    text = engineer.get("/rollouts/new?version=2").content.decode()
    assert re.search(r'id="only-2" type="radio" name="version" value="2" checked', text)
    assert text.count('type="radio" name="version"') == 10
    assert "4 older versions not shown" in text


def test_page__newest_versions_refused__begins_with_the_newest_that_may_be_launched(
    engineer: Client, endpoint: Endpoint
) -> None:
    for number in range(4, 15):
        factories.version(endpoint.model, number)
    endpoint.model.versions.filter(number__gt=2).update(manifest_state="failed", manifest_problem="A pickle.")
    assert re.search(r'id="only-2"[^>]* checked', engineer.get("/rollouts/new").content.decode())


def test_page__no_endpoint__says_who_makes_one(engineer: Client) -> None:
    assert "There is no endpoint to roll out on yet." in engineer.get("/rollouts/new").content.decode()


def test_plan__objective_is_no_edge__names_both_neighbours_and_start_is_off(
    manager: Client, endpoint: Endpoint
) -> None:
    text = plan_text(manager, **{"objective-ttft": "333"})
    assert "333 ms is not an edge of the histogram" in text
    assert 'data-fill="objective-ttft" data-with="300"' in text
    assert 'data-fill="objective-ttft" data-with="400"' in text
    assert start_is_off(text)
    assert "Off: 1 check fails. Fix it first." in text


def test_plan__mistake_in_a_step__stands_beside_the_step(engineer: Client, endpoint: Endpoint) -> None:
    text = plan_text(engineer, **{"share-1": "3"})
    assert "Step 2 has 3%, not more than the 5% before it." in text
    assert start_is_off(text)


def test_plan__stable_version__would_change_nothing(engineer: Client, endpoint: Endpoint) -> None:
    text = plan_text(engineer, version="1")
    assert "is what serves now" in text
    assert start_is_off(text)


def test_plan__smallest_change__is_given_for_every_gate(engineer: Client, endpoint: Endpoint) -> None:
    text = plan_text(engineer)
    table = text[text.index("Smallest change each gate finds") :]
    for label in ("Golden-set score", "Error rate", "Time to first token", "Thumbs down"):
        assert label in table


def test_plan__rollout_active__is_off_with_the_number(engineer: Client, endpoint: Endpoint) -> None:
    rollout = factories.rollout_paused(of=endpoint, now=NOW)
    text = plan_text(engineer)
    assert f"Rollout #{rollout.pk} is active" in text
    assert start_is_off(text)


def test_plan__global_stop__is_off(engineer: Client, endpoint: Endpoint) -> None:
    GlobalStop.objects.create(pk=1, on=True, since=NOW)
    assert start_is_off(plan_text(engineer))


def test_plan__viewer__may_look_but_not_start(viewer: Client, endpoint: Endpoint) -> None:
    text = plan_text(viewer)
    assert start_is_off(text)
    assert "Needs engineer." in text


def test_plan__api_call__is_the_same_rollout(engineer: Client, endpoint: Endpoint) -> None:
    text = plan_text(engineer)
    from html import unescape

    call = unescape(re.search(r'id="call"[^>]*>(.*?)</pre>', text, re.DOTALL).group(1))  # type: ignore[union-attr]
    body: dict[str, Any] = json.loads(re.search(r"-d '(.*)'", call, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert body["endpoint"] == "triage"
    assert body["version"] == 2
    assert [step["share_bp"] for step in body["plan"]["steps"]] == [500, 2_500, 5_000]


@pytest.mark.parametrize(("field", "serving"), BY_ARGUMENT)
def test_start__arguments_that_bring_something__starts_nothing_and_marks_the_field(
    engineer: Client, endpoint: Endpoint, field: str, serving: dict[str, Any]
) -> None:
    typed = json.dumps(serving["arguments"])
    response = engineer.post("/rollouts/new", fields(arguments=typed))
    text = response.content.decode()
    assert response.status_code == 400, text
    assert 'aria-invalid="true" aria-describedby="arguments-problem"' in text
    said = re.search(r'id="arguments-problem">(.*?)</p>', text, re.DOTALL)
    assert said is not None
    assert field.removeprefix("arguments.") in said[1]
    assert escape(typed) in text
    assert not Rollout.objects.exists()


def test_plan__the_cluster_gives_no_longer_what_the_stable_variant_has__says_where_that_can_be_changed(
    engineer: Client, endpoint: Endpoint
) -> None:
    assert endpoint.stable is not None
    endpoint.stable.serving = replace(endpoint.stable.spec, replicas=3).to_json()
    endpoint.stable.save()
    text = engineer.get("/rollouts/new", fields()).content.decode()
    assert "This cluster runs at most 1 of a variant, not 3" in text
    assert "This form keeps it as the stable variant has it" in text
    assert 'aria-describedby="arguments-problem"' not in text  # nothing is wrong with those
    assert start_is_off(text)


def test_plan__declarations_cannot_be_read__is_off_and_says_why(
    engineer: Client, endpoint: Endpoint, declare: Declare
) -> None:
    declare(vllm=7)
    text = plan_text(engineer)
    assert "engines.json" in text
    assert start_is_off(text)


# --- the start ----------------------------------------------------------------------------------------------------


def test_start__good_form__starts_and_goes_there(engineer: Client, endpoint: Endpoint) -> None:
    response = engineer.post("/rollouts/new", fields())
    rollout = Rollout.objects.get()
    assert response.status_code == 303
    assert response.headers["Location"] == f"/rollouts/{rollout.pk}"
    assert (rollout.note, rollout.candidate.version.number) == ("better refunds", 2)
    assert rollout.gate_policy == endpoint.gate_policy


def test_start__stricter_gate__is_kept_with_the_rollout_and_is_no_version(
    engineer: Client, endpoint: Endpoint
) -> None:
    engineer.post("/rollouts/new", fields(**{"ratio-ttft": "1.25"}))
    rollout = Rollout.objects.get()
    assert rollout.gate_policy == endpoint.gate_policy
    assert rollout.policy.gate("ttft").ratio == 1.25
    assert [str(one) for one in GatePolicyVersion.objects.all()] == ["triage-default@1"]


def test_start__weaker_gate__is_refused_to_an_engineer_who_reads_which_and_by_whom(
    engineer: Client, endpoint: Endpoint
) -> None:
    response = engineer.post("/rollouts/new", fields(**{"ratio-ttft": "1000"}))
    text = response.content.decode()
    assert response.status_code == 403
    assert "gates.ttft.ratio: 1.5 → 1000, a larger limit lets more worsening through" in text
    assert "Needs release manager." in text
    assert "Weaker ratio: 1.5 → 1000" in text
    assert GatePolicyVersion.objects.count() == 1
    assert not Rollout.objects.exists()


def test_plan__weaker_gate__turns_start_off_for_an_engineer_only(
    engineer: Client, manager: Client, endpoint: Endpoint
) -> None:
    asked = fields(**{"ratio-ttft": "1000"})
    off = engineer.get("/rollouts/new/plan", asked, headers=HTMX).content.decode()
    on = manager.get("/rollouts/new/plan", asked, headers=HTMX).content.decode()
    assert "The policy is weaker than triage-default@1 in 1 value" in off
    assert "Off: 1 check fails. Fix it first." in off
    assert "The policy is weaker than triage-default@1 in 1 value" in on
    assert "Off:" not in on


def test_start__weaker_gate__is_a_release_manager_s_to_start(manager: Client, endpoint: Endpoint) -> None:
    assert manager.post("/rollouts/new", fields(**{"ratio-ttft": "1000"})).status_code == 303
    rollout = Rollout.objects.get()
    page = manager.get(f"/rollouts/{rollout.pk}").content.decode()
    assert rollout.policy.gate("ttft").ratio == 1000
    assert "Policy of this rollout, from <a" in page
    assert "Judged by a policy of its own, from triage-default@1" in page
    assert "gates.ttft.ratio 1.5 → 1000" in page


def test_start__mistake__starts_nothing_and_keeps_what_was_typed(
    engineer: Client, endpoint: Endpoint
) -> None:
    response = engineer.post("/rollouts/new", fields(**{"share-1": "3", "note": "keep me"}))
    text = response.content.decode()
    assert response.status_code == 400
    assert "Not started." in text
    assert 'value="keep me"' in text
    assert not Rollout.objects.exists()


def test_start__refused__leaves_no_policy_behind(manager: Client, endpoint: Endpoint) -> None:
    response = manager.post("/rollouts/new", fields(**{"objective-ttft": "333"}))
    assert response.status_code == 400
    assert "The neighbouring edges are 300 ms and 400 ms: choose one of them." in response.content.decode()
    assert GatePolicyVersion.objects.count() == 1
    assert not Rollout.objects.exists()


def test_start__another_is_active__conflicts(engineer: Client, endpoint: Endpoint) -> None:
    factories.rollout_paused(of=endpoint, now=NOW)
    response = engineer.post("/rollouts/new", fields(version="3"), headers=HTMX)
    assert response.status_code == 409
    assert Rollout.objects.count() == 1


def test_start__viewer__is_forbidden(viewer: Client, endpoint: Endpoint) -> None:
    assert viewer.post("/rollouts/new", fields()).status_code == 403
    assert not Rollout.objects.exists()


def test_start__unknown_endpoint__is_not_found(engineer: Client, endpoint: Endpoint) -> None:
    assert engineer.post("/rollouts/new", fields(endpoint="nobody")).status_code == 404
