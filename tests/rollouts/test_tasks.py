"""What the tasks ask of each other, so that nobody waits for a tick."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.passes.ticks import Ticks
from rollouts import tasks
from rollouts.models import Rollout
from tests import factories

pytestmark = pytest.mark.django_db


def test_reconcile_changed__several_that_piled_up__are_one_look_and_one_question_for_probes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []

    def looks(**_: Any) -> None:
        done.append("look")

    monkeypatch.setattr(tasks, "reconcile_endpoints", looks)
    monkeypatch.setattr(tasks, "probe_soon", lambda: done.append("probes"))
    monkeypatch.setattr(tasks, "LOOKS", Ticks(seconds=60))
    for _ in range(3):
        tasks.reconcile_changed()
    assert done == ["look", "probes"]


@pytest.mark.parametrize(
    ("made", "woken"),
    [(factories.rollout_launching, True), (factories.rollout_progressing, False)],
    ids=["before traffic", "with traffic"],
)
def test_probe_round__of_a_rollout__wakes_its_endpoint_while_that_waits_for_the_proof(
    monkeypatch: pytest.MonkeyPatch, made: Any, woken: bool
) -> None:
    rollout: Rollout = made()
    found: list[int] = []
    monkeypatch.setattr(tasks, "run_round", lambda **_: None)
    monkeypatch.setattr(tasks, "wake", found.append)
    tasks.probe_round(rollout.pk, datetime(2026, 1, 1, tzinfo=UTC).isoformat())
    assert found == ([rollout.endpoint_id] if woken else [])
