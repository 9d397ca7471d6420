"""A server on a unix socket that answers what a test tells it to, byte for byte."""

from __future__ import annotations

import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UnixServer:
    """`answer` gets the request's target and gives the whole response, headers too, in pieces."""

    def __init__(self) -> None:
        self.answer: Callable[[str], Iterator[bytes] | list[bytes]] = lambda target: [response(b"{}")]

    def says(self, body: bytes, *, status: str = "200 OK") -> None:
        self.answer = lambda target: [response(body, status=status)]


def response(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@contextmanager
def unix_server(path: Path) -> Iterator[UnixServer]:
    """Listens on `path` for as long as the block lasts."""
    server = UnixServer()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            target = self.rfile.readline().decode(errors="replace").split(" ")[1]
            length = 0
            while (line := self.rfile.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.rfile.read(length)
            try:
                for piece in server.answer(target):
                    self.wfile.write(piece)
                    self.wfile.flush()
            except OSError:
                return  # the client had enough

    class Listener(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        request_queue_size = 128

    with Listener(str(path), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
            path.unlink(missing_ok=True)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket."""
    with tempfile.TemporaryDirectory(prefix="hg-", dir="/tmp") as folder:
        yield Path(folder)
