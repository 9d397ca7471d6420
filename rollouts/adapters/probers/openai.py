"""Asks an OpenAI-compatible endpoint through the router, forced to one variant."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import httpx

from controlplane.kernel.errors import InvalidInput, Rejected, Unavailable
from controlplane.kernel.foreign import Fields, parsed, words_of
from controlplane.outbound.asking import Incoming, asking
from controlplane.outbound.clients import local_client
from rollouts.ports import FORCED_VARIANT_HEADER, Answer

# Said by a server that may well answer the same request later (RFC 9110, RFC 6585).
LATER = frozenset({408, 425, 429})
MOST_BYTES = 16 << 20  # of one streamed answer: a token is a few hundred bytes
LONGEST_LINE = 1 << 20
MOST_WORDS = 4_000  # bytes of a refusal that are read
MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Asked:
    """Where an endpoint is asked: what its calls' paths are put behind, and what every request says."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class OpenAIProber:
    """A Prober. The completion is streamed, so that the first token is timed too.

    client  that keeps no connections: they would not outlive the router's restart or a worker's fork
    place   where an endpoint is asked
    """

    def __init__(self, client: httpx.Client, place: Callable[[str], Asked]) -> None:
        self._client = client
        self._place = place

    @classmethod
    def by_path(cls, gateway_url: str, *, transport: httpx.BaseTransport | None = None) -> OpenAIProber:
        """Of a router on this machine that serves each endpoint under its name: http://127.0.0.1:8600/NAME."""
        limits = httpx.Limits(max_keepalive_connections=0)
        client = local_client(base_url=gateway_url.rstrip("/"), transport=transport, limits=limits)
        return cls(client, lambda endpoint: Asked(f"/{endpoint}"))

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
        place = self._place(endpoint)
        began = time.monotonic()
        try:
            with asking(
                self._client,
                "POST",
                f"{place.url}/v1/chat/completions",
                seconds=timeout,
                json=body,
                headers={**place.headers, FORCED_VARIANT_HEADER: variant},
            ) as incoming:
                _check(incoming, variant)
                return _read(_events(incoming, variant), variant, began)
        except InvalidInput as error:
            raise Unavailable(error.message, fix="Look at what the engine answers.") from error
        except httpx.TimeoutException as error:
            raise Unavailable(f"{variant} did not finish its answer within {timeout:g} s.") from error
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{variant} gave no answer: {words_of(str(error)) or type(error).__name__}.",
                fix="See whether its engine runs.",
            ) from error


def _check(incoming: Incoming, variant: str) -> None:
    """Raises unless it is an answer of this variant."""
    if incoming.status != httpx.codes.OK:
        said = incoming.received(MOST_WORDS).words()
        message = f"{variant} answered HTTP {incoming.status}: {said}"
        if 400 <= incoming.status < 500 and incoming.status not in LATER:
            raise Rejected(message, fix="Mend the request; the same one will be refused again.")
        raise Unavailable(message)
    answered = words_of(incoming.headers.get(FORCED_VARIANT_HEADER, ""), 200)
    if answered != variant:
        who = (
            f"another variant answered: {answered}" if answered else "the response does not say who answered"
        )
        raise Unavailable(f"{variant} was asked, but {who}.", fix="See the endpoint's route.")


def _events(incoming: Incoming, variant: str) -> Iterator[Fields]:
    """The JSON objects of an SSE stream up to [DONE]. Raises Unavailable when it ends before that."""
    said = f"What {variant} streams"
    for line in _lines(incoming, variant):
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        yield Fields(parsed(data, said), said)
    raise Unavailable("The stream ended before it was complete.")


def _lines(incoming: Incoming, variant: str) -> Iterator[bytes]:
    """The lines of the stream. Raises Unavailable when it holds more than any answer needs."""
    rest, total = b"", 0
    for piece in incoming.pieces():
        total += len(piece)
        *whole, rest = (rest + piece).split(b"\n")
        if total > MOST_BYTES or len(rest) > LONGEST_LINE:
            raise Unavailable(
                f"{variant} answers with more than {MOST_BYTES >> 20} MB, or {LONGEST_LINE >> 20} MB in one line."
            )
        yield from whole
    yield rest


def _read(events: Iterator[Fields], variant: str, began: float) -> Answer:
    pieces: list[str] = []
    first: float | None = None
    tokens = 0
    for event in events:
        seconds = time.monotonic() - began
        if "error" in event:
            raise Unavailable(f"{variant} broke off its answer: {_error_words(event)}.")
        for choice in event.parts("choices"):
            if piece := choice.part("delta").text("content", ""):
                first = seconds if first is None else first
                pieces.append(piece)
        if event.has_object("usage"):
            tokens = event.part("usage").whole("completion_tokens", tokens, least=0, most=MOST_TOKENS)
    return Answer(
        text="".join(pieces),
        variant=variant,
        seconds=time.monotonic() - began,
        first_token_seconds=first,
        tokens=tokens or len(pieces),
    )


def _error_words(event: Fields) -> str:
    try:
        return words_of(event.part("error").text("message", "")) or "it says no more"
    except InvalidInput:
        return "it says no more"
