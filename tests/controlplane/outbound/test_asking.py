"""Answers of servers that mean no good: real sockets, because bounds hold there or nowhere."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from controlplane.outbound.asking import Received, ask
from controlplane.outbound.clients import local_client, remote_client
from controlplane.outbound.deadlines import deadline, seconds_left
from controlplane.outbound.unix_sockets import ask_unix
from tests.standins.unix_server import response, short_folder, unix_server

SECONDS = 0.4
Pieces = Callable[[], Iterator[bytes]]


def drips(text: bytes, before: bytes = b"") -> Pieces:
    """Sends `before` at once, then `text` again and again, a byte every 50 milliseconds: no single read is slow."""

    def pieces() -> Iterator[bytes]:
        yield before
        while True:
            for at in range(len(text)):
                time.sleep(0.05)
                yield text[at : at + 1]

    return pieces


def floods(before: bytes, block: bytes = b"x" * 65_536) -> Pieces:
    def pieces() -> Iterator[bytes]:
        yield before
        while True:
            yield block

    return pieces


OPEN_END = b"HTTP/1.1 200 OK\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "the status line": drips(b"HTTP/1.1 200 OK" + b" " * 1000),
    "the headers": drips(b"X-A: b\r\n", b"HTTP/1.1 200 OK\r\n"),
    "the body": drips(b"x", OPEN_END),
    "chunks": drips(b"1\r\nx\r\n", CHUNKED),
}


@contextmanager
def tcp_server(pieces: Pieces) -> Iterator[str]:
    """A server that sends `pieces` to whoever connects, whatever they ask."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                try:
                    for piece in pieces():
                        connection.sendall(piece)
                except OSError:
                    continue

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def once(raw: bytes) -> Pieces:
    return lambda: iter([raw])


def asked(url: str, *, most_bytes: int = 1 << 20, seconds: float = SECONDS) -> Received:
    with local_client(timeout=5.0) as client:
        return ask(client, "GET", url, most_bytes=most_bytes, seconds=seconds)


@pytest.mark.parametrize("what", SLOW)
def test_ask__server_drips__ends_at_the_deadline(what: str) -> None:
    with tcp_server(SLOW[what]) as url:
        began = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            asked(url)
        assert time.monotonic() - began < SECONDS + 1.5


def test_ask__far_server_drips_its_headers__ends_at_the_deadline() -> None:
    with (
        tcp_server(SLOW["the headers"]) as url,
        remote_client(url, timeout=5.0) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        ask(client, "GET", "/x", most_bytes=100, seconds=SECONDS)


@pytest.mark.parametrize("before", [OPEN_END, CHUNKED + b"FFFFFFFF\r\n"])
def test_ask__body_without_end__is_cut_at_the_bound(before: bytes) -> None:
    with tcp_server(floods(before)) as url:
        answer = asked(url, most_bytes=100_000, seconds=30)
    assert (len(answer.body), answer.whole, answer.ok) == (100_000, False, True)


def test_ask__packed_though_nobody_asked__never_unpacked() -> None:
    body = gzip.compress(b"0" * 20_000_000)
    with (
        tcp_server(once(response(body, headers="Content-Encoding: gzip\r\n"))) as url,
        pytest.raises(httpx.RemoteProtocolError, match="encoding 'gzip'"),
    ):
        asked(url)


def test_ask__redirect__is_not_followed() -> None:
    with tcp_server(once(response(b"", status="302 Found", headers="Location: /elsewhere\r\n"))) as url:
        answer = asked(url)
    assert (answer.status, answer.ok) == (302, False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x00\x00" * 20,
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        CHUNKED + b"zz\r\nx\r\n",
    ],
)
def test_ask__no_http__transport_error_and_nothing_else(raw: bytes) -> None:
    with tcp_server(once(raw)) as url, pytest.raises(httpx.TransportError):
        asked(url)


def test_deadline__inside_another__the_earlier_one_holds() -> None:
    with deadline(0.05), deadline(60.0):
        left = seconds_left()
        assert left is not None
        assert left <= 0.05
        time.sleep(0.06)
        with pytest.raises(TimeoutError):
            seconds_left()
    assert seconds_left() is None


# --- unix sockets -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as found:
        yield found


def asked_unix(path: Path, *, most_bytes: int = 1 << 20, seconds: float = SECONDS) -> Received:
    return ask_unix(path, "GET", "/x", most_bytes=most_bytes, seconds=seconds)


@pytest.mark.parametrize("what", SLOW)
def test_ask_unix__server_drips__ends_at_the_deadline(folder: Path, what: str) -> None:
    path = folder / "drip.sock"
    with unix_server(path) as server:
        server.answer = lambda target: SLOW[what]()
        began = time.monotonic()
        with pytest.raises(OSError):
            asked_unix(path)
        assert time.monotonic() - began < SECONDS + 1.5


def test_ask_unix__body_without_end__is_cut_at_the_bound(folder: Path) -> None:
    path = folder / "flood.sock"
    with unix_server(path) as server:
        server.answer = lambda target: floods(OPEN_END)()
        answer = asked_unix(path, most_bytes=100_000, seconds=30)
    assert (len(answer.body), answer.whole) == (100_000, False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        CHUNKED + b"zz\r\nx\r\n",
    ],
)
def test_ask_unix__no_http__os_error_and_nothing_else(folder: Path, raw: bytes) -> None:
    path = folder / "odd.sock"
    with unix_server(path) as server:
        server.answer = lambda target: [raw]
        with pytest.raises(OSError):
            asked_unix(path)


def test_ask_unix__nobody_listens__os_error(folder: Path) -> None:
    with pytest.raises(OSError):
        asked_unix(folder / "nobody.sock")
