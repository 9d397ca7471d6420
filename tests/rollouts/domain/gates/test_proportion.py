from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.batch import ProportionBatch
from rollouts.domain.gates.evidence import start_weight
from rollouts.domain.gates.proportion import Proof, ProportionProcess

LIMITS = [(1.0, 0.0), (1.0, 0.05), (1.0, -0.1), (1.25, 0.0), (2.0, 0.02), (0.7, 0.1), (0.0, 0.05), (0.0, 0.6)]
COUNTS = st.one_of(st.sampled_from([0, 1, 2, 10**9]), st.integers(0, 10**9))


def null_points(ratio: float, delta: float, decision: str) -> list[tuple[float, float]]:
    """Points (p_c, p_b) of the null half-plane: its boundary and its inside."""
    points = []
    for p_b in np.linspace(0, 1, 9):
        edge = ratio * p_b + delta
        for step in (0.0, 0.02, 0.2, 0.6, 1.0):
            p_c = edge - step if decision == "fail" else edge + step
            if 0 <= p_c <= 1:
                points.append((float(p_c), float(p_b)))
    return points


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize("decision", ["fail", "pass"])
@pytest.mark.parametrize(("ratio", "delta"), LIMITS)
def test_proportion_process__null_enumerated__expected_evidence_at_most_one(
    ratio: float, delta: float, decision: Proof
) -> None:
    points = null_points(ratio, delta, decision)
    assert points
    for n_c, n_b in ((1, 1), (4, 2), (1, 6), (5, 5)):
        for prior in (0.5, 20.0):
            empty = ProportionProcess(ratio=ratio, delta=delta, decision=decision, prior_events=prior)
            table = {
                (e_c, e_b): math.exp(empty.update(n_c, e_c, n_b, e_b).log_e)
                for e_c, e_b in itertools.product(range(n_c + 1), range(n_b + 1))
            }
            for p_c, p_b in points:
                chance_c, chance_b = binomial(n_c, p_c), binomial(n_b, p_b)
                expected = sum(chance_c[c] * chance_b[b] * e for (c, b), e in table.items())
                assert expected <= 1 + 1e-9, (n_c, n_b, p_c, p_b)


@pytest.mark.parametrize("decision", ["fail", "pass"])
@pytest.mark.parametrize(("ratio", "delta"), [(1.0, 0.0), (1.5, 0.0), (1.0, 0.1), (0.0, 0.2)])
def test_proportion_process__null_enumerated_over_two_adaptive_intervals__expected_evidence_at_most_one(
    ratio: float, delta: float, decision: Proof
) -> None:
    """The second interval's size depends on what the first one showed, and both arms drift in between."""
    sizes = ((2, 2), (3, 1))
    first = ProportionProcess(ratio=ratio, delta=delta, decision=decision, starts="spread").start_again()
    outcomes = list(itertools.product(range(3), range(3)))
    tables = {}
    for e_c, e_b in outcomes:
        after = first.update(2, e_c, 2, e_b).start_again()
        n_c, n_b = sizes[(e_c + e_b) % 2]
        tables[e_c, e_b] = (
            (n_c, n_b),
            {
                (c, b): math.exp(after.update(n_c, c, n_b, b, temper=0.7).log_e)
                for c, b in itertools.product(range(n_c + 1), range(n_b + 1))
            },
        )
    points = null_points(ratio, delta, decision)[::3]
    for (pc1, pb1), (pc2, pb2) in itertools.product(points, points[::2]):
        c1, b1 = binomial(2, pc1), binomial(2, pb1)
        expected = 0.0
        for (e_c, e_b), ((n_c, n_b), table) in tables.items():
            c2, b2 = binomial(n_c, pc2), binomial(n_b, pb2)
            expected += c1[e_c] * b1[e_b] * sum(c2[c] * b2[b] * e for (c, b), e in table.items())
        assert expected <= 1 + 1e-9


@given(
    st.sampled_from(LIMITS),
    st.sampled_from(["fail", "pass"]),
    st.lists(
        st.tuples(COUNTS, COUNTS, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])),
        max_size=4,
    ),
)
@settings(max_examples=150, deadline=None)
def test_proportion_process__extreme_counts__stays_finite_and_survives_json(
    limit: tuple[float, float], decision: Proof, rows: list[tuple[int, int, float, float]]
) -> None:
    process = ProportionProcess(ratio=limit[0], delta=limit[1], decision=decision, starts="spread")
    for n_c, n_b, part_c, part_b in rows:
        process = process.update(n_c, int(n_c * part_c), n_b, int(n_b * part_b)).start_again()
    assert math.isfinite(process.log_e)
    text = json.dumps(process.to_json(), allow_nan=False)
    again = ProportionProcess.from_json(json.loads(text))
    assert again == process
    assert json.dumps(again.to_json()) == text
    assert again.update(10, 1, 10, 1) == process.update(10, 1, 10, 1)


@given(st.integers(1, 300), st.integers(1, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_proportion_process__one_more_candidate_event__more_evidence_of_fail_and_less_of_pass(
    n_c: int, n_b: int, data: st.DataObject
) -> None:
    e_c = data.draw(st.integers(0, n_c - 1))
    e_b = data.draw(st.integers(0, n_b))
    fail, passing = ProportionProcess(), ProportionProcess(delta=0.02, decision="pass")
    assert fail.update(n_c, e_c + 1, n_b, e_b).log_e > fail.update(n_c, e_c, n_b, e_b).log_e
    assert passing.update(n_c, e_c + 1, n_b, e_b).log_e < passing.update(n_c, e_c, n_b, e_b).log_e


def test_proportion_process__candidate_three_times_worse__crosses_and_unchanged_does_not() -> None:
    worse, same = ProportionProcess(), ProportionProcess()
    for _ in range(40):
        worse, same = worse.update(100, 3, 100, 1), same.update(100, 1, 100, 1)
    assert worse.log_e > math.log(20) > 0 > same.log_e


def test_proportion_process__absolute_limit__needs_no_baseline() -> None:
    process = ProportionProcess(ratio=0.0, delta=0.01)
    for _ in range(20):
        process = process.update(100, 4, 0, 0)
    assert process.log_e > math.log(20)


def test_proportion_process__one_arm_empty__learns_nothing_of_the_difference() -> None:
    process = ProportionProcess().update(0, 0, 100, 50).update(100, 90, 0, 0)
    assert process.log_e == 0.0


def test_proportion_process__temper__shrinks_log_increments() -> None:
    full, half = ProportionProcess(), ProportionProcess()
    one, two = full.update(50, 9, 50, 1).evidence.logs, half.update(50, 9, 50, 1, temper=0.5).evidence.logs
    assert two == pytest.approx([value / 2 for value in one])


def test_start_again__first_start__has_weight_one_half_and_changes_no_evidence() -> None:
    fresh = ProportionProcess(starts="spread")
    begun = fresh.start_again()
    assert begun.log_e == pytest.approx(0.0)
    assert begun.evidence.logs == pytest.approx([math.log(0.5)] * 5)
    assert begun.start_again().evidence.logs == pytest.approx([math.log(0.5 + start_weight(2))] * 5)
    assert fresh.update(10, 1, 10, 1) == begun.update(10, 1, 10, 1)


def test_start_again__after_healthy_time__finds_a_late_regression_that_a_single_start_misses() -> None:
    single, spread = ProportionProcess(), ProportionProcess(starts="spread").start_again()
    for number in range(360):
        if number and number % 3 == 0:
            spread = spread.start_again()
        single, spread = single.update(100, 1, 100, 1), spread.update(100, 1, 100, 1)
    spread = spread.start_again()
    for _ in range(4):
        single, spread = single.update(100, 10, 100, 1), spread.update(100, 10, 100, 1)
    assert spread.log_e > math.log(20) > single.log_e


def test_start_again__single_start__refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        ProportionProcess().start_again()
    assert refused.value.field == "starts"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((10, 11, 10, 0), "events_candidate"),
        ((10, 1, 10, 11), "events_baseline"),
        ((-1, 0, 10, 0), "n_candidate"),
        ((10, 1, 2.5, 0), "n_baseline"),
        ((10, float("nan"), 10, 0), "events_candidate"),
        ((10, 1, float("inf"), 0), "n_baseline"),
        (("10", 1, 10, 0), "n_candidate"),
        ((True, 1, 10, 0), "n_candidate"),
        ((10, 1, 10, 0, 0.0), "temper"),
        ((10, 1, 10, 0, 1.5), "temper"),
    ],
)
def test_update__impossible_input__refused_with_the_field(arguments: tuple[float, ...], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ProportionProcess().update(*arguments)  # type: ignore[arg-type]
    assert refused.value.field == field
    assert field in refused.value.message


@pytest.mark.parametrize(
    ("settings_", "field"),
    [
        ({"ratio": -1.0}, "ratio"),
        ({"ratio": float("nan")}, "ratio"),
        ({"delta": 1.0}, "delta"),
        ({"ratio": 0.0}, "delta"),
        ({"ratio": 0.5, "delta": -0.6}, "delta"),
        ({"decision": "maybe"}, "decision"),
        ({"starts": "many"}, "starts"),
        ({"prior_events": 60.0}, "prior_events"),
        ({"prior_trials": 0.0}, "prior_trials"),
    ],
)
def test_proportion_process__bad_setting__refused_with_the_field(
    settings_: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        ProportionProcess(**settings_)  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize("decision", ["fail", "pass"])
@pytest.mark.parametrize(("ratio", "delta"), LIMITS)
def test_proportion_batch__same_counts__equals_the_scalar_form(
    ratio: float, delta: float, decision: Proof
) -> None:
    rng = np.random.default_rng(7)
    size = 6
    batch = ProportionBatch(size, ratio=ratio, delta=delta, decision=decision, spread=True)
    single = [
        ProportionProcess(ratio=ratio, delta=delta, decision=decision, starts="spread") for _ in range(size)
    ]
    for number in range(12):
        if number % 4 == 0:
            batch.start_again()
            single = [process.start_again() for process in single]
        n_c, n_b = rng.integers(0, 60, size), rng.integers(0, 200, size)
        e_c, e_b = rng.binomial(n_c, 0.1), rng.binomial(n_b, 0.05)
        batch.update(n_c.astype(float), e_c.astype(float), n_b.astype(float), e_b.astype(float))
        rows = zip(single, n_c, e_c, n_b, e_b, strict=True)
        single = [process.update(int(a), int(b), int(c), int(d)) for process, a, b, c, d in rows]
    assert batch.log_e == pytest.approx([process.log_e for process in single], abs=1e-9)


def test_update__an_interval_out_of_the_usual__counts_and_leaves_the_baseline_rate() -> None:
    process = ProportionProcess().update(100, 1, 100, 1)
    unusual = process.update(100, 20, 100, 100, usual=False)
    assert unusual.baseline_rate == process.baseline_rate
    assert unusual.log_e == process.update(100, 20, 100, 100).log_e
