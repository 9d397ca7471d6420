"""What answers behind a trial's route: two backends in one process, each with a port and a name of its own.

It runs in a pod of the cluster by the `python3` of the engine's image, so it needs the standard library only. Called as
`NAME PORT NAME PORT`. A list of models names who answers, and how many inferences each of the two has received; the
answer to an inference names who gave it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MOST_BYTES = 65_536  # of a request: ours have a hundred
SILENT_SECONDS = 30  # that a connection is kept without a word


class InferencesReceived:
    """How many inferences each backend has received."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + 1

    def all(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


def backend(name: str, port: int, counts: InferencesReceived) -> ThreadingHTTPServer:
    """One backend, which listens already."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = SILENT_SECONDS

        def do_GET(self) -> None:
            self._answer(
                {"object": "list", "data": [{"id": name, "object": "model", "received": counts.all()}]}
            )

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal() or int(length) > MOST_BYTES:
                self.close_connection = True
                self.send_error(413)
                return
            self.rfile.read(int(length))
            counts.add(name)
            self._answer({"object": "chat.completion", "model": name, "choices": []})

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: a node's log is no place for every request."""

        def _answer(self, said: dict[str, Any]) -> None:
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer(("", port), Handler)


def main(words: list[str]) -> None:
    """Serves until it is told to end, which the first process of a container has to listen for by itself."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    counts = InferencesReceived()
    servers = [backend(name, int(port), counts) for name, port in zip(words[::2], words[1::2], strict=True)]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
