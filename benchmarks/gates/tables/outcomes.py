"""Refusals and departures: how fast they are found, and what two gates more cost the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.gates.report import Grid, Table, mean, mean_of, rate
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.whole import DEFAULT, Firsts, Whole, alone, draw_whole, follow
from rollouts.domain.gates.batch import family_log_evidence
from rollouts.domain.gates.batch_family import FamilyBatch
from rollouts.domain.gates.templates import DEFAULT_GATES

EXCESS = (0.005, 0.01, 0.02, 0.05, 0.5)
BASES = (("refused", 0.01), ("refused", 0.002), ("abandoned", 0.02))
WHOLE, STRICT, TOLERANT = "the default policy", "alone, strict", "alone, tolerant"
KILL = f"{WHOLE}, fast kill"


def excess_run(*, runs: int, rng: np.random.Generator, what: Whole, gate: str) -> Results:
    """Minutes until the default policy rolls back, its fast kill alone, and the one gate alone in both modes."""
    spec = DEFAULT.gate(gate)
    policies = {
        WHOLE: DEFAULT,
        **{f"alone, {mode}": alone(spec, mode=mode) for mode in ("strict", "tolerant")},
    }
    found = follow(policies, draw_whole(what, runs, rng), runs).minutes
    return {name: found[name] for name in (WHOLE, KILL, STRICT, TOLERANT)}


def _excess(size: Size) -> Sequence[Cell]:
    runs, hours = size.runs(1_000, 40), size.pick(1.0, 1.0, 0.03)
    return [
        Cell(
            f"{gate} {base:g} {more:g}",
            excess_run,
            runs,
            {"what": Whole(base={gate: base}, added={gate: more}, hours=hours), "gate": gate},
        )
        for gate, base in BASES
        for more in EXCESS
    ]


def _show_excess(results: Mapping[str, Results]) -> Sequence[Grid]:
    minutes, never = [], []
    for cell, found in results.items():
        gate, base, more = cell.split()
        name = f"{gate}, {float(base) * 100:g} %, +{float(more) * 100:g} pp"
        kills = np.isfinite(found[KILL])
        killed = f"{mean(found[KILL][kills])} ({kills.mean():.0%})" if kills.any() else "never"
        minutes.append([name, *(mean(found[rule], 60) for rule in (STRICT, TOLERANT, WHOLE)), killed])
        never.append(
            [
                name,
                *(rate(np.where(np.isinf(found[rule]), 1.0, np.inf)) for rule in (STRICT, TOLERANT, WHOLE)),
            ]
        )
    head = ["gate, the baseline's share, the candidate's excess", STRICT, TOLERANT, WHOLE]
    return [
        Grid(
            [*head, "its fast kill (of so many)"],
            minutes,
            "Minutes to roll back, 60 = never; the fast kill apart",
        ),
        Grid(head, never, "Never rolled back within the hour"),
    ]


EXCESSES = Table(
    "outcomes",
    "Requests refused and clients that give up",
    "200 requests every 10 s for an hour, the usual ramp and shared drift; everything else as in the baseline. Alone: "
    "the gate with the whole budget. The limits are those of the default policy (refused +1 pp, strict; "
    "abandoned +2 pp, "
    "tolerant); an excess up to its limit is what a tolerant gate keeps.",
    "How long users of a candidate that refuses more requests, or makes more clients give up, are left with it. What "
    "half of the requests suffer is found within a quarter of a minute, and the fast kill follows; refusals are found "
    "soonest where they are rare. Departures are judged more patiently, since waiting comes in bursts.",
    _excess,
    _show_excess,
)

FOUR = ("errors", "ttft", "quality", "thumbs")  # the gates that stood before


def _weights(keys: Sequence[str], *, equal: bool) -> list[float]:
    """Weights of the default gates, 0 for those not in `keys`; in their proportions or equal."""
    raw = [(1.0 if equal else gate.weight) if gate.key in keys else 0.0 for gate in DEFAULT_GATES]
    return [weight / math.fsum(raw) for weight in raw]


EVERY_KEY = tuple(gate.key for gate in DEFAULT_GATES)
NOW, BEFORE, EQUAL = (
    "six gates, default weights",
    "without the two, same proportions",
    "six gates, equal weights",
)
WEIGHTS: Mapping[str, Sequence[float]] = {
    BEFORE: _weights(FOUR, equal=False),
    NOW: _weights(EVERY_KEY, equal=False),
    EQUAL: _weights(EVERY_KEY, equal=True),
}


def weights_run(*, runs: int, rng: np.random.Generator, what: Whole) -> Results:
    """Minutes until the same evidence rolls back under each set of weights; `kill`: until the fast kill does."""

    def look(index: int, batches: Mapping[str, FamilyBatch], firsts: Firsts) -> None:
        batch = batches["default"]
        logs = batch.log_evidences
        for name, weights in WEIGHTS.items():
            used = [(weight, log) for weight, log in zip(weights, logs, strict=True) if weight]
            together = family_log_evidence([weight for weight, _ in used], [log for _, log in used])
            firsts.note(name, together >= math.log(1 / DEFAULT.alpha), index)

    found = follow({"default": DEFAULT}, draw_whole(what, runs, rng), runs, look).minutes
    return {**{name: found[name] for name in WEIGHTS}, "kill": found["default, fast kill"]}


FALSE = {
    "1 h": Whole(),
    "1 h, incident": Whole(incident=True),
    "12 h": Whole(hours=12.0),
}
WORSE = {
    **{f"errors x{times:g}": Whole(times={"errors": times}) for times in (1.5, 2.0, 3.0, 5.0, 10.0)},
    **{f"over the SLO x{times:g}": Whole(times={"over": times}) for times in (2.0, 3.0)},
    "golden prompts -0.10": Whole(drop=0.1),
    "rated down +5 pp": Whole(added={"down": 0.05}),
}


def _policy(size: Size) -> Sequence[Cell]:
    if size.name == "tiny":
        return [
            Cell("1 h", weights_run, 4, {"what": Whole(hours=0.03)}),
            Cell("errors x10", weights_run, 4, {"what": Whole(times={"errors": 10.0}, hours=0.03)}),
        ]
    runs = {"1 h": size.runs(4_000, 60), "1 h, incident": size.runs(2_000, 40), "12 h": size.runs(1_000, 0)}
    return [
        *(Cell(name, weights_run, runs[name], {"what": what}) for name, what in FALSE.items() if runs[name]),
        *(Cell(name, weights_run, size.runs(1_000, 30), {"what": what}) for name, what in WORSE.items()),
    ]


def _show_policy(results: Mapping[str, Results]) -> Sequence[Grid]:
    false = [
        [cell, *(rate(found[name]) for name in (NOW, EQUAL, BEFORE)), rate(found["kill"])]
        for cell, found in results.items()
        if cell in FALSE
    ]
    worse = []
    for cell, found in results.items():
        if cell in FALSE:
            continue
        now, before = mean_of(found[NOW], 60)[0], mean_of(found[BEFORE], 60)[0]
        worse.append(
            [cell, *(mean(found[name], 60) for name in (BEFORE, NOW, EQUAL)), f"{now / before - 1:+.0%}"]
        )
    return [
        Grid(["A/A rolled back", NOW, EQUAL, BEFORE, "fast kill"], false, "Nothing changed (at most .05)"),
        Grid(
            ["minutes to roll back", BEFORE, NOW, EQUAL, "later by"], worse, "One thing got worse; 60 = never"
        ),
    ]


POLICY = Table(
    "policy",
    "The default policy, and what two gates more cost",
    "The gates that a new policy begins with, all on the same traffic: 200 requests every 10 s, the usual ramp; 1 % "
    "errors, 1 % refused, 2 % abandoned, 4 % over the SLO, 5 % rated down, two golden pairs every 10 s; "
    "a drift that all "
    "shares of both arms share. The weights are compared on the very same evidence.",
    "Six gates share one budget, so a rollout that changes nothing is rolled back at most one time in twenty. The two "
    "gates that joined take their weight from the others, which find what they found before a little later.",
    _policy,
    _show_policy,
)
