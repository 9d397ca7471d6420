"""The loop, the registry and access on a real PostgreSQL: the same tests as on SQLite, on a server of our own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standins.running import free_port

ROOT = Path(__file__).resolve().parents[2]
SUITES = (
    "tests/rollouts/services/test_stories.py",
    "tests/rollouts/services/test_locks.py",
    "tests/rollouts/services/test_faults.py",
    "tests/rollouts/services/test_bandit_stories.py",
    "tests/rollouts/services/test_replay.py",
    "tests/rollouts/services/test_every_pass.py",
    "tests/rollouts/services/test_write_backs.py",
    "tests/rollouts/services/test_slow_writers.py",
    "tests/rollouts/services/test_outages.py",
    "tests/rollouts/services/test_outcomes.py",
    "tests/rollouts/services/test_odd_answers.py",
    "tests/rollouts/services/test_feedback.py",
    "tests/rollouts/services/test_feedback_waiting.py",
    "tests/rollouts/services/test_secrets.py",
    "tests/rollouts/api",
    "tests/rollouts/ui/test_overview.py",
    "tests/rollouts/ui/test_standing.py",
    "tests/registry/services",
    "tests/registry/test_selectors.py",
    "tests/controlplane/access",
    "tests/controlplane/audit",
    "tests/controlplane/passes",
    "tests/controlplane/web/test_database_errors.py",
    "tests/controlplane/web/test_edge.py",
    "tests/controlplane/web/test_health.py",
    "tests/controlplane/web/test_live.py",
    "tests/controlplane/web/test_probes.py",
    "tests/fuzz",
    "tests/controlplane/sealing",
    "tests/controlplane/timekeeping",
)

pytestmark = [pytest.mark.needs("postgres"), pytest.mark.e2e, pytest.mark.timeout(1_600)]


def program(name: str) -> str:
    """A server program; Debian keeps them off the PATH."""
    found = shutil.which(name) or next(
        (str(p) for p in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), ""
    )
    assert found, f"{name} is not installed"
    return found


@pytest.fixture
def database_url() -> Iterator[str]:
    """A PostgreSQL server in a folder of its own. It refuses to run as root, so root lends it another user."""
    folder = Path(tempfile.mkdtemp(prefix="hg-pg-", dir="/tmp"))
    user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, pwd.getpwnam("postgres").pw_name)
        user = ["runuser", "-u", "postgres", "--"]
    data, port = folder / "data", free_port()

    def run(*command: str) -> None:
        done = subprocess.run(
            [*user, *command], cwd="/", capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run(program("initdb"), "-D", str(data), "-A", "trust", "-U", "headgate")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
    run(program("pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://headgate@127.0.0.1:{port}/postgres"
    finally:
        run(program("pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_services_and_api__on_postgresql__keep_the_same_promises(database_url: str) -> None:
    environment = {**os.environ, "HEADGATE_DATABASE_URL": database_url}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"),
            *("-m", "not e2e and not needs", *SUITES),
        ],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1_500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
