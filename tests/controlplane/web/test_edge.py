"""What no view could read is refused before any view, with the name of the field, and no answer is kept by a cache."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase
from pytest_django.fixtures import Settings

from controlplane.config.asgi import application
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def engineer(client: Client) -> Client:
    client.force_login(factories.person())
    return client


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("/models/a%00b", "path"),
        ("/models?after=a%00", "after"),
        ("/policies?a%00b=1", "a\\x00b"),
        ("/models/" + "x" * 2_000, "path"),
        ("/models?after=" + "x" * 64_000, "query"),
    ],
)
def test_page__address_that_cannot_be_read__is_400_naming_the_field(
    engineer: Client, address: str, field: str
) -> None:
    answer = engineer.get(address)
    assert answer.status_code == 400
    assert field in answer.content.decode()


@pytest.mark.parametrize(
    "address", ["/api/v1/models/a%00b", "/api/v1/models?search=%00", "/hooks/mlflow?a=%00"]
)
def test_api__address_that_cannot_be_read__is_a_problem_naming_the_field(
    client: Client, address: str
) -> None:
    answer = client.get(address)
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    problem = answer.json()
    assert problem["code"] == "unreadable-input"
    assert problem["errors"][0]["field"] in ("path", "search", "a")


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_form__nul_in_a_field__is_400_naming_it(engineer: Client, content_type: str) -> None:
    body = "why=a%00b"
    if content_type.startswith("multipart"):
        body = '--x\r\nContent-Disposition: form-data; name="why"\r\n\r\na\0b\r\n--x--\r\n'
    answer = engineer.post("/stop", body, content_type=content_type)
    assert answer.status_code == 400
    assert "why holds a NUL character" in answer.content.decode()


@pytest.mark.parametrize("charset", ["hex", "utf-16", "rot13", "latin-1", "no-such"])
@pytest.mark.parametrize("path", ["/stop", "/api/v1/global-stop", "/sign-in"])
def test_request__another_character_set__is_refused(client: Client, path: str, charset: str) -> None:
    answer = client.generic("POST", path, b"on=yes", f"application/x-www-form-urlencoded; charset={charset}")
    assert answer.status_code == 400
    assert "is not read here" in answer.content.decode()


def test_form__larger_than_the_server_takes__is_413_and_says_so(engineer: Client) -> None:
    answer = engineer.post(
        "/stop", b"why=" + b"x" * 11_000_000, content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code == 413
    assert "larger than this server takes" in answer.content.decode()


def test_cookie__that_cannot_be_read__is_as_if_not_sent(client: Client) -> None:
    client.cookies.load(f'{django.SESSION_COOKIE_NAME}="' + "\\000" * 32 + '"')
    answer = client.get("/rollouts")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/sign-in?next=/rollouts")


def test_path__number_beyond_any_row__is_not_found(engineer: Client) -> None:
    assert engineer.get(f"/rollouts/{2**63}").status_code == 404
    assert engineer.get(f"/rollouts/{'9' * 1_900}").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/sign-in",
        "/rollouts/999",
        "/nothing",
        "/api/v1/me",
        "/api/v1/nothing",
        "/api/v1/schema",
        "/banners",
    ],
)
def test_answer__of_any_view__is_kept_by_no_cache(engineer: Client, path: str) -> None:
    assert "no-store" in engineer.get(path).headers["Cache-Control"]


def test_static_file__any__stays_cacheable(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "app.js").write_text("1")
    settings.STATIC_ROOT = tmp_path
    answer = Client().get("/static/app.js")
    answer.close()
    assert (answer.status_code, "no-store" in answer.headers["Cache-Control"]) == (200, False)


class TestSignInNext(TestCase):
    """Where to go on to is typed by nobody: a link says it, and anybody can make a link."""

    @given(
        st.text()
        | st.sampled_from(["http://[", "true", "//[", "/\\x", "x" * 5_000, "/" + "x" * 5_000, "/\r\nA: b"])
    )
    def test_next__any_text__leads_to_an_address_of_this_site(self, wanted: str) -> None:
        client = Client(raise_request_exception=False)
        client.force_login(factories.person())
        answer = client.get("/sign-in", {"next": wanted.encode("utf-8", "surrogatepass")})
        if "\x00" in wanted:
            assert answer.status_code == 400
        else:
            assert answer.status_code == 302
            assert answer.headers["Location"].startswith("/")
            assert not answer.headers["Location"].startswith(("//", "/\\"))


def test_application__head_that_django_cannot_read__is_400() -> None:
    sent: list[Mapping[str, Any]] = []

    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, object]:
        while not messages:  # the client stays
            await asyncio.sleep(60)
        return messages.pop()

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "scheme": "http",
        "headers": [(b"content-type", b"text/plain; charset*=utf-8''%00")], "http_version": "1.1",
        "server": ("127.0.0.1", 1), "client": ("127.0.0.1", 2), "root_path": "",
    }  # fmt: skip
    asyncio.run(application(scope, receive, send))
    assert sent[0]["status"] == 400
