"""A secret goes in through every door, its variants are launched, fail and are rolled back: it is found nowhere but in
the environment of its engines."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from controlplane.access.models import User
from controlplane.access.roles import Role
from controlplane.access.services import Scope, create_token
from controlplane.api.models import IdempotencyRecord
from rollouts.domain.engines import FailureReason
from rollouts.models import Evidence, Rollout, Variant
from tests import factories
from tests.rollouts.memory_world import BANDIT, ERRORS, PLAN, THUMBS, MemoryWorld

pytestmark = [pytest.mark.django_db, pytest.mark.story]

SECRET = f"s3ntinel-{uuid.uuid4().hex}\nof two lines {uuid.uuid4().hex}"
IN_A_FILE = f"f1le-{uuid.uuid4().hex}"
PIECES = [*SECRET.split("\n"), IN_A_FILE]
ENVIRONMENT = {"MODEL_LICENCE": SECRET, "SECOND": {"secret": {"file": "second"}}, "OMP_NUM_THREADS": "2"}


def found_in(text: str) -> list[str]:
    return [piece for piece in PIECES if piece in text]


class Doors:
    """Calls and pages as an administrator and as a viewer; everything that was answered is kept in `answers`."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str]] = []
        self.people = {role: factories.person(role) for role in (Role.ADMINISTRATOR, Role.VIEWER)}
        self.tokens = {role: token_of(person) for role, person in self.people.items()}

    def post(self, path: str, body: Any, *, key: str = "") -> Any:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {self.tokens[Role.ADMINISTRATOR]}")
        headers = {"Idempotency-Key": key} if key else {}
        answer = client.post(f"/api/v1/{path}", body, format="json", headers=headers)
        self.answers.append((f"POST {path}", answer.content.decode()))
        return answer

    def see(self, path: str) -> None:
        """The path as each role sees it: by token below /api/, signed in elsewhere."""
        for role in (Role.ADMINISTRATOR, Role.VIEWER):
            client = Client()
            if path.startswith("/api/"):
                headers = {"Authorization": f"Bearer {self.tokens[role]}"}
                answer = client.get(path, headers=headers)
            else:
                client.force_login(self.people[role])
                answer = client.get(path)
            if not answer.streaming:
                self.answers.append((f"{role.value} {path} {answer.status_code}", answer.content.decode()))


def token_of(person: User) -> str:
    return create_token(
        user=person, name="ci", scopes=tuple(Scope), expires_at=None, now=factories.right_now()
    )[1]


VALUES = {
    "number": "1",
    "version": "1",
    "action": "rollback",
    "reference": "default",
    "chart_name": "traffic",
}
NAMES = {
    "endpoints/": "triage", "clusters/": "here", "models/": "triage", "golden-sets/": "tickets",
    "policies/": "default", "charts/": "share",
}  # fmt: skip
NO_ANSWER_OF_OURS = ("/events", "/sign-out", "/static/")


def patterns(entries: list[Any], begin: str = "/") -> Iterator[str]:
    """Every address there is, with its parameters still in it."""
    for entry in entries:
        here = begin + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns, here)
        elif isinstance(entry, URLPattern) and not here.startswith(NO_ANSWER_OF_OURS):
            yield here


def filled(pattern: str, rollout: str) -> str:
    """The pattern with values that exist in the story."""
    path = re.sub(r"\^|\$|\\Z|\(\?P<\w+>[^)]*\)", "", pattern)
    name = next((value for part, value in reversed(NAMES.items()) if part in path), "x")
    values = {**VALUES, "rollout_id": rollout}
    return re.sub(r"<\w+:(\w+)>", lambda found: values.get(found[1], name), path)


def addresses() -> list[str]:
    """Every address; those of a rollout for every rollout."""
    keys = [str(pk) for pk in Rollout.objects.values_list("pk", flat=True)]
    every = list(patterns(get_resolver().url_patterns))
    return sorted({filled(pattern, key) for pattern in every for key in keys})


def everything_in_the_database() -> str:
    """Every column of every row of every table, as the driver gives it, bytes too."""
    with connection.cursor() as cursor:
        rows = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            for row in cursor.fetchall():
                rows += [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row]
    return "\n".join(rows)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> MemoryWorld:
    caplog.set_level(logging.DEBUG)
    w = MemoryWorld(tmp_path, gates=(ERRORS, THUMBS)).serve()
    w.secrets_dir.mkdir(mode=0o700)
    (w.secrets_dir / "second").write_text(IN_A_FILE)
    (w.secrets_dir / "second").chmod(0o600)
    options = w.cluster.allowed["vllm"]
    second = options.variables[-1].__class__("SECOND", options.variables[-1].kind, "Another.")
    w.cluster.allowed["vllm"] = options.__class__("vllm", options.arguments, (*options.variables, second))
    monkeypatch.setattr("rollouts.wiring.worlds", lambda: w.worlds)
    monkeypatch.setattr("rollouts.api.rollouts.wake", lambda _: None)
    monkeypatch.setattr("rollouts.api.endpoints.wake", lambda _: None)
    return w


def start(doors: Doors, plan: Any, **more: Any) -> Any:
    serving = {"environment": ENVIRONMENT}
    body = {"endpoint": "triage", "plan": plan.to_json(), "serving": serving, **more}
    return doors.post("rollouts", body, key=uuid.uuid4().hex)


def test_secret__through_every_door__is_found_nowhere_but_in_the_engines(
    world: MemoryWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    w, doors = world, Doors()
    # In, and in wrongly.
    made = doors.post(
        "endpoints",
        {"name": "other", "model": "triage", "version": 1, "gate_policy": "default", "golden_set": "tickets",
         "cluster": "here", "serving": {"environment": ENVIRONMENT}},
        key="once",
    )  # fmt: skip
    assert made.status_code == 201
    wrong: list[dict[str, Any]] = [
        {"environment": {"NO_SUCH": SECRET}},
        {"environment": {"OMP_NUM_THREADS": SECRET}},
        {"environment": {"MODEL_LICENCE": {"secret": SECRET}}},
        {"environment": {"MODEL_LICENCE": {"secret": {"value": SECRET}}}},
        {"environment": {"MODEL_LICENCE": {"secret": {"file": SECRET}}}},
        {"environment": {"MODEL_LICENCE": [SECRET]}},
        {"environment": {"MODEL_LICENCE": SECRET + "\0"}},
        {"arguments": {"max-model-len": SECRET}},
        {"arguments": {"no-such": SECRET}},
        {"arguments": {"chat-template": SECRET}},
        {"resources": {"memory_mb": SECRET}},
        {"replicas": SECRET},
        {"environment": SECRET},
    ]
    for serving in wrong:
        for dry in (True, False):
            answer = start(doors, PLAN, version=2, serving=serving, dry_run=dry)
            assert answer.status_code in (200, 400, 422), (serving, answer.content)
            assert dry or answer.status_code != 200
    assert start(doors, PLAN, version=2, dry_run=True).json()["can_start"]

    # Launched, under traffic, rolled back; launched and broken, with its environment in its log; a bandit.
    assert start(doors, PLAN, version=2).status_code == 201
    w.run(lambda: w.rollout.step_index >= 0)
    w.cluster.print(w.variant(2).name, f"environment: {SECRET!r}")
    w.run_for(4)
    w.roll_back()
    w.run_to("rolled-back")
    assert start(doors, PLAN, version=3).status_code == 201
    w.cluster.fail(w.variant(3).name, FailureReason.BAD_MODEL, "it printed its environment")
    w.cluster.print(w.variant(3).name, f"MODEL_LICENCE={SECRET}")
    w.cluster.print(w.variant(3).name, f"SECOND={IN_A_FILE}")
    w.run(lambda: w.cluster.environments.get(w.variant(3).name) is not None)
    for line in (*SECRET.split("\n"), f"SECOND={IN_A_FILE}"):
        w.cluster.print(w.variant(3).name, line)
    w.run_to("rolled-back")
    assert "[hidden]" in str(w.workload(3).log_tail)
    assert start(doors, BANDIT, versions=[2, 3, 4]).status_code == 201
    w.run_for(8)
    bandit = w.rollout
    assert Evidence.objects.filter(rollout=bandit).exists()

    # The engines have it.
    for number in (2, 4):
        got = w.cluster.environments[w.variant(number).name]
        assert got == {"MODEL_LICENCE": SECRET, "SECOND": IN_A_FILE, "OMP_NUM_THREADS": "2"}

    # Nobody else has.
    seen = addresses()
    for path in seen:
        doors.see(path)
    shown = [
        text for where, text in doors.answers if where.startswith("viewer /api/v1/endpoints/triage/variants")
    ]
    assert '"set":true' in shown[0].replace(" ", "")
    assert len({where for where, _ in doors.answers if where.endswith(" 200")}) > 60
    assert [where for where, text in doors.answers if found_in(text)] == []
    assert [where for where, text in doors.answers if "gAAAA" in text] == []
    assert found_in(everything_in_the_database()) == []
    assert IdempotencyRecord.objects.exists()
    files = [
        path
        for folder in (tmp_path, settings.HEADGATE.run_dir)
        for path in folder.rglob("*")
        if path.is_file()
    ]
    hits = [path for path in files if found_in(path.read_bytes().decode("latin-1"))]
    assert hits == [w.secrets_dir / "second"]
    assert found_in(caplog.text) == []
    for pk in Rollout.objects.values_list("pk", flat=True):
        told = StringIO()
        call_command("replay", str(pk), "--json", stdout=told)
        assert found_in(told.getvalue()) == []
        json.loads(told.getvalue().splitlines()[0])
    assert all(SECRET not in repr(variant.spec) for variant in Variant.objects.all())


def test_database__every_model__is_in_the_dump(world: MemoryWorld) -> None:
    """The search above looks everywhere: a column of any model would be found."""
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
    assert {model._meta.db_table for model in apps.get_models()} <= tables
    Variant.objects.filter(version__number=1).update(serving={"environment": {"X": IN_A_FILE}})
    assert found_in(everything_in_the_database()) == [IN_A_FILE]
