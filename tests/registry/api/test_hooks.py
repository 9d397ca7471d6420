from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from celery import current_app
from django.test import Client

from registry.models import HookDelivery
from tests.registry.domain.test_webhooks import BODY, sign

pytestmark = pytest.mark.django_db

PATH = "/hooks/mlflow"
SECRET = "s3cret"


@pytest.fixture
def with_secret(settings: Any) -> None:
    settings.HEADGATE = replace(settings.HEADGATE, mlflow_webhook_secret=SECRET)


@pytest.fixture
def queued() -> Iterator[Callable[[], list[Any]]]:
    """What was sent to the broker since the test began: the arguments of each task, by name."""
    eager, current_app.conf.task_always_eager = current_app.conf.task_always_eager, False
    with current_app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        queue = current_app.conf.task_routes["registry.mirror"]["queue"]

        def read() -> list[Any]:
            found = []
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                found.append((message.headers["task"], message.decode()[1]))
            return found

        channel.queue_declare(queue)
        read()
        yield read
    current_app.conf.task_always_eager = eager


def post(client: Client, *, delivery: str = "d-1", body: bytes = BODY, signature: str | None = None) -> Any:
    timestamp = str(int(time.time()))
    signed = {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": timestamp,
        "X-MLflow-Signature": signature or sign(SECRET, delivery, timestamp, body),
    }
    return client.post(PATH, body, content_type="application/json", headers=signed)


@pytest.mark.usefixtures("with_secret")
def test_hook__signed__accepted_without_a_csrf_token_and_the_mirror_is_asked(
    queued: Callable[[], list[Any]],
) -> None:
    answer = post(Client(enforce_csrf_checks=True))
    assert answer.status_code == 202
    assert queued() == [("registry.mirror", {"models": ["llama"]})]


@pytest.mark.usefixtures("with_secret")
def test_hook__delivered_twice__accepted_but_the_mirror_is_asked_once(
    client: Client, queued: Callable[[], list[Any]]
) -> None:
    assert [post(client).status_code, post(client).status_code] == [202, 202]
    assert len(queued()) == 1


@pytest.mark.usefixtures("with_secret")
def test_hook__forged__forbidden_and_nothing_happens(client: Client, queued: Callable[[], list[Any]]) -> None:
    answer = post(client, signature="v1,Zm9yZ2Vk")
    assert (answer.status_code, answer.json()["code"]) == (403, "bad-signature")
    assert not HookDelivery.objects.exists()
    assert queued() == []


@pytest.mark.usefixtures("with_secret")
def test_hook__too_large__refused(client: Client) -> None:
    assert post(client, body=b"x" * 300_000).status_code == 422


def test_hook__no_secret_set__refused_saying_what_to_set(client: Client) -> None:
    answer = post(client)
    assert (answer.status_code, answer.json()["code"]) == (403, "webhooks-off")
    assert "HEADGATE_MLFLOW_WEBHOOK_SECRET" in answer.json()["fix"]


def test_hook__get__not_allowed(client: Client) -> None:
    assert client.get(PATH).status_code == 405
