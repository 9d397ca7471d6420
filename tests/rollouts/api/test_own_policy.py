"""A policy of one rollout over REST: the same rule as on the page, who may use a weaker one, and how it is told."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.access.actors import HEADGATE
from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from rollouts.models import Endpoint, GatePolicyVersion, Rollout
from rollouts.services.policies.text import policy_text
from rollouts.services.policies.versions import define_gate_policy
from rollouts.services.preview import rollout as preview
from tests import factories
from tests.controlplane.api.conftest import ClientOf

pytestmark = pytest.mark.django_db
BAD_RATIO = "gates:\n  - {key: e, kind: error_rate, ratio: x}\n"


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint()


def body(**changes: Any) -> dict[str, Any]:
    return {"endpoint": "triage", "version": 2, "plan": factories.PLAN.to_json()} | changes


def policy_with(endpoint: Endpoint, **changes: Any) -> dict[str, Any]:
    """The endpoint's policy with other values of its gate `ttft`."""
    stored = endpoint.gate_policy.body
    gates = [gate | changes if gate["key"] == "ttft" else gate for gate in stored["gates"]]
    return {name: value for name, value in stored.items() if name not in ("name", "version")} | {
        "gates": gates
    }


def test_start__stricter_own_policy__is_kept_with_the_rollout_and_is_no_version(
    client_of: ClientOf, endpoint: Endpoint
) -> None:
    sent = policy_with(endpoint, ratio=1.25)
    client = client_of()
    made = client.post("/api/v1/rollouts", body(own_policy=sent), format="json")
    assert made.status_code == 201, made.json()
    assert made.json()["gate_policy"] == "triage-default@1"
    assert [g["ratio"] for g in made.json()["own_policy"]["gates"] if g["key"] == "ttft"] == [1.25]
    listed = client.get("/api/v1/gate-policies").json()["items"]
    assert [f"{one['name']}@{one['version']}" for one in listed] == ["triage-default@1"]


@pytest.mark.parametrize("url", ["/api/v1/rollouts", "/api/v1/gate-policies"])
def test_policy_object__longer_than_its_text_may_be__is_refused(
    client_of: ClientOf, endpoint: Endpoint, url: str
) -> None:
    sent = policy_with(endpoint, label="x" * 40_000)
    answer = client_of(Role.RELEASE_MANAGER).post(
        url, body(own_policy=sent) if "rollouts" in url else {"name": "mine", "policy": sent}, format="json"
    )
    assert answer.status_code == 400
    assert "longer than 32,000 characters" in answer.content.decode()


def test_start__weaker_own_policy__is_403_with_every_weaker_value_for_an_engineer(
    client_of: ClientOf, endpoint: Endpoint
) -> None:
    sent = policy_with(endpoint, ratio=1000, required=False)
    answer = client_of().post("/api/v1/rollouts", body(own_policy=sent), format="json")
    problem = answer.json()
    assert answer.status_code == 403
    assert problem["code"] == "weaker-policy"
    assert problem["extra"]["needs"] == "release_manager"
    assert [one["field"] for one in problem["extra"]["weaker"]] == ["gates.ttft.ratio", "gates.ttft.required"]
    assert not Rollout.objects.exists()


def test_start__weaker_own_policy__is_a_release_manager_s_and_audited(
    client_of: ClientOf, endpoint: Endpoint
) -> None:
    sent = policy_with(endpoint, ratio=1000)
    made = client_of(Role.RELEASE_MANAGER).post("/api/v1/rollouts", body(own_policy=sent), format="json")
    assert made.status_code == 201, made.json()
    after = AuditEvent.objects.get(action="rollout.created").after
    assert after is not None
    assert after["gate_policy"] == "policy of this rollout, from triage-default@1"
    assert [one["field"] for one in after["weaker"]] == ["gates.ttft.ratio"]


def test_start__weaker_shared_policy__is_the_same_rule(client_of: ClientOf, endpoint: Endpoint) -> None:
    """Whoever chooses a lenient policy that somebody stored for another endpoint needs the same role."""
    lenient = define_gate_policy(
        name="lenient", body=policy_with(endpoint, ratio=1000), actor=HEADGATE, now=factories.right_now()
    )
    refused = client_of().post("/api/v1/rollouts", body(gate_policy="lenient"), format="json")
    assert (refused.status_code, refused.json()["code"]) == (403, "weaker-policy")
    made = client_of(Role.RELEASE_MANAGER).post(
        "/api/v1/rollouts", body(gate_policy="lenient"), format="json"
    )
    assert made.status_code == 201
    assert Rollout.objects.get().gate_policy == lenient


def test_start__own_policy_as_strict_as_its_lenient_source__is_still_weaker_than_the_endpoint_s(
    client_of: ClientOf, endpoint: Endpoint
) -> None:
    lenient = policy_with(endpoint, ratio=1000)
    define_gate_policy(name="lenient", body=lenient, actor=HEADGATE, now=factories.right_now())
    sent = body(gate_policy="lenient", own_policy=lenient | {"beta": 0.01})
    assert client_of().post("/api/v1/rollouts", sent, format="json").json()["code"] == "weaker-policy"


def test_start__own_policy_that_says_the_same__is_none(client_of: ClientOf, endpoint: Endpoint) -> None:
    text = policy_text(endpoint.gate_policy.policy)
    made = client_of().post("/api/v1/rollouts", body(own_policy_text=text), format="json")
    assert made.status_code == 201, made.json()
    assert made.json()["own_policy"] is None


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        ({"own_policy": {"gates": []}}, 422, "own_policy.gates"),
        ({"own_policy_text": BAD_RATIO}, 422, "own_policy_text.gates[0].ratio"),
        ({"own_policy_text": "{"}, 422, "own_policy_text"),
        ({"own_policy_text": "- 1"}, 422, "own_policy_text"),
        ({"own_policy": {}, "own_policy_text": "a: 1"}, 400, "own_policy_text"),
        ({"own_policy": [1]}, 400, "own_policy"),
    ],
)
def test_start__own_policy_that_is_none__is_refused_at_its_field(
    client_of: ClientOf, endpoint: Endpoint, sent: dict[str, Any], status: int, field: str
) -> None:
    answer = client_of(Role.RELEASE_MANAGER).post("/api/v1/rollouts", body(**sent), format="json")
    assert answer.status_code == status, answer.json()
    assert answer.json()["errors"][0]["field"] == field
    assert not Rollout.objects.exists()


def test_dry_run__weaker_own_policy__is_a_refused_check_for_an_engineer_and_a_warning_for_a_manager(
    client_of: ClientOf, endpoint: Endpoint
) -> None:
    sent = body(own_policy=policy_with(endpoint, ratio=1000), dry_run=True)

    def state(role: Role) -> list[str]:
        checks = client_of(role).post("/api/v1/rollouts", sent, format="json").json()["checks"]
        return [check["state"] for check in checks if check["code"] == "weaker-policy"]

    assert state(Role.ENGINEER) == ["refused"]
    assert state(Role.RELEASE_MANAGER) == ["warning"]


def test_start__endpoint_got_a_stricter_policy_meanwhile__conflicts(
    client_of: ClientOf, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role was checked against the policy that was read: one that came after it is looked at again."""

    def tightened_meanwhile(*args: Any) -> Any:
        stricter = define_gate_policy(
            name="strict", body=policy_with(endpoint, ratio=1.1), actor=HEADGATE, now=factories.right_now()
        )
        Endpoint.objects.filter(pk=endpoint.pk).update(gate_policy=stricter)
        return found(*args)

    found = preview.find_candidates
    monkeypatch.setattr("rollouts.services.commands.start.find_candidates", tightened_meanwhile)
    answer = client_of().post("/api/v1/rollouts", body(), format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "policy-changed")
    assert GatePolicyVersion.objects.count() == 2
    assert not Rollout.objects.exists()
