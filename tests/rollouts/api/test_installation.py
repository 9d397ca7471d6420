from __future__ import annotations

import pytest

from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from rollouts.models import GlobalStop
from tests import factories
from tests.controlplane.api.conftest import ClientOf

pytestmark = pytest.mark.django_db
URL = "/api/v1/global-stop"


def test_global_stop__never_used__is_off(client_of: ClientOf) -> None:
    assert client_of(Role.VIEWER).get(URL).json() == {"on": False, "since": None, "by": None, "why": ""}


def test_global_stop__set_by_a_release_manager__is_on_with_who_and_why(client_of: ClientOf) -> None:
    client = client_of(Role.RELEASE_MANAGER)

    response = client.put(URL, {"on": True, "why": "Incident 12"}, format="json")

    assert response.status_code == 200
    state = client.get(URL).json()
    assert (state["on"], state["by"], state["why"]) == (True, "release-manager", "Incident 12")
    assert AuditEvent.objects.get(action="installation.stopped").why == "Incident 12"


def test_global_stop__engineer__is_403(client_of: ClientOf) -> None:
    response = client_of(Role.ENGINEER).put(URL, {"on": True}, format="json")

    assert (response.status_code, response.json()["detail"]) == (403, "Needs release manager.")
    assert not GlobalStop.objects.filter(on=True).exists()


def test_global_stop__on__refuses_a_new_rollout(client_of: ClientOf) -> None:
    factories.endpoint()
    client = client_of(Role.RELEASE_MANAGER)
    client.put(URL, {"on": True}, format="json")

    response = client.post(
        "/api/v1/rollouts",
        {"endpoint": "triage", "version": 2, "plan": factories.PLAN.to_json()},
        format="json",
    )

    assert (response.status_code, response.json()["code"]) == (422, "global-stop")
