from __future__ import annotations

from typing import Any

import pytest

from controlplane.access.actors import HEADGATE
from controlplane.access.roles import Role
from controlplane.access.services import Scope
from controlplane.audit.models import AuditEvent
from controlplane.kernel.digests import digest_of
from rollouts.models import Endpoint, GatePolicyVersion
from rollouts.services.policies.text import read_policy_text
from rollouts.services.policies.versions import define_gate_policy
from tests import factories
from tests.controlplane.api.conftest import ClientOf
from tests.factories.endpoints import POLICY_BODY

pytestmark = pytest.mark.django_db
URL = "/api/v1/gate-policies"
BODY: dict[str, Any] = {name: value for name, value in POLICY_BODY.items() if name not in ("name", "version")}
TEXT = """\
alpha: 0.02
gates:
- key: errors
  kind: error_rate
  delta: 0.01
"""


def define(**changes: Any) -> GatePolicyVersion:
    return define_gate_policy(
        actor=HEADGATE, name="triage-default", body={**BODY, **changes}, now=factories.right_now()
    )


def draft(**changes: Any) -> dict[str, Any]:
    return {"name": "triage-default", "policy": BODY} | changes


def test_list__versions__are_all_there_newest_first(client_of: ClientOf) -> None:
    define()
    define(alpha=0.01)

    items = client_of(Role.VIEWER).get(URL).json()["items"]

    assert [(item["name"], item["version"]) for item in items] == [
        ("triage-default", 2),
        ("triage-default", 1),
    ]
    assert [gate["key"] for gate in items[0]["body"]["gates"]] == ["quality", "errors", "ttft", "thumbs"]


def test_define__text__is_the_next_version_with_its_author(client_of: ClientOf) -> None:
    define()

    response = client_of(Role.RELEASE_MANAGER).post(
        URL, {"name": "triage-default", "text": TEXT, "note": "fewer gates"}, format="json"
    )

    assert response.status_code == 201, response.json()
    assert response.headers["Location"].endswith("/api/v1/gate-policies/triage-default@2")
    made = response.json()
    assert (made["version"], made["created_by"], made["note"]) == (2, "release-manager via ci", "fewer gates")
    assert AuditEvent.objects.get(object_id="triage-default@2").actor_kind == "token"


def test_define__object__is_stored_as_the_text_would_be(client_of: ClientOf) -> None:
    client = client_of(Role.RELEASE_MANAGER)
    first = client.post(URL, {"name": "a", "text": TEXT}, format="json").json()
    second = client.post(URL, {"name": "b", "policy": first["body"] | {"name": "b"}}, format="json").json()

    assert {**first["body"], "name": "b"} == second["body"]


def test_define__same_content__answers_200_with_the_version_there_is(client_of: ClientOf) -> None:
    define()

    response = client_of(Role.RELEASE_MANAGER).post(URL, draft(), format="json")

    assert (response.status_code, response.json()["version"]) == (200, 1)
    assert GatePolicyVersion.objects.count() == 1


def test_define__sent_twice_with_a_key__is_done_once(client_of: ClientOf) -> None:
    client = client_of(Role.RELEASE_MANAGER)
    answers = [
        client.post(URL, draft(), format="json", headers={"Idempotency-Key": "push-1"}) for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    assert GatePolicyVersion.objects.count() == 1


@pytest.mark.parametrize("named", [{"expected_version": 1}, {"policy": BODY | {"version": 1, "beta": 0.1}}])
def test_define__newer_version_than_expected__is_409_naming_it(
    client_of: ClientOf, named: dict[str, Any]
) -> None:
    define()
    define(alpha=0.01)

    response = client_of(Role.RELEASE_MANAGER).post(
        URL, draft(policy=BODY | {"beta": 0.1}) | named, format="json"
    )

    problem = response.json()
    assert (response.status_code, problem["code"], problem["extra"]["newest"]) == (409, "policy-changed", 2)
    assert GatePolicyVersion.objects.count() == 2


def test_define__mistakes__are_422_with_every_field_and_the_line(client_of: ClientOf) -> None:
    text = TEXT.replace("delta: 0.01", "delta: lots").replace("0.02", "2")

    response = client_of(Role.RELEASE_MANAGER).post(
        URL, {"name": "triage-default", "text": text}, format="json"
    )

    problem = response.json()
    assert response.status_code == 422
    assert [error["field"] for error in problem["errors"]] == ["gates[0].delta", "alpha"]
    assert problem["extra"] == {"line": 5}


def test_define__slo_that_is_no_edge__names_both_neighbours(client_of: ClientOf) -> None:
    gate = {"key": "ttft", "kind": "latency_slo", "signal": "ttft", "slo_seconds": 0.333, "ratio": 1.5}

    response = client_of(Role.RELEASE_MANAGER).post(URL, draft(policy={"gates": [gate]}), format="json")

    assert response.status_code == 422
    assert response.json()["code"] == "slo-not-an-edge"
    assert response.json()["extra"] == {"below": 0.3, "above": 0.4}


@pytest.mark.parametrize("changes", [{}, {"text": TEXT}])
def test_define__neither_or_both_forms__is_422(client_of: ClientOf, changes: dict[str, Any]) -> None:
    body = {"name": "p"} if not changes else draft(**changes)

    response = client_of(Role.RELEASE_MANAGER).post(URL, body, format="json")

    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "text")


def test_define__engineer_or_token_without_the_scope__is_403(client_of: ClientOf) -> None:
    assert client_of(Role.ENGINEER).post(URL, draft(), format="json").status_code == 403
    reader = client_of(Role.ADMINISTRATOR, (Scope.READ,))
    assert reader.post(URL, draft(), format="json").json()["code"] == "missing-scope"
    assert not GatePolicyVersion.objects.exists()


@pytest.mark.parametrize(("reference", "alpha"), [("triage-default", 0.01), ("triage-default@1", 0.05)])
def test_get__reference__is_that_version_or_the_newest(
    client_of: ClientOf, reference: str, alpha: float
) -> None:
    define()
    define(alpha=0.01)

    found = client_of(Role.VIEWER).get(f"{URL}/{reference}").json()

    assert found["body"]["alpha"] == alpha
    document = read_policy_text(found["yaml"])
    assert digest_of({**document.body, "name": document.name, "version": document.version}) == found["digest"]


@pytest.mark.parametrize("reference", ["nothing", "triage-default@9", "triage-default@", "triage-default@x"])
def test_get__unknown__is_404(client_of: ClientOf, reference: str) -> None:
    define()

    assert client_of(Role.VIEWER).get(f"{URL}/{reference}").status_code == 404


def test_check__sound_draft__is_explained_and_not_stored(client_of: ClientOf) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=20)

    response = client_of(Role.VIEWER, (Scope.READ,)).post(
        f"{URL}/check", draft(policy=BODY | {"alpha": 0.02}, endpoint="triage"), format="json"
    )

    found = response.json()
    assert response.status_code == 200, found
    assert (found["reference"], found["same"]) == ("triage-default@2", False)
    assert found["changes"] == [{"field": "alpha", "before": "0.05", "after": "0.02"}]
    assert found["explanation"]["false_alarms_per_100"] == 2
    assert [gate["base_rate_measured"] for gate in found["explanation"]["gates"]] == [
        False,
        True,
        True,
        False,
    ]
    assert found["yaml"].startswith("name: triage-default\nversion: 2\n")
    assert GatePolicyVersion.objects.count() == 1


def test_check__same_as_stored__says_so(client_of: ClientOf) -> None:
    define()

    found = client_of().post(f"{URL}/check", draft(), format="json").json()

    assert (found["reference"], found["same"], found["changes"]) == ("triage-default@1", True, [])


def test_check__mistakes__are_all_named(client_of: ClientOf) -> None:
    response = client_of().post(f"{URL}/check", draft(policy={"gates": [], "alpha": 9}), format="json")

    assert response.status_code == 422
    assert {error["field"] for error in response.json()["errors"]} == {"gates", "alpha"}


@pytest.mark.parametrize(("text", "reference"), [("name: two\n" + TEXT, "two@1"), (TEXT, "draft@1")])
def test_check__no_name_given__is_that_of_the_text(client_of: ClientOf, text: str, reference: str) -> None:
    found = client_of().post(f"{URL}/check", {"text": text}, format="json").json()

    assert found["reference"] == reference


def test_check__text_of_another_policy__is_refused(client_of: ClientOf) -> None:
    response = client_of().post(f"{URL}/check", {"name": "one", "text": "name: two\n" + TEXT}, format="json")

    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "name")


def test_endpoint_policy__set__is_that_of_its_next_rollouts(client_of: ClientOf) -> None:
    factories.endpoint()
    define(alpha=0.01)
    client = client_of(Role.RELEASE_MANAGER)
    url = "/api/v1/endpoints/triage/gate-policy"

    stale = client.put(url, {"gate_policy": "triage-default", "expected": "other@1"}, format="json")
    response = client.put(
        url, {"gate_policy": "triage-default", "expected": "triage-default@1"}, format="json"
    )

    assert (stale.status_code, stale.json()["extra"]) == (409, {"current": "triage-default@1"})
    assert response.status_code == 200
    assert response.json()["gate_policy"] == "triage-default@2"
    assert str(Endpoint.objects.get().gate_policy) == "triage-default@2"


def test_endpoint_policy__engineer__is_403(client_of: ClientOf) -> None:
    factories.endpoint()

    response = client_of(Role.ENGINEER).put(
        "/api/v1/endpoints/triage/gate-policy", {"gate_policy": "triage-default"}, format="json"
    )

    assert response.status_code == 403
