"""What listens on a node: the kubelet's port, by which the API server reads logs, and the tests' orders."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

ORDERS_PORT = 10240
KUBELET_PORT = 10250  # of the first node; the next ones have the next ports, all at one address

# (namespace, pod, container, previous) -> the log, or None when there is none.
FindLog = Callable[[str, str, str, bool], Path | None]


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve_logs(
    address: tuple[str, int], certificates: tuple[Path, Path, Path], silent: Callable[[], bool], find: FindLog
) -> None:
    """GET /containerLogs/NAMESPACE/POD/CONTAINER?tailLines=&previous=, over TLS for the API server only.

    `certificates` are authority, own certificate, own key. A silent node closes the connection.
    """

    class LogHandler(_Quiet):
        def do_GET(self) -> None:
            if silent():
                self.close_connection = True
                return
            asked = urlsplit(self.path)
            parts = asked.path.strip("/").split("/")
            options = {name: values[-1] for name, values in parse_qs(asked.query).items()}
            if len(parts) != 4 or parts[0] != "containerLogs":
                self.answer(404, b"this node shows logs only")
                return
            path = find(parts[1], parts[2], parts[3], options.get("previous") == "true")
            if path is None or not path.exists():
                self.answer(404, f"no log of {asked.path}".encode())
                return
            lines = path.read_bytes().splitlines(keepends=True)
            if "tailLines" in options:
                count = int(options["tailLines"])
                lines = lines[-count:] if count else []
            body = b"".join(lines)
            if "limitBytes" in options:
                body = body[: int(options["limitBytes"])]
            self.answer(200, body)

    authority, certificate, key = certificates
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    server = ThreadingHTTPServer(address, LogHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve_orders(host: str, obey: Callable[[dict[str, Any]], Any]) -> None:
    """POST / with a JSON object; 200 with the answer as JSON, or 400 with the reason."""

    class OrderHandler(_Quiet):
        def do_GET(self) -> None:
            self.answer(200, b"ok")

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            try:
                done = obey(json.loads(self.rfile.read(length)))
            except (LookupError, ValueError) as problem:
                self.answer(400, str(problem).encode())
            else:
                self.answer(200, json.dumps(done).encode())

    server = ThreadingHTTPServer((host, ORDERS_PORT), OrderHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
