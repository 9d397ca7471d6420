from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from rest_framework.test import APIClient

from controlplane.access.models import ApiToken, User
from controlplane.access.roles import Role
from controlplane.access.services import Scope, create_token
from tests.controlplane.api.conftest import ClientOf

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


def test_me__token__is_the_owner_with_the_tokens_scopes(client_of: ClientOf) -> None:
    response = client_of(Role.ENGINEER, (Scope.READ,)).get("/api/v1/me")

    assert response.status_code == 200
    assert response.json()["username"] == "engineer"
    assert response.json()["scopes"] == ["read"]
    assert "start a rollout" in response.json()["may"]
    assert "set or lift the global stop" not in response.json()["may"]


def test_me__nobody__is_401_with_a_challenge() -> None:
    response = APIClient().get("/api/v1/me")

    assert (response.status_code, response.json()["code"]) == (401, "not-authenticated")
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("secret", ["", "hg_unknown", "sk-of-another-product"])
def test_me__token_that_is_none__is_401(secret: str) -> None:
    response = APIClient().get("/api/v1/me", headers={"Authorization": f"Bearer {secret}"})

    assert (response.status_code, response.json()["code"]) == (401, "token-not-valid")


@pytest.mark.parametrize(
    "ended", [{"revoked_at": NOW}, {"expires_at": NOW - timedelta(seconds=1)}], ids=["revoked", "expired"]
)
def test_me__token_that_ended__is_401(ended: dict[str, datetime], client_of: ClientOf) -> None:
    client = client_of()
    ApiToken.objects.update(**ended)

    assert client.get("/api/v1/me").status_code == 401


def test_me__owner_switched_off__is_401(client_of: ClientOf) -> None:
    client = client_of()
    User.objects.update(is_active=False)

    assert client.get("/api/v1/me").status_code == 401


def test_me__bad_token_and_a_session__is_401_all_the_same(person: Callable[[Role], User]) -> None:
    client = APIClient()
    client.force_login(person(Role.ADMINISTRATOR))

    assert client.get("/api/v1/me", headers={"Authorization": "Bearer hg_no"}).status_code == 401


def test_me__session__is_the_person_without_token(person: Callable[[Role], User]) -> None:
    client = APIClient()
    client.force_login(person(Role.VIEWER))

    response = client.get("/api/v1/me")

    assert response.json()["username"] == "viewer"
    assert response.json()["token"] is None


@pytest.mark.urls("tests.controlplane.api.probe_urls")
def test_write__session_without_csrf_token__is_403(person: Callable[[Role], User]) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(person(Role.ENGINEER))

    response = client.post("/api/v1/counting", {}, format="json")

    assert response.status_code == 403
    assert "CSRF" in response.json()["detail"]


@pytest.mark.urls("tests.controlplane.api.probe_urls")
def test_write__token__needs_no_csrf_token(person: Callable[[Role], User]) -> None:
    _, secret = create_token(
        user=person(Role.ENGINEER), name="ci", scopes=[Scope.ROLLOUTS_WRITE], expires_at=None, now=NOW
    )
    client = APIClient(enforce_csrf_checks=True)

    response = client.post(
        "/api/v1/counting", {}, format="json", headers={"Authorization": f"Bearer {secret}"}
    )

    assert response.status_code == 201
