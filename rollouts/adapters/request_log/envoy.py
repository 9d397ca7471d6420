"""Envoy's access log: who answered a request, and a log that stays bounded on disk.

A log is rotated by renaming it and telling Envoy to open a new one; the one before is kept, so at least
the last ROTATE_BYTES are there: 180,000 requests, half an hour at 100 a second.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from sys import intern
from threading import Lock
from typing import BinaryIO

from controlplane.kernel.errors import InvalidInput, Unavailable
from controlplane.kernel.foreign import Fields, parsed
from rollouts.adapters.routers.envoy_admin import EnvoyAdmin
from rollouts.adapters.routers.envoy_config import Paths
from rollouts.adapters.routers.envoy_routes import ASSIGNED, split_cluster_name
from rollouts.ports import LoggedRequest

ROTATE_BYTES = 64 * 1024 * 1024
INDEXED = 200_000
CHUNK_BYTES = 1 << 20
LONGEST_LINE = 1 << 20
TOO_LONG = b"..."
LONGEST_NAME = 1_000
LATEST = 4_102_444_800.0  # the year 2100, in seconds since the epoch
LONGEST_ID = 80  # of a request; nobody can rate one with a longer id


log = logging.getLogger(__name__)


class EnvoyRequestLog:
    """A RequestLog over Envoy's access log.

    An index of ids is kept in this process and grows by what was written since the last call; the first call
    reads the logs that are there, so a restart forgets nothing. Calls are thread-safe. Envoy writes a line
    up to a quarter of a second after the request ended.

    run_dir       Envoy's folder
    rotate_bytes  a longer log is rotated
    indexed       how many requests are remembered at most (the newest)
    """

    def __init__(self, run_dir: Path, *, rotate_bytes: int = ROTATE_BYTES, indexed: int = INDEXED) -> None:
        paths = Paths(run_dir)
        self._path = paths.access_log
        self._before = paths.access_log.with_name(paths.access_log.name + ".1")
        self._lock_path = paths.access_log.with_name(paths.access_log.name + ".lock")
        self._admin = EnvoyAdmin(paths.admin)
        self._rotate_bytes = rotate_bytes
        self._indexed = indexed
        self._index: OrderedDict[str, LoggedRequest] = OrderedDict()
        self._stream: BinaryIO | None = None
        self._rest = b""
        self._lock = Lock()

    def find(self, request_ids: Collection[str]) -> Mapping[str, LoggedRequest]:
        """Those of the ids that are inferences and that an engine answered, with whatever status. Raises Unavailable
        when the log cannot be read."""
        with self._lock:
            try:
                self._catch_up()
            except OSError as error:
                raise Unavailable(f"The access log {self._path} cannot be read: {error.strerror}.") from error
            return {name: self._index[name] for name in request_ids if name in self._index}

    def rotate(self) -> bool:
        """Rotates the log if it is too long; whether it did. Call it now and then, from any process.

        Raises Unavailable when Envoy does not answer; it goes on writing to the renamed file then, and the
        next call that finds no new log tells it again.
        """
        handle = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if self._path.exists():
                if self._path.stat().st_size < self._rotate_bytes:
                    return False
                self._path.replace(self._before)
            elif not self._before.exists():
                return False
            self._admin.post("/reopen_logs")
            return True
        finally:
            os.close(handle)

    def close(self) -> None:
        """Closes the log; the next `find` opens it again and reads it anew."""
        with self._lock:
            if self._stream is not None:
                self._stream.close()
                self._stream = None

    def _catch_up(self) -> None:
        """Reads what was written since the last call, over a rotation too."""
        if self._stream is None:
            self._rest = b""
            if self._before.exists():
                with self._before.open("rb") as earlier:
                    self._read(earlier)
            if not self._path.exists():
                return
            self._rest = b""
            self._stream = self._path.open("rb")
        self._read(self._stream)
        while self._rotated(self._stream):
            # Envoy may have written to the renamed file until it opened the new one, which exists now.
            self._read(self._stream)
            self._stream.close()
            self._rest = b""
            self._stream = self._path.open("rb")
            self._read(self._stream)

    def _rotated(self, stream: BinaryIO) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(stream.fileno()).st_ino
        except FileNotFoundError:
            return False  # renamed, and Envoy has not opened the new one yet

    def _read(self, stream: BinaryIO) -> None:
        while chunk := stream.read(CHUNK_BYTES):
            lines = (self._rest + chunk).split(b"\n")
            self._rest = lines.pop()
            if len(self._rest) > LONGEST_LINE:
                self._rest = TOO_LONG  # what is left of the line is no JSON behind it, and is left out
            for request in _answered(lines):
                self._index[request.request_id] = request
                if len(self._index) > self._indexed:
                    self._index.popitem(last=False)


def _answered(lines: list[bytes]) -> Iterator[LoggedRequest]:
    """The inferences that an engine answered, out of lines of the log. Other calls have no answer that anybody could
    rate, and would push the inferences out of the index. An odd line is left out alone and told in our log; one that is
    cut is usual, for the kernel may have cut the last one of a killed Envoy."""
    odd, words = 0, ""
    for line in lines:
        if not line.strip():
            continue
        try:
            request = _request(Fields(parsed(line, "A line of the access log"), "A line of the access log"))
        except InvalidInput as error:
            odd, words = odd + 1, error.message
            continue
        if request is not None:
            yield request
    if odd:
        log.warning("request_log.odd_lines lines=%s %s", odd, words)


def _request(entry: Fields) -> LoggedRequest | None:
    """The request, None when it is no inference that an engine answered. Raises InvalidInput."""
    kind, endpoint, variant = split_cluster_name(entry.text("cluster", "", longest=LONGEST_NAME))
    answered = entry.text("variant", "", longest=LONGEST_NAME)
    status = entry.whole("status", 0, least=0, most=999)
    whole = entry.has("details", "via_upstream")
    inference = "route" not in entry or entry.has("route", endpoint)  # lines of before an upgrade do not say
    if not endpoint or not answered or not inference or not (whole or 200 <= status < 300):
        return None
    return LoggedRequest(
        request_id=entry.exact("id", longest=LONGEST_ID),
        endpoint=intern(endpoint),  # a few names in many entries
        assigned=intern(variant) if kind == ASSIGNED else "",
        answered=intern(answered),
        status=status,
        at=entry.number("at", least=0.0, most=LATEST),
    )
