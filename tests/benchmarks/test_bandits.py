from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.gates.bandit_play import ANSWERS, PEERS, World, our_run, peer_run
from benchmarks.gates.bandits import BANDITS
from benchmarks.gates.report import Table
from benchmarks.gates.running import Progress, Size, run_cells
from rollouts.domain.bandits import BanditSpec

CLEAR = World(rewards=(0.5, 0.9), minutes=360, step=6)
SOON = BanditSpec(burn_in=50, reweight_seconds=360.0)


def test_our_run__clear_difference__decides_for_the_best_and_stops_losing() -> None:
    found = our_run(runs=10, rng=np.random.default_rng(1), world=CLEAR, spec=SOON)
    assert found["winner"].tolist() == [1.0] * 10
    assert found["decided"].max() < 6
    assert found["regret"].max() < 0.4 * ANSWERS * 360 / 4


def test_our_run__late_rewards__decides_later() -> None:
    hours = []
    for late in (0, 60):
        world = replace(CLEAR, late=late)
        hours.append(our_run(runs=20, rng=np.random.default_rng(1), world=world, spec=SOON)["decided"].mean())
    assert hours[1] >= hours[0] + 0.9


def test_our_run__arm_that_fails_five_times_as_often__dropped_and_never_the_winner() -> None:
    world = World(rewards=(0.7, 0.7, 0.9), minutes=720, step=6, errors=(0.01, 0.01, 0.05))
    found = our_run(runs=10, rng=np.random.default_rng(2), world=world, spec=BanditSpec(burn_in=500))
    assert np.isfinite(found["dropped"]).all()
    assert not (found["winner"] == 2).any()


def test_peer_run__fixed_split__loses_the_mean_gap_all_day() -> None:
    found = peer_run(runs=20, rng=np.random.default_rng(1), world=CLEAR, rule="fixed split")
    assert found["regret"].mean() == pytest.approx(0.2 * ANSWERS * 360, rel=0.03)


@pytest.mark.parametrize("rule", [name for name in PEERS if name != "fixed split"])
def test_peer_run__every_adaptive_rule__loses_less_than_a_fixed_split(rule: str) -> None:
    world = World(rewards=(0.5, 0.9), minutes=720, step=6)
    found = peer_run(runs=3, rng=np.random.default_rng(1), world=world, rule=rule)
    assert found["regret"].mean() < 0.8 * 0.2 * ANSWERS * 720
    assert not found["wrong"].any()


@pytest.mark.parametrize(
    "table", [table for table in BANDITS if table.key != "bandits"], ids=lambda table: table.key
)
def test_tables__tiny__every_row_has_its_figures(table: Table) -> None:
    cells = table.cells(Size("tiny"))
    results = run_cells({table.key: cells}, seed=1, workers=0, progress=Progress())
    for grid in table.render(results[table.key]):
        assert grid.rows
        assert all(len(row) == len(grid.head) for row in grid.rows)
