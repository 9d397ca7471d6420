from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rest_framework.test import APIClient

from controlplane.access.roles import Role
from controlplane.api import idempotency
from controlplane.api.models import IdempotencyRecord
from controlplane.kernel.clock import ManualClock
from tests.controlplane.api.conftest import ClientOf
from tests.controlplane.api.probe_urls import Counting

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.controlplane.api.probe_urls")]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    Counting.calls = 0
    clock = ManualClock(datetime.now(UTC))
    monkeypatch.setattr(idempotency, "clock", clock)
    return clock


def post(client: APIClient, key: str = "", **body: object) -> tuple[int, dict[str, object], str]:
    headers = {"Idempotency-Key": key} if key else {}
    response = client.post("/api/v1/counting", body, format="json", headers=headers)
    return response.status_code, response.json(), response.get("Idempotency-Replayed", "")


def test_post__without_key__is_done_every_time(client_of: ClientOf) -> None:
    client = client_of()

    assert [post(client)[1], post(client)[1]] == [{"calls": 1}, {"calls": 2}]


def test_post__same_key_and_body__is_done_once_and_answered_alike(client_of: ClientOf) -> None:
    client = client_of()

    first, second = post(client, "k1", a=1), post(client, "k1", a=1)

    assert first == (201, {"calls": 1}, "")
    assert second == (201, {"calls": 1}, "true")
    assert Counting.calls == 1


def test_post__replay__keeps_the_location(client_of: ClientOf) -> None:
    client = client_of()
    post(client, "k1")

    again = client.post("/api/v1/counting", {}, format="json", headers={"Idempotency-Key": "k1"})

    assert again["Location"] == "/api/v1/things/1"


def test_post__same_key_other_body__is_409(client_of: ClientOf) -> None:
    client = client_of()
    post(client, "k1", a=1)

    status, problem, _ = post(client, "k1", a=2)

    assert (status, problem["code"]) == (409, "idempotency-key-reused")
    assert Counting.calls == 1


def test_post__failed_call__frees_its_key(client_of: ClientOf) -> None:
    client = client_of()

    assert post(client, "k1", fail=True)[0] == 503
    assert post(client, "k1", fail=True)[0] == 503
    assert Counting.calls == 2
    assert not IdempotencyRecord.objects.exists()


def test_post__first_call_still_running__is_409(client_of: ClientOf) -> None:
    client = client_of()
    post(client, "k1")
    IdempotencyRecord.objects.update(status=None)

    status, problem, _ = post(client, "k1")

    assert (status, problem["code"]) == (409, "idempotency-key-in-use")


def test_post__first_call_died__runs_again_after_the_lock(client_of: ClientOf, clock: ManualClock) -> None:
    client = client_of()
    post(client, "k1")
    IdempotencyRecord.objects.update(status=None)
    clock.advance(idempotency.LOCK_TIME.total_seconds())

    assert post(client, "k1")[1] == {"calls": 2}


def test_post__key_kept_long_enough__is_free_again(client_of: ClientOf, clock: ManualClock) -> None:
    client = client_of()
    post(client, "k1", a=1)
    clock.advance(idempotency.KEPT_FOR.total_seconds())

    assert post(client, "k1", a=2) == (201, {"calls": 2}, "")


def test_post__same_key_of_two_people__are_two_calls(client_of: ClientOf) -> None:
    assert post(client_of(Role.ENGINEER), "k1")[1] == {"calls": 1}
    assert post(client_of(Role.RELEASE_MANAGER), "k1")[1] == {"calls": 2}


def test_post__key_too_long__is_422_naming_the_header(client_of: ClientOf) -> None:
    status, problem, _ = post(client_of(), "k" * 201)

    assert status == 422
    assert problem["errors"][0]["field"] == "Idempotency-Key"  # type: ignore[index]


def test_forget_expired__old_and_new_keys__only_the_old_goes(client_of: ClientOf, clock: ManualClock) -> None:
    client = client_of()
    post(client, "old")
    clock.advance(3600)
    post(client, "new")

    assert idempotency.forget_expired(now=clock.now() + idempotency.KEPT_FOR - timedelta(minutes=30)) == 1
    assert IdempotencyRecord.objects.get().key == "new"
