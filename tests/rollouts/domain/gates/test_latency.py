from __future__ import annotations

import json

import numpy as np
import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.latency import (
    VLLM_DURATION_EDGES,
    VLLM_TTFT_EDGES,
    LatencyBlocks,
    directions_of,
    load_directions,
    require_edge,
    step_directions,
)
from tests.rollouts.domain.gates.helpers import arm, counted


def test_require_edge__an_edge__is_returned() -> None:
    assert require_edge(0.5, VLLM_TTFT_EDGES) == 0.5
    assert require_edge(2.5, VLLM_DURATION_EDGES) == 2.5


def test_require_edge__between_two_edges__names_both() -> None:
    with pytest.raises(InvalidInput) as refused:
        require_edge(0.3, VLLM_TTFT_EDGES, field="gates[1].slo_seconds")
    assert refused.value.field == "gates[1].slo_seconds"
    assert refused.value.extra == {"below": 0.25, "above": 0.5}
    assert "250 ms" in str(refused.value)
    assert "500 ms" in str(refused.value)


@pytest.mark.parametrize(
    ("slo", "extra"), [(0.0001, {"below": None, "above": 0.001}), (9999, {"below": 2560.0, "above": None})]
)
def test_require_edge__outside_all_edges__names_the_nearest(
    slo: float, extra: dict[str, float | None]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        require_edge(slo, VLLM_TTFT_EDGES)
    assert refused.value.extra == extra


def test_require_edge__no_histogram__says_so() -> None:
    with pytest.raises(InvalidInput) as refused:
        require_edge(0.5, ())
    assert refused.value.extra == {"below": None, "above": None}
    assert "no histogram" in refused.value.fix


@pytest.mark.parametrize(
    ("candidate", "baseline", "may_fail", "may_pass"),
    [
        (10.0, 10.0, True, True),
        (12.0, 10.0, True, True),
        (12.1, 10.0, False, True),
        (8.4, 10.0, True, True),
        (8.3, 10.0, True, False),
        (0.0, 10.0, True, False),
        (5.0, 0.0, False, True),
        (None, 10.0, False, False),
        (10.0, None, False, False),
    ],
)
def test_load_directions__ratio_of_loads__decides_what_may_count(
    candidate: float | None, baseline: float | None, may_fail: bool, may_pass: bool
) -> None:
    ways = load_directions(candidate, baseline)
    assert (ways.may_fail, ways.may_pass) == (may_fail, may_pass)
    assert bool(ways.reason) == (not (may_fail and may_pass))


def test_directions_of__more_replicas__share_the_load() -> None:
    assert directions_of(arm(10, ready=1), arm(90, ready=9)).reason == ""
    assert "loads differ" in directions_of(arm(10, ready=1), arm(90, ready=1)).reason
    assert not directions_of(arm(10, ready=0), arm(90, ready=1)).may_fail


def test_step_directions__one_replica_an_arm__only_an_even_split_can_pass() -> None:
    assert not step_directions(500, 1, 1).may_pass
    assert step_directions(5000, 1, 1).may_pass
    assert step_directions(500, 1, 19).may_pass


def test_latency_blocks__a_minute__feeds_the_dispersion_only_afterwards() -> None:
    blocks = LatencyBlocks()
    for _ in range(5):
        blocks = blocks.update(10, 100, 30, 100, 1)
    assert blocks.dispersion.last_z is None
    blocks = blocks.update(10, 100, 30, 100, 1)
    assert blocks.dispersion.last_z is not None
    assert blocks.seconds == 0.0
    assert LatencyBlocks.from_json(json.loads(json.dumps(blocks.to_json()))) == blocks


def test_latency_blocks__arms_that_swing_against_each_other__temper_the_evidence() -> None:
    steady, swinging = LatencyBlocks(), LatencyBlocks()
    for number in range(20):
        steady = steady.update(60, 100, 5, 100, 5)
        swinging = swinging.update(60, 100, 25 if number % 2 else 5, 100, 5 if number % 2 else 25)
    assert steady.temper == 1.0
    assert swinging.temper < 0.2


def test_directions_of__baselines_requests_answered_by_the_candidate__are_the_candidates_load() -> None:
    found = directions_of(counted(100), counted(100, fallback=30))
    assert (found.may_fail, found.may_pass) == (False, True)
    assert "1.9 times the load" in found.reason


def test_latency_blocks__requests_that_depend_on_each_other__are_noticed_within_the_first_minute() -> None:
    rng = np.random.default_rng(5)
    bursts, independent = LatencyBlocks(), LatencyBlocks()
    for _ in range(5):
        own = rng.binomial(100, rng.beta(0.5, 1.5, 2))  # each arm's own bad luck, for ten seconds
        bursts = bursts.update(10, 100, int(own[0]), 100, int(own[1]))
        by_chance = rng.binomial(100, 0.25, 2)
        independent = independent.update(10, 100, int(by_chance[0]), 100, int(by_chance[1]))
    assert bursts.dispersion.differences == 0  # no minute is over yet
    assert independent.factor < LatencyBlocks().factor < bursts.factor / 1.5


def test_latency_blocks__independent_requests__are_tempered_less_and_less() -> None:
    rng = np.random.default_rng(6)
    blocks, factors = LatencyBlocks(), []
    for _ in range(720):
        blocks = blocks.update(10, 100, int(rng.binomial(100, 0.1)), 100, int(rng.binomial(100, 0.1)))
        factors.append(blocks.factor)
    assert LatencyBlocks().factor == pytest.approx(4.66, abs=0.01)
    assert factors[29] < 3
    assert factors[-1] < 1.5


def test_latency_blocks__state_of_an_earlier_version__goes_on_as_it_was() -> None:
    blocks = LatencyBlocks(cautious=False)
    for number in range(30):
        blocks = blocks.update(10, 100, number % 7, 100, 3)
    assert sorted(blocks.to_json()) == ["dispersion", "score", "seconds", "variance"]
    read = LatencyBlocks.from_json(blocks.to_json())
    assert read == blocks
    assert read.factor == blocks.dispersion.factor
