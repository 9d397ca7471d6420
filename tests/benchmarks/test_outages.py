"""What the simulated outages say, on a handful of rollouts."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gates.tables.outages import EVERYTHING, RULE, Trouble, dead_run, limit_run, trouble_of
from benchmarks.gates.tables.outcomes import BEFORE, EQUAL, NOW, WEIGHTS
from rollouts.domain.gates.templates import DEFAULT_GATES


def test_dead_run__a_dead_baseline__proves_nothing_with_the_rule_and_everything_without() -> None:
    found = dead_run(runs=6, rng=np.random.default_rng(1), failing=0.2, before=0, after=30)
    assert found[f"{RULE}, odds"].tolist() == [0.0] * 6
    assert found[f"{EVERYTHING}, odds"].min() > 50
    assert np.isfinite(found[f"{EVERYTHING}, pass first"]).all()
    assert np.isinf(found[f"{RULE}, pass first"]).all()
    assert found[f"{RULE}, fail"].max() <= 0.5  # minutes after the outage


@pytest.mark.parametrize(
    ("how", "low", "high"), [("random", 0.02, 0.3), ("hovering", 0.18, 0.24), ("flapping", 0.4, 0.5)]
)
def test_trouble_of__each_kind__fails_as_often_as_it_says(how: str, low: float, high: float) -> None:
    rates = trouble_of(Trouble(how), 200, 120, np.random.default_rng(2))
    assert rates.shape == (120, 200)
    assert low < rates.mean() < high


def test_limit_run__flapping_baseline__is_left_out_altogether() -> None:
    what = Trouble("flapping", follows=False)
    found = limit_run(runs=5, rng=np.random.default_rng(3), what=what, intervals=12)
    assert found["left out"].min() > 0.9
    assert np.isinf(found[RULE]).all()


def test_weights__every_set__sums_to_one_and_before_leaves_the_new_gates_out() -> None:
    for weights in WEIGHTS.values():
        assert sum(weights) == pytest.approx(1)
    new = [place for place, gate in enumerate(DEFAULT_GATES) if gate.kind in ("refused", "abandoned")]
    assert [WEIGHTS[BEFORE][place] for place in new] == [0, 0]
    assert WEIGHTS[NOW] == pytest.approx([gate.weight for gate in DEFAULT_GATES])
    assert len(set(WEIGHTS[EQUAL])) == 1
