"""A control plane that is no more than a script: what it answers is set by the test, and it can go away."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]


@dataclass(frozen=True)
class Raw:
    """A body that is sent as it is, under headers that need not be true."""

    body: bytes
    kind: str = "application/json"
    more: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None


def rollout(**changes: Any) -> dict[str, Any]:
    """A rollout as the API gives it, in the members that the command reads."""
    share = changes.pop("share_bp", 500)
    return {
        "id": 7,
        "endpoint": "chat",
        "candidate": {"name": "chat-v2-abcdef", "version": 2},
        "phase": "progressing",
        "pause_reason": "",
        "reason": "Holding 5%: 10 s of 1 min. No gate failed.",
        "next_step": "Then 25%.",
        "cause": "",
        "cause_sentence": "",
        "watching": False,
        "revision": 4,
        "arms": [
            {"name": "baseline", "version": 1, "observed_bp": 10_000 - share, "dropped_at": None},
            {"name": "candidate", "version": 2, "observed_bp": share, "dropped_at": None},
        ],
    } | changes


def bandit(**changes: Any) -> dict[str, Any]:
    """A rollout of three arms as the API gives it; v3 was dropped."""
    names = (("baseline", 1, 1_000), ("candidate", 2, 9_000), ("candidate-2", 3, 0))
    arms = [
        {
            "name": name,
            "version": version,
            "observed_bp": share,
            "dropped_at": "2026-03-02T09:10:00Z" if name == "candidate-2" else None,
        }
        for name, version, share in names
    ]
    return rollout(**{"strategy": "bandit", "arms": arms, "reason": "Two of three arms remain."} | changes)


def bandit_verdict(**changes: Any) -> dict[str, Any]:
    """What the API says of that bandit's arms and gates."""
    common = {"mean": 0.92, "low": 0.91, "high": 0.93, "sentence": "", "p_best": 0.5, "gates_passed": 0}
    return {
        "kind": "bandit",
        "sentence": "Two of three arms remain, no winner yet.",
        "threshold": 20.0,
        "arms": [
            common
            | {
                "name": "baseline",
                "state": "racing",
                "scored": 4_000,
                "expected_loss": 0.031,
                "evidence": 3.2,
                "gates_required": 0,
            },
            common
            | {
                "name": "candidate",
                "state": "racing",
                "scored": 12_000,
                "expected_loss": 0.0004,
                "evidence": 0.1,
                "gates_passed": 2,
                "gates_required": 3,
            },
            common
            | {
                "name": "candidate-2",
                "state": "eliminated",
                "scored": 0,
                "mean": None,
                "low": None,
                "high": None,
                "p_best": 0.0,
                "expected_loss": None,
                "evidence": 24.0,
                "gates_required": 3,
                "sentence": "Worse than v2: 24 to 1.",
            },
        ],
        "gates": {
            "candidate": {"verdicts": [{"verdict": "pass", "label": "Error rate", "sentence": "No worse."}]},
            "candidate-2": {"verdicts": [{"verdict": "fail", "label": "Error rate", "sentence": "Worse."}]},
        },
        "survivors": ["baseline", "candidate"],
        "winner": "",
        "tie_sentence": "v1 or v2",
    } | changes


class StandIn:
    """Answers every request with `answer(method, path, body)`; `seen` keeps what came."""

    def __init__(self, answer: Callable[[str, str, Any], Answer]) -> None:
        self.answer = answer
        self.seen: list[tuple[str, str, Any, dict[str, str]]] = []
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens, after a stop on the same port as before."""
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                raw = self.rfile.read(size)
                body = json.loads(raw) if raw else None
                stand_in.seen.append((self.command, self.path, body, dict(self.headers.items())))
                status, data = stand_in.answer(self.command, self.path, body)
                if not isinstance(data, Raw):
                    data = Raw((data if isinstance(data, str) else json.dumps(data)).encode())
                self.send_response(status)
                self.send_header("Content-Type", data.kind)
                self.send_header(
                    "Content-Length", str(len(data.body) if data.length is None else data.length)
                )
                for name, value in data.more.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # a command that has seen enough hangs up
                    self.wfile.write(data.body)
                self.close_connection = data.length is not None

            do_GET = do_POST = do_PUT = _any

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def stop(self) -> None:
        """Stops listening; calls are refused from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
