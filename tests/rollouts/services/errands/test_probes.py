"""Probes: drawn at random but the same for everybody, asked of both, kept once, used once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.domain import scoring
from rollouts.adapters.probers.memory import MemoryProber
from rollouts.models import Evidence, ProbeResult
from rollouts.services.errands.probes import MAX_WAITING, draw_examples, probe_rollout, probes_are_due
from tests.rollouts.memory_world import ERRORS, MemoryWorld

pytestmark = pytest.mark.django_db


@pytest.fixture
def moving(tmp_path: Path) -> MemoryWorld:
    w = MemoryWorld(tmp_path, rate=5).serve()
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_to("progressing")
    return w


def probe(w: MemoryWorld) -> int:
    return probe_rollout(rollout_id=w.rollout.pk, world=w.world)


def test_draws__by_anybody__are_the_same_and_spread_over_the_set(moving: MemoryWorld) -> None:
    first = draw_examples(moving.rollout, 0, 60)
    assert draw_examples(moving.rollout, 20, 5) == first[20:25]
    assert len({example.pk for example in first}) > 20


def test_probe__both_answer__scored_pair_and_numbered_draw(moving: MemoryWorld) -> None:
    ProbeResult.objects.all().delete()
    assert probe(moving) == moving.world.probe_pairs
    rows = list(ProbeResult.objects.order_by("number"))
    assert [row.number for row in rows] == list(range(len(rows)))
    assert all(row.score_candidate == 1.0 for row in rows)
    assert {row.score_baseline for row in rows} == {0.0, 1.0}
    assert all(row.answer_candidate == row.example.expected for row in rows)


def test_probe__one_does_not_answer__no_scores_and_its_problem(moving: MemoryWorld) -> None:
    moving.engine(2).error_rate = 1.0
    ProbeResult.objects.all().delete()
    probe(moving)
    for row in ProbeResult.objects.all():
        assert (row.score_baseline, row.score_candidate) == (None, None)
        assert moving.variant(2).name in row.problem
        assert row.answer_baseline


def test_probe__two_workers_at_once__each_draw_is_kept_once(
    moving: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ProbeResult.objects.all().delete()
    others: list[int] = []
    # While ours waits for its first answer, another worker draws and keeps the very same numbers.
    rollout_id = moving.rollout.pk
    quick = replace(moving.world, prober=MemoryProber(moving.router), probe_pairs=4)

    def score(*args: Any) -> float:
        if not others:
            others.append(0)
            others[0] = probe_rollout(rollout_id=rollout_id, world=quick)
        return scoring.score(*args)

    monkeypatch.setattr("rollouts.services.errands.probes.score", score)
    ours = probe(moving)
    numbers = list(ProbeResult.objects.order_by("number").values_list("number", flat=True))
    assert others == [4]
    assert ours == moving.world.probe_pairs - 4
    assert numbers == list(range(moving.world.probe_pairs))


def test_probe__answers_wait_to_be_used__no_more_are_asked(moving: MemoryWorld) -> None:
    while probe(moving):
        pass
    waiting = ProbeResult.objects.filter(interval__isnull=True).count()
    assert MAX_WAITING <= waiting < MAX_WAITING + moving.world.probe_pairs


def test_probe__used_in_one_interval_only(moving: MemoryWorld) -> None:
    moving.run_for(6)
    used = 0
    for row in Evidence.objects.all():
        pairs = row.interval["pairs"].get("candidate", [])
        assert len(pairs) == ProbeResult.objects.filter(interval=row.index).count()
        used += len(pairs)
    assert used == ProbeResult.objects.filter(interval__isnull=False).count() > 0


@pytest.mark.parametrize("phase", ["pending", "provisioning", "rolling-back", "rolled-back", "cancelled"])
def test_due__without_traffic__not(moving: MemoryWorld, phase: str) -> None:
    rollout = moving.rollout
    rollout.phase = phase
    assert not probes_are_due(rollout)


def test_due__promoted__only_while_watched(moving: MemoryWorld) -> None:
    rollout = moving.rollout
    rollout.phase, rollout.watching = "succeeded", True
    assert probes_are_due(rollout)
    rollout.watching = False
    assert not probes_are_due(rollout)


def test_due__policy_without_a_golden_gate__not(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2)
    w.run_to("progressing")
    assert not probes_are_due(w.rollout)
