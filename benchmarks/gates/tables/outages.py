"""A baseline that is out of order: what its outage may prove, and what it may not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.gates.report import Grid, Table, median, rate
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import HOUR, MINUTE, REQUESTS, SECONDS, Array, ar1
from benchmarks.gates.whole import Firsts, alone
from rollouts.domain.gates.batch_family import ArmBatch, FamilyBatch
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.templates import DEFAULT_GATES

SPECS = {gate.key: gate for gate in DEFAULT_GATES}
RULE, EVERYTHING = "with the rule", "every interval counts"
DEAD = 100 // SECONDS  # intervals
BASE = 0.01


def both_rules(gate: str) -> Mapping[str, GatePolicy]:
    """The gate alone, with the outage rule and as it was before there was one."""
    with_rule = alone(SPECS[gate])
    without = {key: value for key, value in with_rule.to_json().items() if key != "baseline_outage_share"}
    return {RULE: with_rule, EVERYTHING: GatePolicy.from_json(without)}


def arm(n: Array, failed: Array, refused: Array | float, rng: np.random.Generator) -> ArmBatch:
    """An arm with these requests; of those that do not fail, so many are refused."""
    errors = rng.binomial(n.astype(np.int64), failed).astype(float)
    refusals = rng.binomial((n - errors).astype(np.int64), refused).astype(float)
    return ArmBatch(n, errors, n, np.ones(len(n)), refusals, np.zeros(len(n)))


def dead_run(*, runs: int, rng: np.random.Generator, failing: float, before: int, after: int) -> Results:
    """Half of the traffic each; the baseline's engine is dead for 100 s, then well again. From the beginning of that
    outage the candidate fails so often; before it, it was healthy.

    Per rule: minutes from the outage's end to FAIL, whether PASS came first, and the odds for the candidate when the
    outage ended (log10).
    """
    results: dict[str, Array] = {}
    batches = {name: FamilyBatch(policy, runs) for name, policy in both_rules("errors").items()}
    firsts, end = Firsts(runs), before + DEAD
    for index in range(end + after):
        n_c = rng.binomial(REQUESTS, 0.5, runs).astype(float)
        of_baseline = 1.0 if before <= index < end else BASE
        of_candidate = failing if index >= before else BASE
        candidate = arm(n_c, np.full(runs, of_candidate), 0.0, rng)
        baseline = arm(REQUESTS - n_c, np.full(runs, of_baseline), 0.0, rng)
        for name, batch in batches.items():
            earlier = batch.gates[0].passing.log_e
            batch.update(SECONDS, 5_000, baseline, candidate)
            if index == before:
                results[f"{name}, before"] = earlier / math.log(10)
            if index == end - 1:
                results[f"{name}, odds"] = batch.gates[0].passing.log_e / math.log(10)
            firsts.note(f"{name}, fail", batch.crossed >= 0, index)
            if index >= before:
                firsts.note(f"{name}, pass", batch.passes(0), index)
    for name in batches:
        fail, passed = firsts.minutes[f"{name}, fail"], firsts.minutes[f"{name}, pass"]
        results[f"{name}, fail"] = fail - end * SECONDS / 60
        results[f"{name}, pass first"] = np.where(passed < fail, passed, np.inf)
    return results


DEAD_CELLS = {
    "healthy (1 %)": (BASE, 0),
    "fails 20 % from then on": (0.2, 0),
    "fails 5 % from then on": (0.05, 0),
    "fails 20 %, after 20 healthy minutes in which it passed": (0.2, 20 * MINUTE),
}


def _dead(size: Size) -> Sequence[Cell]:
    after = size.pick(10 * MINUTE, 10 * MINUTE, 2)
    return [
        Cell(
            name,
            dead_run,
            size.runs(1_000, 60),
            {
                "failing": failing,
                "before": min(before, after) if size.name == "tiny" else before,
                "after": after,
            },
        )
        for name, (failing, before) in DEAD_CELLS.items()
    ]


def _show_dead(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = []
    for cell, found in results.items():
        for rule in (EVERYTHING, RULE):
            gained = found[f"{rule}, odds"] - found[f"{rule}, before"]
            rows.append(
                [
                    f"{cell}, {rule}",
                    f"10^{float(np.median(gained)):.1f}",
                    rate(found[f"{rule}, pass first"]),
                    rate(found[f"{rule}, fail"]),
                    median(found[f"{rule}, fail"] * 60),
                ]
            )
    head = [
        "the candidate, the rule",
        "the outage multiplied the odds for it by",
        "PASS before FAIL",
        "FAIL within ten minutes after",
        "seconds from the outage's end to FAIL, median",
    ]
    return [Grid(head, rows)]


DEAD_BASELINE = Table(
    "dead-baseline",
    "A dead baseline",
    "20 requests a second, half of them on the candidate, the gate on errors alone (limit +1 pp, "
    "strict). For 100 s every "
    "request of the baseline fails (or is answered by the candidate, which is a failure of the baseline all the same); "
    "from the beginning of the outage the candidate fails as often as stated, and goes on so for ten "
    "minutes after it. A "
    "negative number of seconds: FAIL came during the outage.",
    "An outage of the baseline makes every candidate look good. If its intervals count, they are "
    "overwhelming evidence for "
    "a candidate that fails itself; with the rule they are none, and a bad candidate fails soon after.",
    _dead,
    _show_dead,
)


@dataclass(frozen=True)
class Trouble:
    """How the baseline fails in the simulation at the limit.

    how         "random": outages begin now and then and last a minute on average; "hovering": its failures swing around
                the share that is an outage; "flapping": every other interval is dead
    follows     the candidate fails +1 pp more than the baseline in every state; else it fails at 2 %, its limit in good
                times, whatever the baseline does
    gate        judged: errors, or refusals that have nothing to do with the failures (its candidate is 1 pp over)
    """

    how: str
    follows: bool = True
    gate: str = "errors"
    requests: int = REQUESTS


def trouble_of(what: Trouble, runs: int, intervals: int, rng: np.random.Generator) -> Array:
    """The baseline's failure rate in every interval, shape (intervals, runs)."""
    if what.how == "hovering":
        swing = ar1(intervals, runs, 0.9, 0.4 * math.sqrt(1 - 0.9**2), rng)
        return np.asarray(1 / (1 + np.exp(-(math.log(0.2 / 0.8) + swing))))
    rates = np.full((intervals, runs), BASE)
    if what.how == "flapping":
        rates[1::2] = 0.9
        return rates
    out = np.zeros(runs, dtype=bool)
    for index in range(intervals):
        out = np.where(out, rng.random(runs) < 5 / 6, rng.random(runs) < 1 / 30)
        rates[index] = np.where(out, 0.6, BASE)
    return rates


def limit_run(*, runs: int, rng: np.random.Generator, what: Trouble, intervals: int) -> Results:
    """Whether the gate ever passes a candidate that is exactly at its limit, with the rule and without."""
    batches = {name: FamilyBatch(policy, runs) for name, policy in both_rules(what.gate).items()}
    failing = trouble_of(what, runs, intervals, rng)
    firsts, left_out = Firsts(runs), np.zeros(runs)
    for index, of_baseline in enumerate(failing):
        n_c = rng.binomial(what.requests, 0.5, runs).astype(float)
        if what.gate == "errors":
            of_candidate = np.minimum(of_baseline + 0.01, 1.0) if what.follows else np.full(runs, 2 * BASE)
            candidate, baseline = (
                arm(n_c, of_candidate, 0.0, rng),
                arm(what.requests - n_c, of_baseline, 0.0, rng),
            )
        else:  # of all requests 1 % of the baseline's are refused in whichever state, 2 % of the candidate's
            staying = 1 - of_baseline
            candidate = arm(n_c, np.full(runs, BASE), 0.02 / (1 - BASE), rng)
            baseline = arm(what.requests - n_c, of_baseline, np.minimum(0.01 / staying, 1.0), rng)
        for name, batch in batches.items():
            batch.update(SECONDS, 5_000, baseline, candidate)
            firsts.note(name, batch.gates[0].has_passed, index)
        left_out += batches[RULE].outage
    return {**{name: firsts.minutes[name] for name in batches}, "left out": left_out / intervals}


AT_LIMIT = {
    "outages now and then; +1 pp in every state": Trouble("random"),
    "outages now and then; 2 % whatever the baseline does": Trouble("random", follows=False),
    "hovering around the limit of an outage; +1 pp": Trouble("hovering"),
    "the same with 2 requests a second": Trouble("hovering", requests=20),
    "flapping every 10 s; +1 pp": Trouble("flapping"),
    "flapping every 10 s; 2 %": Trouble("flapping", follows=False),
    "hovering; the gate on refusals": Trouble("hovering", gate="refused"),
}


def _at_limit(size: Size) -> Sequence[Cell]:
    intervals = size.pick(HOUR, HOUR // 2, 6)
    return [
        Cell(name, limit_run, size.runs(1_500, 60), {"what": what, "intervals": intervals})
        for name, what in AT_LIMIT.items()
    ]


def _show_limit(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = [
        [cell, rate(found[RULE]), rate(found[EVERYTHING]), f"{float(found['left out'].mean()):.0%}"]
        for cell, found in results.items()
    ]
    return [Grid(["PASS ever (at most .05)", RULE, EVERYTHING, "intervals left out"], rows)]


OUTAGE_LIMIT = Table(
    "outage-limit",
    "A candidate at its limit while the baseline is in trouble",
    "As above for an hour; the candidate is exactly at the limit of +1 pp (1 % against 2 % in good "
    "times). Outages now and "
    "then: one every five minutes, a minute long on average, 60 % of the requests fail. Hovering: the "
    "baseline's failures "
    "swing around 20 %, the share from which on it is out of order, so that chance decides which "
    "intervals are left out. "
    "Flapping: 90 % fail in every other interval. Refusals: 1 % of the baseline's requests and 2 % of the candidate's.",
    "Leaving intervals out by what the baseline did in them could favour the candidate, if it were done carelessly. It "
    "does not: a candidate at its limit passes at most one time in twenty, wherever the outages come "
    "from. Without the rule "
    "a candidate that merely goes on while the baseline is down always passes.",
    _at_limit,
    _show_limit,
)
