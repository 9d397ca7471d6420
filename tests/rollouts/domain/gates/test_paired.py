from __future__ import annotations

import itertools
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.paired import PairedProcess
from rollouts.domain.gates.proportion import Proof

SCORE = st.floats(0, 1)


@given(st.lists(st.tuples(SCORE, SCORE), max_size=60), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_paired_process__shuffled_pairs__same_wealth(
    pairs: list[tuple[float, float]], order: random.Random
) -> None:
    shuffled = list(pairs)
    order.shuffle(shuffled)
    one = two = PairedProcess(margin=0.05)
    for pair, other in zip(pairs, shuffled, strict=True):
        one, two = one.update(*pair), two.update(*other)
    assert two.log_e == pytest.approx(one.log_e, abs=1e-9)


@pytest.mark.parametrize("decision", ["fail", "pass"])
@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5])
def test_paired_process__boundary_distributions_enumerated__expected_wealth_at_most_one(
    margin: float, decision: Proof
) -> None:
    """Every two-point distribution of the pair whose mean drop is exactly the margin, over three pairs."""
    ends = [(0.0, 1.0), (0.2, 0.5), (0.5, 0.5), (0.8, 0.6), (1.0, 0.4), (1.0, 0.0)]
    for low, high in itertools.product(ends, ends):
        drop_low, drop_high = low[0] - low[1], high[0] - high[1]
        if not (drop_low <= margin <= drop_high and drop_low < drop_high):
            continue
        chance = (margin - drop_low) / (drop_high - drop_low)
        expected = 0.0
        for picks in itertools.product((0, 1), repeat=3):
            process = PairedProcess(margin=margin, decision=decision, starts="spread")
            weight = 1.0
            for position, pick in enumerate(picks):
                weight *= chance if pick else 1 - chance
                process = process.update(*(high if pick else low))
                if position == 1:
                    process = process.start_again()
            expected += weight * math.exp(process.log_e)
        assert expected <= 1 + 1e-9


def test_paired_process__scores_that_drop__fail_and_equal_scores__pass() -> None:
    fail, passing = PairedProcess(), PairedProcess(margin=0.05, decision="pass")
    for _ in range(100):
        fail, passing = fail.update(0.9, 0.7), passing.update(0.9, 0.9)
    assert fail.log_e > math.log(20)
    assert passing.log_e > math.log(20)


def test_paired_process__extreme_pairs__stays_finite() -> None:
    worst = best = PairedProcess(margin=0.3, decision="pass")
    for _ in range(5000):
        worst, best = worst.update(1.0, 0.0), best.update(0.0, 1.0)
    assert math.isfinite(worst.log_e)
    assert math.isfinite(best.log_e)
    assert worst.log_e < 0 < best.log_e


@given(
    st.lists(st.tuples(SCORE, SCORE), max_size=10), st.sampled_from(["fail", "pass"]), st.floats(-0.9, 0.9)
)
@settings(max_examples=60, deadline=None)
def test_paired_process__any_pairs__survives_json(
    pairs: list[tuple[float, float]], decision: Proof, margin: float
) -> None:
    process = PairedProcess(margin=margin, decision=decision, grid=7, starts="spread")
    for pair in pairs:
        process = process.update(*pair).start_again()
    assert math.isfinite(process.log_e)
    assert PairedProcess.from_json(json.loads(json.dumps(process.to_json()))) == process


@pytest.mark.parametrize(
    ("arguments", "field"),
    [((1.1, 0.5), "score_baseline"), ((0.5, -0.1), "score_candidate"), ((math.nan, 0.5), "score_baseline")],
)
def test_paired_process__score_out_of_range__refused_with_the_field(
    arguments: tuple[float, float], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        PairedProcess().update(*arguments)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("settings_", "field"),
    [
        ({"margin": 1.0}, "margin"),
        ({"margin": math.nan}, "margin"),
        ({"grid": 0}, "grid"),
        ({"decision": "x"}, "decision"),
    ],
)
def test_paired_process__bad_setting__refused_with_the_field(
    settings_: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        PairedProcess(**settings_)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_start_again__single_start__refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        PairedProcess().start_again()
    assert refused.value.field == "starts"
