"""A stand-in engine that tries what an engine must not be able to do, and reports how far it came.

    python3 trespasser.py --port P --variant V --endpoint E --model FOLDER

Standard library only: another user must be able to run it. What to try is in FOLDER/standin.json: paths for `read`,
`write`, `list`, `open_up` and `connect`, process ids for `signal` and `peep` (reading their environment), user ids for
`become`. The report, with what succeeded, is in HOME/report.json when it serves.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any


def connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)


def write(path: str) -> None:
    with Path(path).open("ab") as handle:
        handle.write(b"!")


TRIES: dict[str, Callable[[Any], object]] = {
    "read": lambda path: Path(path).read_bytes(),
    "write": write,
    "list": os.listdir,
    "connect": connect,
    "open_up": lambda path: Path(path).chmod(0o777),
    "signal": lambda pid: os.kill(pid, 0),
    "peep": lambda pid: Path(f"/proc/{pid}/environ").read_bytes(),
    "become": os.setuid,
}


def succeeds(act: Callable[[Any], object], target: Any) -> bool:
    try:
        act(target)
    except OSError:
        return False
    return True


class Handler(BaseHTTPRequestHandler):
    names = ("", "")

    def do_GET(self) -> None:
        self.answer({})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        variant, endpoint = self.names
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
        self.answer({"model": endpoint, "system_fingerprint": variant, "choices": [choice]})

    def answer(self, data: dict[str, Any]) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("port", "variant", "endpoint", "model"):
        parser.add_argument(f"--{name}")
    args = parser.parse_args()
    wanted = json.loads((Path(args.model) / "standin.json").read_text())
    report: dict[str, Any] = {
        name: [target for target in wanted.get(name, []) if succeeds(act, target)]
        for name, act in TRIES.items()
    }
    report["parent"] = [name for name in ("signal", "peep") if succeeds(TRIES[name], os.getppid())]
    report["uid"], report["groups"] = os.getresuid(), os.getgroups()
    report["own"] = [name for name in ("HOME", "TMPDIR") if succeeds(write, f"{os.environ[name]}/mine")]
    (Path(os.environ["HOME"]) / "report.json").write_text(json.dumps(report))
    Handler.names = (args.variant, args.endpoint)
    HTTPServer(("127.0.0.1", int(args.port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
