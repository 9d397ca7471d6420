"""The tables of the bandits: regret, decisions, ties, drift, the dial, bad arms, late rewards, many arms, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.gates.bandit_play import (
    ANSWERS,
    BURN_IN,
    PEERS,
    REWEIGHT,
    SCORED,
    World,
    our_run,
    peer_run,
)
from benchmarks.gates.report import Grid, Table, mean, median, rate, share
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import Array
from rollouts.domain.bandits.spec import BanditSpec

OURS = "Headgate"
MABWISER = "mabwiser, Thompson"
FOUR = World()
TIE = World(rewards=(0.70, 0.72, 0.78, 0.78))
DRIFT = World(drift=0.08)
WORLDS = {"four arms": FOUR, "tie": TIE, "drift": DRIFT}
BETAS = (0.3, 0.5, 0.7, 0.9)
AIMS = {
    "fixed split": ("2390", ".47", ".435", ".02"),
    "epsilon-greedy, 0.1": ("627", ".04", ".265", ".17"),
    "UCB1": ("1473", ".00", ".455", ".045"),
    "Thompson": ("400", ".01", ".485", ".11"),
    OURS: ("905", ".79", "<= .035", ".015"),
}
SETUP = (
    f"A day of {ANSWERS} answers a minute, {SCORED} of them scored (yes or no); every rule begins with {BURN_IN} "
    "scored answers of each arm at equal shares; then ours moves its shares every 12 minutes, the others every minute."
)


def _short(size: Size, world: World) -> World:
    """The world of that size: a whole day in minutes, a whole day in steps of six minutes, or forty minutes."""
    if size.name == "tiny":
        return replace(world, minutes=40)
    return replace(world, step=6) if size.name == "smoke" else world


def _spec(size: Size, **other: float) -> BanditSpec:
    burn_in = 20 if size.name == "tiny" else BURN_IN
    return BanditSpec(burn_in=burn_in, reweight_seconds=REWEIGHT, **other)  # type: ignore[arg-type]


def _ours(size: Size, name: str, world: World, runs: int, **spec: float) -> Cell:
    settings = {"world": _short(size, world), "spec": _spec(size, **spec)}
    return Cell(name, our_run, runs, settings, chunk=250)


def _comparison(size: Size) -> Sequence[Cell]:
    cells = []
    for place, world in WORLDS.items():
        cells.append(_ours(size, f"{OURS}, {place}", world, size.runs(2_000, 40)))
        for rule in PEERS:
            runs = size.runs(60, 2, 2) if rule == MABWISER else size.runs(1_000, 40)
            settings = {"world": _short(size, world), "rule": rule}
            cells.append(
                Cell(f"{rule}, {place}", peer_run, runs, settings, chunk=20 if rule == MABWISER else 250)
            )
    return cells


def _show_comparison(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = []
    for rule in (*PEERS, OURS):
        four, tie, drift = (results[f"{rule}, {place}"] for place in WORLDS)
        row = [mean(four["regret"]), rate(four["decided"]), rate(tie["named"]), share(drift["wrong"])]
        rows.append([rule, *row])
        if rule in AIMS:
            rows.append(["*aim*", *(f"*{aim}*" for aim in AIMS[rule])])
    head = ["rule", "regret", "decided", "false winner on a tie", "wrong arm under drift"]
    return [Grid(head, rows)]


COMPARISON = Table(
    "bandits",
    "Bandits: regret, decisions, false winners",
    f"{SETUP} Four arms earn .70 (the baseline), .72, .75 and .78; on the tie .70, .72, .78 and .78; the drift is a "
    "level that all arms share, an AR(1) of standard deviation .08 and time constant 100 minutes. *Regret* is the "
    "reward lost over all answers of the day (a decision moves all traffic to the winner). *Decided* for peers: our "
    "elimination evidence, fed with their data, would leave one arm. *False winner*: ours decided; the peers' P(best) "
    "exceeded 95 % at a look (every 10 minutes). *Wrong*: the arm with the best mean at the end (ours: the winner or "
    "best P(best)) is not the best.",
    "A bandit that only chases reward never decides, and who stops it on P(best) names a false winner in every "
    "second tie; means pooled over a day of drift point to the wrong arm.",
    _comparison,
    _show_comparison,
)


def _dial(size: Size) -> Sequence[Cell]:
    runs = size.runs(600, 40)
    cells = [_ours(size, f"{beta:g}", FOUR, runs, beta=beta) for beta in BETAS]
    return [*cells, *(_ours(size, f"{beta:g}, tie", TIE, runs, beta=beta) for beta in BETAS)]


def _show_dial(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = [
        [
            f"{beta:g}",
            mean(results[f"{beta:g}"]["regret"]),
            rate(results[f"{beta:g}"]["decided"]),
            median(results[f"{beta:g}"]["decided"]),
            rate(results[f"{beta:g}, tie"]["named"]),
        ]
        for beta in BETAS
    ]
    rows.append(["*aim*", "*1164 / 974 / 824 / 650*", "*.81 / .75 / .71 / .57*", "", "*<= .10*"])
    return [Grid(["beta", "regret", "decided", "median hours to decide", "false winner on a tie"], rows)]


DIAL = Table(
    "bandit-dial",
    "The bandit's dial: regret against decisions",
    f"{SETUP} The four arms and the tie of the table above.",
    "beta is the part of the traffic for the arm that looks best; the rest goes to its rivals and decides.",
    _dial,
    _show_dial,
)

BAD = World(rewards=(0.70, 0.72, 0.75, 0.80), errors=(0.01, 0.01, 0.01, 0.05))
FINE = replace(BAD, errors=(0.01, 0.01, 0.01, 0.01))


def _guarded(size: Size) -> Sequence[Cell]:
    runs = size.runs(600, 40)
    return [
        _ours(size, "the best arm fails five times as often", BAD, runs),
        _ours(size, "all fail alike", FINE, runs),
    ]


def _show_guarded(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = [
        [
            name,
            share((found["winner"] == len(BAD.rewards) - 1).astype(float)),
            rate(found["dropped"]),
            median(found["dropped"] * 60),
            rate(found["decided"]),
        ]
        for name, found in results.items()
    ]
    return [
        Grid(
            [
                "",
                "that arm won",
                "dropped by its guardrail",
                "median minutes to that",
                "any winner within the day",
            ],
            rows,
        )
    ]


GUARDED = Table(
    "bandit-guardrail",
    "A bandit's bad arm",
    f"{SETUP} The arms earn .70, .72, .75 and .80; each candidate has a strict error gate (limit +1 pp) at alpha / 3; "
    "1 % of requests fail, and in the first row 5 % of the arm that earns most.",
    "Reward alone would crown the arm that fails: its guardrail takes it out, and never a harmless one beyond alpha.",
    _guarded,
    _show_guarded,
)


def _late(size: Size) -> Sequence[Cell]:
    runs = size.runs(600, 40)
    cells = [_ours(size, f"{late} min", replace(FOUR, late=late), runs) for late in (0, 15, 60, 180)]
    ties = [_ours(size, f"{late} min, tie", replace(TIE, late=late), runs) for late in (60,)]
    return [*cells, *ties]


def _show_plain(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = [
        [
            name,
            mean(found["regret"]),
            rate(found["decided"]),
            median(found["decided"]),
            share(_false(name, found)),
        ]
        for name, found in results.items()
    ]
    return [Grid(["", "regret", "decided", "median hours to decide", "decided wrongly"], rows)]


def _false(name: str, found: Results) -> Array:
    """1 where the decision was false: for an arm that is not the best, and any decision between equal ones."""
    decided = np.isfinite(found["decided"])
    return (decided & ((found["wrong"] > 0) | ("tie" in name) | ("equal" in name))).astype(float)


LATE = Table(
    "bandit-late",
    "Bandits with late rewards",
    f"{SETUP} Scores come so much later than their answers and are booked to the minute of assignment.",
    "Late rewards cost regret and time, never validity.",
    _late,
    _show_plain,
)
MANY = {
    2: (0.70, 0.78),
    3: (0.70, 0.75, 0.78),
    4: (0.70, 0.72, 0.75, 0.78),
    5: (0.70, 0.70, 0.72, 0.75, 0.78),
    6: (0.70, 0.70, 0.70, 0.72, 0.75, 0.78),
}


def _many(size: Size) -> Sequence[Cell]:
    runs = size.runs(600, 40)
    cells = [_ours(size, f"{arms} arms", World(rewards=rewards), runs) for arms, rewards in MANY.items()]
    for arms in (2, 3, 6):
        cells.append(_ours(size, f"{arms} equal arms", World(rewards=(0.75,) * arms), runs))
    return cells


ARMS = Table(
    "bandit-arms",
    "Bandits of two to six arms",
    f"{SETUP} The best arm earns .78, the second .75 (.70 of two), the others .72 and .70. With equal arms every "
    "decision is a false one.",
    "More arms take longer; equal arms are decided at most one time in ten (2 alpha).",
    _many,
    _show_plain,
)


def _intervals(size: Size) -> Sequence[Cell]:
    runs = size.runs(600, 40)
    return [
        _ours(size, "no drift", FOUR, runs),
        _ours(size, "drift", DRIFT, runs),
        _ours(size, "strong drift", World(drift=0.12), runs),
    ]


def _show_intervals(results: Mapping[str, Results]) -> Sequence[Grid]:
    grids = []
    for title, prefix in (
        ("the IPW interval, at any look of the day", "missed"),
        ("pooled mean ± 1.96 standard errors, at the last look alone", "pooled missed"),
    ):
        rows = [
            [name, *(share(found[f"{prefix} {arm}"]) for arm in range(FOUR.arms))]
            for name, found in results.items()
        ]
        grids.append(Grid([title, *(f"arm {reward:g}" for reward in FOUR.rewards)], rows))
    return grids


INTERVALS = Table(
    "bandit-intervals",
    "Rewards in reports: does the interval hold the truth?",
    f"{SETUP} The truth is what an arm would have earned on average over all answers so far, while it gets any; a "
    "look every 10 minutes.",
    "Shares that follow the rewards bias pooled means under drift; the weighted (IPW) intervals miss at most the 5 % "
    "they may, looked at all day.",
    _intervals,
    _show_intervals,
)

BANDITS: tuple[Table, ...] = (COMPARISON, DIAL, GUARDED, LATE, ARMS, INTERVALS)
