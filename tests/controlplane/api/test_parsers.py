"""Bodies: JSON whose values every database can hold, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from controlplane.access.roles import Role
from tests.controlplane.api.conftest import ClientOf

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(client_of: ClientOf) -> APIClient:
    return client_of(Role.ADMINISTRATOR)


def put(client: APIClient, body: bytes) -> Any:
    return client.generic("PUT", "/api/v1/global-stop", body, content_type="application/json")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"on": true, "why": "\\u0000"}', "why"),
        (b'{"on": true, "why": "a\\ud800"}', "why"),
        (b'{"on": true, "why": {"a": ["x", "\\udfff"]}}', "why.a[1]"),
        (b'{"on": true, "why": 1e999}', "why"),
        (b'{"on": true, "why": 1e308}', "why"),
        (b'{"on": true, "why": ' + b"9" * 4_000 + b"}", "why"),
        (b'{"on": true, "why": ' + b"[" * 40 + b"]" * 40 + b"}", "why" + "[0]" * 32),
        (b'{"on": true, "\\ud800": 1}', ""),
    ],
)
def test_body__value_that_no_database_can_hold__is_400_naming_it(
    client: APIClient, body: bytes, field: str
) -> None:
    answer = put(client, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "unreadable-input")
    assert [one["field"] for one in answer.json().get("errors", [])] == ([field] if field else [])


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"a":' * 50_000, b'{"a": ' + b"9" * 5_000 + b"}", b"\xff", b"NaN"]
)
def test_body__that_is_no_json_to_be_read__is_400(client: APIClient, body: bytes) -> None:
    answer = put(client, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-body")


@pytest.mark.parametrize("body", [b"1", b"null", b"[]", b'"x"', b"true"])
def test_body__no_object__is_400(client: APIClient, body: bytes) -> None:
    assert put(client, body).status_code == 400
