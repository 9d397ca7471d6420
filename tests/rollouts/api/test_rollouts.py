from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.access.actors import HEADGATE
from controlplane.access.roles import Role
from controlplane.access.services import Scope
from controlplane.audit.models import AuditEvent
from rollouts import wiring
from rollouts.domain.gates.outage import Outage
from rollouts.domain.record.intervals import Completions, Outcomes
from rollouts.models import Rollout, Variant
from rollouts.services.policies.versions import define_gate_policy
from tests import factories
from tests.controlplane.api.conftest import ClientOf
from tests.rollouts.serving_attacks import ATTACKS, named

pytestmark = pytest.mark.django_db


def body(**changes: Any) -> dict[str, Any]:
    """What starts a rollout of version 2 on the endpoint `triage`."""
    return {"endpoint": "triage", "version": 2, "plan": factories.PLAN.to_json()} | changes


# --- starting ---------------------------------------------------------------------------------------------


def test_start__good_request__is_201_with_the_rollout_and_its_address(
    client_of: ClientOf, woken: list[int]
) -> None:
    endpoint = factories.endpoint()

    response = client_of().post("/api/v1/rollouts", body(note="better"), format="json")

    assert response.status_code == 201, response.json()
    rollout = response.json()
    assert response["Location"] == f"/api/v1/rollouts/{rollout['id']}"
    assert (rollout["endpoint"], rollout["phase"], rollout["note"]) == ("triage", "pending", "better")
    assert rollout["candidate"]["version"] == 2
    assert rollout["plan"] == factories.PLAN.to_json()
    assert [arm["desired_bp"] for arm in rollout["arms"]] == [10_000, 0]
    assert woken == [endpoint.pk]


def test_start__by_token__is_audited_as_person_via_token(client_of: ClientOf) -> None:
    factories.endpoint()

    client_of().post("/api/v1/rollouts", body(), format="json", headers={"X-Request-ID": "r-1"})

    event = AuditEvent.objects.get(action="rollout.created")
    assert (event.actor, event.actor_kind, event.request_id) == ("engineer via ci", "token", "r-1")


def test_start__dry_run__answers_a_preview_and_writes_nothing(client_of: ClientOf, woken: list[int]) -> None:
    factories.endpoint()

    response = client_of().post("/api/v1/rollouts", body(dry_run=True), format="json")

    assert response.status_code == 200, response.json()
    preview = response.json()
    assert preview["can_start"] is True
    assert {check["state"] for check in preview["checks"]} <= {"ok", "warning"}
    (unread,) = [check for check in preview["checks"] if check["code"] == "signals-unreadable"]
    assert unread["state"] == "warning"  # no router runs here
    assert any("more engine needs" in check["title"] for check in preview["checks"])
    assert [step["share_bp"] for step in preview["steps"]] == [500, 2500, 5000]
    assert [gate["key"] for gate in preview["gates"]] == ["quality", "errors", "ttft", "thumbs"]
    assert not Rollout.objects.exists()
    assert not Variant.objects.filter(version__number=2).exists()
    assert woken == []


def test_start__another_is_active__is_409_naming_it(client_of: ClientOf) -> None:
    active = factories.rollout_progressing()

    response = client_of().post("/api/v1/rollouts", body(version=3), format="json")

    assert (response.status_code, response.json()["code"]) == (409, "rollout-active")
    assert response.json()["extra"]["rollout"] == active.pk


def test_start__same_key_twice__is_one_rollout(client_of: ClientOf) -> None:
    factories.endpoint()
    client = client_of()

    answers = [
        client.post("/api/v1/rollouts", body(), format="json", headers={"Idempotency-Key": "build-7"})
        for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert Rollout.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"version": 99}, 422, "version"),
        ({"version": 0}, 400, "version"),
        ({"gate_policy": "nobody"}, 422, "gate_policy"),
        ({"plan": {"steps": []}}, 422, "plan.steps"),
        ({"plan": {"steps": [{"share_bp": 10_000, "hold_seconds": 5}]}}, 422, "plan.steps[0].share_bp"),
        ({"plan": {"steps": [{"share_bp": 500, "hold": 5}]}}, 422, "plan.steps[0].hold"),
        ({"plan": "5,25,50"}, 400, "plan"),
        ({"serving": {"replicas": 0}}, 422, "serving.replicas"),
        ({"serving": {"image": "registry.example/vllm"}}, 422, "serving.image"),
        ({"serving": {"image": "registry.example/vllm:v1"}}, 422, "serving.image"),  # none on this machine
        ({"serving": {"accelerators": {"count": 0}}}, 422, "serving.accelerators.count"),
        (
            {"serving": {"accelerators": {"count": 1, "resource": "nvidia.com/gpu"}}},
            422,
            "serving.accelerators",
        ),
        ({"serving": []}, 400, "serving"),
        ({"sreving": {}}, 400, "sreving"),
    ],
)
def test_start__wrong_value__is_refused_naming_it(
    changes: dict[str, Any], status: int, field: str, client_of: ClientOf
) -> None:
    factories.endpoint()

    response = client_of().post("/api/v1/rollouts", body(**changes), format="json")

    assert response.status_code == status, response.json()
    assert [item["field"] for item in response.json()["errors"]] == [field]
    assert not Rollout.objects.exists()


@pytest.mark.parametrize(("field", "serving"), ATTACKS)
def test_start__serving_spec_that_brings_something__is_refused_by_field_and_dry_run_says_so(
    client_of: ClientOf, woken: list[int], field: str, serving: dict[str, Any]
) -> None:
    factories.endpoint()
    client = client_of()

    response = client.post("/api/v1/rollouts", body(serving=serving), format="json")
    preview = client.post("/api/v1/rollouts", body(serving=serving, dry_run=True), format="json").json()

    assert response.status_code == 422, response.json()
    assert named(f"serving.{field}", of=response.json()["errors"][0]["field"])
    assert preview["can_start"] is False
    refused = [check for check in preview["checks"] if check["state"] == "refused"]
    assert [named(f"serving.{field}", of=check["field"]) for check in refused] == [True]
    assert not Rollout.objects.exists()
    assert woken == []


def test_dry_run__image_that_the_cluster_does_not_run__is_refused_by_field(client_of: ClientOf) -> None:
    factories.endpoint()
    serving = {"image": "registry.example/vllm:v1"}

    preview = client_of().post("/api/v1/rollouts", body(serving=serving, dry_run=True), format="json").json()

    refused = [check for check in preview["checks"] if check["state"] == "refused"]
    assert [check["field"] for check in refused] == ["serving.image"]
    assert preview["can_start"] is False


def test_start__stable_variant_from_before_the_options__is_refused_naming_what_to_leave_out(
    client_of: ClientOf,
) -> None:
    stable = factories.endpoint().stable
    assert stable is not None
    stable.serving["environment"] = {"BASH_ENV": "/tmp/x"}
    stable.save()
    client = client_of()

    response = client.post("/api/v1/rollouts", body(), format="json")
    other = client.post(
        "/api/v1/rollouts", body(serving={"arguments": {"max-model-len": 256}}), format="json"
    )

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "serving.environment.BASH_ENV"
    assert other.status_code == 201, other.json()


def test_start__unknown_endpoint__is_404(client_of: ClientOf) -> None:
    response = client_of().post("/api/v1/rollouts", body(endpoint="nowhere"), format="json")

    assert (response.status_code, response.json()["code"]) == (404, "endpoint-not-found")


def test_start__version_with_a_changed_file__is_refused_naming_the_remedy(client_of: ClientOf) -> None:
    factories.endpoint().model.versions.filter(number=2).update(
        manifest_state="changed", manifest_problem="model.safetensors differs"
    )

    response = client_of().post("/api/v1/rollouts", body(), format="json")

    assert response.status_code == 422
    assert "model.safetensors" in response.json()["detail"]
    assert response.json()["fix"]
    assert not Rollout.objects.exists()


def test_start__slo_that_is_no_bucket_edge__names_both_neighbours(client_of: ClientOf) -> None:
    edges = wiring.worlds().edges()
    assert edges is not None
    below, above = edges["ttft"][2:4]
    endpoint = factories.endpoint()
    gates = [dict(gate) for gate in endpoint.gate_policy.body["gates"]]
    gates[2]["slo_seconds"] = (below + above) / 2
    endpoint.gate_policy = define_gate_policy(
        actor=HEADGATE,
        name="between-edges",
        body={**endpoint.gate_policy.body, "gates": gates},
        now=factories.right_now(),
    )
    endpoint.save()

    response = client_of().post("/api/v1/rollouts", body(), format="json")

    assert (response.status_code, response.json()["code"]) == (422, "slo-not-an-edge")
    problem = response.json()
    assert problem["errors"][0]["field"] == "gates[2].slo_seconds"
    assert problem["extra"] == {"below": below, "above": above}
    assert not Rollout.objects.exists()


def test_start__viewer__is_403_naming_the_role(client_of: ClientOf) -> None:
    factories.endpoint()

    response = client_of(Role.VIEWER).post("/api/v1/rollouts", body(), format="json")

    assert (response.status_code, response.json()["detail"]) == (403, "Needs engineer.")


# --- reading ----------------------------------------------------------------------------------------------


def test_get__rolled_back__says_why_for_people_and_programs(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()

    rollout = client_of().get(f"/api/v1/rollouts/{made.pk}").json()

    assert rollout["phase"] == "rolled-back"
    assert rollout["cause"] == "gate:quality"
    assert rollout["cause_sentence"] == made.cause_sentence


def test_get__unknown__is_404(client_of: ClientOf) -> None:
    response = client_of().get("/api/v1/rollouts/999")

    assert (response.status_code, response.json()["code"]) == (404, "rollout-not-found")


def test_list__filters__narrow_it(client_of: ClientOf) -> None:
    model = factories.model()
    back = factories.rollout_rolled_back(of=factories.endpoint("one", of=model))
    held = factories.rollout_paused(of=factories.endpoint("two", of=model))
    client = client_of(Role.VIEWER)

    def ids(query: str) -> list[int]:
        return [item["id"] for item in client.get(f"/api/v1/rollouts{query}").json()["items"]]

    assert ids("") == [held.pk, back.pk]
    assert ids("?endpoint=one") == [back.pk]
    assert ids("?active=true") == [held.pk]
    assert ids("?phase=rolled-back") == [back.pk]
    assert ids("?endpoint=one&active=true") == []


@pytest.mark.parametrize(
    ("query", "status"), [("phase=sleeping", 400), ("actve=1", 400), ("endpoint=x", 404)]
)
def test_list__nonsense__is_refused(query: str, status: int, client_of: ClientOf) -> None:
    assert client_of().get(f"/api/v1/rollouts?{query}").status_code == status


def test_list__more_rollouts__cost_no_more_queries(client_of: ClientOf) -> None:
    client = client_of()
    endpoint = factories.endpoint()
    factories.rollout_rolled_back(of=endpoint)
    client.get("/api/v1/rollouts")
    with CaptureQueriesContext(connection) as few:
        client.get("/api/v1/rollouts")
    factories.rollout_rolled_back(of=endpoint, number=2)
    factories.rollout_paused(of=endpoint)

    with CaptureQueriesContext(connection) as more:
        assert len(client.get("/api/v1/rollouts").json()["items"]) == 3

    assert len(more) == len(few) <= 4


def test_history__of_a_rollout__newest_first(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()

    events = client_of().get(f"/api/v1/rollouts/{made.pk}/history").json()["items"]

    assert events[0]["title"] == "Rolled back to v1"
    assert [event["id"] for event in events] == sorted((event["id"] for event in events), reverse=True)


def test_evidence__after_an_index__goes_on_behind_it(client_of: ClientOf) -> None:
    made = factories.rollout_progressing(intervals=6)
    client = client_of()

    first = client.get(f"/api/v1/rollouts/{made.pk}/evidence?limit=4").json()["items"]
    rest = client.get(f"/api/v1/rollouts/{made.pk}/evidence?after={first[-1]['index']}").json()["items"]

    assert [row["index"] for row in first + rest] == [0, 1, 2, 3, 4, 5]
    assert first[0]["interval"]["arms"]["candidate"]["requests"] > 0
    assert first[0]["digest"].startswith("sha256:")


def test_get__arms__say_how_their_requests_ended_and_what_their_engines_finished(client_of: ClientOf) -> None:
    candidate = Outcomes(205, 212, 3, 1, 2, 4, 9, 12, running=3)
    made = factories.with_outcomes(factories.rollout_progressing(), candidate=candidate)
    made.arms.filter(name="candidate").update(completions=Completions(200, 10, 50, 1, 3300).to_json())

    baseline, arm = client_of().get(f"/api/v1/rollouts/{made.pk}").json()["arms"]

    assert arm["outcomes"] == candidate.to_json()
    assert arm["completions"] == {
        "total": 200,
        "empty": 10,
        "truncated": 50,
        "filtered": 1,
        "tokens": 3300,
    }
    assert (baseline["outcomes"], baseline["completions"]) == (None, None)


def test_verdicts__baseline_out_of_order__have_since_when_and_how_many(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()
    client = client_of()
    assert client.get(f"/api/v1/rollouts/{made.pk}/verdicts").json()["outage"] is None
    outage = Outage(1_772_446_931.0, 95.0, 425, 425, 400, "its engine is starting")
    made.verdicts = {**made.verdicts, "outage": outage.to_json()}
    made.save()

    found = client.get(f"/api/v1/rollouts/{made.pk}/verdicts").json()["outage"]

    assert found == {**outage.to_json(), "since": "2026-03-02T10:22:11Z"}


def test_verdicts__with_evidence__have_a_sentence_each(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()

    answer = client_of().get(f"/api/v1/rollouts/{made.pk}/verdicts").json()

    assert answer["rollback"] is True
    assert answer["cause"] == "quality"
    assert [verdict["key"] for verdict in answer["verdicts"]] == ["quality", "errors", "ttft", "thumbs"]
    assert all(verdict["sentence"] for verdict in answer["verdicts"])
    assert answer["verdicts"][0]["verdict"] == "fail"


def test_verdicts__before_anything_was_measured__are_empty(client_of: ClientOf) -> None:
    made = factories.rollout_pending()

    answer = client_of().get(f"/api/v1/rollouts/{made.pk}/verdicts").json()

    assert answer["verdicts"] == []
    assert answer["rollback"] is False


# --- acting -----------------------------------------------------------------------------------------------


def test_pause__progressing__is_paused_with_the_reason(client_of: ClientOf, woken: list[int]) -> None:
    made = factories.rollout_progressing()

    response = client_of().post(
        f"/api/v1/rollouts/{made.pk}/pause",
        {"expected_revision": made.revision, "why": "Lunch."},
        format="json",
    )

    assert response.status_code == 200, response.json()
    assert (response.json()["phase"], response.json()["pause_reason"]) == ("paused", "person")
    assert "Lunch." in response.json()["reason"]
    assert response.json()["revision"] == made.revision + 1
    assert woken == [made.endpoint_id]


def test_resume__paused__is_progressing(client_of: ClientOf) -> None:
    made = factories.rollout_paused()

    response = client_of().post(f"/api/v1/rollouts/{made.pk}/resume", {}, format="json")

    assert (response.status_code, response.json()["phase"]) == (200, "progressing")


def test_rollback__progressing__is_rolling_back_by_a_person(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()

    response = client_of().post(f"/api/v1/rollouts/{made.pk}/rollback", {"why": "No."}, format="json")

    assert response.status_code == 200
    assert (response.json()["phase"], response.json()["cause"]) == ("rolling-back", "person")


def test_cancel__pending__is_cancelled(client_of: ClientOf) -> None:
    made = factories.rollout_pending()

    response = client_of().post(f"/api/v1/rollouts/{made.pk}/cancel", {}, format="json")

    assert (response.status_code, response.json()["phase"]) == (200, "cancelled")


def test_promote__engineer__is_403_and_release_manager_may(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()
    url = f"/api/v1/rollouts/{made.pk}/promote"

    assert client_of(Role.ENGINEER).post(url, {}, format="json").json()["detail"] == "Needs release manager."
    assert client_of(Role.RELEASE_MANAGER).post(url, {}, format="json").json()["phase"] == "promoting"


@pytest.mark.parametrize("name", ["expected_revision", "expected_version"])
@pytest.mark.parametrize("action", ["pause", "resume", "promote", "rollback", "cancel"])
def test_action__older_revision__is_409_with_the_fresh_state(
    action: str, name: str, client_of: ClientOf, woken: list[int]
) -> None:
    made = factories.rollout_progressing()

    response = client_of(Role.RELEASE_MANAGER).post(
        f"/api/v1/rollouts/{made.pk}/{action}", {name: made.revision - 1}, format="json"
    )

    assert (response.status_code, response.json()["code"]) == (409, "revision-conflict")
    current = response.json()["extra"]["current"]
    assert (current["id"], current["revision"], current["phase"]) == (made.pk, made.revision, "progressing")
    assert Rollout.objects.get().revision == made.revision
    assert woken == []


def test_action__two_revisions_by_two_names__is_refused(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()
    said = {"expected_revision": made.revision, "expected_version": made.revision - 1}
    response = client_of().post(f"/api/v1/rollouts/{made.pk}/pause", said, format="json")
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "expected_version"


def test_action__state_does_not_allow_it__is_409_saying_what_is_possible(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()

    response = client_of().post(f"/api/v1/rollouts/{made.pk}/pause", {}, format="json")

    assert response.status_code == 409
    assert response.json()["extra"]["current"]["phase"] == "rolled-back"
    assert response.json()["fix"]


def test_action__token_that_only_reads__is_403(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()

    response = client_of(Role.ADMINISTRATOR, (Scope.READ,)).post(
        f"/api/v1/rollouts/{made.pk}/rollback", {}, format="json"
    )

    assert (response.status_code, response.json()["code"]) == (403, "missing-scope")
    assert Rollout.objects.get().phase == "progressing"


def test_rollback__global_stop_is_on__is_done_all_the_same(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()
    client = client_of(Role.RELEASE_MANAGER)
    client.put("/api/v1/global-stop", {"on": True, "why": "incident"}, format="json")

    assert client.post(f"/api/v1/rollouts/{made.pk}/promote", {}, format="json").status_code == 422
    assert client.post(f"/api/v1/rollouts/{made.pk}/rollback", {}, format="json").status_code == 200
