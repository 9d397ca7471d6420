"""Requests through the simulated engine end in one class each, and wait as queues do."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.gates.engine import HALF, LONGEST, MOVES, RAMP, Load, play, share_at
from benchmarks.gates.tables.timeouts import HANGING, timed_gates, without_outcomes
from rollouts.domain.gates.batch_family import ArmBatch

GATES = timed_gates(HANGING)  # the first token over 0.5 s and over 2.5 s
QUIET = Load(HALF, speed=20.0, wave=0.0, failed=0.0, refused=0.0)


def played(load: Load, intervals: int, runs: int = 4, seed: int = 1) -> tuple[list[ArmBatch], list[ArmBatch]]:
    rows = list(play(load, GATES, intervals, runs, np.random.default_rng(seed)))
    return [row[1] for row in rows], [row[2] for row in rows]


def total(arms: list[ArmBatch], name: str, key: str = "") -> float:
    return float(sum(np.sum(getattr(arm.timed[key] if key else arm, name)) for arm in arms))


def test_play__every_request__ends_once_and_is_timed_or_left() -> None:
    load = Load(RAMP, first=1.0, whole=3.0, failed=0.05, refused=0.05, hang=0.1)
    for arms in played(load, 60):
        ended = total(arms, "requests") + total(arms, "abandoned")
        still_running = total(arms, "arrived") - ended
        assert 0 <= still_running <= 0.02 * ended  # those of the last seconds
        timed = total(arms, "total", "ttft") + total(arms, "left", "ttft")
        assert timed == ended - total(arms, "errors") - total(arms, "refused")


def test_play__patient_clients__wait_as_in_the_queue_of_the_textbook() -> None:
    baseline, _ = played(replace(QUIET, speed=12.0), 400, runs=8)
    over = total(baseline[20:], "over", "ttft") / total(baseline[20:], "total", "ttft")
    assert over == pytest.approx(math.exp(-(12 - 10) * 0.5), abs=0.05)
    assert total(baseline, "abandoned") == 0


def test_play__requests_that_hang__leave_after_the_time_out_and_before_or_after_an_slo() -> None:
    baseline, candidate = played(replace(QUIET, speed=400.0, hang=0.1, first=1.0), 60)
    assert total(candidate, "abandoned") == pytest.approx(0.1 * total(candidate, "arrived"), rel=0.1)
    assert total(baseline, "abandoned") == 0
    assert total(candidate, "left_over", "ttft") == total(candidate, "left", "ttft")
    assert total(candidate, "left_over", "ttft-long") == 0  # they left after 1 s: censored at 2.5 s


def test_play__answers_that_take_longer__end_later() -> None:
    baseline, candidate = played(replace(QUIET, answer=10.0, longer=5.0), 6)
    assert total(candidate, "requests") < 0.6 * total(baseline, "requests")
    assert total(candidate, "arrived") == pytest.approx(total(baseline, "arrived"), rel=0.1)


def test_play__an_end_beyond_the_longest__is_still_counted() -> None:
    baseline, _ = played(replace(QUIET, answer=1e6), LONGEST + 10)
    early = sum(float(np.sum(arm.arrived)) for arm in baseline[:10])
    assert total(baseline, "requests") == pytest.approx(early, rel=0.02)


def test_without_outcomes__who_left__is_nowhere() -> None:
    _, candidate = played(replace(QUIET, hang=0.5, first=1.0), 3)
    old = without_outcomes(candidate[2])
    assert old.abandoned is None
    assert not old.timed["ttft"].left.any()
    assert (old.requests == candidate[2].requests).all()


def test_share_at__each_plan__moves_as_it_says() -> None:
    assert [share_at(RAMP, index, 9) for index in (0, 3, 8)] == [0.05, 0.25, 0.5]
    assert [share_at(MOVES, index, 360) for index in (0, 5, 6, 12)] == [0.5, 0.5, 0.1, 0.5]
    assert share_at(HALF, 5, 10) == 0.5
