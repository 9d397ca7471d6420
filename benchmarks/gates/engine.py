"""Requests through engines that queue, and clients that leave: what the gates then see.

One replica an arm. Arrivals are Poisson, each drawn to an arm by itself. A replica makes first tokens one after the
other (exponential work), then the answer's rest takes its own time beside all others (exponential). Who has waited too
long for the first token, or for the whole answer, leaves; who leaves the queue costs the engine nothing more. Every
request is counted at its arrival, and its outcome when it ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.gates.traffic import REQUESTS, SECONDS, Array, ar1
from rollouts.domain.gates.batch import Mask
from rollouts.domain.gates.batch_family import ArmBatch, TimedBatch
from rollouts.domain.gates.policy import GateSpec

HALF, RAMP, MOVES = "50 %", "5, 25, 50 %", "50 and 10 % in turn"
LONGEST = 60  # intervals after its arrival in which a request ends at the latest
QUICK = 0.05  # seconds until a request is refused or fails
COUNTED = ("requests", "errors", "arrived", "refused", "abandoned", "ended")


@dataclass(frozen=True, slots=True)
class Load:
    """What comes, what the engines can do, and how long clients wait.

    shares          of the candidate: one of HALF, RAMP, MOVES
    speed           first tokens a second that a replica makes; `slower` times as much work for the candidate
    answer          mean seconds from the first to the last token; `longer` times that for the candidate
    first, whole    seconds after which a client leaves: without a first token, without the whole answer
    failed, refused shares of requests, alike in both arms; `more_refused` is added for the candidate
    hang            share of the candidate's requests that never get a first token, and cost the engine nothing
    wave            how much the arrivals of both arms swing together (standard deviation of their logarithm, about)
    """

    shares: str = HALF
    speed: float = 12.0
    slower: float = 1.0
    answer: float = 2.0
    longer: float = 1.0
    first: float = math.inf
    whole: float = math.inf
    failed: float = 0.01
    refused: float = 0.01
    more_refused: float = 0.0
    hang: float = 0.0
    wave: float = 0.15


def share_at(shares: str, index: int, intervals: int) -> float:
    """The candidate's share in an interval."""
    if shares == HALF:
        return 0.5
    if shares == RAMP:
        return (0.05, 0.25, 0.5)[index * 3 // intervals]
    if shares == MOVES:
        return (0.5, 0.1)[index * SECONDS // 60 % 2]
    raise AssertionError(shares)


@dataclass(slots=True)
class Arm:
    """One arm: when its replica is free next, and what was counted, by interval of the end, shape (intervals, runs)."""

    free: Array
    counts: dict[str, Array] = field(default_factory=dict)

    def add(self, name: str, interval: int, ends: Array, runs: Array, where: Mask) -> None:
        """Counts the requests under `where`: ended `ends` intervals after `interval`, in these runs."""
        size = len(self.free)
        if name not in self.counts:
            self.counts[name] = np.zeros((LONGEST + 1, size))
        at = (np.minimum(ends[where], LONGEST) * size + runs[where]).astype(np.int64)
        found = np.bincount(at, minlength=(LONGEST + 1) * size).reshape(LONGEST + 1, size)
        table = self.counts[name]
        begin = interval % (LONGEST + 1)  # a ring: what lies before the interval was read
        table[begin:] += found[: LONGEST + 1 - begin]
        table[:begin] += found[LONGEST + 1 - begin :]

    def take(self, name: str, interval: int) -> Array:
        """What ended in this interval; its place is free then."""
        if name not in self.counts:
            return np.zeros(len(self.free))
        row = interval % (LONGEST + 1)
        taken = np.array(self.counts[name][row])
        self.counts[name][row] = 0.0
        return taken


def play(
    load: Load, gates: Mapping[str, GateSpec], intervals: int, runs: int, rng: np.random.Generator
) -> Iterator[tuple[int, ArmBatch, ArmBatch]]:
    """(share in basis points, baseline, candidate) of every interval. `gates`: the latency gates, by key.

    An arm's `requests` are all that ended but for those who left; a run is a column.
    """
    swing = np.exp(ar1(intervals, runs, 0.95, load.wave * math.sqrt(1 - 0.95**2), rng))
    arms = (Arm(np.zeros(runs)), Arm(np.zeros(runs)))
    for index in range(intervals):
        share = share_at(load.shares, index, intervals)
        _interval(load, gates, arms, index, share, swing[index], rng)
        baseline, candidate = (_batch(arm, gates, index) for arm in arms)
        yield round(share * 10_000), baseline, candidate


def _interval(
    load: Load,
    gates: Mapping[str, GateSpec],
    arms: tuple[Arm, Arm],
    index: int,
    share: float,
    swing: Array,
    rng: np.random.Generator,
) -> None:
    size = len(swing)
    n = rng.poisson(REQUESTS * swing)
    most = int(n.max())
    at = rng.random((most, size)) * SECONDS
    at[np.arange(most)[:, None] >= n] = math.inf  # not there
    at.sort(axis=0)
    there = np.isfinite(at)
    at = np.where(there, at, 0.0) + index * SECONDS
    mine = rng.random((most, size)) < share  # of the candidate
    work = rng.exponential(1 / load.speed, (most, size)) * np.where(mine, load.slower, 1.0)
    rest = rng.exponential(load.answer, (most, size)) * np.where(mine, load.longer, 1.0)
    lot = rng.random((most, size))
    refused = lot < load.refused + np.where(mine, load.more_refused, 0.0)
    failed = lot > 1 - load.failed
    hangs = mine & (rng.random((most, size)) < load.hang) & ~refused & ~failed
    token = _first_tokens(load, arms, at, mine, work, there & ~refused & ~failed & ~hangs)
    token = np.where(hangs, math.inf, token)
    before = ~(token <= load.first)
    midway = ~before & (token + rest > load.whole)
    waited = np.where(before, min(load.first, load.whole), np.where(midway, load.whole, token + rest))
    waited = np.where(refused | failed | ~there, QUICK, waited)
    ends = (at + waited) // SECONDS - index
    column = np.broadcast_to(np.arange(size, dtype=float), (most, size))
    nothing = np.zeros_like(ends)
    served = there & ~refused & ~failed
    for arm, of_arm in zip(arms, (there & ~mine, there & mine), strict=True):
        left = of_arm & served & (before | midway)
        answered = of_arm & served & ~before & ~midway
        for name, when, where in (
            ("arrived", nothing, of_arm),
            ("ended", ends, of_arm),
            ("requests", ends, of_arm & ~left),
            ("errors", ends, of_arm & failed),
            ("refused", ends, of_arm & refused),
            ("abandoned", ends, left),
        ):
            arm.add(name, index, when, column, where)
        for key, gate in gates.items():
            slo = gate.slo_seconds or 0.0
            timed = answered | (left & midway) if gate.signal == "ttft" else answered
            gone = left & before if gate.signal == "ttft" else left
            took = token if gate.signal == "ttft" else token + rest
            arm.add(f"{key} total", index, ends, column, timed)
            arm.add(f"{key} over", index, ends, column, timed & (took > slo))
            arm.add(f"{key} left", index, ends, column, gone)
            arm.add(f"{key} left_over", index, ends, column, gone & (waited > slo))


def _first_tokens(
    load: Load, arms: tuple[Arm, Arm], at: Array, mine: Mask, work: Array, served: Mask
) -> Array:
    """Seconds from each arrival to its first token, in the order of arrival; infinity where its client will have left
    before."""
    token = np.full(at.shape, math.inf)
    free = np.stack([arm.free for arm in arms])
    columns = np.arange(at.shape[1])
    of = mine.astype(np.int64)
    for row in range(len(at)):
        which = of[row]
        start = np.maximum(free[which, columns], at[row])
        gives_up = at[row] + load.first
        done = start + work[row]
        takes = served[row] & (start < gives_up)  # who left while waiting never comes to the engine
        free[which, columns] = np.where(takes, np.minimum(done, gives_up), free[which, columns])
        token[row] = np.where(takes & (done <= gives_up), done - at[row], math.inf)
    for arm, when in zip(arms, free, strict=True):
        arm.free = when
    return token


def _batch(arm: Arm, gates: Mapping[str, GateSpec], index: int) -> ArmBatch:
    counted = {name: arm.take(name, index) for name in COUNTED}
    timed = {
        key: TimedBatch(
            *(arm.take(f"{key} {part}", index) for part in ("total", "over", "left", "left_over"))
        )
        for key in gates
    }
    return ArmBatch(
        counted["requests"],
        counted["errors"],
        counted["arrived"],
        np.ones(len(arm.free)),
        counted["refused"],
        counted["abandoned"],
        timed,
    )
