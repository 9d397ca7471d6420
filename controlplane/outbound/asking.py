"""Asks a server and reads its answer within bounds: so many bytes, so many seconds, nothing unpacked, no redirect.

Foreign bodies are read here and nowhere else. What the bytes mean is read by `controlplane.kernel.foreign`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from controlplane.kernel.foreign import storable, words_of
from controlplane.outbound.deadlines import deadline, seconds_left

# Packed, a few bytes could become any number of them.
AS_IT_IS = {"Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Received:
    """An answer. `whole` is False when it went on behind `body`; then the rest was not read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True

    @property
    def ok(self) -> bool:
        """200 and nothing else: a redirect is no answer, whatever lies beside it."""
        return self.status == httpx.codes.OK

    @property
    def text(self) -> str:
        """The body as a text that every database takes."""
        return storable(self.body.decode(errors="replace"))

    def words(self, longest: int = 300) -> str:
        """The beginning of the body as a message may quote it."""
        return words_of(self.body, longest)


class Incoming:
    """An answer that is being read."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. Raises httpx.ReadTimeout at the deadline."""
        # Asked for pieces of a size, httpx would hold the first token back until so much has come.
        for piece in self._response.iter_bytes():
            try:
                seconds_left()  # a transport that is not of `clients` does not look
            except TimeoutError as over:
                raise httpx.ReadTimeout(str(over), request=self._response.request) from None
            yield piece

    def received(self, most_bytes: int) -> Received:
        """The answer with at most so many bytes of its body."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > most_bytes:
                return Received(self.status, self.headers, bytes(body[:most_bytes]), whole=False)
        return Received(self.status, self.headers, bytes(body))


@contextmanager
def asking(
    client: httpx.Client,
    method: str,
    url: str,
    *,
    seconds: float,
    timeout: httpx.Timeout | None = None,
    headers: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Iterator[Incoming]:
    """Sends a request; the answer may be read in the block. All of it ends within `seconds`.

    timeout  for single steps, such as connecting, where they may take less; what the client says does not count

    Raises httpx.TransportError when nothing comes, when it does not come in time, and for an answer that is packed
    though nobody asked for it.
    """
    sent = {**(headers or {}), **AS_IT_IS}
    with (
        deadline(seconds),
        client.stream(
            method, url, headers=sent, follow_redirects=False, timeout=timeout or seconds, **arguments
        ) as response,
    ):
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise httpx.RemoteProtocolError(
                f"it answered in the encoding {encoding[:20]!r}, which nobody asked for",
                request=response.request,
            )
        yield Incoming(response)


def ask(
    client: httpx.Client, method: str, url: str, *, most_bytes: int, seconds: float, **arguments: Any
) -> Received:
    """The answer to one request, of its body at most `most_bytes`. Raises httpx.TransportError as `asking` does."""
    with asking(client, method, url, seconds=seconds, **arguments) as incoming:
        return incoming.received(most_bytes)
