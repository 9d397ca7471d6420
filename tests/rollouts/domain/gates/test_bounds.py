from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from rollouts.domain.gates.bounds import ChangeBounds, ChangeMeasure


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize("measure", ["difference", "ratio", "share"])
@pytest.mark.parametrize(("n_c", "n_b"), [(3, 3), (1, 5), (5, 1)])
def test_change_bounds__truth_at_a_node__no_wealth_is_expected_to_grow(
    measure: ChangeMeasure, n_c: int, n_b: int
) -> None:
    empty = ChangeBounds.empty(measure)
    tables = {
        (e_c, e_b): empty.update(n_c, e_c, n_b, e_b)
        for e_c, e_b in itertools.product(range(n_c + 1), range(n_b + 1))
    }
    checked = 0
    for side in ("lower", "upper"):
        nodes = getattr(empty, side).nodes
        for (left, node), part in itertools.product(enumerate(nodes[:-1]), (0.0, 0.3, 0.45, 0.5, 0.52, 0.7)):
            place = node + part * (nodes[left + 1] - node)  # between nodes the chord stands for the wealth
            change = place if side == "lower" else -place
            if measure == "ratio" and side == "lower":
                change = -1 / place
            for p_b, bet in itertools.product(
                (0.0, 0.02, 0.1, 0.4, 0.9), range(len(getattr(empty, side).logs))
            ):
                p_c = {"difference": p_b + change, "ratio": p_b * change, "share": change}[measure]
                if not 0 <= p_c <= 1:
                    continue
                chance_c, chance_b = binomial(n_c, p_c), binomial(n_b, p_b)
                expected = 0.0
                for (c, b), bounds in tables.items():
                    row = getattr(bounds, side).logs[bet]
                    expected += (
                        chance_c[c] * chance_b[b] * math.exp((1 - part) * row[left] + part * row[left + 1])
                    )
                assert expected <= 1 + 1e-9
                checked += 1
    assert checked > 10


@pytest.mark.parametrize(
    ("measure", "p_b", "p_c", "truth"),
    [
        ("difference", 0.01, 0.03, 0.02),
        ("ratio", 0.02, 0.02, 1.0),
        ("ratio", 0.01, 0.03, 3.0),
        ("share", 0.0, 0.02, 0.02),
    ],
)
def test_change_bounds__looked_at_all_the_time__covers_the_truth_and_narrows(
    measure: ChangeMeasure, p_b: float, p_c: float, truth: float
) -> None:
    rng = np.random.default_rng(11)
    missed, runs, widths = 0, 40, []
    for _ in range(runs):
        bounds, drift, out = ChangeBounds.empty(measure), 0.0, False
        for number in range(100):
            drift = 0.95 * drift + rng.normal(0, 0.1) if measure == "ratio" else 0.0  # shared by both arms
            n_c = int(rng.binomial(200, (0.05, 0.1, 0.25, 0.5)[number // 25]))
            factor = math.exp(drift)
            e_c, e_b = int(rng.binomial(n_c, p_c * factor)), int(rng.binomial(200 - n_c, p_b * factor))
            bounds = bounds.update(n_c, e_c, 200 - n_c, e_b)
            if number % 5 == 4:
                low, high = bounds.interval(0.05)
                out = out or (low is not None and low > truth) or (high is not None and high < truth)
        missed += out
        assert low is not None
        assert high is not None
        widths.append(high - low)
    assert missed / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert np.median(widths) < {"difference": 0.03, "ratio": 3.5, "share": 0.03}[measure]


def test_change_bounds__scores__cover_the_mean_drop() -> None:
    rng = np.random.default_rng(12)
    bounds = ChangeBounds.empty("score")
    for _ in range(400):
        bounds = bounds.update_score(float(rng.random() < 0.6) - float(rng.random() < 0.8))
    low, high = bounds.interval(0.05)
    assert low is not None
    assert high is not None
    assert -0.4 < low < -0.2 < high < 0.0


def test_change_bounds__nothing_seen__is_open_on_both_sides() -> None:
    assert ChangeBounds.empty("ratio").interval(0.05) == (None, None)


def test_change_bounds__one_way_interval__moves_only_that_side() -> None:
    bounds = ChangeBounds.empty("difference")
    for _ in range(50):
        bounds = bounds.update(100, 20, 100, 1, upper=False)
    low, high = bounds.interval(0.05)
    assert low is not None
    assert low > 0.1
    assert high is None


@pytest.mark.parametrize("measure", ["difference", "ratio", "share", "score"])
def test_change_bounds__json__round_trip_is_exact(measure: ChangeMeasure) -> None:
    bounds = ChangeBounds.empty(measure)
    bounds = bounds.update_score(0.3) if measure == "score" else bounds.update(10**9, 10**9, 10**9, 0)
    text = json.dumps(bounds.to_json(), allow_nan=False)
    assert ChangeBounds.from_json(json.loads(text)) == bounds
