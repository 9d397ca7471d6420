from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.gates.tables.passing import requests_to_pass as simulated_requests_to_pass
from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.batch_family import ArmBatch, FamilyBatch, TimedBatch
from rollouts.domain.gates.plan_forecast import PlanForecast, plan_forecast, worsening_text
from tests.rollouts.domain.gates.helpers import ABANDONED, ERRORS, LATENCY, QUALITY, REFUSED, THUMBS, policy

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
    assert "no step of it is long or large enough for a pass" in found.sentence


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
    assert "whose mean score is" in found.sentence
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


# --- forecasts against drawn rollouts ---------------------------------------------------------------------------------

INTERVAL = 5.0
EVERY_KIND = [ERRORS, REFUSED, ABANDONED, LATENCY, THUMBS]


def drawn(
    gate: dict[str, Any],
    steps: tuple[tuple[int, float], ...],
    *,
    rate: float,
    base: float,
    ready: tuple[float, float],
    worse: float = 1.0,
    runs: int = 100,
) -> tuple[float, float]:
    """(median candidate requests of the steps from 25% on until PASS, share rolled back by the end), by the gates' own
    code. The last step goes on until half of the rollouts have passed, where none is worse."""
    rng = np.random.default_rng(7)
    rules = policy(gate)
    family = FamilyBatch(rules, runs, passing=worse == 1)
    seen, needed, now = np.zeros(runs), np.full(runs, math.inf), 0.0
    ends = np.cumsum([seconds for _, seconds in steps])

    def arm(requests: float, chance: float, replicas: float) -> ArmBatch:
        arrived = rng.poisson(requests * INTERVAL, runs)
        n, events = arrived.astype(float), rng.binomial(arrived, chance).astype(float)
        nothing = np.zeros(runs)
        return ArmBatch(
            requests=n,
            errors=events if gate["kind"] == "error_rate" else nothing,
            arrived=n,
            ready=np.full(runs, replicas),
            refused=events if gate["kind"] == "refused" else nothing,
            abandoned=events if gate["kind"] == "abandoned" else nothing,
            timed={rules.gates[0].key: TimedBatch(n, events, nothing, nothing)},
            answers=n,
            thumbs_down=events,
        )

    while now < ends[-1] or (worse == 1 and np.mean(np.isfinite(needed)) < 0.6):
        share_bp = steps[min(int(np.searchsorted(ends, now, side="right")), len(steps) - 1)][0]
        share = share_bp / 10_000
        baseline, candidate = (
            arm(rate * (1 - share), base, ready[1]),
            arm(rate * share, base * worse, ready[0]),
        )
        family.update(INTERVAL, share_bp, baseline, candidate)
        now += INTERVAL
        if share_bp >= 2_500:
            seen += candidate.arrived
        if worse == 1:
            needed = np.where(family.passes(0) & np.isinf(needed), seen, needed)
    return float(np.median(needed)), float(np.mean(family.crossed >= 0))


@pytest.mark.parametrize(
    ("gate", "base", "rate", "share_bp", "ready"),
    [
        (ABANDONED, 0.0, 8.0, 5_000, (1, 1)),
        (ABANDONED, 0.0, 50.0, 2_500, (1, 3)),
        (ABANDONED, 0.01, 2.0, 2_500, (1, 3)),
        (ABANDONED, 0.05, 8.0, 5_000, (1, 1)),
        (LATENCY, 0.05, 50.0, 5_000, (1, 1)),
        (LATENCY, 0.16, 8.0, 2_500, (1, 3)),
        (ERRORS, 0.0, 8.0, 5_000, (1, 1)),
        (ERRORS, 0.01, 50.0, 2_500, (1, 1)),
        (REFUSED, 0.01, 8.0, 5_000, (1, 1)),
        (THUMBS, 0.0, 50.0, 5_000, (1, 1)),
        (THUMBS, 0.05, 8.0, 2_500, (1, 1)),
    ],
)
def test_plan_forecast__requests_to_pass__are_up_to_two_thirds_more_than_the_median_of_drawn_rollouts(
    gate: dict[str, Any], base: float, rate: float, share_bp: int, ready: tuple[float, float]
) -> None:
    steps = ((share_bp, 300.0),)
    told = forecast(gate, requests_per_second=rate, base_rate=base, steps=steps, ready=ready).requests_to_pass
    median, _ = drawn(gate, steps, rate=rate, base=base, ready=ready)
    assert told is not None
    assert 0.85 < told / median < 1.67


def test_plan_forecast__nobody_ever_leaves__is_the_seventeen_hundred_requests_that_a_demo_took() -> None:
    gate = {**ABANDONED, "weight": 0.1}
    found = forecast(gate, requests_per_second=8.0, base_rate=0.0, steps=((5_000, 600.0),))
    assert found.requests_to_pass == pytest.approx(1_750, rel=0.1)


@pytest.mark.parametrize("gate", [ABANDONED, LATENCY])
def test_plan_forecast__ramp_with_a_replica_each__counts_from_the_step_with_like_loads(
    gate: dict[str, Any],
) -> None:
    steps = ((500, 300.0), (2_500, 300.0), (5_000, 300.0))
    found = forecast(gate, requests_per_second=50.0, base_rate=0.05, steps=steps)
    assert found.from_share_bp == 5_000
    assert found.sentence.removesuffix(".").removesuffix(", longer than the plan").endswith(", from 50% on")
    assert found.requests_to_pass is not None
    at_25 = 300 * 50 * 0.25  # drawn requests are counted from 25% on
    median, _ = drawn(gate, steps, rate=50.0, base=0.05, ready=(1, 1))
    assert 0.85 < found.requests_to_pass / (median - at_25) < 1.67


def test_plan_forecast__replicas_in_proportion__can_pass_at_a_quarter() -> None:
    steps = ((500, 300.0), (2_500, 7_200.0))
    found = forecast(LATENCY, base_rate=0.16, steps=steps, ready=(1, 3))
    assert (found.from_share_bp, found.passes_in_plan) == (2_500, True)
    assert forecast(LATENCY, base_rate=0.16, steps=steps, ready=(1, 1)).requests_to_pass is None


@pytest.mark.parametrize(("gate", "base"), [(ABANDONED, 0.02), (LATENCY, 0.05), (ERRORS, 0.01)])
def test_plan_forecast__told_worsening__is_found_in_about_half_of_the_rollouts(
    gate: dict[str, Any], base: float
) -> None:
    steps = ((500, 300.0), (2_500, 300.0), (5_000, 600.0))
    worse = forecast(gate, requests_per_second=20.0, base_rate=base, steps=steps).detectable
    assert worse is not None
    _, found = drawn(gate, steps, rate=20.0, base=base, ready=(1, 1), worse=worse, runs=200)
    assert 0.35 < found < 0.75


RATES = st.floats(0.5, 60)


@given(st.sampled_from(EVERY_KIND), st.floats(0, 0.2), RATES, RATES)
@settings(max_examples=40, deadline=None)
def test_plan_forecast__more_requests_a_second__pass_no_later_and_find_no_less(
    gate: dict[str, Any], base: float, one: float, other: float
) -> None:
    fewer, more = (
        forecast(gate, requests_per_second=rate, base_rate=base, steps=((5_000, 3_600.0),))
        for rate in sorted((one, other))
    )
    if fewer.minutes_to_pass is not None:
        assert more.minutes_to_pass is not None
        assert more.minutes_to_pass <= fewer.minutes_to_pass + 1e-9
    if fewer.detectable is not None:
        assert more.detectable is not None
        assert more.detectable <= fewer.detectable * (1 + 1e-6)


@given(st.sampled_from(EVERY_KIND), st.floats(0, 0.2), st.floats(0, 7_200), st.floats(0, 7_200))
@settings(max_examples=40, deadline=None)
def test_plan_forecast__longer_first_step__asks_for_no_more_later(
    gate: dict[str, Any], base: float, one: float, other: float
) -> None:
    short, long = (
        forecast(gate, requests_per_second=8.0, base_rate=base, steps=((500, seconds), (5_000, 60.0)))
        for seconds in sorted((one, other))
    )
    if short.requests_to_pass is None:
        return
    assert long.requests_to_pass is not None
    assert long.requests_to_pass <= short.requests_to_pass


def test_plan_forecast__departures_after_the_share_grew__wait_a_minute() -> None:
    alone = forecast(ABANDONED, base_rate=0.0, steps=((5_000, 3_600.0),))
    grown = forecast(ABANDONED, base_rate=0.0, steps=((500, 5.0), (5_000, 3_600.0)))
    assert alone.minutes_to_pass is not None
    assert grown.minutes_to_pass == pytest.approx(alone.minutes_to_pass + 1, abs=0.1)


def test_plan_forecast__candidate_that_warms_up__passes_latency_later_by_those_requests() -> None:
    rules = policy(LATENCY)
    steps = ((5_000, 36_000.0),)
    plain, warmed = (
        plan_forecast(
            policy=replace(rules, warm_up_requests=count),
            gate=rules.gates[0],
            requests_per_second=20.0,
            base_rate=0.16,
            steps=steps,
        ).requests_to_pass
        for count in (0, 3_000)
    )
    assert plain is not None
    assert warmed == pytest.approx(plain + 3_000, abs=60)


@pytest.mark.parametrize("gate", [ERRORS, QUALITY])
def test_plan_forecast__gate_that_says_nothing_before_so_many__passes_no_earlier(
    gate: dict[str, Any],
) -> None:
    plain, patient = (
        forecast({**gate, "min_exposure": fewest}, base_rate=0.0, steps=((5_000, 36_000.0),))
        for fewest in (30, 20_000)
    )
    assert plain.requests_to_pass is not None
    assert plain.requests_to_pass < 5_000
    assert patient.requests_to_pass == pytest.approx(20_000, abs=100)


def test_plan_forecast__few_requests__says_nothing_between_intervals() -> None:
    found = forecast(
        THUMBS, requests_per_second=500.0, base_rate=0.0, steps=((5_000, 600.0),), interval_seconds=30.0
    )
    assert found.minutes_to_pass == 0.5
