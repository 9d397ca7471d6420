"""The door: signing in, going where one wanted to go, signing out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.test import Client

from controlplane.access.hashing import TooBusy
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def somebody() -> None:
    factories.person(username="mira")


def test_page__not_signed_in__sends_to_the_door_and_back(client: Client) -> None:
    response = client.get("/rollouts?show=active")
    assert response.status_code == 302
    assert response.headers["Location"] == "/sign-in?next=/rollouts%3Fshow%3Dactive"
    signed_in = client.post(
        "/sign-in", {"username": "mira", "password": factories.PASSWORD, "next": "/rollouts?show=active"}
    )
    assert signed_in.headers["Location"] == "/rollouts?show=active"


def test_fragment__session_over__tells_htmx_to_load_the_door(client: Client) -> None:
    response = client.get(
        "/rollouts", headers={"hx-request": "true", "hx-current-url": "http://testserver/rollouts"}
    )
    assert response.status_code == 204
    assert response.headers["HX-Redirect"] == "/sign-in?next=http%3A%2F%2Ftestserver%2Frollouts"


@pytest.mark.parametrize("wanted", ["https://evil.example/", "//evil.example/x", "javascript:alert(1)", ""])
def test_sign_in__next_leads_elsewhere__goes_to_the_overview(client: Client, wanted: str) -> None:
    response = client.post("/sign-in", {"username": "mira", "password": factories.PASSWORD, "next": wanted})
    assert response.headers["Location"] == "/"


def test_sign_in__full_address_of_this_site__is_kept(client: Client) -> None:
    wanted = "http://testserver/rollouts?show=active"
    response = client.post("/sign-in", {"username": "mira", "password": factories.PASSWORD, "next": wanted})
    assert response.headers["Location"] == "/rollouts?show=active"


def test_sign_in__wrong_password__keeps_the_name_and_says_why(client: Client) -> None:
    response = client.post("/sign-in", {"username": "mira", "password": "guess"})
    assert response.status_code == 400
    text = response.content.decode()
    assert "Name and password do not match." in text
    assert 'value="mira"' in text
    assert "guess" not in text


def test_sign_in__too_many_tries__is_429_with_retry_after(client: Client) -> None:
    for _ in range(5):
        client.post("/sign-in", {"username": "mira", "password": "guess"})
    response = client.post("/sign-in", {"username": "mira", "password": factories.PASSWORD})
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 300


def test_sign_in__other_forwarded_address_each_time__is_braked_all_the_same(client: Client) -> None:
    """No proxy is configured: what a client writes of where it is from changes nothing."""
    answers = [
        client.post(
            "/sign-in",
            {"username": "mira", "password": "guess"},
            headers={"x-forwarded-for": f"198.51.100.{number}", "forwarded": f"for=198.51.100.{number}"},
        ).status_code
        for number in range(30)
    ]
    assert answers == [400] * 5 + [429] * 25


def test_sign_in__through_a_trusted_proxy__is_braked_for_the_client_it_names(
    client: Client, settings: Any
) -> None:
    settings.HEADGATE = replace(settings.HEADGATE, trusted_proxies="127.0.0.1")

    def guess(said: str) -> int:
        sent = {"username": "mira", "password": "guess"}
        return client.post("/sign-in", sent, headers={"x-forwarded-for": said}).status_code

    assert [guess(f"10.9.9.{number}, 198.51.100.1") for number in range(6)] == [400] * 5 + [429]
    assert guess("198.51.100.2") == 400


def test_sign_in__too_many_hash_at_this_moment__is_503_with_retry_after(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(**_: object) -> None:
        raise TooBusy

    monkeypatch.setattr("controlplane.access.sign_in.person_with", busy)
    response = client.post("/sign-in", {"username": "mira", "password": factories.PASSWORD})
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "Try again in a few seconds." in response.content.decode()


def test_sign_in__password_of_a_megabyte__is_refused(client: Client) -> None:
    response = client.post("/sign-in", {"username": "mira", "password": "x" * 1_000_000})
    assert response.status_code == 400
    assert "at most 1,000 characters" in response.content.decode()


@pytest.mark.parametrize(
    "header", ["Basic bWlyYTpndWVzcw==", "Digest username=mira", "Bearer hg_" + "x" * 43]
)
def test_api__other_ways_to_send_a_password__hash_nothing(
    client: Client, header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens have 256 random bits: looking one up needs no slow hash, and no brake. There is no other door."""

    def hashes(*_: object, **__: object) -> None:
        pytest.fail("something was hashed")

    monkeypatch.setattr("django.contrib.auth.hashers.check_password", hashes)
    monkeypatch.setattr("django.contrib.auth.hashers.make_password", hashes)
    assert client.get("/api/v1/me", headers={"authorization": header}).status_code == 401


def test_sign_in__already_signed_in__goes_on(client: Client) -> None:
    client.force_login(factories.person(username="mira"))
    assert client.get("/sign-in").headers["Location"] == "/"


def test_sign_out__post__ends_the_session(client: Client) -> None:
    client.force_login(factories.person(username="mira"))
    assert client.post("/sign-out").headers["Location"] == "/sign-in"
    assert client.get("/").status_code == 302


def test_sign_out__get__is_not_allowed(client: Client) -> None:
    assert client.get("/sign-out").status_code == 405


def test_every_page__headers__forbid_inline_and_framing(client: Client) -> None:
    policy = client.get("/sign-in").headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
