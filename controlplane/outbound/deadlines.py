"""One deadline for a whole exchange, its headers too.

A time-out of httpx or http.client is for one read: whoever sends a byte a second meets it for ever. Here the block
says how long all of it may take, and each read gets what is left:

    with deadline(5.0):
        client.get(...)
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from ssl import SSLContext
from typing import Any

import httpcore
import httpx

_until: ContextVar[float | None] = ContextVar("until", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """All that this thread sends and receives in the block ends within `seconds`, through clients of `clients`.
    A block around it that ends sooner still does."""
    outer = _until.get()
    until = time.monotonic() + seconds
    token = _until.set(until if outer is None else min(until, outer))
    try:
        yield
    finally:
        _until.reset(token)


def seconds_left() -> float | None:
    """What the deadline leaves, None without one. Raises TimeoutError when it is over."""
    until = _until.get()
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long as a whole")
    return left


def with_deadlines(transport: httpx.HTTPTransport) -> httpx.HTTPTransport:
    """The transport, each of whose reads and writes keeps to the deadline.

    httpx has no setting for it. Its pool is asked to use other sockets; a test with a real server that drips its
    headers says so should a new version not do it (tests/controlplane/outbound/test_asking.py).
    """
    transport._pool._network_backend = _Backend(transport._pool._network_backend)
    return transport


def _limited(timeout: float | None, error: type[Exception]) -> float | None:
    try:
        left = seconds_left()
    except TimeoutError as over:
        raise error(str(over)) from None
    if left is None:
        return timeout
    return left if timeout is None else min(timeout, left)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, real: httpcore.NetworkBackend) -> None:
        self._real = real

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        limit = _limited(timeout, httpcore.ConnectTimeout)
        return _Stream(self._real.connect_tcp(host, port, limit, local_address, socket_options))

    def sleep(self, seconds: float) -> None:
        self._real.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, real: httpcore.NetworkStream) -> None:
        self._real = real

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._real.read(max_bytes, _limited(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._real.write(buffer, _limited(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._real.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit = _limited(timeout, httpcore.ConnectTimeout)
        return _Stream(self._real.start_tls(ssl_context, server_hostname, limit))

    def get_extra_info(self, info: str) -> Any:
        return self._real.get_extra_info(info)
