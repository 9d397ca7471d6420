"""One installation for all calls of a module: every call is undone, so each finds every state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.db import transaction

from tests.fuzz.calls import made
from tests.fuzz.world import World, build_world


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> Iterator[World]:
    cache.clear()
    with django_db_blocker.unblock(), transaction.atomic():  # type: ignore[attr-defined]
        yield build_world()
        transaction.set_rollback(True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many calls were made and how they were answered, so that a search that calls nothing is seen."""
    if made:
        statuses: Counter[int] = Counter()
        for (_, status), count in made.items():
            statuses[status] += count
        answered = ", ".join(f"{status}: {statuses[status]}" for status in sorted(statuses))
        terminalreporter.write_line(f"fuzz: {statuses.total():,} calls, answered {answered}")
