"""Every answer carries its request id; errors raised on purpose become pages."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from controlplane.kernel import errors
from controlplane.web.middleware import ClientAddressMiddleware, ErrorPageMiddleware, RequestIdMiddleware
from controlplane.web.problems import server_error, status_and_title
from tests import factories


def answer(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.request_id)  # type: ignore[attr-defined]


@pytest.mark.parametrize("sent", ["7c1f-20", "a" * 64, "run.3_b"])
def test_request_id__plain__is_taken(rf: RequestFactory, sent: str) -> None:
    response = RequestIdMiddleware(answer)(rf.get("/", headers={"x-request-id": sent}))
    assert response.headers["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "a" * 65, "two words", "a\tb", "<script>"])
def test_request_id__odd_or_missing__is_made(rf: RequestFactory, sent: str) -> None:
    response = RequestIdMiddleware(answer)(rf.get("/", headers={"x-request-id": sent}))
    assert len(response.headers["X-Request-ID"]) == 32
    assert response.headers["X-Request-ID"] != sent


def client_of(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.META['REMOTE_ADDR']} {request.scheme}")


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [("", "127.0.0.1 http"), ("10.0.0.0/8", "127.0.0.1 http"), ("127.0.0.1", "198.51.100.1 https")],
)
def test_client_address__what_is_said_of_it__counts_from_a_trusted_proxy_only(
    rf: RequestFactory, settings: Any, proxies: str, expected: str
) -> None:
    settings.HEADGATE = replace(settings.HEADGATE, trusted_proxies=proxies)
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    said = {"x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "https"}
    request = rf.get("/", headers=said)
    ClientAddressMiddleware(client_of)(request)
    assert client_of(request).content.decode() == expected


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidInput("no", field="x"), 400),
        (errors.NotFound("no"), 404),
        (errors.Forbidden("no"), 403),
        (errors.Conflict("no"), 409),
        (errors.IllegalTransition("paused", "pause", ()), 409),
        (errors.StaleWriter("no"), 409),
        (errors.Refused("no"), 422),
        (errors.TamperedFile("a.bin", "is missing"), 422),
        (errors.Unavailable("no"), 503),
        (errors.Rejected("no"), 502),
        (errors.HeadgateError("no"), 500),
    ],
)
def test_status__every_error_of_the_tree__has_one(error: errors.HeadgateError, status: int) -> None:
    assert status_and_title(error)[0] == status


def test_error_page__htmx__is_a_panel_with_message_fix_and_request_id(rf: RequestFactory) -> None:
    request = rf.get("/rollouts/1", headers={"hx-request": "true"})
    request.request_id = "7c1f"  # type: ignore[attr-defined]
    middleware = ErrorPageMiddleware(answer)
    response = middleware.process_exception(request, errors.Refused("The stop is <on>.", fix="Lift it."))
    assert response is not None
    text = response.content.decode()
    assert response.status_code == 422
    assert "The stop is &lt;on&gt;." in text
    assert "Lift it." in text
    assert "7c1f" in text
    assert "<html" not in text
    assert "HX-Request" in response.headers["Vary"]


def test_error_page__error_not_of_the_tree__is_left_alone(rf: RequestFactory) -> None:
    assert ErrorPageMiddleware(answer).process_exception(rf.get("/"), ValueError("bug")) is None


@pytest.mark.django_db
def test_not_found__signed_in__keeps_the_frame(client: Client) -> None:
    client.force_login(factories.person())
    response = client.get("/rollouts/999")
    assert response.status_code == 404
    text = response.content.decode()
    assert "There is no rollout #999." in text
    assert 'aria-label="Main"' in text


@pytest.mark.django_db
def test_not_found__unknown_address__names_it(client: Client) -> None:
    response = client.get("/no/such/page")
    assert response.status_code == 404
    assert "There is nothing at /no/such/page." in response.content.decode()


def test_not_found__below_the_api__is_a_problem_document(client: Client) -> None:
    response = client.get("/api/v1/nothing-here")
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    assert json.loads(response.content)["code"] == "not-found"


def test_server_error__database_gone__needs_none(rf: RequestFactory) -> None:
    response = server_error(rf.get("/"))
    assert response.status_code == 500
    assert "Traffic does not change because of it." in response.content.decode()


@pytest.mark.django_db
def test_csrf__missing_token__says_that_the_form_is_too_old() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(factories.person())
    response = client.post("/sign-out")
    assert response.status_code == 403
    assert "This form is too old" in response.content.decode()
