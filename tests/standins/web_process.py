"""The real web process, for tests of what only a real one does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.standins.running import ROOT, free_port


class WebProcess:
    """uvicorn on a database of its own, on a port that stays the same.

    host  where it listens; it answers to this name
    """

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        self.environment = os.environ | {
            "HEADGATE_RUN_DIR": str(folder),
            "HEADGATE_ALLOWED_HOSTS": host,
            "DJANGO_SETTINGS_MODULE": "controlplane.config.settings_test",
            "PYTHONPATH": str(ROOT),
        }
        # A database and a folder of its own, whatever the tests themselves have.
        for name in ("HEADGATE_DATABASE_URL", "PYTEST_XDIST_WORKER"):
            self.environment.pop(name, None)
        self.port = free_port()
        self.host = host
        self.url = f"http://{host}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: str) -> str:
        """Runs a program in the Django of this database; returns what it printed."""
        return self._python("-c", f"import django; django.setup()\n{program}").stdout.strip()

    def migrate(self) -> None:
        self._python("manage.py", "migrate", "-v0")

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "--host",
            self.host,
            "--port",
            str(self.port),
            "--log-level",
            "warning",
        ]
        self._process = subprocess.Popen(
            [*command, "controlplane.config.asgi:application"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the web process did not come up within a minute")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
