"""Bandits over the API: starting one, reading its arms and its verdict, choosing an arm."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.access.roles import Role
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.lifecycle.plan import Plan
from rollouts.models import Arm, Rollout, Variant
from tests import factories
from tests.controlplane.api.conftest import ClientOf
from tests.factories import bandits

pytestmark = [pytest.mark.story, pytest.mark.django_db]


def body(**changes: Any) -> dict[str, Any]:
    """What starts a bandit of versions 2 and 3 on the endpoint `triage`."""
    plan = {"strategy": "bandit", "bandit": {"beta": 0.7}}
    return {"endpoint": "triage", "versions": [2, 3], "plan": plan} | changes


# --- starting -----------------------------------------------------------------------------------------------


def test_start__several_versions__is_201_with_an_arm_each(client_of: ClientOf) -> None:
    factories.endpoint()

    response = client_of().post("/api/v1/rollouts", body(), format="json")

    assert response.status_code == 201, response.json()
    rollout = response.json()
    assert rollout["strategy"] == "bandit"
    assert rollout["plan"] == Plan("bandit", (), settings=BanditSpec(beta=0.7)).to_json()
    assert [(arm["name"], arm["version"], arm["desired_bp"]) for arm in rollout["arms"]] == [
        ("baseline", 1, 10_000),
        ("candidate", 2, 0),
        ("candidate-2", 3, 0),
    ]
    assert {
        (arm["dropped_at"], arm["dropped_cause"], arm["dropped_sentence"]) for arm in rollout["arms"]
    } == {(None, "", "")}


def test_start__one_version__may_be_a_bandit_or_a_list(client_of: ClientOf) -> None:
    factories.endpoint()
    one = {name: value for name, value in body(version=2).items() if name != "versions"}

    response = client_of().post("/api/v1/rollouts", one, format="json")

    assert response.status_code == 201, response.json()
    assert [arm["name"] for arm in response.json()["arms"]] == ["baseline", "candidate"]


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"versions": [2, 10**30]}, "versions[1]"),
        ({"gate_policy": "standard@" + "9" * 5_000}, "gate_policy"),
    ],
)
def test_start__number_larger_than_any__is_refused_with_the_field(
    client_of: ClientOf, wrong: dict[str, Any], field: str, dry_run: bool
) -> None:
    factories.endpoint()

    response = client_of().post("/api/v1/rollouts", body(**wrong, dry_run=dry_run), format="json")

    assert response.status_code == 400, response.json()
    assert [error["field"] for error in response.json()["errors"]] == [field]


def test_start__list_of_one_for_a_canary__is_that_version(client_of: ClientOf) -> None:
    factories.endpoint()

    response = client_of().post(
        "/api/v1/rollouts", body(versions=[2], plan=factories.PLAN.to_json()), format="json"
    )

    assert response.status_code == 201, response.json()
    assert response.json()["candidate"]["version"] == 2


def test_start__dry_run__says_what_only_a_bandit_has(client_of: ClientOf) -> None:
    served = factories.endpoint()
    factories.minutes_of_traffic(served, minutes=30)
    factories.ratings(served)

    preview = client_of().post("/api/v1/rollouts", body(dry_run=True), format="json").json()

    assert (preview["strategy"], preview["can_start"], preview["steps"]) == ("bandit", True, [])
    assert len(preview["variants"]) == 2
    found = preview["bandit"]
    assert [arm["share_bp"] for arm in found["arms"]] == [3_334, 3_333, 3_333]
    assert found["ratings"] == 40
    assert found["outlook"]["half_seconds"] > 0
    assert found["outlook"]["decidable"][0]["seconds"] == 600
    assert [check["title"] for check in preview["checks"] if "engines need" in check["title"]]
    assert not Rollout.objects.exists()
    assert not Variant.objects.exclude(version__number=1).exists()


def test_start__canary_tried_dry__has_no_bandit(client_of: ClientOf) -> None:
    factories.endpoint()

    preview = (
        client_of()
        .post(
            "/api/v1/rollouts", body(versions=[2], plan=factories.PLAN.to_json(), dry_run=True), format="json"
        )
        .json()
    )

    assert (preview["strategy"], preview["bandit"]) == ("canary", None)


def settings(**bandit: Any) -> dict[str, Any]:
    return {"plan": {"strategy": "bandit", "bandit": bandit}}


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        (settings(beta=0), 422, "plan.bandit.beta"),
        (settings(beta=1.5), 422, "plan.bandit.beta"),
        (settings(alpha=0.9), 422, "plan.bandit.alpha"),
        (settings(baseline_bp=0), 422, "plan.bandit.baseline_bp"),
        (settings(burn_in=-1), 422, "plan.bandit.burn_in"),
        (settings(discount=0.1), 422, "plan.bandit.discount"),
        (settings(reward="latency"), 422, "plan.bandit.reward"),
        (settings(epsilon=0.1), 422, "plan.bandit.epsilon"),
        (settings(floor_bp=5_000), 422, "plan.bandit.floor_bp"),
        ({"plan": {"strategy": "bandit", "steps": []}}, 422, "plan.steps"),
        ({"plan": {"strategy": "bandit", "bandit": []}}, 422, "plan.bandit"),
        ({"plan": {"strategy": "shadow"}}, 422, "plan.strategy"),
        ({"plan": factories.PLAN.to_json()}, 422, "versions"),
        ({"versions": [2, 2]}, 422, "versions[1]"),
        ({"versions": [2, 99]}, 422, "versions[1]"),
        ({"versions": [1, 2]}, 422, "versions[0]"),
        ({"versions": [2, 3, 4, 5, 6, 7]}, 422, "versions"),
        ({"versions": []}, 400, "versions"),
        ({"versions": ["two"]}, 400, "versions[0]"),
        ({"version": 2}, 400, "versions"),
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


def test_start__no_version_at_all__names_it(client_of: ClientOf) -> None:
    factories.endpoint()
    without = {name: value for name, value in body().items() if name != "versions"}

    response = client_of().post("/api/v1/rollouts", without, format="json")

    assert response.status_code == 400
    assert [item["field"] for item in response.json()["errors"]] == ["version"]


# --- reading ------------------------------------------------------------------------------------------------


def test_verdicts__bandit__has_arms_gates_and_who_is_left(client_of: ClientOf) -> None:
    made = bandits.rollout_bandit()

    answer = client_of().get(f"/api/v1/rollouts/{made.pk}/verdicts").json()

    assert answer["kind"] == "bandit"
    assert [arm["name"] for arm in answer["arms"]] == ["baseline", "candidate", "candidate-2", "candidate-3"]
    for name in ("sentence", "detail", "survivors", "tied", "winner", "tie_sentence", "wanted", "reweight"):
        assert answer[name] == made.verdicts[name], name
    assert set(answer["gates"]) == {"candidate", "candidate-2", "candidate-3"}
    assert all(gate["sentence"] for family in answer["gates"].values() for gate in family["verdicts"])


def test_verdicts__bandit_before_anything_was_measured__are_empty(client_of: ClientOf) -> None:
    made = bandits.bandit_pending()

    answer = client_of().get(f"/api/v1/rollouts/{made.pk}/verdicts").json()

    assert (answer["kind"], answer["arms"], answer["survivors"]) == ("bandit", [], [])


def test_verdicts__canary__says_so(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()

    assert client_of().get(f"/api/v1/rollouts/{made.pk}/verdicts").json()["kind"] == "canary"


def test_get__arm_that_left__says_when_and_why(client_of: ClientOf) -> None:
    made = bandits.rollout_bandit(life=bandits.BROKEN)

    arms = {arm["name"]: arm for arm in client_of().get(f"/api/v1/rollouts/{made.pk}").json()["arms"]}

    assert arms["candidate-2"]["dropped_cause"] == "guardrail"
    assert arms["candidate-2"]["dropped_at"]
    assert arms["candidate-2"]["dropped_sentence"]
    assert arms["candidate"]["dropped_at"] is None


def test_list__bandits_among_them__cost_no_more_queries(client_of: ClientOf) -> None:
    client = client_of()
    model = bandits.bandit_model()
    factories.rollout_paused(of=factories.endpoint("one", of=model))
    client.get("/api/v1/rollouts")
    with CaptureQueriesContext(connection) as few:
        client.get("/api/v1/rollouts")
    bandits.bandit_pending(of=factories.endpoint("two", of=model))
    bandits.bandit_pending(of=factories.endpoint("three", of=model))

    with CaptureQueriesContext(connection) as more:
        assert len(client.get("/api/v1/rollouts").json()["items"]) == 3

    assert len(more) == len(few) <= 4


# --- acting -------------------------------------------------------------------------------------------------


def promote(client_of: ClientOf, made: Rollout, **said: Any) -> Any:
    return client_of(Role.RELEASE_MANAGER).post(f"/api/v1/rollouts/{made.pk}/promote", said, format="json")


def test_promote__arm_named__gets_all_traffic_and_is_the_candidate(client_of: ClientOf) -> None:
    made = bandits.bandit_tied()

    response = promote(client_of, made, arm="candidate-2", why="Cheaper.", expected_revision=made.revision)

    assert response.status_code == 200, response.json()
    rollout = response.json()
    assert (rollout["phase"], rollout["candidate"]["version"]) == ("promoting", 3)
    assert "promoted v3 without waiting for the evidence. Cheaper." in rollout["reason"]
    assert Arm.objects.get(rollout=made, name="candidate").dropped_cause == "person"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "say which one is to be promoted"),
        ({"arm": "candidate-3"}, "has left the race"),
        ({"arm": "baseline"}, "is the baseline"),
        ({"arm": "v3"}, "no arm 'v3'"),
    ],
)
def test_promote__arm_missing_or_not_in_the_race__is_refused_naming_the_choice(
    said: dict[str, Any], words: str, client_of: ClientOf
) -> None:
    made = bandits.bandit_tied()
    Arm.objects.filter(rollout=made, name="candidate-3", dropped_at=None).update(
        dropped_at=factories.right_now(), dropped_cause="person"
    )

    response = promote(client_of, made, **said)

    assert response.status_code == 422, response.json()
    assert [item["field"] for item in response.json()["errors"]] == ["arm"]
    assert words in response.json()["detail"]
    assert "candidate-2 (v3)" in response.json()["fix"]
    assert Rollout.objects.get().phase == "paused"


def test_promote__older_revision__is_409_with_the_fresh_state(client_of: ClientOf) -> None:
    made = bandits.bandit_tied()

    response = promote(client_of, made, arm="candidate", expected_revision=made.revision - 1)

    assert (response.status_code, response.json()["code"]) == (409, "revision-conflict")
    assert response.json()["extra"]["current"]["phase"] == "paused"


def test_promote__canary_with_another_arm__is_refused(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()

    response = promote(client_of, made, arm="candidate-2")

    assert response.status_code == 422
    assert [item["field"] for item in response.json()["errors"]] == ["arm"]


def test_promote__canary_with_its_own_arm__is_promoted(client_of: ClientOf) -> None:
    made = factories.rollout_progressing()

    assert promote(client_of, made, arm="candidate").json()["phase"] == "promoting"


def test_pause_and_resume__bandit__freeze_the_weights_in_words(client_of: ClientOf) -> None:
    made = bandits.rollout_bandit()
    client = client_of()

    paused = client.post(f"/api/v1/rollouts/{made.pk}/pause", {"why": "Lunch."}, format="json").json()
    resumed = client.post(f"/api/v1/rollouts/{made.pk}/resume", {}, format="json").json()

    assert (paused["phase"], paused["pause_reason"]) == ("paused", "person")
    assert "froze the weights. Lunch." in paused["reason"]
    assert "an arm that is proven worse still leaves" in paused["next_step"]
    assert resumed["phase"] == "progressing"
    assert "let the weights move again" in resumed["reason"]
