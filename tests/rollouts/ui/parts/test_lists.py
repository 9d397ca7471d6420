"""Lists of rollouts and endpoints, and one endpoint."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.access.roles import Role
from controlplane.kernel.clock import ManualClock
from rollouts.domain.uncounted import Uncounted
from rollouts.models import Endpoint, HistoryEvent
from rollouts.services.commands.uncounted import count_uncounted
from rollouts.ui.endpoint import page as endpoint_page
from rollouts.ui.endpoint.page import EndpointPage, build
from rollouts.ui.parts import lists
from tests import factories
from tests.rollouts.ui.conftest import HTMX
from tests.rollouts.worlds import world_in_memory, worlds_of

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


def queries(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path, headers=HTMX).status_code == 200
    return len(captured)


# --- rollouts -------------------------------------------------------------------------------------------------


def test_rollouts__none__says_so_with_the_call_to_copy(engineer: Client) -> None:
    text = engineer.get("/rollouts").content.decode()
    assert "No rollout yet: every endpoint runs its stable variant." in text
    assert "headgate rollout start ENDPOINT 2 --wait" in text


@pytest.mark.parametrize(
    ("show", "expected"),
    [
        ("all", ["Paused at 25%", "Promoted", "Rolled back"]),
        ("active", ["Paused at 25%"]),
        ("promoted", ["Promoted"]),
        ("rolled-back", ["Rolled back"]),
        ("nonsense", ["Paused at 25%", "Promoted", "Rolled back"]),
    ],
)
def test_rollouts__filter__shows_those_only(show: str, expected: list[str]) -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.rollout_rolled_back(of=endpoint, now=NOW)
    factories.rollout_promoted(of=endpoint, watching=False, now=NOW)
    factories.rollout_paused(of=factories.endpoint("chat", of=endpoint.model, now=NOW), now=NOW)
    found = lists.rollout_list(chosen=show, before=None, now=NOW)
    assert [row.pill.words for row in found.rows] == expected


def test_rollouts__many__are_paged_by_number(engineer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "A_PAGE", 2)
    endpoint = factories.endpoint(now=NOW)
    made = [factories.rollout_promoted(of=endpoint, watching=False, now=NOW) for _ in range(3)]
    first = lists.rollout_list(chosen="all", before=None, now=NOW)
    assert [row.rollout.pk for row in first.rows] == [made[2].pk, made[1].pk]
    assert first.older == made[1].pk
    second = lists.rollout_list(chosen="all", before=first.older, now=NOW)
    assert ([row.rollout.pk for row in second.rows], second.older) == ([made[0].pk], None)
    assert f"?show=all&amp;before={first.older}" in engineer.get("/rollouts").content.decode()


def test_rollouts__more_of_them__cost_the_same(engineer: Client) -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.rollout_promoted(of=endpoint, watching=False, now=NOW)
    before = queries(engineer, "/rollouts")
    for _ in range(3):
        factories.rollout_promoted(of=endpoint, watching=False, now=NOW)
    assert queries(engineer, "/rollouts") == before <= 5


def test_rollouts__of_an_endpoint__are_only_its_own_on_every_page_and_filter(
    engineer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "A_PAGE", 1)
    endpoint = factories.endpoint(now=NOW)
    made = [factories.rollout_promoted(of=endpoint, watching=False, now=NOW) for _ in range(2)]
    factories.rollout_paused(of=factories.endpoint("chat", of=endpoint.model, now=NOW), now=NOW)
    text = engineer.get("/rollouts?endpoint=triage").content.decode()
    assert f'id="row-{made[1].pk}"' in text
    assert f"?endpoint=triage&amp;show=all&amp;before={made[1].pk}" in text
    assert "?endpoint=triage&amp;show=active" in text
    second = lists.rollout_list(chosen="all", before=made[1].pk, now=NOW, endpoint="triage")
    assert ([row.rollout.pk for row in second.rows], second.older) == ([made[0].pk], None)


def test_rollouts__of_an_unknown_endpoint__are_not_found(engineer: Client) -> None:
    assert engineer.get("/rollouts?endpoint=nobody").status_code == 404


# --- one endpoint -----------------------------------------------------------------------------------------------


WORLDS = worlds_of(world_in_memory(ManualClock(NOW), endpoint_url=lambda name: f"http://gateway/{name}"))


def page(name: str = "triage", role: Role = Role.ENGINEER) -> EndpointPage:
    return build(name=name, user=factories.person(role), worlds=WORLDS, now=NOW)


def test_endpoint__at_rest__serves_one_variant_and_may_start() -> None:
    endpoint = factories.endpoint(now=NOW)
    built = page()
    assert built.address == "http://gateway/triage/v1"
    assert [(row.role, row.observed, row.arm) for row in built.variants] == [("stable", "100%", 0)]
    assert built.health.words == "Healthy"
    assert not built.may_roll_back
    assert built.start_refused == ""
    assert endpoint.alias == "triage-production"


def test_endpoint__rollout_active__says_which_and_offers_the_way_back() -> None:
    rollout = factories.rollout_progressing(now=NOW)
    built = page()
    assert built.start_refused == f"#{rollout.pk} is active, and an endpoint has one rollout at a time"
    assert built.may_roll_back
    assert [(row.role, row.observed, row.arm) for row in built.variants] == [
        ("stable", "75%", 0),
        ("candidate", "25%", 1),
    ]


def test_endpoint__promoted_and_watched__keeps_the_old_one_warm() -> None:
    factories.rollout_promoted(now=NOW)
    built = page()
    assert [row.role for row in built.variants] == ["stable", "kept warm"]
    assert built.may_roll_back
    assert built.start_refused == ""


def test_endpoint__viewer__sees_why_nothing_can_be_started(viewer: Client) -> None:
    factories.endpoint(now=NOW)
    text = viewer.get("/endpoints/triage").content.decode()
    assert "Needs engineer." in text
    assert "/rollouts/new" not in text


@pytest.mark.parametrize(
    ("phase", "ready", "desired", "words"),
    [
        ("ready", 1, 1, "Healthy"),
        ("ready", 2, 3, "2 of 3 ready"),
        ("unready", 0, 1, "Not ready"),
        ("starting", 0, 1, "Starting"),
    ],
)
def test_endpoint__health__is_that_of_the_stable_variant(
    phase: str, ready: int, desired: int, words: str
) -> None:
    endpoint = factories.endpoint(now=NOW)
    workload = endpoint.stable.workload  # type: ignore[union-attr]
    workload.phase, workload.ready, workload.desired = phase, ready, desired
    workload.save()
    assert page().health.words == words


def test_endpoint__read_back_long_ago__says_when() -> None:
    endpoint = factories.endpoint(now=NOW)
    Endpoint.objects.filter(pk=endpoint.pk).update(observed_at=NOW - timedelta(minutes=2))
    assert page().read_back == "read back 2 min ago"


def test_endpoint__unknown__is_not_found(viewer: Client) -> None:
    assert viewer.get("/endpoints/nobody").status_code == 404


def test_endpoint__longer_history__costs_the_same(engineer: Client) -> None:
    endpoint = factories.endpoint(now=NOW)
    factories.rollout_promoted(of=endpoint, watching=False, now=NOW)
    before = queries(engineer, "/endpoints/triage")
    for _ in range(3):
        factories.rollout_promoted(of=endpoint, watching=False, now=NOW)
    assert queries(engineer, "/endpoints/triage") == before <= 16


def test_endpoint__long_history__says_how_much_is_not_shown_and_where_it_is(
    engineer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_page, "HISTORY_SHOWN", 1)
    monkeypatch.setattr(endpoint_page, "EVENTS_SHOWN", 2)
    endpoint = factories.endpoint(now=NOW)
    for _ in range(3):
        factories.rollout_promoted(of=endpoint, watching=False, now=NOW)
    text = engineer.get("/endpoints/triage").content.decode()
    events = HistoryEvent.objects.filter(endpoint=endpoint).count()
    assert "newest 1 of 3" in text
    assert 'href="/rollouts?endpoint=triage"' in text
    assert f"last 2 of {events}" in text
    assert 'href="/endpoints/triage/events"' in text
    assert f"{events} events" in engineer.get("/endpoints/triage/events").content.decode()


def test_endpoint__ratings_that_did_not_count__are_told_in_one_sentence(engineer: Client) -> None:
    endpoint = factories.endpoint(now=NOW)
    assert "did not count" not in engineer.get("/endpoints/triage").content.decode()
    count_uncounted(endpoint=endpoint, more=Uncounted(unverifiable=1_200, refused=1), now=NOW)
    for headers in ({}, HTMX):
        text = engineer.get("/endpoints/triage", headers=headers).content.decode()
        assert "In the last 24 h 1,201 ratings did not count: 1,200 named answers that" in text


def test_deployed__variants_that_run__are_listed_with_their_share(viewer: Client) -> None:
    factories.rollout_progressing(now=NOW)
    text = viewer.get("/models/triage/deployed", headers=HTMX).content.decode()
    assert text.count("<tr") == 3
    assert text.index("75%") < text.index("25%")


def test_deployed__nothing_runs__says_so(viewer: Client) -> None:
    factories.model()
    assert "No version of this model runs anywhere." in viewer.get("/models/triage/deployed").content.decode()
