"""What counts on the mean path, and what it is divided by, against the gates' own code on drawn requests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.domain.gates.batch import BlocksBatch
from rollouts.domain.gates.latency import difference_score, load_ways
from rollouts.domain.gates.pace import Caution, EvidencePace, Flow, Way

SECONDS = 5.0


def even(rate: float, chance: float, *, share: float = 0.5, ready: tuple[float, float] | None = None) -> Flow:
    return Flow(rate * share, rate * (1 - share), chance, chance, SECONDS, ready)


@pytest.mark.parametrize("way", ["fail", "pass"])
@pytest.mark.parametrize(
    ("rate", "share", "ready"), [(2.0, 0.5, (1, 1)), (8.0, 0.25, (1, 3)), (50.0, 0.5, (2, 2))]
)
def test_counted__gate_that_follows_the_load__is_the_part_of_drawn_intervals(
    way: Way, rate: float, share: float, ready: tuple[float, float]
) -> None:
    rng = np.random.default_rng(1)
    means = rate * share * SECONDS, rate * (1 - share) * SECONDS
    n_c, n_b = rng.poisson(means[0], 20_000), rng.poisson(means[1], 20_000)
    parts = [
        c * b / (c + b)
        for c, b in zip(n_c.tolist(), n_b.tolist(), strict=True)
        if c and b and load_ways(c / ready[0], b / ready[1])[way == "pass"]
    ]
    drawn = sum(parts) / 20_000 / (means[0] * means[1] / sum(means))
    assert even(rate, 0.01, share=share, ready=ready).counted(way) == pytest.approx(drawn, abs=0.02)


def test_counted__no_load_rule_and_many_requests__is_all_of_it() -> None:
    assert even(1_000.0, 0.01).counted("pass") == pytest.approx(1, abs=0.001)


def test_counted__candidate_with_a_third_of_the_load__never_speaks_for_it() -> None:
    flow = even(200.0, 0.01, share=0.25, ready=(1, 1))
    assert flow.counted("pass") < 1e-6
    assert flow.counted("fail") == pytest.approx(1, abs=0.01)


def test_counted__arm_without_requests__is_nothing() -> None:
    assert even(8.0, 0.01, share=0.0).counted("fail") == 0


@pytest.mark.parametrize("seconds", [10.0, 60.0])
@pytest.mark.parametrize(("rate", "chance", "share"), [(2.0, 0.01, 0.25), (8.0, 0.01, 0.5), (1.0, 0.6, 0.1)])
def test_told__blocks_of_drawn_requests__are_told_as_often(
    rate: float, chance: float, share: float, seconds: float
) -> None:
    rng = np.random.default_rng(2)
    size, intervals = 4_000, int(seconds / SECONDS)
    variance = np.zeros(size)
    for _ in range(intervals):
        n_c, n_b = rng.poisson(rate * share * SECONDS, size), rng.poisson(rate * (1 - share) * SECONDS, size)
        e_c, e_b = rng.binomial(n_c, chance), rng.binomial(n_b, chance)
        both = (n_c > 0) & (n_b > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance += np.where(both, difference_score(n_c, e_c, n_b, e_b)[1], 0.0)
    told = even(rate, chance, share=share).told(seconds)
    assert told == pytest.approx(float(np.mean(variance > 0)), abs=0.03)


def test_told__nothing_ever_happens__never() -> None:
    assert even(50.0, 0.0).told(60.0) == 0
    assert even(50.0, 1.0).told(60.0) == 0


@pytest.mark.parametrize(
    ("rate", "share", "chance", "worse"),
    [(8.0, 0.5, 0.05, 1.0), (2.0, 0.5, 0.01, 1.0), (50.0, 0.25, 0.16, 1.0), (100.0, 0.05, 0.05, 2.0)],
)
@pytest.mark.parametrize("minutes", [1, 5, 30])
def test_caution__independent_requests__divides_as_the_gate_does_on_average(
    rate: float, share: float, chance: float, worse: float, minutes: int
) -> None:
    rng = np.random.default_rng(3)
    size = 400
    blocks = BlocksBatch(size)
    for _ in range(int((minutes * 60 + 5) / SECONDS)):  # in the middle of a short block
        n_c, n_b = rng.poisson(rate * share * SECONDS, size), rng.poisson(rate * (1 - share) * SECONDS, size)
        e_c, e_b = rng.binomial(n_c, chance * worse), rng.binomial(n_b, chance)
        blocks.update(SECONDS, *(values.astype(float) for values in (n_c, e_c, n_b, e_b)))
    flow = Flow(rate * share, rate * (1 - share), chance * worse, chance, SECONDS)
    told = Caution().after(flow, minutes * 60 + 5).factor
    assert told == pytest.approx(float(1 / np.mean(blocks.temper)), rel=0.15)


def test_caution__nothing_happens__stays_what_was_assumed() -> None:
    assert Caution().after(even(8.0, 0.0), 1e6).factor == Caution().factor == pytest.approx(4.66, abs=0.01)


def test_caution__ever_more_seen__comes_down_to_one() -> None:
    found = [Caution().after(even(8.0, 0.05), hours * 3600).factor for hours in (0, 0.1, 1, 10, 1_000)]
    assert sorted(found, reverse=True) == found
    assert found[-1] == pytest.approx(1, abs=0.02)


def test_pace__gate_that_is_not_tempered__takes_seconds_as_they_are() -> None:
    pace = EvidencePace(even(8.0, 0.05))
    assert (pace.worth(70.0), pace.seconds_for(70.0, 100.0), pace.seconds_for(70.0, 60.0)) == (
        70.0,
        70.0,
        None,
    )


def test_pace__worth__is_the_sum_of_what_each_second_is_divided_by() -> None:
    flow = even(8.0, 0.05)
    by_second = sum(1 / Caution().after(flow, second + 0.5).factor for second in range(3_600))
    assert EvidencePace(flow, Caution()).worth(3_600) == pytest.approx(by_second, rel=0.005)


@given(st.floats(0.5, 50), st.floats(0, 0.3), st.floats(1, 20_000), st.floats(0, 5_000))
@settings(max_examples=60, deadline=None)
def test_pace__seconds_for_what_seconds_are_worth__are_those_seconds(
    rate: float, chance: float, seconds: float, seen: float
) -> None:
    flow = even(rate, chance)
    pace = EvidencePace(flow, Caution().after(flow, seen))
    # Half a second is a tenth of an interval: no forecast tells less than that.
    assert pace.seconds_for(pace.worth(seconds), 1e9) == pytest.approx(seconds, rel=0.02, abs=0.5)


def test_pace__more_than_there_is_time_for__is_none() -> None:
    assert EvidencePace(even(8.0, 0.0), Caution()).seconds_for(100.0, 400.0) is None
