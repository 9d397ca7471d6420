"""Regressions that come late: seconds to roll back over the rollout's age."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from benchmarks.gates.report import Grid, Table, mean, mean_of
from benchmarks.gates.rules import ALPHA, THRESHOLD, due
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import BASE, Array
from rollouts.domain.gates.batch import EvidenceBatch, ProportionBatch
from rollouts.domain.gates.latency import difference_score

PER_SECOND = 20  # requests, half of them on the candidate
MINUTES = (0, 5, 20, 60, 360, 720, 1440)
BURSTS = {10.0: 400, 3.0: 900}  # ratio -> seconds after which it counts as that long
PLACES = (3, 49, 101, 152, 203, 254)  # seconds after the full minutes: anywhere between two starts
OURS, SINGLE, NAIVE = "Headgate", "the same with a single start", "naive z every second"


@dataclass(slots=True)
class Looks:
    """Three rules on the same seconds: ours, ours with a single start, and a running z."""

    runs: int
    process: ProportionBatch = field(init=False)  # its own evidence is the single start
    spread: EvidenceBatch = field(init=False)
    score: Array = field(init=False)
    variance: Array = field(init=False)
    second: int = 0

    def __post_init__(self) -> None:
        self.process = ProportionBatch(self.runs)
        self.spread = EvidenceBatch(self.runs, self.process.evidence.alternatives, spread=True)
        self.score, self.variance = np.zeros(self.runs), np.zeros(self.runs)

    def see(self, ratio: float, rng: np.random.Generator) -> None:
        """One second in which the candidate makes `ratio` times the baseline's errors."""
        if due(self.second, 1):
            self.spread.start()
        n_c = rng.binomial(PER_SECOND, 0.5, self.runs).astype(float)
        n_b = PER_SECOND - n_c
        e_c = rng.binomial(n_c.astype(int), BASE * ratio).astype(float)
        e_b = rng.binomial(n_b.astype(int), BASE).astype(float)
        both = (n_c > 0) & (n_b > 0)
        self.spread.multiply(np.where(both, self.process.increments(n_c, e_c, n_b, e_b), 0.0))
        self.process.update(n_c, e_c, n_b, e_b)
        with np.errstate(invalid="ignore", divide="ignore"):
            score, variance = difference_score(n_c, e_c, n_b, e_b)
        self.score += np.where(both, score, 0.0)
        self.variance += np.where(both, variance, 0.0)
        self.second += 1

    def rolled_back(self) -> Mapping[str, np.typing.NDArray[np.bool_]]:
        z = self.score / np.sqrt(np.maximum(self.variance, 1e-12))
        enough = self.second * PER_SECOND / 2 >= 100
        return {
            OURS: self.spread.log_e >= THRESHOLD,
            SINGLE: self.process.log_e >= THRESHOLD,
            NAIVE: (z > stats.norm.isf(ALPHA)) & enough,
        }


def late_run(
    *,
    runs: int,
    rng: np.random.Generator,
    minutes: Sequence[int] = MINUTES,
    bursts: Mapping[float, int] = BURSTS,
    places: Sequence[int] = PLACES,
) -> Results:
    """Seconds from a burst's beginning to the rollback, per age, ratio and rule.

    One healthy rollout a run; at each place after each age it is copied and the copy has the burst. Shape
    (places, runs); NaN where the rule had already rolled the healthy rollout back.
    """
    looks = Looks(runs)
    gone = {name: np.zeros(runs, dtype=bool) for name in (OURS, SINGLE, NAIVE)}
    found: dict[str, list[Array]] = {}
    forks = {60 * age + (place if age else 0): age for age in minutes for place in (places if age else (0,))}
    for second in range(max(forks) + 1):
        if second in forks:
            for ratio, most in bursts.items():
                for name, delay in _burst(copy.deepcopy(looks), ratio, most, rng).items():
                    key = f"{forks[second]} x{ratio:g} {name}"
                    found.setdefault(key, []).append(np.where(gone[name], np.nan, delay))
        looks.see(1.0, rng)
        for name, back in looks.rolled_back().items():
            gone[name] |= back
    return {key: np.stack(delays) for key, delays in found.items()} | {
        f"healthy {name}": np.where(back, 1.0, np.inf) for name, back in gone.items()
    }


def _burst(looks: Looks, ratio: float, most: int, rng: np.random.Generator) -> Mapping[str, Array]:
    found = {name: np.full(looks.runs, np.inf) for name in (OURS, SINGLE, NAIVE)}
    for second in range(1, most + 1):
        looks.see(ratio, rng)
        for name, back in looks.rolled_back().items():
            found[name][back & np.isinf(found[name])] = second
        if all(np.isfinite(delay).all() for delay in found.values()):
            break
    return {name: np.minimum(delay, most) for name, delay in found.items()}


def delays(results: Results, minutes: int, ratio: float, rule: str) -> Array:
    """Per rollout the mean over the places of the burst; rollouts rolled back before are left out."""
    of_places = results[f"{minutes} x{ratio:g} {rule}"]
    kept = ~np.isnan(of_places).all(axis=0)
    return np.asarray(np.nanmean(of_places[:, kept], axis=0))


def _cells(size: Size) -> Sequence[Cell]:
    if size.whole:
        return [Cell("bursts", late_run, 400, chunk=200)]
    minutes = (0, 20, 60) if size.name == "smoke" else (0, 1)
    bursts = {10.0: 200, 3.0: 600} if size.name == "smoke" else {10.0: 60, 3.0: 60}
    settings = {"minutes": minutes, "bursts": bursts, "places": PLACES[:3]}
    return [Cell("bursts", late_run, size.runs(0, 100), settings)]


def ages(results: Results) -> list[int]:
    return sorted({int(key.split()[0]) for key in results if key[0].isdigit()})


def age_text(minutes: int) -> str:
    if not minutes:
        return "at the start"
    return f"after {minutes} min" if minutes < 60 else f"after {minutes // 60} h"


def _show(results: Mapping[str, Results]) -> Sequence[Grid]:
    of = results["bursts"]
    grids = []
    for ratio, aim in ((10.0, "aims: 11 s at the start, at most 2.5 times that after an hour"), (3.0, "")):
        rows = []
        for minutes in ages(of):
            ours = delays(of, minutes, ratio, OURS)
            times = mean_of(ours)[0] / mean_of(delays(of, 0, ratio, OURS))[0]
            rest = [mean(delays(of, minutes, ratio, rule)) for rule in (SINGLE, NAIVE)]
            rows.append([age_text(minutes), mean(ours), f"{times:.2f}", *rest])
        caption = f"Seconds to roll back errors x{ratio:g}{' (' + aim + ')' if aim else ''}"
        grids.append(Grid(["the burst begins", OURS, "times the start", SINGLE, NAIVE], rows, caption))
    return grids


LATE = Table(
    "late",
    "Late regressions",
    "20 requests a second, half of them on the candidate, 1 % errors, looked at every second; the burst begins "
    "anywhere between two starts, and the figures are means over that place. Rollouts rolled back before are "
    "left out. A delay is cut at 400 s (x10) or 900 s (x3).",
    "Healthy time eats evidence. With a single start a burst that is found in seconds at the start takes many "
    "minutes after some hours; with starts spread over the rollout's life the time grows slowly.",
    _cells,
    _show,
)
