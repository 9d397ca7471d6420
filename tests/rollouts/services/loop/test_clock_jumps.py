"""The clock jumps in the middle of a rollout: nothing is decided early by it, and nothing hangs."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.errors import StaleWriter
from controlplane.timekeeping.models import ClockJump
from rollouts.domain.lifecycle.plan import canary
from rollouts.evidence import evidence_rows
from rollouts.models import HistoryEvent
from rollouts.services.errands.packing import pack_evidence
from rollouts.services.evidence.replay import replay_whole
from rollouts.services.loop.leases import hold
from tests.rollouts.lock_order import taken_back
from tests.rollouts.memory_world import ERRORS, THUMBS, MemoryWorld

pytestmark = [pytest.mark.story, pytest.mark.django_db]

HOUR, DAY = 3600.0, 86_400.0
JUMPS = (HOUR, -HOUR, DAY, -DAY)
# Nothing here may take as long as the smallest jump, so that a jump that counts as time is seen at once.
SHORT_PLAN = replace(
    canary((25, 50), hold_seconds=3, min_requests=10, watch_seconds=6),
    launch_seconds=20,
    no_data_seconds=30,
    deadline_seconds=600,
)
Moment = tuple[float, str, int, dict[int, int]]
Story = tuple[Moment, ...]


def _tell(folder: Path, *, jumps: Mapping[int, float], error_rate: float = 0.0, inside: str = "") -> Story:
    """What happened when, by time that really passed: phase, step and shares whenever one of them changed.

    jumps    by how many seconds the clock jumps before a tick, or in the first call named `inside` of that tick

    Told in a transaction of its own that is rolled back, so that the next story begins alike.
    """
    with taken_back():
        return tuple(_moments(folder, jumps, error_rate, inside))


def _moments(folder: Path, jumps: Mapping[int, float], error_rate: float, inside: str) -> Iterator[Moment]:
    w = MemoryWorld(folder, gates=(ERRORS,), rate=20, ready_after=2.0).serve()
    began = w.clock.reading().steady
    w.start(2, plan=SHORT_PLAN)
    w.behave(2, error_rate=error_rate)
    told: object = None
    for tick in range(60):
        if tick in jumps and inside:
            w.calls.hooks[inside] = partial(w.clock.jump, jumps[tick])
        elif tick in jumps:
            w.clock.jump(jumps[tick])
        w.tick(probe=False)
        rollout = w.rollout
        now = (rollout.phase + (", watched" if rollout.watching else ""), rollout.step_index, w.shares())
        if now != told:
            told = now
            yield w.clock.reading().steady - began, *now
        if rollout.phase in ("succeeded", "rolled-back") and not rollout.watching:
            return
    raise AssertionError(f"It hangs: {rollout.phase}: {rollout.reason} / {rollout.next_step}")


@pytest.fixture(scope="module")
def promoted(
    django_db_blocker: Any, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    """The story of a promotion without a jump."""
    with django_db_blocker.unblock():
        story = _tell(tmp_path_factory.mktemp("calm"), jumps={})
    assert story[-1][1] == "succeeded"
    return story


def test_clock__jumps_before_every_turn_of_a_promotion__everything_happens_when_it_would_have(
    promoted: Story, tmp_path: Path
) -> None:
    rng = random.Random(5)
    assert _tell(tmp_path, jumps={tick: rng.choice(JUMPS) for tick in range(60)}) == promoted


def test_clock__jumps_before_every_turn_of_a_rollback__everything_happens_when_it_would_have(
    tmp_path: Path,
) -> None:
    calm = _tell(tmp_path / "calm", jumps={}, error_rate=0.5)
    assert calm[-1][1] == "rolled-back"
    rng = random.Random(6)
    jumps = {tick: rng.choice(JUMPS) for tick in range(60)}
    assert _tell(tmp_path / "jumps", jumps=jumps, error_rate=0.5) == calm


@pytest.mark.parametrize("seconds", JUMPS)
def test_clock__jumps_once_while_a_step_is_held__the_step_is_as_long_as_without(
    promoted: Story, tmp_path: Path, seconds: float
) -> None:
    in_the_step = int(next(at for at, phase, *_ in promoted if phase == "progressing")) + 1
    assert _tell(tmp_path, jumps={in_the_step: seconds}) == promoted


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
@pytest.mark.parametrize("call", ["signals.read_all", "router.apply"])
def test_clock__jumps_in_the_middle_of_turns__no_step_is_cut_short_and_nothing_hangs(
    promoted: Story, tmp_path: Path, seconds: float, call: str
) -> None:
    found = _tell(tmp_path, jumps=dict.fromkeys((2, 4, 7, 10), seconds), inside=call)
    assert [moment[1:] for moment in found] == [moment[1:] for moment in promoted]
    lengths, calm = _lengths(found), _lengths(promoted)
    # An interval whose counters were read by another clock than those before is lost: so much longer it may take.
    assert all(was <= now <= was + 4 for now, was in zip(lengths, calm, strict=True))


def _lengths(story: Story) -> list[float]:
    return [end - begin for (begin, *_), (end, *_) in pairwise(story)]


def test_rollout__through_jumps__is_packed_and_replayed_as_it_was_decided(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=20).serve()
    w.start(2, plan=SHORT_PLAN)
    for seconds in (HOUR, -HOUR, -DAY):
        w.run_for(3)
        w.clock.jump(seconds)
    w.run_to("succeeded")
    w.run(lambda: not w.rollout.watching)
    assert pack_evidence(now=w.now + timedelta(days=2)) == 1
    report = replay_whole(rollout=w.rollout)
    assert report.outcome == "identical", report.first


@pytest.mark.parametrize(
    ("seconds", "fed"),
    [
        (0.0, 79),
        (HOUR, 79),
        (-HOUR, 79),
        (-10.0, 49),  # who gave an answer in the seconds that come twice is not known, so it does not count
    ],
)
def test_ratings__over_a_jump__are_fed_as_without_and_none_twice(
    tmp_path: Path, seconds: float, fed: int
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS, THUMBS), rate=20).serve()
    w.users_rate({1: 0.3, 2: 0.3})
    w.start(2, plan=replace(SHORT_PLAN, steps=(replace(SHORT_PLAN.steps[1], hold_seconds=60),)))
    w.run_to("progressing")
    w.run_for(12)
    w.clock.jump(seconds)
    w.run_for(20)
    rows = [row.interval["arms"]["candidate"] for row in evidence_rows(w.rollout.pk)]
    assert sum(counts.get("ratings", 0) for counts in rows) == fed


def test_clock__jumped__is_told_in_the_history_and_kept(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=20).serve()
    w.start(2, plan=SHORT_PLAN)
    w.run_for(2)
    w.clock.jump(-HOUR)
    w.tick()
    told = HistoryEvent.objects.get(kind="clock-jumped")
    assert told.title == "The clock jumped back by 1 h"
    assert told.rollout == w.rollout
    jump = ClockJump.objects.get()
    assert jump.seconds == pytest.approx(-HOUR, abs=0.01)
    w.run_for(2)
    assert ClockJump.objects.count() == 1


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_effect__postponed_before_the_clock_jumps__is_tried_within_its_longest_pause(
    tmp_path: Path, seconds: float
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=20).serve()
    w.start(2, plan=SHORT_PLAN)
    w.run_to("progressing")
    w.router.refuse = "no"
    w.roll_back()
    w.run_for(3)
    w.clock.jump(seconds)
    w.router.refuse = ""
    w.run_to("rolled-back", limit=8)


def test_worker__killed_with_a_lease_and_then_the_clock_jumps_back__another_takes_over_at_once(
    tmp_path: Path,
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=20).serve()
    assert w.claim("killed")
    assert not w.reconcile()
    w.clock.jump(-HOUR)
    assert w.reconcile()


def test_lease__given_back_before_the_clock_jumps_back__is_free_at_once(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=20).serve()
    assert w.endpoint.lease_until is None
    w.clock.jump(-30)
    assert w.reconcile()


def test_two_workers__whose_machines_jumped_apart__one_writes_and_the_other_is_refused(
    tmp_path: Path,
) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=20).serve()
    first = w.claim("a")
    assert first is not None
    second = w.claim("b", at=w.now + timedelta(hours=1))
    assert second is not None
    assert second.token > first.token
    with pytest.raises(StaleWriter):
        hold(first, now=w.now)
