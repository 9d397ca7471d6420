"""What the prober does with answers that a well-behaved gateway never gives."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from controlplane.kernel.errors import Rejected, Unavailable
from rollouts.adapters.probers.openai import OpenAIProber
from rollouts.ports import Answer

GOOD = 'data: {"choices": [{"delta": {"content": "hi"}}]}\n\ndata: [DONE]\n\n'


def ask(handler: Callable[[httpx.Request], httpx.Response]) -> Answer:
    prober = OpenAIProber.by_path("http://gateway/", transport=httpx.MockTransport(handler))
    return prober.ask(
        endpoint="chat", variant="v2", messages=({"role": "user", "content": "q"},), max_tokens=9, timeout=5
    )


def gives(status: int, text: str, variant: str | None = "v2") -> Callable[[httpx.Request], httpx.Response]:
    headers = {} if variant is None else {"x-headgate-variant": variant}
    return lambda request: httpx.Response(status, text=text, headers=headers)


def test_ask__request__is_forced_deterministic_and_streamed() -> None:
    sent: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return gives(200, GOOD)(request)

    assert ask(handler).text == "hi"
    body = json.loads(sent[0].content)
    assert str(sent[0].url) == "http://gateway/chat/v1/chat/completions"
    assert sent[0].headers["x-headgate-variant"] == "v2"
    assert (body["model"], body["temperature"], body["max_tokens"], body["stream"]) == ("chat", 0, 9, True)


class Slow(httpx.SyncByteStream):
    """The first token at once, the end half a second later."""

    def __iter__(self) -> Iterator[bytes]:
        first, end = GOOD.encode().split(b"data: [DONE]")
        yield first
        time.sleep(0.5)
        yield b"data: [DONE]" + end


def test_ask__first_token__is_timed_when_it_comes_and_not_with_the_last() -> None:
    answer = ask(lambda request: httpx.Response(200, stream=Slow(), headers={"x-headgate-variant": "v2"}))
    assert answer.first_token_seconds is not None
    assert answer.first_token_seconds < answer.seconds / 2


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (gives(200, GOOD, "v1"), "another variant answered: v1"),
        (gives(200, GOOD, None), "does not say who answered"),
        (gives(429, "slow down"), "HTTP 429"),
        (gives(503, "no healthy upstream"), "HTTP 503"),
        (gives(200, GOOD.replace("data: [DONE]\n\n", "")), "ended before"),
        (gives(200, "data: {nonsense\n\n"), "no JSON"),
        (gives(200, 'data: {"error": {"message": "oops"}}\n\ndata: [DONE]\n\n'), "broke off its answer"),
    ],
)
def test_ask__no_answer_of_this_variant__is_unavailable(
    handler: Callable[[httpx.Request], httpx.Response], says: str
) -> None:
    with pytest.raises(Unavailable, match=says) as error:
        ask(handler)
    assert not isinstance(error.value, Rejected)


def test_ask__refused_request__is_rejected() -> None:
    with pytest.raises(Rejected, match="HTTP 400: too long"):
        ask(gives(400, "too long"))


def test_ask__connection_refused__is_unavailable() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    with pytest.raises(Unavailable, match="Connection refused"):
        ask(handler)
