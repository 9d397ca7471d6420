from __future__ import annotations

import pytest

from controlplane.access.roles import Role
from tests.controlplane.api.conftest import ClientOf

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.controlplane.api.probe_urls")]


def test_limit__more_calls_than_the_rate__is_429_saying_when(client_of: ClientOf) -> None:
    client = client_of()

    answers = [client.get("/api/v1/limited") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "rate-limited"
    assert 0 < int(answers[2]["Retry-After"]) <= 60


def test_limit__another_client__has_its_own(client_of: ClientOf) -> None:
    busy = client_of(Role.ENGINEER)
    for _ in range(3):
        busy.get("/api/v1/limited")

    assert client_of(Role.VIEWER).get("/api/v1/limited").status_code == 200
