"""A trial's backends are believed, and nobody else."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from controlplane.kernel.errors import Unavailable
from controlplane.outbound.clients import local_client
from rollouts.adapters.routers.gateway_api.trial.asking import TrialUser
from rollouts.adapters.routers.gateway_api.user import GatewayUser

HOST = "probe.example"


def user(response: httpx.Response, check: Callable[[], None] = lambda: None) -> TrialUser:
    client = local_client(base_url="http://edge", transport=httpx.MockTransport(lambda request: response))
    return TrialUser(GatewayUser(client), ("one", "two"), check)


def models(name: object, received: object = None) -> httpx.Response:
    return httpx.Response(200, json={"data": [{"id": name, "received": received or {}}]})


def test_ask__backend_of_the_trial__is_named_whatever_the_gateway_says() -> None:
    answer = httpx.Response(200, json={"data": [{"id": "one"}]}, headers={"x-headgate-variant": "two"})
    assert user(answer).ask(HOST, "") == "one"


def test_infer__backend_of_the_trial__is_named_whatever_the_gateway_says() -> None:
    answer = httpx.Response(200, json={"model": "one"}, headers={"x-headgate-variant": "two"})
    assert user(answer).infer(HOST, "") == "one"


def test_ask__somebody_else_answers__is_no_answer() -> None:
    with pytest.raises(Unavailable, match="Somebody else answers for the trial's host: chat-v1"):
        user(models("chat-v1")).ask(HOST, "")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        models(7),
        httpx.Response(200, json={"data": []}),
    ],
)
def test_ask__what_is_no_list_of_models__is_unavailable(answer: httpx.Response) -> None:
    with pytest.raises(Unavailable):
        user(answer).ask(HOST, "")


def test_received__of_either__is_told_by_whoever_answers() -> None:
    asked = user(models("one", {"two": 3}))
    assert (asked.received(HOST, "two"), asked.received(HOST, "one")) == (3, 0)


@pytest.mark.parametrize("received", [{"two": -1}, {"two": "three"}, [3]])
def test_received__what_is_no_count__is_unavailable(received: object) -> None:
    with pytest.raises(Unavailable):
        user(models("one", received)).received(HOST, "two")


def test_every_request__no_time_is_left__is_not_sent() -> None:
    def late() -> None:
        raise Unavailable("no time is left")

    asked = user(models("one"), late)
    for ask in (
        lambda: asked.ask(HOST, ""),
        lambda: asked.infer(HOST, ""),
        lambda: asked.received(HOST, "one"),
    ):
        with pytest.raises(Unavailable, match="no time is left"):
            ask()
