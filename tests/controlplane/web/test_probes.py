"""The probes: for machines that know no name and no password, and who learn none."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings as django
from django.db import OperationalError, connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver
from pytest_django.fixtures import Settings

from controlplane.access.models import ApiToken
from controlplane.access.services import Scope, create_token
from controlplane.passes.models import ItemTrouble
from controlplane.timekeeping.database_clock import CLOCK, DatabaseClock
from controlplane.web import probes
from controlplane.web.health import beat
from controlplane.web.models import Heartbeat
from tests import factories

pytestmark = pytest.mark.django_db
READS = re.compile(r"[\s(]*(SELECT|SHOW)\b")
NOW = datetime.now(UTC)
PROBES = ["/healthz", "/readyz", "/metrics"]


def bearer(*scopes: Scope) -> dict[str, str]:
    _, secret = create_token(user=factories.person(), name="p", scopes=scopes, expires_at=None, now=NOW)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def trouble() -> None:
    ItemTrouble.objects.create(
        pass_name="ratings of payroll", item="7", label="x", attempts=1, error="odd", first_failed_at=NOW,
        last_attempt_at=NOW, next_attempt_at=NOW,
    )  # fmt: skip


@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("host", ["evil.example", "10.0.0.7:8500", "[::1", "a_b"])
def test_probe__any_host_name__answers(client: Client, path: str, host: str) -> None:
    assert client.get(path, headers={"host": host}).status_code == (401 if path == "/metrics" else 200)
    assert client.get("/sign-in", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("path", PROBES)
def test_probe__head__is_the_get_without_its_body(client: Client, path: str) -> None:
    client.force_login(factories.person())
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")


@pytest.mark.parametrize("path", PROBES)
def test_probe__without_tls__is_not_sent_elsewhere(client: Client, path: str, settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]  # as settings_production has it
    assert client.get(path).status_code in (200, 401)
    assert client.get("/sign-in").status_code == 301


@pytest.mark.parametrize("path", PROBES)
def test_probe__any__is_kept_by_no_cache(client: Client, path: str) -> None:
    assert client.get(path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", PROBES)
def test_probe__with_a_token__writes_nothing(client: Client, path: str) -> None:
    headers = bearer(Scope.READ)
    client.get(path, headers=headers)
    with CaptureQueriesContext(connection) as caught:
        assert client.get(path, headers=headers).status_code == 200
    assert [query["sql"] for query in caught if not READS.match(query["sql"])] == []
    assert not Heartbeat.objects.exists()
    assert ApiToken.objects.get().last_used_at is None


def test_healthz__always__asks_no_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.cookies[django.SESSION_COOKIE_NAME] = "a" * 32
    monkeypatch.setattr(CLOCK, "_ask_again", 0.0)  # it was not asked for long
    with CaptureQueriesContext(connection) as caught:
        assert client.get("/healthz").json() == {"status": "alive"}
    assert len(caught) == 0


def test_healthz__always__asks_for_no_time_which_is_the_databases(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same also where the time of the database costs no query (SQLite)."""

    def hangs(_: object) -> None:
        raise AssertionError("a database that does not answer was asked for the time")

    monkeypatch.setattr(DatabaseClock, "now", hangs)
    assert client.get("/healthz").status_code == 200


def test_readyz__stranger__learns_states_and_no_names(client: Client, trouble: None) -> None:
    # Not NOW, which is older than a part's last word may be where the tests before this one took long.
    beat(name="mlflow", now=datetime.now(UTC), ok=False, message="http://mlflow.internal refused")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert {part["name"]: part["state"] for part in answer.json()["parts"]} == {
        "database": "ok", "database writes": "ok", "migrations": "ok", "worker": "unknown", "probes": "unknown",
        "files": "unknown", "errands": "unknown",
        "mlflow": "failing", "router": "unknown", "passes": "failing",
    }  # fmt: skip
    assert all(set(part) == {"name", "state", "needed"} for part in answer.json()["parts"])
    assert "payroll" not in answer.content.decode()
    assert "internal" not in answer.content.decode()


def test_readyz__everything_well__has_no_part_for_passes(client: Client) -> None:
    assert "passes" not in client.get("/readyz").content.decode()


def test_readyz__signed_in_or_with_a_token_that_reads__sees_words(client: Client, trouble: None) -> None:
    for headers in (None, bearer(Scope.READ)):
        if headers is None:
            client.force_login(factories.person())
        else:
            client.logout()
        parts = {part["name"]: part for part in client.get("/readyz", headers=headers).json()["parts"]}
        assert "odd" in parts["ratings of payroll"]["message"]
        assert "age_seconds" in parts["worker"]


@pytest.mark.parametrize("state", ["other scope", "unknown", "expired", "no bearer"])
def test_readyz_and_metrics__token_that_may_not_read__is_a_stranger(
    client: Client, state: str, trouble: None
) -> None:
    headers = {
        "other scope": lambda: bearer(Scope.FEEDBACK_WRITE),
        "unknown": lambda: {"Authorization": "Bearer hg_" + "x" * 43},
        "expired": lambda: bearer(Scope.READ),
        "no bearer": lambda: {"Authorization": "Basic eDp5"},
    }[state]()
    if state == "expired":
        ApiToken.objects.update(expires_at=NOW - timedelta(days=1))
    assert "payroll" not in client.get("/readyz", headers=headers).content.decode()
    assert client.get("/metrics", headers=headers).status_code == 401


def test_readyz__database_away__is_503_for_whoever_asks(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(factories.person())

    def away(*_: object, **__: object) -> None:
        raise OperationalError("connection to server at 10.0.0.9 refused")

    with monkeypatch.context() as patched:
        patched.setattr(connections["default"], "cursor", away)
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "unready",
        "parts": [{"name": "database", "state": "failing", "needed": True}],
    }


def test_metrics__stranger__is_told_what_opens_them(client: Client) -> None:
    answer = client.get("/metrics")
    assert answer.status_code == 401
    assert "scope read" in answer.content.decode()
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("named", "status"),
    [("127.0.0.1", 200), ("127.0.0.1:9100, 10.0.0.1", 200), ("127.0.0.1:9101", 401), ("", 401)],
)
def test_metrics__at_an_address_that_the_operator_named__need_no_token(
    client: Client, settings: Settings, named: str, status: int
) -> None:
    settings.HEADGATE = dataclasses.replace(settings.HEADGATE, metrics_addresses=named)
    answer = client.get("/metrics", SERVER_NAME="127.0.0.1", SERVER_PORT="9100")
    assert answer.status_code == status


def test_metrics__host_header_of_a_named_address__is_not_the_address(
    client: Client, settings: Settings
) -> None:
    settings.HEADGATE = dataclasses.replace(settings.HEADGATE, metrics_addresses="127.0.0.1")
    assert client.get("/metrics", headers={"host": "127.0.0.1"}, SERVER_NAME="10.0.0.7").status_code == 401


def test_paths__of_the_probes__are_those_of_the_addresses() -> None:
    found = {
        f"/{pattern.pattern}"
        for resolver in get_resolver().url_patterns
        for pattern in getattr(resolver, "url_patterns", [])
        if getattr(pattern, "callback", None) in (probes.healthz, probes.readyz, probes.metrics_text)
    }
    assert found == probes.PATHS
