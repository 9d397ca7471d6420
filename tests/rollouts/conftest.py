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
def _lock_order(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test of services, API and pages that runs on PostgreSQL watches the order of locks."""
    marker = request.node.get_closest_marker("django_db")
    # Without a transaction of the test around it, one of the product's begins with no savepoint, and none is watched.
    if marker is None or marker.kwargs.get("transaction"):
        yield
        return
    with lock_order_watched():
        yield
