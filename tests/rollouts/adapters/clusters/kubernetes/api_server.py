"""Stands where an API server would be: answers what a test tells it, in order, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client as official

UID = "0a1b2c3d"


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    content_type: str
    authorization: str


@dataclass
class ScriptedServer:
    """`answers` are (status, body), taken in order; the body is JSON, or text as it is. The namespace kube-system is
    always answered, unless `system` is something else than 200."""

    url: str = ""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    system: int = 200
    uid: str = UID
    delay: float = 0.0

    def api_client(self, token: str = "t0") -> official.ApiClient:
        settings = official.Configuration(host=self.url)
        settings.proxy = None
        settings.retries = False
        settings.api_key = {"authorization": token}
        settings.api_key_prefix = {"authorization": "Bearer"}
        return official.ApiClient(settings)

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if asked.path == "/api/v1/namespaces/kube-system":
            return self.system, {"kind": "Namespace", "metadata": {"name": "kube-system", "uid": self.uid}}
        self.asked.append(asked)
        time.sleep(self.delay)
        return self.answers.pop(0)


def status(code: int, message: str, reason: str = "", **details: Any) -> tuple[int, dict[str, Any]]:
    """An answer as API servers refuse with."""
    body = {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "code": code}
    return code, body | ({"details": details} if details else {})


# What is said to whoever makes something in a namespace that is not there; a list is empty there.
NO_NAMESPACE = status(404, 'namespaces "team-a" not found', "NotFound", name="team-a", kind="namespaces")


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    script = ScriptedServer()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            content_type = self.headers.get("Content-Type", "")
            authorization = self.headers.get("Authorization", "")
            body = json.loads(raw) if raw else None
            code, said = script.answer(
                Asked(self.command, parts.path, query, body, content_type, authorization)
            )
            content = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = do_POST = do_PUT = do_DELETE = _serve

        def log_message(self, *arguments: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
