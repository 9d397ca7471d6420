"""Asks an OpenAI-compatible endpoint through the router, forced to one variant."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from controlplane.kernel.errors import Rejected, Unavailable
from controlplane.outbound.clients import local_client
from rollouts.ports import FORCED_VARIANT_HEADER, Answer

# Said by a server that may well answer the same request later (RFC 9110, RFC 6585).
LATER = frozenset({408, 425, 429})


class OpenAIProber:
    """A Prober. The completion is streamed, so that the first token is timed too.

    gateway_url  where the endpoints are served, without the endpoint: http://127.0.0.1:8600
    transport    what carries the requests (httpx's own unless given)
    """

    def __init__(self, gateway_url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        # no kept connections: they would not outlive the router's restart or a worker's fork
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = local_client(base_url=gateway_url.rstrip("/"), transport=transport, limits=limits)

    def ask(
        self,
        *,
        endpoint: str,
        variant: str,
        messages: tuple[Mapping[str, str], ...],
        max_tokens: int,
        timeout: float,
    ) -> Answer:
        """`timeout` is for the whole answer. See the port for what is raised."""
        body = {
            "model": endpoint,  # the one name that engines answer to; the header chooses and proves the variant
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        began = time.monotonic()
        try:
            with self._client.stream(
                "POST",
                f"/{endpoint}/v1/chat/completions",
                json=body,
                headers={FORCED_VARIANT_HEADER: variant},
                timeout=timeout,
            ) as response:
                _check(response, variant)
                return _read(_events(response), variant, began, timeout)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{variant} gave no answer: {error or type(error).__name__}.",
                fix="See whether its engine runs.",
            ) from error


def _check(response: httpx.Response, variant: str) -> None:
    """Raises unless it is an answer of this variant."""
    if response.status_code != 200:
        response.read()
        said = response.text[:300]
        message = f"{variant} answered HTTP {response.status_code}: {said}"
        if 400 <= response.status_code < 500 and response.status_code not in LATER:
            raise Rejected(message, fix="Mend the request; the same one will be refused again.")
        raise Unavailable(message)
    answered = response.headers.get(FORCED_VARIANT_HEADER, "")
    if answered != variant:
        who = (
            f"another variant answered: {answered}" if answered else "the response does not say who answered"
        )
        raise Unavailable(f"{variant} was asked, but {who}.", fix="See the endpoint's route.")


def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The JSON objects of an SSE stream up to [DONE]. Raises Unavailable when it ends before that."""
    for line in response.iter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        try:
            yield json.loads(data)
        except ValueError as error:
            raise Unavailable(f"The stream holds what is not JSON: {data[:100]!r}.") from error
    raise Unavailable("The stream ended before it was complete.")


def _read(events: Iterator[dict[str, Any]], variant: str, began: float, timeout: float) -> Answer:
    pieces: list[str] = []
    first: float | None = None
    tokens = 0
    for event in events:
        seconds = time.monotonic() - began
        if seconds > timeout:
            raise Unavailable(f"{variant} did not finish its answer within {timeout:g} s.")
        if "error" in event:
            raise Unavailable(f"{variant} broke off its answer: {event['error']}.")
        for choice in event.get("choices", ()):
            if piece := choice.get("delta", {}).get("content"):
                first = seconds if first is None else first
                pieces.append(piece)
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return Answer(
        text="".join(pieces),
        variant=variant,
        seconds=time.monotonic() - began,
        first_token_seconds=first,
        tokens=tokens or len(pieces),
    )
