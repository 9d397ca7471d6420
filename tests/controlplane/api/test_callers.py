from __future__ import annotations

from collections.abc import Callable

import pytest
from rest_framework.test import APIClient

from controlplane.access.models import User
from controlplane.access.roles import Role
from tests.controlplane.api.conftest import ClientOf

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.controlplane.api.probe_urls")]
FORM = {"name": "x", "steps": []}


def test_actor__token__is_its_owner_via_the_token(client_of: ClientOf) -> None:
    answer = client_of().post("/api/v1/form", FORM, format="json").json()

    assert (answer["actor"], answer["kind"]) == ("engineer via ci", "token")


def test_actor__session__is_the_person(person: Callable[[Role], User]) -> None:
    client = APIClient()
    client.force_login(person(Role.ENGINEER))

    answer = client.post("/api/v1/form", FORM, format="json").json()

    assert (answer["actor"], answer["kind"]) == ("engineer", "person")
