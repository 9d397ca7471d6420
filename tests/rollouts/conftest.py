"""What the tests of pages, API and services have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from django.conf import settings

from tests.rollouts.lock_order import lock_order_watched


class Declare(Protocol):
    def __call__(self, **engines: Any) -> None: ...


@pytest.fixture
def declare() -> Iterator[Declare]:
    """Writes the operator's engines.json for the length of a test."""
    path = settings.HEADGATE.run_dir / "engines.json"

    def write(**engines: Any) -> None:
        path.write_text(json.dumps(engines))

    yield write
    path.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def lock_order(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Every test of services, API and pages that runs on PostgreSQL watches the order of locks; what is wrong with it
    is in the list, and fails the test at its end."""
    marker = request.node.get_closest_marker("django_db")
    if marker is None:
        yield []
        return
    # The database is there before it is watched, and is watched no more when it is emptied.
    own = not marker.kwargs.get("transaction")
    request.getfixturevalue("db" if own else "transactional_db")
    with lock_order_watched(own=own) as found:
        yield found
