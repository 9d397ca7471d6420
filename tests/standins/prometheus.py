"""A real Prometheus for tests, and an exporter that plays the pods that it scrapes."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.standins.running import free_port, wait_until

SCRAPE_SECONDS = 0.5


class Exporter:
    """Serves metrics as text under paths that a test fills and empties. A path without text answers 503, as a pod that
    is gone."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        pages = self.pages

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = pages.get(self.path)
                self.send_response(503 if text is None else 200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write((text or "").encode())

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class RunningPrometheus:
    """Debian's Prometheus with its data in `folder`. `kill()` is kill -9; `start()` starts it again on the same data.

    jobs  what it scrapes: by name of the job, targets with their labels. A target is a path of the exporter, or another
          address with its path (`10.0.0.1:8000/metrics`)
    found what it scrapes besides: scrape configurations as Prometheus has them
    """

    def __init__(
        self,
        folder: Path,
        exporter: Exporter,
        jobs: Mapping[str, Mapping[str, Mapping[str, str]]],
        found: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        scrapes = [
            _scrape(job, target, labels, f"127.0.0.1:{exporter.port}")
            for job, targets in jobs.items()
            for target, labels in targets.items()
        ]
        interval = {
            "scrape_interval": f"{SCRAPE_SECONDS * 1000:.0f}ms",
            "scrape_timeout": f"{SCRAPE_SECONDS * 1000:.0f}ms",
        }
        config = {"global": interval, "scrape_configs": [*scrapes, *found]}
        (folder / "prometheus.yml").write_text(json.dumps(config))  # all JSON is YAML

    def start(self) -> None:
        command = [
            "prometheus", f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=error",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, cwd=self._folder, stderr=subprocess.DEVNULL)
        wait_until("Prometheus is ready", self._ready, 60)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "Prometheus ended while it started"
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _scrape(job: str, target: str, labels: Mapping[str, str], exporter: str) -> dict[str, Any]:
    """A job a target: many are at one address, so the path tells them apart."""
    address, _, path = target.partition("/")
    return {
        "job_name": f"{job} {target}",
        "metrics_path": f"/{path}",
        "honor_labels": True,
        "static_configs": [{"targets": [address or exporter], "labels": dict(labels)}],
        "relabel_configs": [{"target_label": "job", "replacement": job}],
    }


@contextmanager
def running_prometheus(
    folder: Path,
    jobs: Mapping[str, Mapping[str, Mapping[str, str]]],
    found: Sequence[Mapping[str, Any]] = (),
) -> Iterator[tuple[RunningPrometheus, Exporter]]:
    """Both for the time of a with block."""
    exporter = Exporter()
    prometheus = RunningPrometheus(folder, exporter, jobs, found)
    try:
        prometheus.start()
        yield prometheus, exporter
    finally:
        prometheus.kill()
        exporter.close()
