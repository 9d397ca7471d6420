"""How many calls are made, and what is wrong with an answer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from hypothesis import HealthCheck, Phase

MORE = int(os.environ.get("FUZZ", "1"))
"""FUZZ=20 in the environment makes twenty times as many calls, for a search by hand."""

# A found fault is shown as it was sent: making it smaller would cost more calls than the whole search.
QUIET: dict[str, Any] = {
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}
made: Counter[tuple[str, int]] = Counter()


@contextmanager
def undone() -> Iterator[None]:
    """Whatever the call wrote is taken back, also where the product insists that it is written for good (a try to sign
    in): like Django's own tests, this transaction does not count as one that it would be nested in."""
    block = transaction.atomic()
    block._from_testcase = True  # type: ignore[attr-defined]
    with block:
        yield
        transaction.set_rollback(True)


def check(answer: Any, *sent: object) -> None:
    """Counts an answer. Fails for one that says that the fault is ours."""
    made[str(sent[0]), answer.status_code] += 1
    assert answer.status_code < 500, (
        f"{answer.status_code} for {[str(one)[:600] for one in sent]}: {answer.content[:300]!r}"
    )
