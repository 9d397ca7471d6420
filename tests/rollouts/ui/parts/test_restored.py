"""A restored copy on the pages: both sides, who may choose, and the choice."""

from __future__ import annotations

import pytest
from django.test import Client

from rollouts.domain.restored import RestoredState
from rollouts.models import Endpoint
from rollouts.ui.overview.page import build
from tests import factories
from tests.factories.endpoints import held_after_restore
from tests.rollouts.worlds import nothing_wrong

pytestmark = pytest.mark.django_db
SERVED = "triage-v9-abcdef"


@pytest.fixture(autouse=True)
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Endpoints that the loop was asked to look at."""
    found: list[int] = []
    monkeypatch.setattr("rollouts.ui.endpoint.views.wake", found.append)
    return found


def test_page__held__shows_what_serves_what_the_database_says_and_both_choices(manager: Client) -> None:
    made = held_after_restore(factories.endpoint())
    text = manager.get("/endpoints/triage").content.decode()
    assert "The database is an older copy" in text
    assert f'<span class="mono">{SERVED}</span> 100%' in text
    assert made.stable is not None
    assert f'<span class="mono">{made.stable.name}</span> 100%' in text
    assert 'value="keep"' in text
    assert 'value="return"' in text


def test_page__held__an_engineer_sees_who_may_choose(engineer: Client) -> None:
    held_after_restore(factories.endpoint())
    text = engineer.get("/endpoints/triage").content.decode()
    assert "Needs release manager." in text
    assert 'value="keep"' not in text


def test_page__another_control_plane_at_work__offers_no_choice(manager: Client) -> None:
    held_after_restore(factories.endpoint(), state=RestoredState.RIVAL)
    text = manager.get("/endpoints/triage").content.decode()
    assert "Another control plane is at work." in text
    assert 'value="keep"' not in text


@pytest.mark.parametrize(("choice", "state"), [("keep", "keeping"), ("return", "returning")])
def test_choice__sent__is_kept_wakes_the_loop_and_leads_back(
    manager: Client, woken: list[int], choice: str, state: str
) -> None:
    made = held_after_restore(factories.endpoint())
    answer = manager.post(
        "/endpoints/triage/restored", {"choice": choice, "variant": SERVED, "why": "told so"}
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/endpoints/triage")
    assert Endpoint.objects.get().restored_state == state
    assert woken == [made.pk]


def test_choice__of_what_does_not_serve__is_said_on_the_page_and_nothing_changes(manager: Client) -> None:
    held_after_restore(factories.endpoint())
    answer = manager.post("/endpoints/triage/restored", {"choice": "keep", "variant": "other"})
    assert answer.status_code == 400
    assert "does not serve" in answer.content.decode()
    assert Endpoint.objects.get().restored_state == "held"


def test_choice__reason_that_is_too_long__is_said_and_not_cut(manager: Client) -> None:
    held_after_restore(factories.endpoint())
    answer = manager.post("/endpoints/triage/restored", {"choice": "keep", "why": "x" * 501})
    assert answer.status_code == 400
    assert "at most 500" in answer.content.decode()
    assert Endpoint.objects.get().restored_state == "held"


def test_choice__by_an_engineer__is_refused(engineer: Client) -> None:
    held_after_restore(factories.endpoint())
    assert engineer.post("/endpoints/triage/restored", {"choice": "keep"}).status_code == 403
    assert Endpoint.objects.get().restored_state == "held"


def test_overview__held__waits_for_a_person() -> None:
    held_after_restore(factories.endpoint())
    (need,) = build(worlds=nothing_wrong(), now=factories.right_now()).needs
    assert need.title == "triage: held: the database is an older copy than what serves"
    assert need.url == "/endpoints/triage#restored"
