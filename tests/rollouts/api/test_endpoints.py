from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.access.roles import Role
from controlplane.access.services import Scope
from controlplane.audit.models import AuditEvent
from controlplane.passes.models import ItemTrouble
from registry.models import Alias
from rollouts.api.endpoints import EndpointFeedback
from rollouts.domain.gates.outage import Outage
from rollouts.domain.serving import Serving
from rollouts.domain.uncounted import Uncounted
from rollouts.models import Endpoint, Feedback, HistoryEvent, Variant
from rollouts.selectors import WRITE_BACKS
from rollouts.services.commands import feedback
from rollouts.services.commands.uncounted import count_uncounted
from tests import factories
from tests.controlplane.api.conftest import ClientOf
from tests.rollouts.serving_attacks import ATTACKS, named

pytestmark = pytest.mark.django_db


def body(**changes: Any) -> dict[str, Any]:
    """What makes an endpoint of version 1 of `triage`."""
    return {
        "name": "support",
        "model": "triage",
        "version": 1,
        "gate_policy": "triage-default",
        "golden_set": "tickets",
        "cluster": "here",
    } | changes


def score(**changes: Any) -> dict[str, Any]:
    return {"request_id": "4f0c8a61-22", "score": "up"} | changes


def test_list__endpoints__by_name_with_stable_variant_and_active_rollout(client_of: ClientOf) -> None:
    model = factories.model()
    factories.endpoint("zeta", of=model)
    made = factories.rollout_paused(of=factories.endpoint("alpha", of=model))

    items = client_of(Role.VIEWER).get("/api/v1/endpoints").json()["items"]

    assert [item["name"] for item in items] == ["alpha", "zeta"]
    assert items[0]["stable"] == {"name": made.baseline.name, "version": 1}
    assert [(rollout["id"], rollout["phase"]) for rollout in items[0]["rollouts"]] == [(made.pk, "paused")]
    assert sum(items[0]["observed_shares"].values()) == 10_000
    assert items[1]["rollouts"] == []


def test_get__stable_variant_out_of_order__says_since_when(client_of: ClientOf) -> None:
    served = factories.endpoint()
    assert served.stable is not None
    client = client_of()
    assert client.get("/api/v1/endpoints/triage").json()["outage"] is None
    outage = Outage(1_772_446_931.0, 95.0, 425, 425, 400, "its engine is starting")
    served.outage = Serving(served.stable.name, outage).to_json()
    served.save()

    found = client.get("/api/v1/endpoints/triage").json()["outage"]

    assert (found["since"], found["requests"], found["rescued"]) == ("2026-03-02T10:22:11Z", 425, 400)


def test_list__more_endpoints__cost_no_more_queries(client_of: ClientOf) -> None:
    client = client_of()
    model = factories.model()
    factories.endpoint("first", of=model)
    client.get("/api/v1/endpoints")
    with CaptureQueriesContext(connection) as few:
        client.get("/api/v1/endpoints")
    for number in range(5):
        factories.endpoint(f"more-{number}", of=model)

    with CaptureQueriesContext(connection) as more:
        assert len(client.get("/api/v1/endpoints").json()["items"]) == 6

    assert len(more) == len(few)


def test_get__endpoint__says_what_mlflow_really_has(client_of: ClientOf) -> None:
    made = factories.endpoint()
    Alias.objects.filter(name=made.alias).update(version=made.model.versions.get(number=2))
    made.model.versions.filter(number=1).update(gone_at=factories.right_now())
    ItemTrouble.objects.create(
        pass_name=WRITE_BACKS, item=str(made.pk), label="x", error="MLflow failed (500).",
        first_failed_at=factories.right_now(), last_attempt_at=factories.right_now(),
        next_attempt_at=factories.right_now(),
    )  # fmt: skip
    got = client_of(Role.VIEWER).get("/api/v1/endpoints/triage").json()
    assert (got["alias_version"], got["alias_problem"]) == (2, "MLflow failed (500).")
    assert got["alias_read_at"] is not None
    assert got["stable_deleted_at"] is not None


def test_get__unknown_endpoint__is_404(client_of: ClientOf) -> None:
    response = client_of().get("/api/v1/endpoints/nowhere")

    assert (response.status_code, response.json()["code"]) == (404, "endpoint-not-found")


def test_create__good_request__is_201_and_launches(client_of: ClientOf, woken: list[int]) -> None:
    factories.endpoint()

    response = client_of(Role.RELEASE_MANAGER).post("/api/v1/endpoints", body(), format="json")

    assert response.status_code == 201, response.json()
    assert response["Location"] == "/api/v1/endpoints/support"
    made = Endpoint.objects.get(name="support")
    assert response.json()["stable"]["name"] == made.stable.name  # type: ignore[union-attr]
    assert made.effects.get().kind == "ensure-workload"
    assert woken == [made.pk]


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"name": "Support!"}, 422, "name"),
        ({"golden_set": ""}, 422, "golden_set"),
        ({"gate_policy": "none@1"}, 422, "gate_policy"),
        ({"cluster": "moon"}, 422, "cluster"),
        ({"model": None}, 400, "model"),
    ],
)
def test_create__wrong_value__is_refused_naming_it(
    changes: dict[str, Any], status: int, field: str, client_of: ClientOf
) -> None:
    factories.endpoint()

    response = client_of(Role.RELEASE_MANAGER).post("/api/v1/endpoints", body(**changes), format="json")

    assert response.status_code == status, response.json()
    assert response.json()["errors"][0]["field"] == field
    assert Endpoint.objects.count() == 1


def test_create__name_taken__is_409(client_of: ClientOf) -> None:
    factories.endpoint()

    response = client_of(Role.RELEASE_MANAGER).post("/api/v1/endpoints", body(name="triage"), format="json")

    assert (response.status_code, response.json()["code"]) == (409, "endpoint-exists")


def test_create__unknown_version__is_404_and_engineer_is_403(client_of: ClientOf) -> None:
    factories.endpoint()

    unknown = client_of(Role.RELEASE_MANAGER).post("/api/v1/endpoints", body(version=9), format="json")
    engineer = client_of(Role.ENGINEER).post("/api/v1/endpoints", body(), format="json")

    assert (unknown.status_code, engineer.status_code) == (404, 403)


def test_create__without_rescue__is_kept(client_of: ClientOf) -> None:
    factories.endpoint()
    response = client_of(Role.RELEASE_MANAGER).post("/api/v1/endpoints", body(rescue=False), format="json")
    assert (response.status_code, response.json()["rescue"]) == (201, False)
    assert not Endpoint.objects.get(name="support").rescue


def test_rescue__switched_off__is_told_audited_and_wakes_the_loop(
    client_of: ClientOf, woken: list[int]
) -> None:
    made = factories.endpoint()
    client = client_of(Role.RELEASE_MANAGER)

    response = client.put("/api/v1/endpoints/triage/rescue", {"on": False}, format="json")
    again = client.put("/api/v1/endpoints/triage/rescue", {"on": False}, format="json")

    assert (response.status_code, response.json()["rescue"], again.status_code) == (200, False, 200)
    assert woken == [made.pk, made.pk]
    assert [event.kind for event in HistoryEvent.objects.filter(endpoint=made, kind="rescue")] == ["rescue"]
    audited = AuditEvent.objects.get(action="endpoint.rescue-set")
    assert (audited.before, audited.after) == ({"rescue": True}, {"rescue": False})


@pytest.mark.parametrize(
    ("role", "name", "sent", "status"),
    [
        (Role.ENGINEER, "triage", {"on": False}, 403),
        (Role.RELEASE_MANAGER, "nowhere", {"on": False}, 404),
        (Role.RELEASE_MANAGER, "triage", {}, 400),
        (Role.RELEASE_MANAGER, "triage", {"on": "perhaps"}, 400),
    ],
)
def test_rescue__not_allowed_or_impossible__changes_nothing(
    client_of: ClientOf, role: Role, name: str, sent: dict[str, Any], status: int
) -> None:
    made = factories.endpoint()
    response = client_of(role).put(f"/api/v1/endpoints/{name}/rescue", sent, format="json")
    made.refresh_from_db()
    assert (response.status_code, made.rescue) == (status, True)


def test_variants__of_an_endpoint__newest_first_with_workload(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()

    items = client_of().get("/api/v1/endpoints/triage/variants").json()["items"]

    assert [item["name"] for item in items] == [made.candidate.name, made.baseline.name]
    assert items[0]["workload"]["phase"] == "ready"
    assert items[0]["serving"]["arguments"]["max-num-seqs"] == 64


def test_history__of_an_endpoint__names_the_rollout(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()

    items = client_of().get("/api/v1/endpoints/triage/history?limit=1").json()["items"]

    assert (items[0]["rollout"], items[0]["title"]) == (made.pk, "Rolled back to v1")


# --- feedback ---------------------------------------------------------------------------------------------


def test_feedback__known_variant__is_202_and_pending(client_of: ClientOf) -> None:
    variant = factories.endpoint().stable
    assert variant is not None

    response = client_of(Role.VIEWER, (Scope.FEEDBACK_WRITE,)).post(
        "/api/v1/endpoints/triage/feedback", score(variant=variant.name, score="down"), format="json"
    )

    assert response.status_code == 202, response.json()
    assert response.json()["state"] == "pending"
    kept = Feedback.objects.get()
    assert (kept.request_id, kept.variant, kept.up) == ("4f0c8a61-22", variant.name, False)


def test_feedback__same_response_twice__is_409_and_one_counts(client_of: ClientOf) -> None:
    variant = factories.endpoint().stable
    assert variant is not None
    client = client_of()
    url = "/api/v1/endpoints/triage/feedback"
    client.post(url, score(variant=variant.name), format="json")

    again = client.post(url, score(variant=variant.name, score="down"), format="json")

    assert (again.status_code, again.json()["code"]) == (409, "already-rated")
    assert Feedback.objects.get().up is True


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"score": "5 stars"}, 400, "score"),
        ({"variant": "triage-v9-000000"}, 422, "variant"),
        ({"request_id": "x"}, 400, "request_id"),
    ],
)
def test_feedback__wrong_value__is_refused_naming_it(
    changes: dict[str, Any], status: int, field: str, client_of: ClientOf
) -> None:
    variant = factories.endpoint().stable
    assert variant is not None

    response = client_of().post(
        "/api/v1/endpoints/triage/feedback", score(variant=variant.name) | changes, format="json"
    )

    assert response.status_code == status, response.json()
    assert response.json()["errors"][0]["field"] == field
    assert not Feedback.objects.exists()


def test_feedback__token_without_its_scope__is_403(client_of: ClientOf) -> None:
    factories.endpoint()

    response = client_of(Role.ADMINISTRATOR, (Scope.READ, Scope.ROLLOUTS_WRITE)).post(
        "/api/v1/endpoints/triage/feedback", score(variant="x"), format="json"
    )

    assert (response.status_code, response.json()["code"]) == (403, "missing-scope")


def test_feedback__more_than_the_rate__is_429(client_of: ClientOf, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.clear()
    monkeypatch.setattr(EndpointFeedback, "rate", "2/min")
    variant = factories.endpoint().stable
    assert variant is not None
    client = client_of()

    answers = [
        client.post(
            "/api/v1/endpoints/triage/feedback",
            score(variant=variant.name, request_id=f"request-{number}"),
            format="json",
        )
        for number in range(3)
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert Feedback.objects.count() == 2


def test_feedback__too_many_wait__is_429_with_retry_after_and_counted(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.clear()
    monkeypatch.setattr(feedback, "MOST_WAITING", 1)
    variant = factories.endpoint().stable
    assert variant is not None
    client = client_of()
    url = "/api/v1/endpoints/triage/feedback"
    client.post(url, score(variant=variant.name), format="json")

    answer = client.post(url, score(variant=variant.name, request_id="request-2"), format="json")

    assert (answer.status_code, answer["Retry-After"]) == (429, "30")
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["title"]) == ("too-many-waiting-ratings", "Too many requests")
    assert "Send it again later" in problem["fix"]
    shown = client.get("/api/v1/endpoints/triage").json()["uncounted_ratings"]
    assert (shown["unverifiable"], shown["forced"], shown["refused"]) == (0, 0, 1)
    assert shown["sentence"].startswith("In the last 24 h 1 rating did not count")


def test_list__ratings_that_did_not_count__stand_with_each_endpoint(client_of: ClientOf) -> None:
    first = factories.endpoint("first")
    factories.endpoint("second", of=first.model)
    count_uncounted(endpoint=first, more=Uncounted(unverifiable=3), now=factories.right_now())

    items = client_of().get("/api/v1/endpoints").json()["items"]

    assert [item["uncounted_ratings"]["unverifiable"] for item in items] == [3, 0]


# --- what a serving spec may set ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "serving"), ATTACKS)
def test_create__serving_spec_that_brings_something__is_refused_by_field_and_makes_nothing(
    client_of: ClientOf, field: str, serving: dict[str, Any]
) -> None:
    factories.endpoint()
    before = Variant.objects.count()

    response = client_of(Role.RELEASE_MANAGER).post("/api/v1/endpoints", body(serving=serving), format="json")

    assert response.status_code == 422, response.json()
    assert response["Content-Type"] == "application/problem+json"
    assert named(f"serving.{field}", of=response.json()["errors"][0]["field"])
    assert not Endpoint.objects.filter(name="support").exists()
    assert Variant.objects.count() == before


def test_create__declared_options__are_kept_as_they_were_given(client_of: ClientOf) -> None:
    factories.endpoint()
    serving = {
        "arguments": {
            "max-model-len": 256,
            "limit-mm-per-prompt": {"image": 2},
            "enable-prefix-caching": True,
        },
        "environment": {"VLLM_LOGGING_LEVEL": "DEBUG"},
    }

    response = client_of(Role.RELEASE_MANAGER).post("/api/v1/endpoints", body(serving=serving), format="json")

    assert response.status_code == 201, response.json()
    stored = Variant.objects.get(endpoint__name="support").serving
    assert {name: stored[name] for name in serving} == serving
