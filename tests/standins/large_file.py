"""A proxy before MLflow through which one file is huge, though nobody's disk holds it: it is listed with that size, and
its bytes are made up while they are sent."""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

PIECE = bytes(1 << 20)
SLOWLY = 1 << 20  # bytes a second, once `most` were sent


class LargeFile(ThreadingHTTPServer):
    """Hands requests on to where they lead. A file with this name is `size` bytes long.

    a_second   so many bytes of it come, all transfers together
    most       of it at that pace, which bounds what lands on the disk of whoever fetches it; after that it goes on with
               SLOWLY

    begun, ended    transfers of it that began, and ended in whatever way
    sent            bytes of it
    """

    daemon_threads = True

    def __init__(self, name: str, *, size: int, a_second: int, most: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.size, self._a_second, self._most = name, size, a_second, most
        self.begun = self.ended = self.sent = 0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._next_at = time.monotonic()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self._over.set()
        self.shutdown()
        self.server_close()

    def began_one(self) -> None:
        with self._lock:
            self.begun += 1

    def ended_one(self) -> None:
        with self._lock:
            self.ended += 1

    def may_send(self, count: int) -> bool:
        """Waits until so many bytes may be sent; False when it is over."""
        with self._lock:
            pace = self._a_second if self.sent < self._most else SLOWLY
            self._next_at = max(self._next_at, time.monotonic()) + count / pace
            wait = self._next_at - time.monotonic()
            self.sent += count
        return not self._over.wait(max(0.0, wait))


class _Handler(BaseHTTPRequestHandler):
    server: LargeFile

    def _pass_on(self) -> None:
        target = urlsplit(self.path)
        if self.command == "GET" and target.path.endswith(f"/{self.server.name}"):
            with suppress(OSError):  # whoever asked has gone
                self._send_large()
            return
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else None
        asked = target.path + (f"?{target.query}" if target.query else "")
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        try:
            with closing(
                http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
            ) as mlflow:
                mlflow.request(self.command, asked, body, {**headers, "Connection": "close"})
                answer = mlflow.getresponse()
                content = answer.read()
        except OSError as error:  # it does not run yet
            with suppress(OSError):
                self.send_error(502, str(error))
            return
        if target.path.endswith("/artifacts"):
            content = self._with_size(content)
        with suppress(OSError):
            self._answer(answer, content)

    def _with_size(self, listing: bytes) -> bytes:
        """The same list of files, with the large one as large as it is."""
        try:
            said = json.loads(listing)
        except ValueError:
            return listing
        for entry in said.get("files", ()):
            if entry["path"] == self.server.name:
                entry["file_size"] = self.server.size
        return json.dumps(said).encode()

    def _answer(self, answer: http.client.HTTPResponse, content: bytes) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def _send_large(self) -> None:
        self.server.began_one()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(self.server.size))
            self.end_headers()
            left = self.server.size
            while left:
                piece = PIECE[:left]
                if not self.server.may_send(len(piece)):
                    return
                self.wfile.write(piece)
                left -= len(piece)
        finally:
            self.server.ended_one()
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Says nothing."""
