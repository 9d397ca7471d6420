"""What a warm-up takes for an answer of the variant: three proofs, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from rollouts.adapters.clusters.probe import WarmUp, warm_up

VARIANT, ENDPOINT = "chat-v2-bbbb", "chat"


def warm(answer: Any, *, is_ours: bool | None = None, status: int = 200) -> WarmUp:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=answer))
    with httpx.Client(transport=transport) as http:
        return warm_up(http, VARIANT, ENDPOINT, 7, is_ours=lambda: is_ours)


def completion(**values: Any) -> dict[str, Any]:
    return {"model": ENDPOINT, "choices": [{"message": {"content": "Hi"}}], **values}


@pytest.mark.parametrize(
    ("answer", "is_ours"),
    [
        (completion(system_fingerprint=VARIANT), None),
        (completion(system_fingerprint=VARIANT), False),
        (completion(model=VARIANT), None),
        (completion(), True),
        (completion(system_fingerprint="vllm-0.32-abcd"), True),
    ],
)
def test_warm_up__answer_that_is_proved_ours__is_ok(answer: dict[str, Any], is_ours: bool | None) -> None:
    assert warm(answer, is_ours=is_ours) == WarmUp(True)


def test_warm_up__another_program_on_the_port__is_a_stranger() -> None:
    found = warm(completion(system_fingerprint="chat-v1-aaaa"), is_ours=False)
    assert (found.ok, found.stranger, found.again) == (False, True, False)
    assert "another program answered on port 7" in found.problem


def test_warm_up__nothing_proves_who_answered__says_how_to_prove_it() -> None:
    found = warm(completion(), is_ours=None)
    assert (found.ok, found.stranger) == (False, True)
    assert "{variant}" in found.problem


def test_warm_up__request__asks_by_the_endpoints_name() -> None:
    asked: list[dict[str, Any]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200, json=completion(model=VARIANT))

    with httpx.Client(transport=httpx.MockTransport(handler)) as http:
        warm_up(http, VARIANT, ENDPOINT, 7, is_ours=lambda: None)
    assert asked[0]["model"] == ENDPOINT


@pytest.mark.parametrize("answer", [[], "text", {"model": VARIANT}, None])
def test_warm_up__no_completion__is_final_and_quotes_it(answer: Any) -> None:
    found = warm(answer, is_ours=True)
    assert (found.ok, found.again) == (False, False)
    assert "no chat completion came back" in found.problem


def test_warm_up__server_error__may_work_later() -> None:
    assert warm({}, status=503).again
