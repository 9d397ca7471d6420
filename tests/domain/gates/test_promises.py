"""The promises of docs/statistics.md at smoke size: seeded simulations through the product's own code."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.gates_smoke import (
    Traffic,
    latency_rollout,
    load_rollout,
    minutes_to_rollback,
    pairs_to_fail,
    seconds_to_burst,
)


def most_false(runs: int, alpha: float = 0.05) -> float:
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize("incident", [False, True])
def test_rollout__unchanged__is_rolled_back_at_most_alpha(incident: bool) -> None:
    runs = 600
    found = minutes_to_rollback(Traffic(incident=incident), runs, np.random.default_rng(1))
    assert np.mean(np.isfinite(found)) <= most_false(runs)


def test_rollout__exactly_at_a_tolerant_limit__fails_at_most_alpha() -> None:
    runs = 400
    found = minutes_to_rollback(Traffic(ratio=2.0, delta=0.01, drift=False), runs, np.random.default_rng(2))
    assert np.mean(np.isfinite(found)) <= most_false(runs)


@pytest.mark.parametrize(("ratio", "design"), [(2.0, 15.8), (3.0, 6.4), (5.0, 2.4), (10.0, 0.9)])
def test_rollout__errors_multiplied__rolled_back_about_as_fast_as_designed(
    ratio: float, design: float
) -> None:
    minutes = np.minimum(minutes_to_rollback(Traffic(ratio=ratio), 250, np.random.default_rng(3)), 60)
    error = minutes.std() / math.sqrt(len(minutes))
    assert minutes.mean() <= 1.1 * design + 3 * error


def test_rollout__burst_after_a_healthy_hour__found_within_two_and_a_half_times_the_time_from_the_start() -> (
    None
):
    rng = np.random.default_rng(4)
    early, late = seconds_to_burst(0, 150, rng).mean(), seconds_to_burst(3600, 150, rng).mean()
    assert late <= 2.5 * early


def test_latency__identical_engines__not_rolled_back_and_slow_ones_are() -> None:
    rng = np.random.default_rng(5)
    same = [math.isfinite(latency_rollout(1.0, rng, intervals=180)[0]) for _ in range(15)]
    slow = [latency_rollout(1.5, rng) for _ in range(15)]
    assert sum(same) <= 2
    assert np.mean([minutes for minutes, _ in slow]) <= 5.4 * 1.1
    assert not any(passed for _, passed in slow)


@pytest.mark.parametrize("slowdown", [1.25, 1.5, 2.0])
def test_load__one_replica_an_arm__a_slower_candidate_never_passes_before_it_fails(slowdown: float) -> None:
    rng = np.random.default_rng(6)
    outcomes = [load_rollout(slowdown, rng) for _ in range(8)]
    assert not any(passed for _, passed in outcomes)
    assert all(failed for failed, _ in outcomes)


def test_load__identical_engines__never_fail() -> None:
    rng = np.random.default_rng(7)
    assert not any(failed for failed, _ in (load_rollout(1.0, rng, per_step=40) for _ in range(8)))


def test_pairs__no_drop__fail_at_most_alpha_and_a_graded_drop_is_found_fast() -> None:
    rng = np.random.default_rng(8)
    runs = 120
    false = [
        math.isfinite(pairs_to_fail(0.0, rng, graded=bool(number % 2), most=300)) for number in range(runs)
    ]
    assert np.mean(false) <= most_false(runs)
    graded = np.median([pairs_to_fail(0.1, rng, graded=True, most=1000) for _ in range(60)])
    binary = np.median([pairs_to_fail(0.1, rng, graded=False, most=2000) for _ in range(150)])
    assert graded <= 1.2 * 55
    assert graded < binary <= 1.3 * 197


def test_domain__imported_alone__pulls_in_no_django() -> None:
    code = (
        "import sys, pkgutil, importlib, rollouts.domain as d\n"
        "for m in pkgutil.walk_packages(d.__path__, 'rollouts.domain.'): importlib.import_module(m.name)\n"
        "bad = sorted(m for m in sys.modules if m.split('.')[0] in ('django', 'rest_framework', 'celery', 'httpx'))\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
