"""Which tests run on which database. SQLite hides what PostgreSQL refuses, so what writes is tested on both."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# On SQLite every test runs, on PostgreSQL these.
ON_POSTGRESQL = (
    "tests/rollouts/stories/test_stories.py",
    "tests/rollouts/services/test_locks.py",
    "tests/rollouts/services/loop/test_reconcile.py",
    "tests/rollouts/stories/test_faults.py",
    "tests/rollouts/stories/test_bandit_stories.py",
    "tests/rollouts/stories/test_hand_edits.py",
    "tests/rollouts/stories/test_scale_in.py",
    "tests/rollouts/services/errands/test_belongings.py",
    "tests/rollouts/services/errands/test_fetching.py",
    "tests/rollouts/services/errands/test_gateway_trials.py",
    "tests/rollouts/services/errands/test_probe_rounds.py",
    "tests/rollouts/services/evidence/test_replay.py",
    "tests/rollouts/services/errands/test_packing.py",
    "tests/rollouts/stories/test_every_pass.py",
    "tests/rollouts/stories/test_newer_evidence.py",
    "tests/rollouts/services/errands/test_write_backs.py",
    "tests/rollouts/stories/test_slow_writers.py",
    "tests/rollouts/services/loop/test_outages.py",
    "tests/rollouts/services/loop/test_recording.py",
    "tests/rollouts/services/loop/test_samples.py",
    "tests/rollouts/stories/test_odd_answers.py",
    "tests/rollouts/stories/test_odd_rows.py",
    "tests/rollouts/ui/parts/test_odd_rows.py",
    "tests/rollouts/ui/parts/test_stuck.py",
    "tests/rollouts/services/loop/test_own_counters.py",
    "tests/rollouts/services/commands",
    "tests/rollouts/services/test_writing.py",
    "tests/rollouts/services/errands/test_housekeeping.py",
    "tests/rollouts/services/loop/test_act.py",
    "tests/rollouts/services/loop/test_leases.py",
    "tests/rollouts/services/loop/test_restored.py",
    "tests/rollouts/services/loop/test_restored_keep.py",
    "tests/rollouts/services/loop/test_turns.py",
    "tests/rollouts/services/loop/test_writes.py",
    "tests/rollouts/api",
    "tests/rollouts/ui/overview/test_page.py",
    "tests/rollouts/ui/overview/test_standing.py",
    "tests/registry/services",
    "tests/registry/stories",
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
# The whole loop from its start to its end, and so every statement of it, on both databases. The other stories tell of
# faults, hour after hour with the same statements: a landing tells them on PostgreSQL only, which refuses more.
STORIES_ON_BOTH = (
    "tests/rollouts/stories/test_stories.py",
    "tests/rollouts/stories/test_bandit_stories.py",
)
# Their statements are those of the services, which are tested on both; and PostgreSQL refuses more of what is odd.
ASKED_THERE = ("tests/fuzz", "tests/rollouts/api")


def mark(items: list[pytest.Item]) -> None:
    """Marks what a landing tells on PostgreSQL only: stories of faults, and what asks the API or asks at random."""
    for item in items:
        told = item.get_closest_marker("story") and _is_among(item.path, ON_POSTGRESQL)
        if (told and not _is_among(item.path, STORIES_ON_BOTH)) or _is_among(item.path, ASKED_THERE):
            item.add_marker("told_on_postgresql")


@cache
def _is_among(path: Path, listed: tuple[str, ...]) -> bool:
    """Whether it is one of these files, or lies in one of these folders."""
    return any(path.relative_to(ROOT).is_relative_to(one) for one in listed)
