"""The worked examples of docs/statistics.md are what the code says today."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.plan_forecast import plan_forecast
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.templates import DEFAULT_GATES
from rollouts.domain.record.intervals import ArmCounts, Outcomes
from tests.rollouts.domain.gates import helpers
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY, arm, feed, interval

policy = partial(helpers.policy, baseline_outage_share=0.2)  # as people write one today
PAGE = (Path(__file__).parents[4] / "docs" / "statistics.md").read_text(encoding="utf-8")


def counted(
    state: GatesState,
    times: int,
    baseline: tuple[int, Sequence[int]],
    candidate: tuple[int, Sequence[int]],
    share_bp: int,
) -> GatesState:
    """Intervals of constant requests with these errors in turn."""
    (n_b, errors_b), (n_c, errors_c) = baseline, candidate
    for number in range(times):
        baseline_arm = arm(n_b, errors_b[number % len(errors_b)])
        candidate_arm = arm(n_c, errors_c[number % len(errors_c)])
        index = state.last_index + 1
        state = state.update(
            interval(index, share_bp=share_bp, baseline=baseline_arm, candidate=candidate_arm)
        )
    return state


def fourfold() -> GatesState:
    return counted(GatesState.initial(policy(ERRORS)), 27, (190, [2, 2, 1, 3]), (10, [0, 1, 0, 1, 0]), 500)


def unchanged() -> GatesState:
    return counted(GatesState.initial(policy(ERRORS)), 18, (150, [1, 2]), (50, [0, 1]), 2500)


def late() -> GatesState:
    healthy = counted(GatesState.initial(policy(ERRORS)), 90, (100, [1]), (100, [1]), 5000)
    return counted(healthy, 3, (100, [1]), (100, [9, 11]), 5000)


def slow() -> GatesState:
    return feed(
        GatesState.initial(policy(LATENCY)), 30, baseline=arm(100, over=4), candidate=arm(100, over=9)
    )


def stupid() -> GatesState:
    return feed(GatesState.initial(policy(QUALITY)), 60, pairs=[(0.9, 0.8), (0.8, 0.5), (0.7, 0.7)])


def refusing() -> GatesState:
    """Half of the users send what the candidate's template refuses, under the gates that a new policy begins with."""

    def answered(requests: int, refused: int) -> ArmCounts:
        outcomes = Outcomes(answered=requests - refused, refused_request=refused)
        return replace(arm(requests, timed=False), outcomes=outcomes)

    state = GatesState.initial(GatePolicy(name="default", version=1, gates=DEFAULT_GATES))
    return state.update(interval(0, share_bp=500, baseline=answered(190, 2), candidate=answered(10, 5)))


def test_statistics_page__refusing_template__is_rolled_back_as_it_says() -> None:
    verdict = refusing().assess()
    assert verdict.cause is not None
    assert verdict.cause.key == "refused"
    assert verdict.cause.sentence in PAGE


@pytest.mark.parametrize("example", [fourfold, unchanged, late, slow, stupid])
def test_statistics_page__worked_example__is_what_the_code_says(example: object) -> None:
    assert callable(example)
    assert example().assess().verdicts[0].sentence in PAGE


@pytest.mark.parametrize(("position", "base_rate"), [(0, 0.01), (1, 0.04), (2, 0.8)])
def test_statistics_page__plan_example__is_what_the_code_says(position: int, base_rate: float) -> None:
    rules = policy(ERRORS, LATENCY, QUALITY)
    told = plan_forecast(
        policy=rules,
        gate=rules.gates[position],
        requests_per_second=20,
        base_rate=base_rate,
        steps=((500, 600.0), (2500, 1800.0), (5000, 1800.0)),
        pairs_per_minute=20,
    )
    assert told.sentence in PAGE
