"""The loop, the registry and access on a real PostgreSQL: the same tests as on SQLite, on a server of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import ON_POSTGRESQL
from tests.fixtures.postgresql_server import postgresql

ROOT = Path(__file__).resolve().parents[2]
# Beside other tests it waits for the processor longer than it computes.
PATIENCE_SECONDS = 4_500
pytestmark = [
    pytest.mark.needs("postgres"),
    pytest.mark.beside,
    pytest.mark.timeout(PATIENCE_SECONDS + 100),
]


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
            *("-m", "not e2e and not needs", *ON_POSTGRESQL),
        ],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
