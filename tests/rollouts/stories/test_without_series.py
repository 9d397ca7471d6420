"""A candidate whose counters the source never shows: it holds its first step, says so, and goes back in the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rollouts.adapters.signals.memory import MemorySignals
from rollouts.domain.record.readings import SignalReading
from rollouts.models import Evidence
from rollouts.ports import Backend
from rollouts.services.evidence.replay import replay_whole
from tests.rollouts.memory_world import LONG_PLAN, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]


class Unscraped(MemorySignals):
    """Shows nothing of these variants, as a Prometheus that does not scrape them."""

    hidden: frozenset[str] = frozenset()

    def read_all(self, backends: Mapping[str, Collection[Backend]]) -> Mapping[str, SignalReading]:
        return {name: self._without(reading) for name, reading in super().read_all(backends).items()}

    def _without(self, reading: SignalReading) -> SignalReading:
        targets = {
            name: replace(one, arms={arm: found for arm, found in one.arms.items() if arm not in self.hidden})
            for name, one in reading.targets.items()
        }
        return replace(reading, targets=targets)


@pytest.fixture
def signals(w: MemoryWorld) -> Unscraped:
    found = Unscraped(w.router)
    w.world = replace(w.world, signals=found)
    return found


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path).serve()


@pytest.mark.parametrize("min_requests", [10, 0])
def test_candidate_without_series__holds_its_first_step_says_why_and_goes_back(
    w: MemoryWorld, signals: Unscraped, min_requests: int
) -> None:
    steps = tuple(replace(step, min_requests=min_requests) for step in LONG_PLAN.steps)
    w.start(2, plan=replace(LONG_PLAN, steps=steps))
    w.behave(2, accuracy=1.0)
    w.run(lambda: w.rollout.phase == "provisioning")
    name = w.variant(2).name
    signals.hidden = frozenset({name})
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.next_interval >= 6)
    assert (w.rollout.step_index, w.rollout.step_requests, w.shares()) == (0, 0, {1: 9_500, 2: 500})
    newest = Evidence.objects.filter(rollout=w.rollout).order_by("-index")[0]
    assert newest.interval["missing"]["candidate"] == f"no fresh series of {name}"
    assert "candidate" not in newest.interval["arms"]
    w.run_to("rolled-back")
    assert w.rollout.cause == "no-data"
    assert replay_whole(rollout=w.rollout).outcome == "identical"


def test_candidate_whose_series_come_late__goes_on_from_then(w: MemoryWorld, signals: Unscraped) -> None:
    w.start(2, plan=LONG_PLAN)
    w.behave(2, accuracy=1.0)
    w.run(lambda: w.rollout.phase == "provisioning")
    signals.hidden = frozenset({w.variant(2).name})
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.next_interval >= 4)
    signals.hidden = frozenset()
    w.run(lambda: w.rollout.step_index == 1)


class Unheld(MemorySignals):
    """Of no answer it can say whether whoever left had all of it, as a gateway without the script."""

    def read_all(self, backends: Mapping[str, Collection[Backend]]) -> Mapping[str, SignalReading]:
        return {name: self._unheld(reading) for name, reading in super().read_all(backends).items()}

    def _unheld(self, reading: SignalReading) -> SignalReading:
        targets = {
            name: replace(
                one,
                arms={
                    arm: replace(found, unheld=found.answered + found.aborted)
                    for arm, found in one.arms.items()
                },
            )
            for name, one in reading.targets.items()
        }
        return replace(reading, targets=targets)


def test_departures_that_nobody_can_tell__are_said_in_the_evidence_and_replay_alike(w: MemoryWorld) -> None:
    w.world = replace(w.world, signals=Unheld(w.router))
    w.start(2, plan=LONG_PLAN)
    w.behave(2, accuracy=1.0)
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.next_interval >= 6)
    newest = Evidence.objects.filter(rollout=w.rollout).order_by("-index")[0]
    assert newest.interval["missing"]["departures"].startswith("of the baseline, the gateway cannot tell")
    assert set(newest.interval["arms"]) == {"baseline", "candidate"}
    assert replay_whole(rollout=w.rollout).outcome == "identical"
