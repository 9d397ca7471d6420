"""An HTTP/2 client of a few lines: it sends one request in clear text and leaves when and how a test wants it to.

It speaks RFC 9113 as far as one POST without TLS needs it. Headers are sent as literals without an index (RFC 7541,
6.2.2), so it holds no state; of the answer it knows only how much body came and whether the stream ended.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Literal, Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = 8
STREAM = 1


class Http2Request:
    """One request on a connection of its own. Use it in a with block, whose end closes the connection.

    body    bytes of the answer's body that came
    ended   "" while the answer is not complete; "whole", or "reset" by the server
    """

    def __init__(self, port: int, path: str, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.body = 0
        self.ended: Literal["", "whole", "reset"] = ""
        self._rest = b""
        self._socket = socket.create_connection(("127.0.0.1", port))
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "headgate"}
        fields |= {"content-type": "application/json", **(headers or {})}
        block = b"".join(_literal(name, value) for name, value in fields.items())
        self._socket.sendall(
            PREFACE
            + _frame(SETTINGS, 0, 0, b"")
            + _frame(HEADERS, END_HEADERS, STREAM, block)
            + _frame(DATA, END_STREAM, STREAM, content)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def wait(self, *, seconds: float = 30.0, body: int | None = None) -> None:
        """Reads until the answer ended, until `body` bytes of it came, or until the seconds are over."""
        end = time.monotonic() + seconds
        while not self.ended and (body is None or self.body < body):
            self._socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                came = self._socket.recv(65536)
            except TimeoutError:
                return
            if not came:
                self.ended = "reset"
            self._take(came)

    def cancel(self) -> None:
        """Leaves as browsers and gRPC do: the stream is reset, the connection stays."""
        self._socket.sendall(_frame(RST_STREAM, 0, STREAM, struct.pack(">I", CANCEL)))

    def _take(self, came: bytes) -> None:
        self._rest += came
        while len(self._rest) >= 9:
            length = int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < 9 + length:
                return
            kind, flags = self._rest[3], self._rest[4]
            self._rest = self._rest[9 + length :]
            if kind == SETTINGS and not flags & ACK:
                self._socket.sendall(_frame(SETTINGS, ACK, 0, b""))
            elif kind == DATA:
                self.body += length
            if kind in (RST_STREAM, GOAWAY):
                self.ended = "reset"
            elif kind in (DATA, HEADERS) and flags & END_STREAM:
                self.ended = "whole"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header that is in no table. Names and values are shorter than 127 bytes, so their lengths are one byte."""
    raw = name.encode(), value.encode()
    assert max(map(len, raw)) < 127, f"too long for this client: {name}: {value}"
    return b"\x00" + b"".join(bytes([len(part)]) + part for part in raw)
