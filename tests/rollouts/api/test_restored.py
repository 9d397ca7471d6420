"""The choice after a restore, over the API and by the command."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from rollouts.domain.restored import RestoredState
from rollouts.models import Endpoint
from tests import factories
from tests.controlplane.api.conftest import ClientOf
from tests.factories.endpoints import held_after_restore

pytestmark = pytest.mark.django_db
SERVED = "triage-v9-abcdef"
URL = "/api/v1/endpoints/triage/restored"


def test_get__database_in_order__says_nothing_of_a_restore(client_of: ClientOf) -> None:
    factories.endpoint()
    assert client_of().get("/api/v1/endpoints/triage").json()["restored"] is None


def test_get__held__says_what_serves_and_what_the_database_says(client_of: ClientOf) -> None:
    made = held_after_restore(factories.endpoint())
    found = client_of().get("/api/v1/endpoints/triage").json()["restored"]
    assert (found["state"], found["served"], found["believed"]) == (
        "held",
        {SERVED: 10_000},
        made.desired_shares,
    )


@pytest.mark.parametrize(
    ("sent", "state", "choice"),
    [
        ({"choice": "keep"}, "keeping", SERVED),
        ({"choice": "keep", "variant": SERVED}, "keeping", SERVED),
        ({"choice": "return"}, "returning", ""),
    ],
)
def test_choice__of_a_release_manager__is_kept_audited_and_wakes_the_loop(
    client_of: ClientOf, woken: list[int], sent: dict[str, Any], state: str, choice: str
) -> None:
    made = held_after_restore(factories.endpoint())
    response = client_of(Role.RELEASE_MANAGER).put(URL, sent | {"why": "because"}, format="json")
    found = response.json()["restored"]
    assert (response.status_code, found["state"], found["choice"]) == (200, state, choice)
    assert woken == [made.pk]
    audited = AuditEvent.objects.get(action="endpoint.restore-chosen")
    assert (audited.after, audited.why) == ({"state": state, "variant": choice}, "because")


@pytest.mark.parametrize(
    ("role", "name", "sent", "status", "code"),
    [
        (Role.ENGINEER, "triage", {"choice": "keep"}, 403, "forbidden"),
        (Role.RELEASE_MANAGER, "nowhere", {"choice": "keep"}, 404, "endpoint-not-found"),
        (Role.RELEASE_MANAGER, "triage", {"choice": "both"}, 400, "invalid-input"),
        (Role.RELEASE_MANAGER, "triage", {}, 400, "invalid-input"),
        (Role.RELEASE_MANAGER, "triage", {"choice": "keep", "variant": "other"}, 422, "invalid-input"),
        (Role.RELEASE_MANAGER, "triage", {"choice": "return", "variant": SERVED}, 422, "invalid-input"),
    ],
)
def test_choice__not_allowed_or_impossible__changes_nothing(
    client_of: ClientOf, role: Role, name: str, sent: dict[str, Any], status: int, code: str
) -> None:
    made = held_after_restore(factories.endpoint())
    response = client_of(role).put(f"/api/v1/endpoints/{name}/restored", sent, format="json")
    assert (response.status_code, response.json()["code"]) == (status, code)
    made.refresh_from_db()
    assert made.restored_state == "held"


@pytest.mark.parametrize("state", [RestoredState.WATCHING, RestoredState.RIVAL])
def test_choice__while_somebody_newer_may_be_at_work__conflict(
    client_of: ClientOf, state: RestoredState
) -> None:
    held_after_restore(factories.endpoint(), state=state)
    response = client_of(Role.RELEASE_MANAGER).put(URL, {"choice": "keep"}, format="json")
    assert (response.status_code, response.json()["code"]) == (409, "not-held")
    assert Endpoint.objects.get().restored_state == state
