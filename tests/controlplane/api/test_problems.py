from __future__ import annotations

import json
import logging

import pytest
from rest_framework.test import APIClient

from controlplane.api.problems import problem_of
from controlplane.kernel import errors
from tests.controlplane.api.conftest import ClientOf

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.controlplane.api.probe_urls")]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("invalid-input", 422),
        ("not-found", 404),
        ("forbidden", 403),
        ("conflict", 409),
        ("illegal-transition", 409),
        ("stale-writer", 409),
        ("refused", 422),
        ("tampered-file", 422),
        ("unavailable", 503),
        ("rejected", 502),
        ("error", 500),
    ],
)
def test_problem__error_of_our_tree__has_its_status_and_code(
    kind: str, status: int, client_of: ClientOf
) -> None:
    response = client_of().get(f"/api/v1/failing/{kind}")

    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    problem = json.loads(response.content)
    assert problem["status"] == status
    assert problem["code"] == kind
    assert problem["type"] == f"urn:headgate:problem:{kind}"
    assert problem["title"]
    assert problem["detail"]


def test_status_table__every_error_of_the_tree__is_mapped() -> None:
    direct = {kind for kind in errors.HeadgateError.__subclasses__() if kind.__module__ == errors.__name__}

    for kind in direct:
        assert problem_of(kind("x")).status != 500, kind


def test_problem__invalid_input__names_field_fix_and_neighbours(client_of: ClientOf) -> None:
    problem = client_of().get("/api/v1/failing/invalid-input").json()

    assert problem["errors"] == [
        {"field": "gates.latency.slo", "detail": "0.7 s is not a bucket edge.", "code": "invalid-input"}
    ]
    assert problem["fix"] == "Use 0.5 or 1.0."
    assert problem["extra"] == {"neighbours": [0.5, 1.0]}


def test_problem__conflict__carries_the_fresh_state(client_of: ClientOf) -> None:
    assert client_of().get("/api/v1/failing/conflict").json()["extra"] == {"current": {"revision": 4}}


def test_problem__any__names_path_and_request_id(client_of: ClientOf) -> None:
    response = client_of().get("/api/v1/failing/conflict", headers={"X-Request-ID": "abc-1"})

    assert response.json()["instance"] == "/api/v1/failing/conflict"
    assert response.json()["request_id"] == "abc-1" == response["X-Request-ID"]


@pytest.mark.parametrize(
    ("kind", "status"), [("bug", 500), ("database", 503), ("http404", 404), ("denied", 403)]
)
def test_problem__error_not_of_our_tree__tells_nothing_of_the_inside(
    kind: str, status: int, client_of: ClientOf
) -> None:
    response = client_of().get(f"/api/v1/failing/{kind}")

    assert response.status_code == status
    assert b"secret" not in response.content
    assert b"hunter2" not in response.content


def test_problem__bug__is_logged_with_traceback_and_request_id(
    client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="controlplane.api.problems"):
        client_of().get("/api/v1/failing/bug", headers={"X-Request-ID": "find-me"})

    (record,) = [record for record in caplog.records if record.name == "controlplane.api.problems"]
    assert "find-me" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is RuntimeError


def test_problem__unavailable__says_when_to_try_again(client_of: ClientOf) -> None:
    assert int(client_of().get("/api/v1/failing/unavailable")["Retry-After"]) > 0


def test_problem__wrong_form__names_every_field(client_of: ClientOf) -> None:
    response = client_of().post(
        "/api/v1/form", {"steps": [{"share_bp": 5}, {"share_bp": "x"}]}, format="json"
    )

    assert response.status_code == 400
    assert {item["field"] for item in response.json()["errors"]} == {"name", "steps[1].share_bp"}


def test_problem__body_that_is_no_json__is_malformed(client_of: ClientOf) -> None:
    response = client_of().post("/api/v1/form", "{", content_type="application/json")

    assert (response.status_code, response.json()["code"]) == (400, "malformed-body")


def test_problem__body_of_another_media_type__is_unsupported(client_of: ClientOf) -> None:
    response = client_of().post("/api/v1/form", "a=1", content_type="application/x-www-form-urlencoded")

    assert (response.status_code, response.json()["code"]) == (415, "unsupported-media-type")


def test_problem__wrong_method__names_the_allowed_ones(client_of: ClientOf) -> None:
    response = client_of().delete("/api/v1/form")

    assert (response.status_code, response.json()["code"]) == (405, "method-not-allowed")
    assert "POST" in response["Allow"]


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v2/", "/api/", "/api/v1/me/"])
def test_problem__path_that_does_not_exist__is_404_without_signing_in(path: str) -> None:
    response = APIClient().get(path)

    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["instance"] == path


def test_problem__misspelt_name__is_refused_not_ignored(client_of: ClientOf) -> None:
    response = client_of().post("/api/v1/form", {"name": "x", "steps": [], "nmae": "y"}, format="json")

    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == "nmae"
    assert "name, steps" in response.json()["errors"][0]["detail"]
