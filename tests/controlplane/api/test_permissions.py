from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured
from rest_framework.views import APIView

from controlplane.access.roles import Role
from controlplane.access.services import Scope
from controlplane.api.permissions import READ, need_of
from tests.controlplane.api import probe_urls
from tests.controlplane.api.conftest import ClientOf

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.controlplane.api.probe_urls")]


def test_write__token_without_the_scope__is_403_naming_it(client_of: ClientOf) -> None:
    response = client_of(Role.ADMINISTRATOR, (Scope.READ,)).post("/api/v1/counting", {}, format="json")

    assert (response.status_code, response.json()["code"]) == (403, "missing-scope")
    assert response.json()["extra"] == {"needs": "rollouts:write", "scopes": ["read"]}


def test_write__owner_without_the_role__is_403_naming_it(client_of: ClientOf) -> None:
    response = client_of(Role.VIEWER).post("/api/v1/counting", {}, format="json")

    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert response.json()["detail"] == "Needs engineer."


def test_read__token_that_may_only_write__is_403(client_of: ClientOf) -> None:
    response = client_of(Role.ENGINEER, (Scope.FEEDBACK_WRITE,)).get("/api/v1/me")

    assert (response.status_code, response.json()["code"]) == (403, "missing-scope")


def test_need__writing_view_that_does_not_say__is_an_error_of_the_program() -> None:
    with pytest.raises(ImproperlyConfigured, match="Forgetful does not say what POST needs"):
        need_of(probe_urls.Forgetful(), "POST")


def test_need__reading__is_read_unless_said() -> None:
    assert need_of(APIView(), "HEAD") == READ
