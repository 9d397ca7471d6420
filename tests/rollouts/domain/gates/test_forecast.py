from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.gates.tables.passing import requests_to_pass as simulated_requests_to_pass
from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.forecast import PlanForecast, plan_forecast, worsening_text
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY, policy

STEPS = ((500, 600.0), (2500, 1800.0), (5000, 3600.0))


def forecast(gate: dict[str, Any], **changes: Any) -> PlanForecast:
    rules = policy(gate)
    settings = {"requests_per_second": 20.0, "base_rate": 0.01, "steps": STEPS, **changes}
    return plan_forecast(policy=rules, gate=rules.gates[0], **settings)


def test_plan_forecast__longer_plan__finds_smaller_regressions() -> None:
    short, long = forecast(ERRORS, steps=((500, 300.0),)), forecast(ERRORS)
    assert short.detectable is not None
    assert long.detectable is not None
    assert 1 < long.detectable < short.detectable
    assert long.detectable_rate == pytest.approx(0.01 * long.detectable)


def test_plan_forecast__requests_to_pass__agree_with_simulation() -> None:
    rng = np.random.default_rng(4)
    for delta in (0.01, 0.005):
        told = forecast({**ERRORS, "delta": delta}, steps=((5000, 36_000.0),)).requests_to_pass
        median = float(
            np.median(
                simulated_requests_to_pass(limit=(1.0, delta), runs=150, rng=rng, share=0.5)["requests"]
            )
        )
        assert told == pytest.approx(median, rel=0.3)


def test_plan_forecast__share_below_a_quarter__can_never_pass() -> None:
    found = forecast(ERRORS, steps=((1000, 36_000.0),))
    assert found.requests_to_pass is None
    assert not found.passes_in_plan
    assert "no step of it can prove that nothing changed" in found.sentence


def test_plan_forecast__rare_errors_and_a_ratio__need_far_more_than_an_absolute_margin() -> None:
    ratio = forecast({**ERRORS, "delta": 0.0, "ratio": 1.5}, base_rate=0.002)
    margin = forecast(ERRORS, base_rate=0.002)
    assert margin.requests_to_pass is not None
    assert margin.passes_in_plan
    assert ratio.requests_to_pass is None or ratio.requests_to_pass > 10 * margin.requests_to_pass


def test_plan_forecast__paired_gate__speaks_of_drop_and_pairs() -> None:
    found = forecast(QUALITY, pairs_per_minute=30.0, score_spread=0.3)
    assert found.detectable is not None
    assert 0.05 < found.detectable < 0.3
    assert "a mean score" in found.sentence
    assert "pairs" in found.sentence


def test_plan_forecast__latency__is_slower_than_errors_at_the_same_rates() -> None:
    errors = forecast({**ERRORS, "delta": 0.0, "ratio": 1.25, "mode": "tolerant"}, base_rate=0.05)
    latency = forecast(LATENCY, base_rate=0.05)
    assert errors.requests_to_pass is not None
    assert latency.requests_to_pass is not None
    assert latency.requests_to_pass > 1.3 * errors.requests_to_pass


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"requests_per_second": 0.0}, "requests_per_second"),
        ({"base_rate": 1.0}, "base_rate"),
        ({"steps": ()}, "steps"),
        ({"steps": ((10_001, 60.0),)}, "steps[0].share_bp"),
        ({"steps": ((500, 60.0), (500, float("nan")))}, "steps[1].seconds"),
    ],
)
def test_plan_forecast__bad_plan__refused_with_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        forecast(ERRORS, **changes)
    assert refused.value.field == field


def test_plan_forecast__errors_never_seen_yet__some_rate_of_errors_is_found_all_the_same() -> None:
    found = forecast(ERRORS, base_rate=0.0)
    assert found.detectable_rate is not None
    assert 0.0001 < found.detectable_rate < 0.01
    assert "×" not in found.sentence


@pytest.mark.parametrize(
    ("gate", "detectable", "base", "words"),
    [
        (ERRORS, 1.334, 0.01, "×1.33"),
        (ERRORS, 61.0, 0.0, "0.61%"),
        (QUALITY, 0.0941, None, "−0.094"),
        (ERRORS, None, 0.01, "none"),
    ],
)
def test_worsening_text__smallest_worsening__reads_as_a_limit_does(
    gate: dict[str, object], detectable: float | None, base: float | None, words: str
) -> None:
    assert worsening_text(policy(gate).gates[0], detectable, base) == words
