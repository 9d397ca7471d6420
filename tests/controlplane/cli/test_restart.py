"""The command waits through a kill -9 of the real web process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.standins.running import ROOT
from tests.standins.web_process import WebProcess

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
