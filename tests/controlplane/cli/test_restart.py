"""The command waits through a kill -9 of the real web process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[3]
SEED = """
from datetime import UTC, datetime
from controlplane.access.roles import Role
from controlplane.access.services import create_token
from tests import factories
factories.rollout_progressing(intervals=4)
viewer = factories.person(Role.VIEWER)
print(create_token(user=viewer, name="ci", scopes=["read"], expires_at=None, now=datetime.now(UTC))[1])
"""
PROMOTE = """
from rollouts.models import Rollout
Rollout.objects.update(phase="succeeded", reason="Promoted: v2 has all traffic.")
"""

pytestmark = pytest.mark.e2e


class WebProcess:
    """uvicorn on a database of its own, on a port that stays the same."""

    def __init__(self, folder: Path) -> None:
        self.environment = os.environ | {
            "HEADGATE_RUN_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "controlplane.config.settings_test",
            "PYTHONPATH": str(ROOT),
        }
        self.environment.pop("HEADGATE_DATABASE_URL", None)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: str) -> str:
        """Runs a program in the Django of this database; returns what it printed."""
        return self._python("-c", f"import django; django.setup()\n{program}").stdout.strip()

    def migrate(self) -> None:
        self._python("manage.py", "migrate", "-v0")

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "--port", str(self.port), "--log-level", "warning"]
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


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebProcess]:
    process = WebProcess(tmp_path)
    process.migrate()
    yield process
    process.kill()


def read_until(stream: IO[str], words: str) -> str:
    """Lines of the stream up to the one that holds `words`; fails when the stream ends before."""
    seen = ""
    for line in stream:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"{words!r} never came, but: {seen}")


def test_wait__web_process_killed_and_started_again__sees_the_promotion(web: WebProcess) -> None:
    token = web.run(SEED)
    web.start()
    command = [sys.executable, "-m", "controlplane.cli", "rollout", "wait", "triage", "--interval", "0.1"]
    waiting = subprocess.Popen(
        command,
        cwd=ROOT,
        env={"HEADGATE_URL": web.url, "HEADGATE_TOKEN": token, "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with waiting:
        assert waiting.stdout is not None
        assert waiting.stderr is not None
        try:
            read_until(waiting.stderr, "progressing")
            web.kill()
            read_until(waiting.stderr, "does not answer")
            web.run(PROMOTE)
            web.start()
            read_until(waiting.stderr, "answers again")
            assert waiting.wait(timeout=30) == 0
            assert waiting.stdout.read() == "Promoted: v2 has all traffic.\n"
        finally:
            waiting.kill()
