"""The promises of docs/statistics.md at smoke size: seeded simulations through the product's own code."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.gates.rules import ours
from benchmarks.gates.tables import late, pairs
from benchmarks.gates.tables.late import late_run
from benchmarks.gates.tables.latency import load_rollout, slo_run
from benchmarks.gates.tables.pairs import pairs_run
from benchmarks.gates.traffic import MINUTE, Errors, draw_errors


def most_false(runs: int, alpha: float = 0.05) -> float:
    return alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize("incident", [False, True])
def test_rollout__unchanged__is_rolled_back_at_most_alpha(incident: bool) -> None:
    runs = 600
    found = ours(draw_errors(Errors(incident=incident), runs, np.random.default_rng(1)))
    assert np.mean(np.isfinite(found)) <= most_false(runs)


def test_rollout__exactly_at_a_tolerant_limit__fails_at_most_alpha() -> None:
    runs = 400
    found = ours(draw_errors(Errors(delta=0.01), runs, np.random.default_rng(2)), delta=0.01)
    assert np.mean(np.isfinite(found)) <= most_false(runs)


@pytest.mark.parametrize(("ratio", "design"), [(1.5, 33), (2.0, 15.8), (3.0, 6.4), (5.0, 2.4), (10.0, 0.9)])
def test_rollout__errors_multiplied__rolled_back_about_as_fast_as_designed(
    ratio: float, design: float
) -> None:
    counts = draw_errors(Errors(ratio=ratio), 250, np.random.default_rng(3))
    minutes = np.minimum(ours(counts) / MINUTE, 60)
    error = minutes.std() / math.sqrt(len(minutes))
    assert minutes.mean() <= 1.1 * design + 3 * error


def test_rollout__burst_after_a_healthy_hour__found_within_two_and_a_half_times_the_time_from_the_start() -> (
    None
):
    found = late_run(
        runs=150,
        rng=np.random.default_rng(4),
        minutes=(0, 60),
        bursts={10.0: 200},
        places=(3, 20, 40),
    )
    early, after = (late.delays(found, minutes, 10.0, late.OURS).mean() for minutes in (0, 60))
    assert after <= 2.5 * early


def test_latency__identical_engines__not_rolled_back_and_slow_ones_are() -> None:
    rng = np.random.default_rng(5)
    same = slo_run(runs=200, rng=rng, slowdown=1.0)["Headgate, tolerant x1.25"]
    slow = slo_run(runs=100, rng=rng, slowdown=1.5)["Headgate, tolerant x1.25"]
    assert np.mean(np.isfinite(same)) <= most_false(200, 0.004)
    assert slow.mean() <= 5.4 * 1.1


@pytest.mark.parametrize("slowdown", [1.25, 1.5, 2.0])
def test_load__one_replica_an_arm__a_slower_candidate_never_passes_before_it_fails(slowdown: float) -> None:
    rng = np.random.default_rng(6)
    outcomes = [load_rollout(slowdown, rng) for _ in range(8)]
    assert not any(passed for _, passed in outcomes)
    assert all(failed for failed, _ in outcomes)


def test_load__every_interval_counted__would_pass_a_slower_candidate() -> None:
    rng = np.random.default_rng(6)
    assert any(load_rollout(1.5, rng, directional=False)[1] for _ in range(4))


def test_load__identical_engines__never_fail() -> None:
    rng = np.random.default_rng(7)
    assert not any(failed for failed, _ in (load_rollout(1.0, rng, per_step=40) for _ in range(8)))


def test_pairs__no_drop__fail_at_most_alpha() -> None:
    runs = 200
    for graded in (True, False):
        found = pairs_run(runs=runs, rng=np.random.default_rng(8), drop=0.0, graded=graded, most=300)
        assert np.mean(np.isfinite(found[pairs.OURS])) <= most_false(runs)


@pytest.mark.parametrize(("graded", "design", "most"), [(True, 55, 200), (False, 197, 700)])
def test_pairs__drop_of_a_tenth__found_about_as_fast_as_designed(
    graded: bool, design: float, most: int
) -> None:
    runs = 400
    found = pairs_run(runs=runs, rng=np.random.default_rng(9), drop=0.1, graded=graded, most=most)
    low = np.sort(found[pairs.OURS])[runs // 2 - math.ceil(1.5 * math.sqrt(runs))]  # median - 3 errors
    assert low <= 1.1 * design


def test_domain__imported_alone__pulls_in_no_django() -> None:
    code = (
        "import sys, pkgutil, importlib, rollouts.domain as d\n"
        "for m in pkgutil.walk_packages(d.__path__, 'rollouts.domain.'): importlib.import_module(m.name)\n"
        "bad = sorted(m for m in sys.modules if m.split('.')[0] in ('django', 'rest_framework', 'celery', 'httpx'))\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
