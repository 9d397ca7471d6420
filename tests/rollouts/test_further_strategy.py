"""A strategy that is added to the tables, and to nothing else, works from the dry run to the replay."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, cast

import pytest
from django.test import Client
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from controlplane.access.actors import HEADGATE
from controlplane.access.models import User
from rollouts import wiring
from rollouts.domain.strategies import STRATEGIES
from rollouts.models import HistoryEvent
from rollouts.services.evidence.replay import replay_whole
from rollouts.services.policies.versions import define_gate_policy
from rollouts.ui.strategies import SHOWN
from tests.rollouts import holding
from tests.rollouts.memory_world import ERRORS, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> None:
    """One line in each table, and templates."""
    monkeypatch.setitem(cast(MutableMapping[str, Any], STRATEGIES), holding.NAME, holding.STRATEGY)
    monkeypatch.setitem(cast(MutableMapping[str, Any], SHOWN), holding.NAME, holding.PRESENTATION)
    holding.write_templates(tmp_path / "templates")
    (usual,) = settings.TEMPLATES
    settings.TEMPLATES = [{**usual, "DIRS": [*usual["DIRS"], tmp_path / "templates"]}]


@pytest.fixture
def w(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryWorld:
    made = MemoryWorld(tmp_path, gates=({**ERRORS, "delta": 0.2},)).serve()
    monkeypatch.setattr(wiring, "worlds", lambda: made.worlds)
    return made


@pytest.fixture
def pages(w: MemoryWorld) -> Client:
    client = Client()
    client.force_login(User.objects.get(username="eli"))
    return client


@pytest.fixture
def api(w: MemoryWorld) -> APIClient:
    client = APIClient()
    client.force_login(User.objects.get(username="eli"))
    return client


def body(**changes: Any) -> dict[str, Any]:
    plan = {"strategy": "holding", "holding": {"share_bp": 4_000, "seconds": 6}}
    return {"endpoint": "triage", "version": 2, "plan": plan} | changes


def text_of(pages: Client, address: str) -> str:
    answer = pages.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


# --- before it starts -----------------------------------------------------------------------------------------------


def test_dry_run__by_api__has_its_checks_and_its_promise(api: APIClient) -> None:
    answer = api.post("/api/v1/rollouts", body(dry_run=True), format="json")
    assert answer.status_code == 200, answer.json()
    found = answer.json()
    assert (found["strategy"], found["promise"]) == ("holding", "It is held once.")
    assert {"title": "It holds one share", "detail": "40%"}.items() <= next(
        check for check in found["checks"] if check["title"] == "It holds one share"
    ).items()
    assert found["steps"] == []


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({"strategy": "holding", "holding": {"share_bp": 0}}, "plan.holding.share_bp"),
        ({"strategy": "holding", "steps": []}, "plan.steps"),
        ({"strategy": "holding", "holding": {"weight": 1}}, "plan.holding.weight"),
    ],
)
def test_plan__that_is_none__is_refused_naming_the_field(
    api: APIClient, plan: dict[str, Any], field: str
) -> None:
    answer = api.post("/api/v1/rollouts", body(plan=plan, dry_run=True), format="json")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_several_versions__for_one_candidate__are_refused(api: APIClient) -> None:
    sent = {name: value for name, value in body(versions=[2, 3]).items() if name != "version"}
    answer = api.post("/api/v1/rollouts", sent, format="json")
    assert answer.status_code == 422
    assert "A holding compares one version" in answer.content.decode()


def test_form__offers_it_and_shows_its_plan(pages: Client) -> None:
    text = text_of(pages, "/rollouts/new?endpoint=triage&version=2&strategy=holding")
    assert "One share, for a while" in text
    assert '<input name="held" value="20">' in text
    assert "<b>holds 2000 basis points</b>" in text
    assert "Start to hold" in text
    assert "<h2>What must hold</h2>" in text


def test_form__of_another_strategy__keeps_what_was_typed_for_it(pages: Client) -> None:
    text = text_of(pages, "/rollouts/new?endpoint=triage&form_of=triage&version=2&strategy=canary&held=35")
    assert '<input type="hidden" name="held" value="35">' in text


def test_form__mistake__is_marked_at_its_field(pages: Client) -> None:
    text = text_of(pages, "/rollouts/new?endpoint=triage&form_of=triage&version=2&strategy=holding&held=x")
    assert '<input name="held" value="x"><i>' in text
    assert "<i></i>" not in text


# --- its life -------------------------------------------------------------------------------------------------------


def test_life__a_sound_version__is_held_promoted_watched_and_replayed(
    w: MemoryWorld, pages: Client, api: APIClient
) -> None:
    w.start(2, plan=holding.PLAN)
    rollout = w.run_to("progressing")
    w.run(lambda: w.rollout.next_interval > 1)
    assert w.shares() == {1: 6_000, 2: 4_000}

    assert "of holding: Holding 40%." in text_of(pages, f"/rollouts/{rollout.pk}")
    for address in ("/", "/rollouts", "/endpoints/triage"):
        assert "Holding 40%" in text_of(pages, address), address
    shown = api.get(f"/api/v1/rollouts/{rollout.pk}").json()
    assert shown["strategy"] == "holding"
    assert shown["plan"] == holding.PLAN.to_json()
    said = api.get(f"/api/v1/rollouts/{rollout.pk}/verdicts").json()
    assert (said["kind"], [one["key"] for one in said["verdicts"]]) == ("holding", ["errors"])
    assert api.get(f"/api/v1/rollouts/{rollout.pk}/evidence").json()["items"]

    w.run_to("succeeded")
    assert w.shares() == {2: 10_000}
    w.run(lambda: not w.rollout.watching)
    assert w.lost == 0
    assert "held " in HistoryEvent.objects.get(rollout=rollout, kind="created").detail
    assert "v2" in text_of(pages, "/")
    assert replay_whole(rollout=w.rollout).outcome == "identical"


def test_life__a_version_that_fails__returns_by_its_gates(w: MemoryWorld) -> None:
    w.start(2, plan=holding.PLAN)
    w.run_to("progressing")
    w.behave(2, error_rate=0.6)
    rollout = w.run_to("rolled-back")
    assert rollout.cause in ("fast-kill", "gate:errors")
    assert w.shares() == {1: 10_000}
    assert replay_whole(rollout=w.rollout).outcome == "identical"


def test_life__paused_and_resumed__in_its_own_words(w: MemoryWorld, pages: Client) -> None:
    w.start(2, plan=holding.PLAN)
    rollout = w.run_to("progressing")
    dialog = text_of(pages, f"/rollouts/{rollout.pk}/confirm/pause")
    assert "One share is held" in dialog
    assert "40%" in dialog
    assert w.pause().reason == "eli stopped the watch."
    assert "Paused holding 40%" in text_of(pages, "/rollouts")
    assert w.resume().reason == "eli started the watch again."
    w.run_to("succeeded")


def test_what_if__another_policy__is_played_on_its_evidence(w: MemoryWorld) -> None:
    w.start(2, plan=holding.PLAN)
    w.run_to("succeeded")
    body = {"gates": [{**ERRORS, "weight": 1.0, "delta": 0.01}]}
    stricter = define_gate_policy(actor=HEADGATE, name="stricter", body=body, now=w.now)
    report = replay_whole(rollout=w.rollout, policy=stricter)
    assert report.policy == "stricter@1"
    assert "stricter@1" in report.sentence


# --- an older version is installed again ----------------------------------------------------------------------------


def test_taken_away__under_way__nothing_moves_its_endpoint_is_kept_and_a_person_can_roll_it_back(
    w: MemoryWorld, pages: Client, api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    w.start(2, plan=holding.PLAN)
    rollout = w.run_to("progressing")
    w.run(lambda: w.rollout.next_interval > 1)
    monkeypatch.delitem(cast(MutableMapping[str, Any], STRATEGIES), holding.NAME)
    monkeypatch.delitem(cast(MutableMapping[str, Any], SHOWN), holding.NAME)

    w.router.routes.clear()  # as a router that lost its configuration
    w.run_for(12)
    assert (w.rollout.phase, w.shares()) == ("progressing", {1: 6_000, 2: 4_000})
    assert w.rollout.reason == "This version of Headgate knows no strategy 'holding'. Nothing moves."
    for address in ("/", "/rollouts", "/endpoints/triage"):
        assert "Unknown strategy" in text_of(pages, address), address
    answers = [api.get(f"/api/v1/rollouts/{rollout.pk}/verdicts")]
    answers.append(api.post(f"/api/v1/rollouts/{rollout.pk}/pause", {}, format="json"))
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "unknown-strategy")

    assert api.post(f"/api/v1/rollouts/{rollout.pk}/rollback", {}, format="json").status_code == 200
    w.run_to("rolled-back")
    assert (w.shares(), w.lost) == ({1: 10_000}, 0)
