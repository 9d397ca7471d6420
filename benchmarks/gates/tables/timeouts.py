"""Clients that leave: false rollbacks on a loaded engine, and a candidate that is slow only for those who left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.gates.engine import HALF, MOVES, RAMP, Load, play
from benchmarks.gates.report import Grid, Table, mean, rate
from benchmarks.gates.rules import THRESHOLD, due
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import HOUR, SECONDS, Array
from benchmarks.gates.whole import Firsts
from rollouts.domain.gates.batch import ProportionBatch
from rollouts.domain.gates.batch_family import ArmBatch, FamilyBatch
from rollouts.domain.gates.policy import GatePolicy, GateSpec

COUNTED: Sequence[Mapping[str, object]] = (
    {"key": "errors", "kind": "error_rate", "delta": 0.01},
    {"key": "refused", "kind": "refused", "delta": 0.01},
    {"key": "abandoned", "kind": "abandoned", "delta": 0.02},
    {"key": "ttft", "kind": "latency_slo", "signal": "ttft", "slo_seconds": 0.5, "ratio": 1.25},
)
DURATION = {"key": "duration", "kind": "latency_slo", "signal": "duration", "slo_seconds": 5.0, "ratio": 1.25}
LONG = {"key": "ttft-long", "kind": "latency_slo", "signal": "ttft", "slo_seconds": 2.5, "delta": 0.01}


def policy_of(*gates: Mapping[str, object]) -> GatePolicy:
    """These gates in equal parts."""
    return GatePolicy.from_json(
        {"name": "loaded", "version": 1, "gates": list(gates), "baseline_outage_share": 0.2}
    )


LOADED = policy_of(*COUNTED, DURATION)
HANGING = policy_of(*COUNTED, LONG)
BEFORE = policy_of(COUNTED[0], COUNTED[3], LONG)


def timed_gates(policy: GatePolicy) -> Mapping[str, GateSpec]:
    return {gate.key: gate for gate in policy.gates if gate.kind == "latency_slo"}


def without_outcomes(arm: ArmBatch) -> ArmBatch:
    """What was counted before every request had an outcome: who left is in none of it."""
    nobody = np.zeros(len(arm.arrived))
    timed = {key: replace(one, left=nobody, left_over=nobody) for key, one in arm.timed.items()}
    return replace(arm, refused=None, abandoned=None, timed=timed)


def loaded_run(*, runs: int, rng: np.random.Generator, load: Load, intervals: int, passing: bool) -> Results:
    """Minutes until the policy rolls back; 1 under "cause KEY" for the gate to blame; whether the gate on the time to
    first token passed before that."""
    batch, firsts = FamilyBatch(LOADED, runs, passing=passing), Firsts(runs)
    passed = np.zeros(runs, dtype=bool)
    ttft = [gate.key for gate in LOADED.gates].index("ttft")
    for index, (share_bp, baseline, candidate) in enumerate(
        play(load, timed_gates(LOADED), intervals, runs, rng)
    ):
        batch.update(SECONDS, share_bp, baseline, candidate)
        firsts.note("minutes", batch.crossed >= 0, index)
        firsts.note("kill", batch.killed, index)
        passed |= batch.passes(ttft) & (batch.crossed < 0)
        if passing and (batch.crossed >= 0).all():
            break
    causes = {
        f"cause {gate.key}": (batch.crossed == place).astype(float) for place, gate in enumerate(LOADED.gates)
    }
    return {**firsts.minutes, **causes, "pass first": passed.astype(float)}


SHORT = {"first": 1.0, "whole": 10.0}
PATIENT = {"first": 10.0, "whole": 20.0}
LOADS = {
    "50 %, clients wait 1 s": Load(HALF, **SHORT),
    "50 %, clients wait 10 s": Load(HALF, **PATIENT),
    "5, 25, 50 %, clients wait 1 s": Load(RAMP, speed=22.5, **SHORT),
    "5, 25, 50 %, clients wait 10 s": Load(RAMP, speed=22.5, **PATIENT),
    "50 and 10 % in turn, clients wait 1 s": Load(MOVES, speed=22.5, **SHORT),
    "50 and 10 % in turn, clients wait 10 s": Load(MOVES, speed=22.5, **PATIENT),
}
SLOWER = (1.25, 1.5)


def _loaded(size: Size) -> Sequence[Cell]:
    intervals, runs = size.pick(HOUR, HOUR // 4, 4), size.runs(800, 20)
    cells = [
        Cell(
            f"x1 {name}",
            loaded_run,
            runs,
            {"load": load, "intervals": intervals, "passing": False},
            chunk=400,
        )
        for name, load in LOADS.items()
    ]
    slow = [(name, load, by) for name, load in LOADS.items() if load.shares != MOVES for by in SLOWER]
    if not size.whole:
        slow = slow[1:2]
    for name, load, by in slow:
        settings = {"load": replace(load, slower=by), "intervals": intervals, "passing": True}
        cells.append(Cell(f"x{by:g} {name}", loaded_run, size.runs(200, 10), settings, chunk=100))
    return cells


def _causes(found: Results) -> str:
    shares = {
        name.removeprefix("cause "): float(values.mean())
        for name, values in found.items()
        if name.startswith("cause ") and values.any()
    }
    return (
        ", ".join(f"{key} {part:.1%}" for key, part in sorted(shares.items(), key=lambda item: -item[1]))
        or "-"
    )


def _show_loaded(results: Mapping[str, Results]) -> Sequence[Grid]:
    false, slow = [], []
    for cell, found in results.items():
        by, name = cell.split(" ", 1)
        if by == "x1":
            false.append([name, rate(found["minutes"]), _causes(found), rate(found["kill"])])
        else:
            first = np.where(found["pass first"] > 0, 1.0, np.inf)
            slow.append(
                [
                    f"{by}, {name}",
                    rate(found["minutes"]),
                    mean(found["minutes"], 60),
                    _causes(found),
                    rate(first),
                ]
            )
    grids = [
        Grid(["A/A rolled back", "aim: at most .05", "by which gate", "fast kill"], false, "Nothing changed")
    ]
    if slow:
        head = [
            "the candidate's engine needs so many times the work",
            "FAIL",
            "minutes, 60 = never",
            "by which gate",
        ]
        grids.append(
            Grid([*head, "PASS of the first token's gate before FAIL (aim: 0)"], slow, "A slower engine")
        )
    return grids


LOADED_TABLE = Table(
    "timeouts",
    "Clients with time-outs on a loaded engine",
    "Every request through a queue: 20 requests a second whose number swings in both arms together, one "
    "replica an arm that "
    "makes 12 first tokens a second (half of the traffic each, so it is 83 % busy and at times more than "
    "it can do) or 22.5 "
    "(ramp and moving shares, 84 % at 95 % of the traffic); answers take 2 s more on average. Clients "
    "leave after 1 or 10 s "
    "without a first token, or 10 or 20 s without the whole answer. In turn: the share moves every minute, as a bandit "
    "might. Five gates of equal weight: errors, refused, abandoned (+2 pp), first token over 500 ms and "
    "answer over 5 s "
    "(x1.25).",
    "Requests that queue depend on each other: who waits is among others who wait. Counts over the SLO "
    "then vary 15 to 90 "
    "times as much as independent ones would. The factor that the evidence is divided by is measured "
    "from the first ten "
    "seconds on, with caution; what it cannot see in time is an engine that is overloaded for minutes.",
    _loaded,
    _show_loaded,
)


def longer_run(*, runs: int, rng: np.random.Generator, load: Load, intervals: int) -> Results:
    """Minutes until refusals and errors, alike in both arms, roll back: by arrivals, as the product counts, and by what
    had ended."""
    kinds = {"refused": COUNTED[1], "errors": COUNTED[0]}
    batches = {key: FamilyBatch(policy_of(gate), runs, passing=False) for key, gate in kinds.items()}
    ends = {key: ProportionBatch(runs, spread=True) for key in kinds}
    firsts = Firsts(runs)
    for index, (share_bp, baseline, candidate) in enumerate(play(load, {}, intervals, runs, rng)):
        for key, batch in batches.items():
            batch.update(SECONDS, share_bp, baseline, candidate)
            firsts.note(f"{key}, by arrivals", batch.crossed >= 0, index)
            if due(index):
                ends[key].start_again()
            (n_c, e_c), (n_b, e_b) = (_by_ends(arm, key) for arm in (candidate, baseline))
            ends[key].update(n_c, e_c, n_b, e_b)
            firsts.note(f"{key}, by ends", ends[key].log_e >= THRESHOLD, index)
    return firsts.minutes


def _by_ends(arm: ArmBatch, key: str) -> tuple[Array, Array]:
    """(requests that ended, of those the refused or failed ones)."""
    assert arm.refused is not None
    assert arm.abandoned is not None
    return arm.requests + arm.abandoned, arm.refused if key == "refused" else arm.errors


EASY = {"speed": 22.5, "wave": 0.15}
LONGER = {
    "50 %, 5 % refused and 5 % failed, answers 2 and 10 s": Load(
        HALF, longer=5.0, refused=0.05, failed=0.05, **EASY
    ),
    "50 %, the same, answers 12 and 60 s": Load(
        HALF, answer=12.0, longer=5.0, refused=0.05, failed=0.05, **EASY
    ),
    "50 and 10 % in turn, answers 12 and 60 s": Load(
        MOVES, answer=12.0, longer=5.0, refused=0.05, failed=0.05, **EASY
    ),
}


def _longer(size: Size) -> Sequence[Cell]:
    intervals = size.pick(HOUR, HOUR // 4, 4)
    return [
        Cell(name, longer_run, size.runs(800, 20), {"load": load, "intervals": intervals}, chunk=200)
        for name, load in LONGER.items()
    ]


def _show_longer(results: Mapping[str, Results]) -> Sequence[Grid]:
    names = ("refused, by arrivals", "errors, by arrivals", "refused, by ends", "errors, by ends")
    rows = [[cell, *(rate(found[name]) for name in names)] for cell, found in results.items()]
    return [Grid(["rolled back although both arms refuse and fail alike", *names], rows)]


LONGER_TABLE = Table(
    "longer",
    "Answers that take longer",
    "As above, an engine that is not loaded and clients that wait; the candidate's answers take five times as long, "
    "refusals and failures come at once and are as frequent in both arms. One gate, strict.",
    "Refusals and failures are mostly quick, answers are not. Counted among the requests that have "
    "*ended*, an arm with "
    "longer answers seems full of them whenever its traffic begins or grows; counted among those that "
    "*arrived* it does "
    "not. The product counts by arrivals.",
    _longer,
    _show_longer,
)


def hanging_run(*, runs: int, rng: np.random.Generator, load: Load, intervals: int) -> Results:
    """Minutes until the policy rolls back, until each gate alone would, and until what was counted before does."""
    now, before = FamilyBatch(HANGING, runs, passing=True), FamilyBatch(BEFORE, runs, passing=True)
    firsts = Firsts(runs)
    places = {gate.key: place for place, gate in enumerate(HANGING.gates)}
    for index, (share_bp, baseline, candidate) in enumerate(
        play(load, timed_gates(HANGING), intervals, runs, rng)
    ):
        now.update(SECONDS, share_bp, baseline, candidate)
        before.update(SECONDS, share_bp, without_outcomes(baseline), without_outcomes(candidate))
        firsts.note("now", now.crossed >= 0, index)
        firsts.note("before", before.crossed >= 0, index)
        firsts.note("kill", now.killed, index)
        everything = np.logical_and.reduce([before.passes(place) for place in range(len(BEFORE.gates))])
        firsts.note("before, passes", everything & (before.crossed < 0), index)
        for key in ("abandoned", "ttft", "ttft-long"):
            firsts.note(key, now.gates[places[key]].failing.log_e >= THRESHOLD, index)
            firsts.note(f"{key}, passes", now.passes(places[key]), index)
    return firsts.minutes


HANGS = {
    f"{shares}, clients wait {wait:g} s": Load(shares, speed=40.0, hang=0.1, first=wait, whole=30.0)
    for shares in (HALF, RAMP)
    for wait in (1.0, 10.0)
}


def _hanging(size: Size) -> Sequence[Cell]:
    intervals = size.pick(HOUR, HOUR // 4, 6)
    return [
        Cell(name, hanging_run, size.runs(200, 10), {"load": load, "intervals": intervals}, chunk=100)
        for name, load in HANGS.items()
    ]


def _show_hanging(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows, alone = [], []
    for cell, found in results.items():
        rows.append(
            [
                cell,
                mean(found["now"], 60),
                rate(found["now"]),
                rate(found["before"]),
                rate(found["before, passes"]),
            ]
        )
        alone.append([cell, *(mean(found[key], 60) for key in ("abandoned", "ttft", "ttft-long"))])
        alone[-1] += [rate(found[f"{key}, passes"]) for key in ("ttft", "ttft-long")]
    head = [
        "10 % of the candidate's requests hang",
        "minutes to roll back",
        "rolled back",
        "before: rolled back",
    ]
    single = ["minutes of each gate alone", "abandoned", "first token over 500 ms", "over 2.5 s"]
    return [
        Grid([*head, "before: all gates passed"], rows),
        Grid([*single, "PASS over 500 ms", "PASS over 2.5 s"], alone, "Which gate sees it (60 = never)"),
    ]


HANGING_TABLE = Table(
    "hanging",
    "Slow only for those who leave",
    "As above on an engine with little load (40 first tokens a second); one request in ten of the "
    "candidate's never gets a "
    "first token, and its client leaves after 1 or 10 s. Gates of equal weight: errors, refused, "
    "abandoned (+2 pp), first "
    "token over 500 ms (x1.25) and over 2.5 s (+1 pp). Before: what was counted when who left was counted nowhere.",
    "A candidate that is slow only for requests that then time out was invisible: every request that anybody timed was "
    "fast. Now whoever left after the SLO is over it, whoever left earlier is censored and withholds the "
    "PASS, and the gate "
    "on departures finds both.",
    _hanging,
    _show_hanging,
)
