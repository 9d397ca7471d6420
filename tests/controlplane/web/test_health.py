"""What the parts last said, and what the database says of itself."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from controlplane.passes.models import ItemTrouble
from controlplane.web import health
from controlplane.web.health import beat, report
from controlplane.web.models import Heartbeat

pytestmark = pytest.mark.django_db
READS = re.compile(r"[\s(]*(SELECT|SHOW)\b")
NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)


def states(now: datetime = NOW) -> dict[str, str]:
    return {part.name: part.state for part in report(now=now)}


def test_report__nothing_heard__says_so_and_needs_only_its_database() -> None:
    assert states() == {
        "database": "ok",
        "database writes": "ok",
        "migrations": "ok",
        "worker": "unknown",
        "probes": "unknown",
        "files": "unknown",
        "errands": "unknown",
        "mlflow": "unknown",
        "router": "unknown",
    }
    assert [part.name for part in report(now=NOW) if part.needed] == ["database", "migrations"]


@pytest.mark.parametrize(("age", "state"), [(14, "ok"), (16, "stale")])
def test_report__worker__is_ok_until_it_is_silent_for_too_long(age: int, state: str) -> None:
    beat(name="worker", now=NOW - timedelta(seconds=age))
    assert states()["worker"] == state


def test_report__part_says_it_fails__passes_its_words_on() -> None:
    beat(name="mlflow", now=NOW, ok=False, message="connection refused")
    (mlflow,) = (part for part in report(now=NOW) if part.name == "mlflow")
    assert (mlflow.state, mlflow.message, mlflow.age_words) == ("failing", "connection refused", "under 5 s")


def test_beat__again__replaces_the_row() -> None:
    beat(name="worker", now=NOW, ok=False, message="x" * 500)
    beat(name="worker", now=NOW + timedelta(seconds=1))
    assert Heartbeat.objects.get(name="worker").message == ""


def test_report__a_pass_cannot_do_one_item__says_since_when_and_never_makes_unready() -> None:
    for item, label in (("7", "triage v3"), ("8", "triage v4")):
        ItemTrouble.objects.create(
            pass_name="files of versions", item=item, label=label, attempts=3, error="MLflow failed (500).",
            first_failed_at=NOW - timedelta(hours=2), last_attempt_at=NOW, next_attempt_at=NOW,
        )  # fmt: skip
    (part,) = (part for part in report(now=NOW) if part.name == "files of versions")
    assert (part.state, part.needed) == ("failing", False)
    assert part.message == (
        "since 2026-11-20 07:49 UTC: 2 items fail; longest triage v3: MLflow failed (500)."
    )


def test_report__database_does_not_answer__is_the_only_part_and_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(health, "_migrations", broken)
    (part,) = report(now=NOW)
    assert (part.name, part.state, part.needed) == ("database", "failing", True)
    assert part.message == "cannot be read: connection refused"


def test_report__anything__writes_nothing() -> None:
    report(now=NOW)
    with CaptureQueriesContext(connection) as caught:
        report(now=NOW)
    assert [query["sql"] for query in caught if not READS.match(query["sql"])] == []
    assert not Heartbeat.objects.exists()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no such mode")
def test_report__server_only_reads__says_so_and_stays_ready() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
    (part,) = (part for part in report(now=NOW) if part.name == "database writes")
    assert (part.state, part.needed, part.message) == ("failing", False, "the server only reads")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="the disk of a server is not seen from here")
def test_report__disk_of_the_file_nearly_full__says_how_much_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "headgate.sqlite3"
    file.touch()
    monkeypatch.setattr(health, "database_file", lambda: file)
    assert states()["database writes"] == "ok"
    monkeypatch.setattr(health, "LEAST_FREE_BYTES", 10**18)
    (part,) = (part for part in report(now=NOW) if part.name == "database writes")
    assert (part.state, part.needed) == ("failing", False)
    assert part.message.endswith(f"MB are free at {file}")


def test_web_beats_no_more__row_of_an_older_version__is_gone_after_the_migration() -> None:
    beat(name="web", now=NOW)
    migration = import_module("controlplane.web.migrations.0002_web_beats_no_more")
    migration.forget_web(apps, None)
    assert not Heartbeat.objects.filter(name="web").exists()
