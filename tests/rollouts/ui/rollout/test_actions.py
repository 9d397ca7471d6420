"""What people tell a rollout: confirmed in numbers, refused when it changed meanwhile, enforced by the server."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from controlplane.audit.models import AuditEvent
from rollouts.models import GlobalStop, Rollout
from tests import factories
from tests.rollouts.ui.conftest import HTMX

pytestmark = pytest.mark.django_db


def post(client: Client, rollout: Rollout, action: str, **values: object) -> object:
    data = {"expected_revision": rollout.revision, **values}
    return client.post(f"/rollouts/{rollout.pk}/{action}", data, headers=HTMX)


def test_confirm_roll_back__dialog__says_what_moves(engineer: Client) -> None:
    endpoint = factories.endpoint()
    factories.minutes_of_traffic(endpoint, minutes=10)
    rollout = factories.rollout_progressing(of=endpoint)
    text = engineer.get(f"/rollouts/{rollout.pk}/confirm/roll-back", headers=HTMX).content.decode()
    assert "<html" not in text
    assert "<b>25% → 0%</b> on the candidate, about <b>5" in text
    assert "v1 is warm: <b>1 of 1</b> replicas ready" in text
    assert f'name="expected_revision" value="{rollout.revision}"' in text
    assert "disabled" not in text


def test_confirm__without_script__is_a_page_of_its_own(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    text = engineer.get(f"/rollouts/{rollout.pk}/confirm/pause").content.decode()
    assert text.startswith("<!doctype html>")
    assert f'action="/rollouts/{rollout.pk}/pause"' in text


def test_confirm_promote__dialog__names_the_gates_that_have_not_passed(manager: Client) -> None:
    rollout = factories.rollout_progressing()
    text = manager.get(f"/rollouts/{rollout.pk}/confirm/promote", headers=HTMX).content.decode()
    assert "<b>Not passed yet:</b> time to first token" in text
    assert 'data-must-be="triage"' in text


def test_confirm__role_too_low__is_forbidden(viewer: Client, engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    assert viewer.get(f"/rollouts/{rollout.pk}/confirm/pause").status_code == 403
    assert engineer.get(f"/rollouts/{rollout.pk}/confirm/promote").status_code == 403


def test_confirm__unknown_action__is_not_found(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    assert engineer.get(f"/rollouts/{rollout.pk}/confirm/explode").status_code == 404


def test_pause__htmx__pauses_and_tells_the_page(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    response = post(engineer, rollout, "pause", why="support lead asked")
    assert response.status_code == 204  # type: ignore[attr-defined]
    assert response.headers["HX-Trigger"] == "done"  # type: ignore[attr-defined]
    rollout.refresh_from_db()
    assert rollout.phase == "paused"
    assert rollout.reason == "engineer paused the rollout. support lead asked"
    event = AuditEvent.objects.get(action="rollout.pause")
    assert (event.actor, len(event.request_id)) == ("engineer", 32)


def test_pause__without_script__goes_back_to_the_rollout(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    response = engineer.post(f"/rollouts/{rollout.pk}/pause", {"expected_revision": rollout.revision})
    assert response.status_code == 303
    assert response.headers["Location"] == f"/rollouts/{rollout.pk}"


def test_resume__paused__goes_on(engineer: Client) -> None:
    rollout = factories.rollout_paused()
    post(engineer, rollout, "resume")
    rollout.refresh_from_db()
    assert rollout.phase == "progressing"


def test_roll_back__progressing__returns_to_the_baseline(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    post(engineer, rollout, "roll-back")
    rollout.refresh_from_db()
    assert (rollout.phase, rollout.cause) == ("rolling-back", "person")


def test_roll_back__global_stop_and_silent_loop__is_still_done(engineer: Client) -> None:
    rollout = factories.rollout_paused()
    GlobalStop.objects.create(pk=1, on=True, since=factories.right_now())
    rollout.endpoint.reconciled_at = factories.right_now() - timedelta(hours=1)
    rollout.endpoint.save()
    assert post(engineer, rollout, "roll-back").status_code == 204  # type: ignore[attr-defined]


def test_promote__name_not_typed__does_nothing(manager: Client) -> None:
    rollout = factories.rollout_progressing()
    response = post(manager, rollout, "promote", typed="triag")
    assert response.status_code == 400  # type: ignore[attr-defined]
    rollout.refresh_from_db()
    assert rollout.phase == "progressing"


def test_promote__name_typed__promotes(manager: Client) -> None:
    rollout = factories.rollout_progressing()
    assert post(manager, rollout, "promote", typed="triage").status_code == 204  # type: ignore[attr-defined]
    rollout.refresh_from_db()
    assert rollout.phase == "promoting"


def test_promote__engineer__is_refused_by_the_server_too(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    response = post(engineer, rollout, "promote", typed="triage")
    assert response.status_code == 403  # type: ignore[attr-defined]
    assert "Needs release manager." in response.content.decode()  # type: ignore[attr-defined]


def test_cancel__before_traffic__ends_it(engineer: Client) -> None:
    rollout = factories.rollout_launching()
    post(engineer, rollout, "cancel")
    rollout.refresh_from_db()
    assert rollout.phase == "cancelled"


def test_conflict__changed_meanwhile__says_who_and_offers_it_again(engineer: Client, manager: Client) -> None:
    rollout = factories.rollout_progressing()
    seen = rollout.revision
    post(manager, rollout, "pause")
    response = engineer.post(
        f"/rollouts/{rollout.pk}/roll-back",
        {"expected_revision": seen, "saw_share": "5%"},
        headers=HTMX,
    )
    rollout.refresh_from_db()
    text = response.content.decode()
    assert response.status_code == 409
    assert rollout.phase == "paused"
    assert "was changed by release-manager" in text
    assert "<del>5%</del> <ins>25%</ins>" in text
    assert f'name="expected_revision" value="{rollout.revision}"' in text


def test_conflict__action_makes_no_sense_any_more__offers_to_leave_it(engineer: Client) -> None:
    rollout = factories.rollout_rolled_back()
    response = post(engineer, rollout, "pause")
    assert response.status_code == 409  # type: ignore[attr-defined]
    text = response.content.decode()  # type: ignore[attr-defined]
    assert "is not possible while rolled-back" in text
    assert "Leave it" in text
    assert "<form" not in text


@pytest.mark.parametrize("version", ["", "seven"])
def test_act__no_version__is_refused(engineer: Client, version: str) -> None:
    rollout = factories.rollout_progressing()
    response = engineer.post(f"/rollouts/{rollout.pk}/pause", {"expected_revision": version}, headers=HTMX)
    assert response.status_code == 400
    rollout.refresh_from_db()
    assert rollout.phase == "progressing"


def test_act__get__is_not_allowed(engineer: Client) -> None:
    rollout = factories.rollout_progressing()
    assert engineer.get(f"/rollouts/{rollout.pk}/pause").status_code == 405


def test_act__broker_away__is_done_all_the_same(engineer: Client, settings: Settings) -> None:
    settings.CELERY_BROKER_URL = "amqp://127.0.0.1:1//"
    rollout = factories.rollout_progressing()
    assert post(engineer, rollout, "pause").status_code == 204  # type: ignore[attr-defined]


# --- the global stop --------------------------------------------------------------------------------------------


def test_stop__manager__freezes_everything_with_a_reason(manager: Client) -> None:
    factories.rollout_progressing()
    text = manager.get("/stop", headers=HTMX).content.decode()
    assert "<b>1 rollout</b> freeze at their present weights" in text
    response = manager.post("/stop", {"on": "yes", "why": "network incident"})
    assert response.status_code == 303
    stop = GlobalStop.objects.get(pk=1)
    assert (stop.on, stop.why) == (True, "network incident")
    assert str(stop.by) == "release-manager"


def test_stop__lifted__frees_everything(manager: Client) -> None:
    manager.post("/stop", {"on": "yes"})
    assert "Lift the global stop" in manager.get("/stop").content.decode()
    manager.post("/stop", {"on": "no"})
    assert not GlobalStop.objects.get(pk=1).on


def test_stop__engineer__is_forbidden(engineer: Client) -> None:
    assert engineer.get("/stop").status_code == 403
    assert engineer.post("/stop", {"on": "yes"}).status_code == 403
    assert not GlobalStop.objects.filter(on=True).exists()
