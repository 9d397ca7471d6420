"""Probes: alive, ready, and what the other parts last said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError
from django.test import Client

from controlplane.passes.models import ItemTrouble
from controlplane.web import health
from controlplane.web.health import beat, report
from controlplane.web.models import Heartbeat

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)


def states(now: datetime = NOW) -> dict[str, str]:
    return {part.name: part.state for part in report(now=now)}


def test_report__nothing_heard__says_so_and_needs_only_its_database() -> None:
    assert states() == {
        "database": "ok",
        "migrations": "ok",
        "worker": "unknown",
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


def test_readyz__a_pass_cannot_do_one_item__degraded_with_its_words_and_never_unready(client: Client) -> None:
    for item, label in (("7", "triage v3"), ("8", "triage v4")):
        ItemTrouble.objects.create(
            pass_name="files of versions", item=item, label=label, attempts=3, error="MLflow failed (500).",
            first_failed_at=NOW - timedelta(hours=2), last_attempt_at=NOW, next_attempt_at=NOW,
        )  # fmt: skip
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    (part,) = (part for part in answer.json()["parts"] if part["name"] == "files of versions")
    assert (part["state"], part["needed"]) == ("failing", False)
    assert part["message"] == (
        "since 2026-11-20 07:49 UTC: 2 items fail; longest triage v3: MLflow failed (500)."
    )


def test_readyz__parts_silent__is_ready_but_degraded(client: Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    body = answer.json()
    assert body["status"] == "degraded"
    assert {part["name"] for part in body["parts"]} >= {
        "database",
        "migrations",
        "worker",
        "mlflow",
        "router",
    }


def test_readyz__database_cannot_be_written__is_unready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise DatabaseError("read-only")

    monkeypatch.setattr(health, "beat", broken)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"] == [
        {
            "name": "database",
            "state": "failing",
            "needed": True,
            "age_seconds": None,
            "message": "cannot be written: read-only",
        }
    ]


def test_healthz__always__answers_without_the_database(
    client: Client, django_assert_num_queries: object
) -> None:
    with django_assert_num_queries(0):  # type: ignore[operator]
        assert client.get("/healthz").json() == {"status": "alive"}
