"""Whole rollouts as counts: everything a policy looks at, interval by interval, without engines that queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.gates.tables.pairs import draw_scores
from benchmarks.gates.traffic import HOUR, MINUTE, REQUESTS, SECONDS, Array, ar1, shares_of
from rollouts.domain.gates.batch_family import ArmBatch, FamilyBatch, TimedBatch
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.templates import DEFAULT_GATES

PAIRS_EACH = 2  # golden pairs an interval
DEFAULT = GatePolicy(name="default", version=1, gates=DEFAULT_GATES)
USUAL: Mapping[str, float] = {  # the baseline's shares
    "errors": 0.01,
    "refused": 0.01,
    "abandoned": 0.02,
    "over": 0.04,
    "down": 0.05,
}


@dataclass(frozen=True)
class Whole:
    """What the users of a simulated rollout get.

    base        shares of the baseline that are not the usual ones: errors, refused and abandoned of the arrivals, over
                the SLO and rated down of the answers
    added       to the candidate's shares; times: what they are multiplied by
    drop        of the candidate's mean score on golden prompts
    hours       of the rollout, on the ramp 5, 10, 25, 50 % in equal parts
    incident    in both arms everything happens eight times as often for five minutes
    """

    base: Mapping[str, float] = field(default_factory=dict)
    added: Mapping[str, float] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    drop: float = 0.0
    hours: float = 1.0
    incident: bool = False


Rollout = Iterator[tuple[int, ArmBatch, ArmBatch, list[tuple[Array, Array]]]]


def draw_whole(what: Whole, runs: int, rng: np.random.Generator) -> Rollout:
    """(share in basis points, baseline, candidate, golden pairs) of every interval; a drift that both arms share swings
    all shares."""
    intervals = int(what.hours * HOUR)
    swing = np.exp(ar1(intervals, runs, 0.95, 0.1, rng))
    begin = int(intervals * 0.4)
    if what.incident:
        swing[begin : begin + 5 * MINUTE] *= 8
    for index, share in enumerate(shares_of(None, intervals)):
        n_c = rng.binomial(REQUESTS, share, runs)
        baseline = _arm(what, swing[index], REQUESTS - n_c, 1 - share, rng, candidate=False)
        candidate = _arm(what, swing[index], n_c, share, rng, candidate=True)
        pairs = [draw_scores(what.drop, runs, rng, graded=True) for _ in range(PAIRS_EACH)]
        yield round(share * 10_000), baseline, candidate, pairs


def _arm(
    what: Whole,
    swing: Array,
    arrived: np.typing.NDArray[np.int64],
    part: float,
    rng: np.random.Generator,
    *,
    candidate: bool,
) -> ArmBatch:
    def rate(name: str) -> Array:
        usual = what.base.get(name, USUAL[name]) * swing
        if candidate:
            usual = usual * what.times.get(name, 1.0) + what.added.get(name, 0.0)
        return np.clip(usual, 0, 0.9)

    # one after the other, each of what is left, so that the classes add up
    errors = rng.binomial(arrived, rate("errors"))
    refused = rng.binomial(arrived - errors, np.clip(rate("refused") / (1 - rate("errors")), 0, 1))
    staying = 1 - rate("errors") - rate("refused")
    share = np.clip(rate("abandoned") / np.maximum(staying, 1e-9), 0, 1)
    abandoned = rng.binomial(arrived - errors - refused, share)
    answered = arrived - errors - refused - abandoned
    over = rng.binomial(answered, rate("over"))
    down = rng.binomial(answered, rate("down"))
    left_over = rng.binomial(abandoned, 0.5)
    timed = TimedBatch(*(values.astype(float) for values in (answered, over, abandoned, left_over)))
    return ArmBatch(
        (arrived - abandoned).astype(float),
        errors.astype(float),
        arrived.astype(float),
        np.full(len(arrived), 2 * part),  # replicas in proportion to the weights
        refused.astype(float),
        abandoned.astype(float),
        {"ttft": timed},
        answered.astype(float),
        down.astype(float),
    )


def alone(gate: GateSpec, **other: object) -> GatePolicy:
    """A policy of this gate and nothing else."""
    values = {**gate.to_json(), **other, "weight": 1.0}
    return GatePolicy.from_json(
        {"name": "alone", "version": 1, "gates": [values], "baseline_outage_share": 0.2}
    )


@dataclass(slots=True)
class Firsts:
    """When something happened first, in minutes; shape (runs,), infinity where it never did."""

    runs: int
    minutes: dict[str, Array] = field(default_factory=dict)

    def note(self, name: str, happened: np.typing.NDArray[np.bool_], index: int) -> None:
        """Interval `index` (from 0) has just been seen."""
        found = self.minutes.setdefault(name, np.full(self.runs, np.inf))
        found[happened & np.isinf(found)] = (index + 1) * SECONDS / 60


def follow(
    policies: Mapping[str, GatePolicy],
    rollout: Rollout,
    runs: int,
    look: Callable[[int, Mapping[str, FamilyBatch], Firsts], None] | None = None,
) -> Firsts:
    """Minutes until each policy rolled back, by name, and until its fast kill did, as "name, fast kill"."""
    batches = {name: FamilyBatch(policy, runs, passing=False) for name, policy in policies.items()}
    firsts = Firsts(runs)
    for index, (share_bp, baseline, candidate, pairs) in enumerate(rollout):
        for name, batch in batches.items():
            batch.update(SECONDS, share_bp, baseline, candidate, pairs)
            firsts.note(name, batch.crossed >= 0, index)
            firsts.note(f"{name}, fast kill", batch.killed, index)
        if look is not None:
            look(index, batches, firsts)
    return firsts
