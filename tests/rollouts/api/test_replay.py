"""GET /rollouts/ID/replay: done at once or part by part, refused with the row when the evidence was changed."""

from __future__ import annotations

import pytest

from controlplane.access.actors import HEADGATE
from rollouts.models import Evidence
from rollouts.services.evidence import replay
from rollouts.services.policies.versions import define_gate_policy
from tests import factories
from tests.controlplane.api.conftest import ClientOf

pytestmark = pytest.mark.django_db


def test_replay__of_a_recorded_rollout__is_identical(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()
    answer = client_of().get(f"/api/v1/rollouts/{made.pk}/replay")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["state"], body["done"], body["total"], body["run"]) == ("done", 14, 14, None)
    report = body["report"]
    assert (report["kind"], report["outcome"], report["kept"]) == ("replay", "identical", True)
    assert report["digest"] == made.evidence.latest("index").digest


def test_replay__that_takes_long__is_202_until_it_is_done(
    client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "STEPS_A_LOOK", 5)
    monkeypatch.setattr(replay, "PART_SECONDS", 0.0)
    made = factories.rollout_rolled_back()
    client, url = client_of(), f"/api/v1/rollouts/{made.pk}/replay"
    answer = client.get(url)
    assert answer.status_code == 202
    assert answer.json()["report"] is None
    for _ in range(10):
        answer = client.get(f"{url}?run={answer.json()['run']}")
        if answer.status_code == 200:
            break
    assert answer.json()["report"]["outcome"] == "identical"
    gone = client.get(f"{url}?run=00000000-0000-0000-0000-000000000000")
    assert gone.status_code == 404
    assert gone.json()["code"] == "replay-not-found"


def test_replay__changed_evidence__is_refused_with_the_row(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()
    Evidence.objects.filter(rollout=made, index=7).delete()
    problem = client_of().get(f"/api/v1/rollouts/{made.pk}/replay")
    assert problem.status_code == 422
    assert problem["content-type"] == "application/problem+json"
    assert problem.json()["code"] == "evidence-tampered"
    assert problem.json()["extra"] == {"row": "interval 7"}


def test_replay__under_another_policy__gives_both_courses(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()
    body = {**made.gate_policy.body, "alpha": 0.4}
    other = define_gate_policy(
        actor=HEADGATE, name=made.gate_policy.name, body=body, now=factories.right_now()
    )
    report = client_of().get(f"/api/v1/rollouts/{made.pk}/replay?policy={other}").json()["report"]
    assert report["kind"] == "what-if"
    assert report["recorded"]["policy"] == str(made.gate_policy)
    assert report["replayed"]["policy"] == str(other)
    assert report["replayed"]["rollback"]["after"] <= report["recorded"]["rollback"]["after"]


def test_replay__unknown_policy_or_rollout__names_the_field_or_is_404(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()
    client = client_of()
    refused = client.get(f"/api/v1/rollouts/{made.pk}/replay?policy=nope@1")
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "policy"
    assert client.get("/api/v1/rollouts/4711/replay").status_code == 404


def test_replay__without_a_token__is_401(client_of: ClientOf) -> None:
    made = factories.rollout_rolled_back()
    client = client_of()
    client.credentials()
    assert client.get(f"/api/v1/rollouts/{made.pk}/replay").status_code == 401
