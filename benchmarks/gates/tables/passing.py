"""Requests to PASS when nothing changed, and the smallest change that an hour finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.gates.report import Grid, Table, mean, median, rate
from benchmarks.gates.rules import THRESHOLD, ours
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import BASE, HOUR, MINUTE, RAMP, REQUESTS, SECONDS, Errors, draw_errors
from rollouts.domain.gates.batch import ProportionBatch
from rollouts.domain.gates.plan_forecast import plan_forecast
from rollouts.domain.gates.policy import GatePolicy, GateSpec

LIMITS = {"+1 pp": (1.0, 0.01), "+0.5 pp": (1.0, 0.005), "x1.5": (1.5, 0.0)}
AIMS = {
    "+1 pp at 1 %, share 5 %": "1,054",
    "+0.5 pp at 1 %, share 5 %": "2,688",
    "x1.5 at 1 %, share 5 %": "3,024",
}


def requests_to_pass(
    *,
    runs: int,
    rng: np.random.Generator,
    limit: tuple[float, float],
    base: float = BASE,
    share: float = 0.05,
    hours: float = 4.0,
) -> Results:
    """Requests of an unchanged candidate until PASS at a constant share; infinity where the hours were not
    enough. `in_hour`: whether PASS came within an hour.
    """
    batch = ProportionBatch(runs, ratio=limit[0], delta=limit[1], decision="pass")
    seen, found, in_hour = np.zeros(runs), np.full(runs, np.inf), np.full(runs, np.inf)
    for index in range(int(hours * HOUR)):
        n_c = rng.binomial(REQUESTS, share, runs)
        n_b = REQUESTS - n_c
        e_c, e_b = rng.binomial(n_c, base), rng.binomial(n_b, base)
        batch.update(n_c.astype(float), e_c.astype(float), n_b.astype(float), e_b.astype(float))
        seen += n_c
        newly = (batch.log_e >= THRESHOLD) & np.isinf(found)
        found[newly] = seen[newly]
        if index < HOUR:
            in_hour[newly] = 1.0
        if not np.isinf(found).any():
            break
    return {"requests": found, "in_hour": in_hour}


def _passing(size: Size) -> Sequence[Cell]:
    hours = size.pick(4.0, 2.0, 0.05)
    runs = size.runs(2_000, 100)
    return [
        Cell(
            f"{name} at {base * 100:g} %, share {share * 100:g} %",
            requests_to_pass,
            runs,
            {"limit": limit, "base": base, "share": share, "hours": hours},
        )
        for base, share in ((BASE, 0.05), (BASE, 0.5), (0.002, 0.5))
        for name, limit in LIMITS.items()
    ]


def _show_passing(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = []
    for cell, found in results.items():
        requests = found["requests"]
        rows.append([cell, median(requests), AIMS.get(cell, ""), rate(found["in_hour"])])
    return [Grid(["limit, base rate", "candidate requests, median", "aim", "passed within an hour"], rows)]


PASSING = Table(
    "passing",
    "Requests to PASS",
    "An unchanged candidate at a constant share, 200 requests every 10 s, no drift, up to four hours. (The "
    "product lets PASS count from a share of 25 % on; 5 % is the design's setting.)",
    "What a PASS costs. For rare errors a ratio is hopeless and a difference cheap: use absolute margins there.",
    _passing,
    _show_passing,
)

BASES = (0.002, 0.01, 0.05)
STEPS = tuple((round(share * 10_000), 900.0) for share in RAMP)


def told_detectable(base: float) -> float:
    """The ratio that the plan's preview names for a strict gate on the usual ramp of an hour."""
    gate = GateSpec(
        key="errors", label="Errors", kind="error_rate", mode="strict", delta=max(0.01, base), weight=1.0
    )
    told = plan_forecast(
        policy=GatePolicy(name="plan", version=1, gates=(gate,)),
        gate=gate,
        requests_per_second=REQUESTS / SECONDS,
        base_rate=base,
        steps=STEPS,
        interval_seconds=SECONDS,
    )
    if told.detectable is None:
        raise AssertionError("an hour at 20 requests a second finds something")
    return told.detectable


def detectable_run(*, runs: int, rng: np.random.Generator, base: float, times: float) -> Results:
    """Minutes to roll back at the told ratio, with its excess over 1 taken `times`."""
    ratio = 1 + times * (told_detectable(base) - 1)
    counts = draw_errors(Errors(ratio=ratio, base=base, drift=False), runs, rng)
    return {"minutes": ours(counts) / MINUTE, "ratio": np.full(runs, ratio)}


def _detectable(size: Size) -> Sequence[Cell]:
    return [
        Cell(f"{base:g} {times:g}", detectable_run, size.runs(2_000, 60), {"base": base, "times": times})
        for base in BASES
        for times in (1.0, 1.5)
    ]


def _show_detectable(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = []
    for cell, found in results.items():
        base = float(cell.split()[0])
        rows.append(
            [
                f"{base * 100:g} %",
                f"x{found['ratio'][0]:.2f}",
                rate(found["minutes"]),
                mean(found["minutes"], 60),
            ]
        )
    return [
        Grid(["base rate", "candidate's errors", "rolled back within the hour", "minutes, 60 = never"], rows)
    ]


DETECTABLE = Table(
    "detectable",
    "The smallest change that an hour finds",
    "A strict gate on the usual ramp, no drift. For each base rate first the ratio that the preview of the plan "
    "names as the smallest it finds, then one whose excess is half as large again.",
    "The preview follows the mean path and promises no more than an even chance; chance helps, so two thirds "
    "and more of the rollouts at the named ratio are rolled back within the plan, and nearly all a little above.",
    _detectable,
    _show_detectable,
)
