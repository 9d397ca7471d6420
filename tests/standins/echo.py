"""An engine that tells what reached it: for tests of which calls the router lets through, and how it writes them.

Every path answers with what arrived; the completions, embeddings and responses of OpenAI's API in the
form that its client reads.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Echo:
    """A server in threads of this process.

    seen            "METHOD path" of everything but the router's health checks
    status          of every answer but those
    health_seconds  how late it answers those
    """

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.seen: list[str] = []
        self.status = 200
        self.health_seconds = 0.0
        echo = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                path = self.path.split("?")[0]
                is_check = path == "/health" and self.headers.get("user-agent") == "Envoy/HC"
                if is_check:
                    time.sleep(echo.health_seconds)
                else:
                    echo.seen.append(f"{self.command} {self.path}")
                content = json.dumps(echo.answer(self.command, path, body)).encode()
                self.send_response(200 if is_check else echo.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = handle_any

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def answer(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        asked = json.loads(body) if body else {}
        stamp = {
            "id": "x",
            "created": 0,
            "model": asked.get("model", ""),
            "system_fingerprint": self.variant,
            "method": method,
            "path": path,
        }
        message = {"role": "assistant", "content": "Hi"}
        match path:
            case "/v1/chat/completions":
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                return {**stamp, "object": "chat.completion", "choices": [choice]}
            case "/v1/completions":
                text = {"index": 0, "text": "Hi", "finish_reason": "stop", "logprobs": None}
                return {**stamp, "object": "text_completion", "choices": [text]}
            case "/v1/embeddings":
                vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
                return {**stamp, "object": "list", "data": [vector]}
            case "/v1/responses":
                content = [{"type": "output_text", "text": "Hi", "annotations": []}]
                output = [
                    {
                        "type": "message",
                        "id": "m",
                        "role": "assistant",
                        "status": "completed",
                        "content": content,
                    }
                ]
                return {**stamp, "object": "response", "created_at": 0, "output": output}
            case _:
                return {**stamp, "tokens": [1, 2]}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def echoing(variant: str) -> Iterator[Echo]:
    """An echo for the time of a with block."""
    echo = Echo(variant)
    echo.start()
    try:
        yield echo
    finally:
        echo.stop()
