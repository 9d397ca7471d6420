"""Who answers, by the engine's own word."""

from __future__ import annotations

import httpx
import pytest

from controlplane.kernel.errors import Unavailable
from controlplane.outbound.clients import local_client
from rollouts.adapters.routers.gateway_api.user import GatewayUser, ServedAnswer

MODELS = {"data": [{"id": "chat-v1-aaaa"}, {"id": "chat"}]}


def user(response: httpx.Response) -> GatewayUser:
    def respond(request: httpx.Request) -> httpx.Response:
        assert request.headers["host"] == "chat.example"
        return response

    return GatewayUser(
        local_client(base_url="http://edge", transport=httpx.MockTransport(respond)), model="chat"
    )


def test_ask__the_gateways_header_names_another_variant__the_engine_is_believed() -> None:
    answer = httpx.Response(200, json=MODELS, headers={"x-headgate-variant": "chat-v2-bbbb"})
    assert user(answer).ask("chat.example", "chat-v2-bbbb") == "chat-v1-aaaa"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(503, text="no healthy upstream"), "HTTP 503 for chat.example: no healthy upstream"),
        (httpx.Response(200, json={"data": []}), "is empty"),
        (httpx.Response(200, text="<html>"), "cannot be understood"),
        (httpx.Response(200, json={"data": [{"id": 7}]}), "cannot be understood"),
    ],
)
def test_ask__no_list_of_models__is_unavailable(answer: httpx.Response, words: str) -> None:
    with pytest.raises(Unavailable, match=words):
        user(answer).ask("chat.example", "")


def test_infer__the_gateway_says_who_answered__is_told() -> None:
    answer = httpx.Response(200, json={}, headers={"x-headgate-variant": "chat-v2-bbbb"})
    assert user(answer).infer("chat.example", "") == "chat-v2-bbbb"


@pytest.mark.parametrize(
    ("said", "revision"), [("17", 17), ("", 0), ("seventeen", 0), ("-1", 0), ("9" * 30, 0), ("1, 2", 0)]
)
def test_served__answer_of_a_forced_request__says_who_and_by_which_revision(said: str, revision: int) -> None:
    answer = httpx.Response(200, json=MODELS, headers={"x-headgate-route": said})
    assert user(answer).served("chat.example", "chat-v1-aaaa") == ServedAnswer("chat-v1-aaaa", revision)


def test_served__nobody_answers__is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"HTTP 500 for chat\.example"):
        user(httpx.Response(500, headers={"x-headgate-route": "17"})).served("chat.example", "chat-v1-aaaa")
