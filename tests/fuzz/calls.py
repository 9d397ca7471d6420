"""How many calls are made, and what is wrong with an answer."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

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


def check(answer: Any, *sent: object) -> None:
    """Counts an answer. Fails for one that says that the fault is ours."""
    made[str(sent[0]), answer.status_code] += 1
    assert answer.status_code < 500, (
        f"{answer.status_code} for {[str(one)[:600] for one in sent]}: {answer.content[:300]!r}"
    )
