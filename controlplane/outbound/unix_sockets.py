"""HTTP over a unix socket, with one deadline for all of it. No variable of the host redirects it.

Standard library: httpx leaves the socket open when the connection is refused.
"""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path
from typing import Any

from controlplane.outbound.asking import Received


class UnixConnection(http.client.HTTPConnection):
    """A connection that lives for `seconds` at most, from its making; every wait ends with it (TimeoutError)."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path
        self._until = time.monotonic() + seconds

    def connect(self) -> None:
        self.sock = _TimedSocket(self._until)
        self.sock.connect(str(self._path))


class _TimedSocket(socket.socket):
    """A unix socket whose time-out is what is left until a moment of the monotonic clock."""

    def __init__(self, until: float) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._until = until

    def connect(self, address: Any) -> None:
        self._limit()
        super().connect(address)

    def recv_into(self, *arguments: Any, **named: Any) -> int:
        self._limit()
        return super().recv_into(*arguments, **named)

    def sendall(self, *arguments: Any) -> None:
        self._limit()
        super().sendall(*arguments)

    def _limit(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long as a whole")
        self.settimeout(left)


def ask_unix(path: Path, method: str, target: str, *, most_bytes: int, seconds: float) -> Received:
    """The answer to one request on a connection of its own. Raises OSError when there is none, or no HTTP."""
    connection = UnixConnection(path, seconds)
    try:
        connection.request(method, target, headers={"Accept-Encoding": "identity"})
        response = connection.getresponse()
        body = response.read(most_bytes + 1)
        if response.length and len(body) <= most_bytes:  # the library says nothing of it
            raise http.client.IncompleteRead(body)
    except (http.client.HTTPException, ValueError) as error:
        raise ConnectionError(f"it answers in no HTTP ({type(error).__name__})") from error
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Received(response.status, headers, body[:most_bytes], whole=len(body) <= most_bytes)
