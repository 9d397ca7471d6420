"""The dry run of a canary: its steps in time, and what its gates are told about the traffic."""

from __future__ import annotations

import pytest

from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.plan import Plan, Step
from rollouts.domain.strategies.canary.forecast import forecast
from rollouts.domain.strategies.dry_run import LAUNCH_GUESS_SECONDS, Forecast, Planned
from rollouts.domain.traffic import MeasuredTraffic, Ratings
from tests.rollouts.domain.gates.helpers import ABANDONED, LATENCY, policy

PLAN = (Step(500, 60), Step(2_500, 60), Step(5_000, 60))


def look(
    *steps: Step,
    per_second: float = 20.0,
    rules: GatePolicy | None = None,
    baseline_replicas: int = 1,
    interval_seconds: float = 5.0,
) -> Forecast:
    requests = round(per_second * 3_600)
    planned = Planned(
        plan=Plan("canary", steps or PLAN),
        policy=rules or policy(LATENCY),
        contenders=(),
        replicas=1,
        baseline="tickets-v1-aaaaaa",
        baseline_version=1,
        baseline_replicas=baseline_replicas,
        traffic=MeasuredTraffic(per_second, requests, 0, {}, Ratings(0, 0, 0, 0.0)),
        interval_seconds=interval_seconds,
    )
    return forecast(planned)


def test_forecast__step_whose_requests_take_longer_than_its_time__lasts_until_they_are_there() -> None:
    found = look(Step(500, 60, min_requests=500), Step(5_000, 60, min_requests=500))
    first, second = found.steps
    assert first.ends_after - first.starts_after == pytest.approx(500 / (20 * 0.05))
    assert second.starts_after == first.ends_after
    assert second.ends_after - second.starts_after == 60
    assert found.seconds == pytest.approx(LAUNCH_GUESS_SECONDS + 500 + 60)


def test_forecast__longer_step_for_its_requests__finds_smaller_worsenings() -> None:
    short, long = look(Step(5_000, 60)), look(Step(5_000, 60, min_requests=6_000))
    assert short.gates[0].detectable is not None
    assert long.gates[0].detectable is not None
    assert long.gates[0].detectable < short.gates[0].detectable
    assert long.gates == look(Step(5_000, 600)).gates


@pytest.mark.parametrize(("baseline_replicas", "share_bp"), [(1, 5_000), (3, 2_500)])
def test_forecast__latency__counts_from_the_first_step_that_the_replicas_let_pass(
    baseline_replicas: int, share_bp: int
) -> None:
    found = look(baseline_replicas=baseline_replicas, rules=policy({**LATENCY, "ratio": 3.0}))
    assert found.gates[0].from_share_bp == share_bp
    says = {step.share_bp: step.latency for step in found.steps}
    assert "pass" in says[share_bp]
    assert not any("pass" in words for share, words in says.items() if share < share_bp)


def test_forecast__longer_intervals__lose_less_to_loads_that_differ_by_chance() -> None:
    quick, slow = (
        look(Step(5_000, 36_000), per_second=2.0, rules=policy(ABANDONED), interval_seconds=seconds).gates[0]
        for seconds in (1.0, 30.0)
    )
    assert quick.requests_to_pass is not None
    assert slow.requests_to_pass is not None
    assert slow.requests_to_pass < 0.8 * quick.requests_to_pass


def test_forecast__no_traffic__takes_what_is_assumed() -> None:
    found = look(Step(5_000, 60, min_requests=600), per_second=0.0)
    assert found.seconds == pytest.approx(LAUNCH_GUESS_SECONDS + 1_200)


def test_forecast__steps_that_take_longer_than_the_deadline__are_warned_of() -> None:
    codes = [
        {
            check.code: check.state
            for check in look(Step(5_000, 60, min_requests=count), per_second=0.1).checks
        }
        for count in (60, 60_000)
    ]
    assert "deadline-too-early" not in codes[0]
    assert codes[1]["deadline-too-early"] == "warning"
