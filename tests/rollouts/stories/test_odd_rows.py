"""What is stored of one rollout is odd: nothing of it moves forward, a person can still roll it back, and nobody else
waits for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rollouts.domain.lifecycle.effects import DrainWorkload
from rollouts.models import Effect, Rollout
from rollouts.services.loop import turns
from tests.rollouts.memory_world import ERRORS, LONG_PLAN, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    made = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    made.start(2, plan=LONG_PLAN)
    made.run_to("progressing")
    made.run(lambda: made.rollout.next_interval > 2)
    return made


@pytest.mark.parametrize(
    "odd",
    [
        {"gates_state": {"kind": "of nothing that is known"}},
        {"verdicts": {"said": 1}},
        {"gates_state": [], "verdicts": ["odd"]},
    ],
)
def test_gates_that_nobody_can_read__a_person_rolls_back__traffic_returns(
    w: MemoryWorld, odd: dict[str, Any]
) -> None:
    Rollout.objects.update(**odd)
    w.roll_back()
    w.run_to("rolled-back", limit=30)
    assert (w.shares(), w.lost) == ({1: 10_000}, 0)


def test_gates_that_fail_at_every_interval__a_person_rolls_back__traffic_returns(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: Any) -> None:
        raise ZeroDivisionError("a fault of the arithmetic")

    monkeypatch.setattr(turns, "measure_rollout", fails)
    with pytest.raises(ZeroDivisionError):
        w.run_for(8)
    w.roll_back()
    w.run_to("rolled-back", limit=30)
    assert (w.shares(), w.lost) == ({1: 10_000}, 0)


def paused_by_a_newer_version(w: MemoryWorld) -> None:
    w.pause()
    Rollout.objects.update(pause_reason="approval")


def test_pause_of_a_kind_that_is_not_known__lasts_and_keeps_its_word(w: MemoryWorld) -> None:
    paused_by_a_newer_version(w)
    before = (w.rollout.phase, w.rollout.pause_reason, w.shares())
    w.run_for(20)
    assert (w.rollout.phase, w.rollout.pause_reason, w.shares()) == before
    assert before[:2] == ("paused", "approval")


def test_pause_of_a_kind_that_is_not_known__a_person_resumes__it_goes_on(w: MemoryWorld) -> None:
    paused_by_a_newer_version(w)
    w.resume()
    assert (w.rollout.phase, w.rollout.pause_reason) == ("progressing", "")


def test_pause_of_a_kind_that_is_not_known__a_person_rolls_back__traffic_returns(w: MemoryWorld) -> None:
    paused_by_a_newer_version(w)
    w.roll_back()
    w.run_to("rolled-back", limit=30)
    assert (w.shares(), w.lost) == ({1: 10_000}, 0)


def test_effect_that_cannot_be_carried_out__a_person_rolls_back__traffic_returns(w: MemoryWorld) -> None:
    """It waits before the split of the rollback, and fails at every try with an error that nobody raised on purpose."""
    odd = {"variant": "triage-v9-abcdef"}
    Effect.objects.create(endpoint=w.endpoint, kind=DrainWorkload.kind, payload=odd, created_at=w.now)
    w.roll_back()
    w.run_to("rolled-back", limit=30)
    assert (w.shares(), w.lost) == ({1: 10_000}, 0)
    assert Effect.objects.get(payload=odd).problem.startswith("DoesNotExist")
