"""Stands where Headgate hands out the files of a version, and behaves as a test wants it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

Answer = tuple[int, bytes, Mapping[str, str]]


@dataclass
class FileDoor:
    """Serves files by path, whatever folder they are asked for in.

    odd    answers in their stead, in order, by path: (status, content, headers)
    asked  (path, what was shown as a pass)
    gate   while it is not set, half of each file comes and then nothing
    """

    files: Mapping[str, bytes]
    url: str = ""
    odd: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str) -> Answer:
        left = self.odd.get(path)
        if left:
            return left.pop(0)
        content = self.files.get(path)
        return (404, b"{}", {}) if content is None else (200, content, {})


@contextmanager
def file_door(files: Mapping[str, bytes], *, host: str = "127.0.0.1") -> Iterator[FileDoor]:
    """Such a door at /files/FOLDER/PATH of its `url`, open until the block ends."""
    made = FileDoor(files)
    made.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path).removeprefix("/files/").partition("/")[2]
            made.asked.append((path, self.headers.get("Authorization", "")))
            status, content, headers = made.answer(path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            half = 0 if made.gate.is_set() else len(content) // 2
            try:
                self.wfile.write(content[:half])
                self.wfile.flush()
                made.gate.wait(300)
                self.wfile.write(content[half:])
            except OSError:
                return  # the other side was killed

        def log_message(self, *arguments: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer((host, 0), Handler)
    server.daemon_threads = True
    made.url = f"http://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        made.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
