"""One measurement of the arithmetic of the gates, in a process of its own (see `sums`): prints JSON.

It imports nothing of the benchmarks, so that it also measures an earlier version of the product.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from dataclasses import replace
from itertools import pairwise

from controlplane.kernel.digests import digest_of
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.templates import DEFAULT_GATES
from rollouts.domain.record.analysis import GatesAnalysis, interval_rng
from rollouts.domain.record.intervals import (
    ArmCounts,
    Completions,
    Interval,
    LatencyCounts,
    Outcomes,
    ProbePair,
)

INTERVAL, SHARE_BP, PER_SECOND = 5.0, 2_500, 20.0
# Intervals before the one that is measured: ten seconds to twenty minutes. One of four has a new start in it.
AGES = (2, 12, 61, 237)
EACH = 2  # rollouts of an age, with other users
PARTS = ("from_text", "read", "update", "assess", "write", "to_text", "digest")
EDGES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
DURATION = GateSpec(
    key="duration",
    label="Duration",
    kind="latency_slo",
    mode="tolerant",
    signal="duration",
    slo_seconds=5.0,
    ratio=1.25,
    weight=0.1,
)
EMPTY = GateSpec(
    key="empty", label="Empty answers", kind="empty", mode="tolerant", delta=0.02, weight=0.1, required=False
)
EIGHT = (*(replace(gate, weight=0.8 * gate.weight) for gate in DEFAULT_GATES), DURATION, EMPTY)


def interval(index: int, rng: random.Random) -> Interval:
    """Users alike on both arms, who rate some answers, and a golden prompt."""
    arms = {
        "baseline": _arm(PER_SECOND * INTERVAL * (1 - SHARE_BP / 10_000), rng),
        "candidate": _arm(PER_SECOND * INTERVAL * SHARE_BP / 10_000, rng),
    }
    return Interval(
        index=index,
        started_at=1.8e9 + index * INTERVAL,
        seconds=INTERVAL,
        share_bp=SHARE_BP,
        arms=arms,
        pairs={"candidate": (ProbePair("0", *_scores(rng)),)},
        shares={"baseline": 10_000 - SHARE_BP, "candidate": SHARE_BP},
    )


def _scores(rng: random.Random) -> tuple[float, float]:
    return round(rng.betavariate(8, 2), 3), round(rng.betavariate(8, 2), 3)


def _arm(expected: float, rng: random.Random) -> ArmCounts:
    arrived = round(expected * rng.uniform(0.8, 1.2))
    failed, refused = _of(arrived, 0.01, rng), _of(arrived, 0.005, rng)
    abandoned = _of(arrived - failed - refused, 0.01, rng)
    answered = arrived - failed - refused - abandoned
    ratings = _of(answered, 0.2, rng)
    return ArmCounts(
        requests=arrived - abandoned,
        errors=failed,
        arrived=arrived,
        ready=1.0,
        latency={"ttft": _histogram(answered, 0.02, rng), "duration": _histogram(answered, 0.02, rng)},
        answers=answered,
        thumbs_down=_of(ratings, 0.1, rng),
        ratings=ratings,
        outcomes=Outcomes(answered, refused, 0, 0, failed, 0, 0, abandoned, rng.randrange(4)),
        completions=Completions(
            answered, _of(answered, 0.01, rng), _of(answered, 0.02, rng), 0, 40 * answered
        ),
    )


def _of(trials: int, rate: float, rng: random.Random) -> int:
    return sum(rng.random() < rate for _ in range(trials))


def _histogram(total: int, slow: float, rng: random.Random) -> LatencyCounts:
    over, left = {}, total
    for position, edge in enumerate(EDGES):
        left = _of(left, (0.8, 0.7, 0.5, 0.3, slow)[min(position, 4)], rng)
        over[edge] = left
    return LatencyCounts(total, over)


def stored() -> list[tuple[str, str]]:
    """(a rollout's state, its next interval), both as they are stored, of EACH rollouts of every age."""
    found = []
    for number in range(EACH * len(AGES)):
        age, rng = AGES[number % len(AGES)], random.Random(number)
        state = GatesState.initial(GatePolicy(name=f"sums-{number}", version=1, gates=EIGHT))
        for index in range(age):
            state = state.update(interval(index, rng))
        analysis = GatesAnalysis(state)
        found.append((json.dumps(analysis.to_json()), json.dumps(interval(age, rng).to_json())))
    return found


def measured(state: str, following: str, rounds: int) -> list[float]:
    """Seconds of CPU that each part takes for one rollout: the fastest of so many rounds, because what else a machine
    does only ever adds."""
    fastest = [float("inf")] * len(PARTS)
    for _ in range(rounds):
        marks = [time.process_time()]
        body, counted = json.loads(state), json.loads(following)
        marks.append(time.process_time())
        analysis, heard = GatesAnalysis.stored(body), Interval.from_json(counted)
        marks.append(time.process_time())
        learned = analysis.update(heard, interval_rng(1, heard.index))
        marks.append(time.process_time())
        assessed = learned.assess({"candidate": WorkloadFacts()})
        marks.append(time.process_time())
        kept, verdicts = learned.to_json(), assessed.to_json()
        marks.append(time.process_time())
        json.dumps(kept)
        json.dumps(verdicts)
        marks.append(time.process_time())
        digest_of({"interval": counted, "verdicts": verdicts})
        marks.append(time.process_time())
        fastest = [
            min(best, later - earlier)
            for best, (earlier, later) in zip(fastest, pairwise(marks), strict=True)
        ]
    return fastest


def main() -> None:
    """Prints the mean of each part over the rollouts, in seconds a rollout."""
    found = [measured(state, following, int(sys.argv[1])) for state, following in stored()]
    means = [statistics.fmean(part) for part in zip(*found, strict=True)]
    print(json.dumps(dict(zip(PARTS, means, strict=True))))


if __name__ == "__main__":
    main()
