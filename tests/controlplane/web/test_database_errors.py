"""What fails in the database is said the same way through both doors, and what can be read goes on being read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import (
    DataError,
    IntegrityError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)
from django.test import Client
from rest_framework.test import APIClient

from controlplane.access.roles import Role
from controlplane.access.services import Scope, create_token
from controlplane.kernel.errors import Conflict, Unavailable, Unreadable
from controlplane.web import database_errors
from controlplane.web.database_errors import error_of
from rollouts.models import GlobalStop
from tests import factories

on_sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="a fault that only SQLite has")


def of_server(error: type[Exception], cause: type[psycopg.Error]) -> Exception:
    made = error("words of the server: password=hunter2")
    made.__cause__ = cause("words of the server")
    return made


CASES: list[tuple[Exception, type[Exception] | None, str]] = [
    (of_server(OperationalError, psycopg.errors.DiskFull), Unavailable, "database-full"),
    (of_server(InternalError, psycopg.errors.ReadOnlySqlTransaction), Unavailable, "database-read-only"),
    (of_server(OperationalError, psycopg.errors.SerializationFailure), Unavailable, "database-busy"),
    (of_server(OperationalError, psycopg.errors.DeadlockDetected), Unavailable, "database-busy"),
    (of_server(OperationalError, psycopg.errors.LockNotAvailable), Unavailable, "database-busy"),
    (of_server(OperationalError, psycopg.errors.QueryCanceled), Unavailable, "database-busy"),
    (of_server(OperationalError, psycopg.errors.AdminShutdown), Unavailable, "database-unavailable"),
    (of_server(IntegrityError, psycopg.errors.UniqueViolation), Conflict, "conflicting-write"),
    (of_server(IntegrityError, psycopg.errors.ForeignKeyViolation), Conflict, "conflicting-write"),
    (of_server(IntegrityError, psycopg.errors.ExclusionViolation), Conflict, "conflicting-write"),
    (of_server(IntegrityError, psycopg.errors.NotNullViolation), None, ""),
    (of_server(IntegrityError, psycopg.errors.CheckViolation), None, ""),
    (IntegrityError("of nobody knows which rule"), None, ""),
    (of_server(DataError, psycopg.errors.StringDataRightTruncation), Unreadable, "value-too-large"),
    (of_server(DataError, psycopg.errors.NumericValueOutOfRange), Unreadable, "value-too-large"),
    (of_server(DataError, psycopg.errors.DivisionByZero), None, ""),
    (of_server(ProgrammingError, psycopg.errors.UndefinedColumn), None, ""),
    (ValueError("of no database"), None, ""),
]


@pytest.mark.parametrize(("error", "kind", "code"), CASES, ids=lambda one: str(one)[:20])
def test_error_of__every_kind__has_its_meaning(
    error: Exception, kind: type[Exception] | None, code: str
) -> None:
    found = error_of(error, tell_path=True)
    assert (None if kind is None else kind) == (None if found is None else type(found))
    assert (found.code if found else "") == code
    assert "hunter2" not in str(found)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("INSERT INTO broken VALUES (1, 'again', 1)", Conflict),
        ("INSERT INTO broken VALUES (2, 'a', 1)", Conflict),
        ("INSERT INTO broken VALUES (2, NULL, 1)", type(None)),
        ("INSERT INTO broken VALUES (2, 'b', -1)", type(None)),
    ],
    ids=["primary key", "unique", "not null", "check"],
)
def test_error_of__rule_that_is_broken__is_a_conflict_where_two_writers_can_break_it(
    statement: str, kind: type
) -> None:
    """What the database of this run says itself."""
    columns = "id int PRIMARY KEY, name text NOT NULL UNIQUE, n int CHECK (n > 0)"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE broken ({columns})")
        cursor.execute("INSERT INTO broken VALUES (1, 'a', 1)")
        with pytest.raises(IntegrityError) as caught, transaction.atomic():
            cursor.execute(statement)
    assert isinstance(error_of(caught.value, tell_path=False), kind)


def test_error_of__disk_full_at_a_file__tells_path_and_what_is_free_to_those_who_may_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(database_errors, "database_file", lambda: tmp_path / "headgate.sqlite3")
    full = of_server(OperationalError, psycopg.errors.DiskFull)
    told = error_of(full, tell_path=True)
    assert told is not None
    assert f"GB are free at {tmp_path}/headgate.sqlite3." in told.message
    assert str(tmp_path) not in str(error_of(full, tell_path=False))


@pytest.fixture
def rest(db: None) -> APIClient:
    """Calls as an administrator; the use of the token is noted already."""
    _, secret = create_token(
        user=factories.person(Role.ADMINISTRATOR),
        name="ci",
        scopes=tuple(Scope),
        expires_at=None,
        now=factories.right_now(),
    )
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert client.get("/api/v1/me").status_code == 200
    return client


@pytest.fixture
def full_disk(db: None) -> Iterator[Callable[[], None]]:
    """SQLite's own error for a full disk: the file may not have a page more."""

    def fill() -> None:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA page_count")
            cursor.execute(f"PRAGMA max_page_count = {cursor.fetchone()[0]}")

    yield fill
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA max_page_count = 1073741823")


@on_sqlite
def test_rest__disk_full__is_503_that_says_so_and_reading_goes_on(
    full_disk: Callable[[], None],
    rest: APIClient,
) -> None:
    full_disk()
    body = {"name": "s", "text": '{"prompt": "%s", "expected": "y"}' % ("x" * 30_000)}
    answer = rest.post("/api/v1/golden-sets", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (503, "database-full")
    assert answer.headers["Retry-After"] == "5"
    assert rest.get("/api/v1/golden-sets").json()["items"] == []


@on_sqlite
def test_page__disk_full__is_503_that_says_so_and_reading_goes_on(
    full_disk: Callable[[], None], client: Client
) -> None:
    client.force_login(factories.person(Role.ADMINISTRATOR))
    full_disk()
    text = '{"prompt": "%s", "expected": "y"}' % ("x" * 30_000)
    answer = client.post("/golden-sets", {"name": "s", "text": text})
    assert answer.status_code == 503
    assert "The disk of the database is full." in answer.content.decode()
    assert answer.headers["Retry-After"] == "5"
    assert client.get("/golden-sets").status_code == 200


@pytest.fixture
def only_reads(db: None) -> Iterator[Callable[[], None]]:
    """The database takes no writes from here on."""

    def switch() -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("PRAGMA query_only = 1")
            else:
                cursor.execute("SET TRANSACTION READ ONLY")

    with transaction.atomic():  # PostgreSQL goes back to writing when this is undone
        yield switch
        transaction.set_rollback(True)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA query_only = 0")


def test_both_doors__database_only_reads__say_the_same_and_reading_goes_on(
    only_reads: Callable[[], None],
    rest: APIClient,
    client: Client,
) -> None:
    client.force_login(factories.person(Role.ADMINISTRATOR))
    only_reads()
    answer = rest.put("/api/v1/global-stop", {"on": True}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (503, "database-read-only")
    page = client.post("/stop", {"on": "yes"})
    assert page.status_code == 503
    assert answer.json()["detail"] in page.content.decode()
    assert rest.get("/api/v1/global-stop").json()["on"] is False
    assert client.get("/stop").status_code == 200
    assert not GlobalStop.objects.filter(on=True).exists()


def test_both_doors__a_rule_is_broken_by_a_race__are_409_and_not_500(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    rest: APIClient,
    client: Client,
) -> None:
    def raced(**_: object) -> None:
        raise IntegrityError("duplicate key: secret") from psycopg.errors.UniqueViolation()

    for module in ("rollouts.api.installation", "rollouts.ui.overview.views"):
        monkeypatch.setattr(f"{module}.set_global_stop", raced)
    client.force_login(factories.person(Role.ADMINISTRATOR))
    answer = rest.put("/api/v1/global-stop", {"on": True}, format="json")
    page = client.post("/stop", {"on": "yes"})
    assert (answer.status_code, page.status_code) == (409, 409)
    assert "secret" not in json.dumps(answer.json()) + page.content.decode()
    logged = [record.name for record in caplog.records if record.exc_info]
    assert logged == ["controlplane.api.problems", "controlplane.web.problems"], (
        "whichever door: it is in the log"
    )


def test_both_doors__a_rule_that_no_race_breaks__is_500_and_logged(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    rest: APIClient,
    client: Client,
) -> None:
    """Nobody else changed anything: the caller is not told to look at the state and decide again."""

    def without_a_value(**_: object) -> None:
        raise IntegrityError("null value") from psycopg.errors.NotNullViolation()

    for module in ("rollouts.api.installation", "rollouts.ui.overview.views"):
        monkeypatch.setattr(f"{module}.set_global_stop", without_a_value)
    client.force_login(factories.person(Role.ADMINISTRATOR))
    client.raise_request_exception = False
    answer = rest.put("/api/v1/global-stop", {"on": True}, format="json")
    page = client.post("/stop", {"on": "yes"})
    assert (answer.status_code, page.status_code) == (500, 500)
    assert sum(isinstance((record.exc_info or (0, 0))[1], IntegrityError) for record in caplog.records) == 2


def test_page__session_cannot_be_kept__says_what_the_database_says(
    monkeypatch: pytest.MonkeyPatch, client: Client, db: None
) -> None:
    """Nothing of a view: the session is kept after it. Before, this was a page that said it was our fault."""
    factories.person(username="mira")

    def full(*_: object, **__: object) -> None:
        raise of_server(OperationalError, psycopg.errors.DiskFull)

    client.raise_request_exception = False
    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.save", full)
    answer = client.post("/sign-in", {"username": "mira", "password": factories.PASSWORD})
    assert answer.status_code == 503
    assert "The disk of the database is full." in answer.content.decode()
