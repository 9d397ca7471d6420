"""The loop, the registry and access on a real PostgreSQL: the same tests as on SQLite, on a server of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.postgresql_server import postgresql

ROOT = Path(__file__).resolve().parents[2]
SUITES = (
    "tests/rollouts/services/loop/test_stories.py",
    "tests/rollouts/services/loop/test_locks.py",
    "tests/rollouts/services/loop/test_batches.py",
    "tests/rollouts/services/loop/test_faults.py",
    "tests/rollouts/services/loop/test_bandit_stories.py",
    "tests/rollouts/services/errands/test_fetching.py",
    "tests/rollouts/services/errands/test_probe_rounds.py",
    "tests/rollouts/services/evidence/test_replay.py",
    "tests/rollouts/services/test_every_pass.py",
    "tests/rollouts/services/errands/test_write_backs.py",
    "tests/rollouts/services/errands/test_slow_writers.py",
    "tests/rollouts/services/loop/test_outages.py",
    "tests/rollouts/services/loop/test_outcomes.py",
    "tests/rollouts/services/loop/test_odd_answers.py",
    "tests/rollouts/services/commands/test_feedback.py",
    "tests/rollouts/services/commands/test_feedback_waiting.py",
    "tests/rollouts/services/commands/test_secrets.py",
    "tests/rollouts/api",
    "tests/rollouts/ui/overview/test_page.py",
    "tests/rollouts/ui/overview/test_standing.py",
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


@pytest.fixture
def database_url() -> Iterator[str]:
    """The database of a server that keeps nothing."""
    with postgresql(options="-c fsync=off") as server:
        yield f"{server}postgres"


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
