"""What the gates cost: time of an update and of a tick, bytes of a state and of an interval."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from benchmarks.gates.report import Grid, Table
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import HOUR, SECONDS
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.policy import GatePolicy, as_written
from rollouts.domain.gates.proportion import ProportionProcess
from rollouts.domain.record.intervals import ArmCounts, Interval, LatencyCounts, ProbePair

GATES = (
    {"key": "errors", "kind": "error_rate", "delta": 0.01},
    {"key": "ttft", "kind": "latency_slo", "signal": "ttft", "slo_seconds": 0.5, "ratio": 1.25},
    {"key": "quality", "kind": "paired", "margin": 0.05},
    {"key": "duration", "kind": "latency_slo", "signal": "duration", "slo_seconds": 5.0, "ratio": 1.25},
    {"key": "thumbs", "kind": "feedback", "delta": 0.03},
    {"key": "ttft-long", "kind": "latency_slo", "signal": "ttft", "slo_seconds": 1.0, "delta": 0.01},
    {"key": "duration-long", "kind": "latency_slo", "signal": "duration", "slo_seconds": 10.0, "delta": 0.01},
    {"key": "ceiling", "kind": "error_rate", "ratio": 0, "delta": 0.05},
)
EDGES = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROLLOUTS, STATES = 1_000, 20


def policy_of(gates: int) -> GatePolicy:
    """The first so many of eight usual gates, in equal parts."""
    return GatePolicy.from_json(as_written({"name": "costs", "version": 1, "gates": list(GATES[:gates])}))


def usual_interval(index: int, rng: random.Random) -> Interval:
    """100 requests an arm with some errors and slow ones, both histograms, two golden pairs."""

    def arm() -> ArmCounts:
        over = {edge: max(40 - 7 * place, 0) + rng.randint(0, 4) for place, edge in enumerate(EDGES)}
        latency = {signal: LatencyCounts(100, over) for signal in ("ttft", "duration")}
        return ArmCounts(100, rng.randint(0, 3), 100, 2.0, latency, 90, rng.randint(0, 6), 30)

    pairs = (ProbePair("prompt-17", 0.8, 0.8), ProbePair("prompt-4", 0.9, rng.choice((0.7, 0.9, 1.0))))
    arms = {"baseline": arm(), "candidate": arm()}
    return Interval(index, index * SECONDS, SECONDS, 5_000, arms, {"candidate": pairs})


def state_after(gates: int, intervals: int, seed: int) -> GatesState:
    rng = random.Random(seed)
    state = GatesState.initial(policy_of(gates))
    for index in range(intervals):
        state = state.update(usual_interval(index, rng))
    return state


def tick(states: Sequence[str], interval: str, rollouts: int = ROLLOUTS) -> list[str]:
    """One tick of so many rollouts: each from its stored JSON through one interval to its new JSON."""
    return [
        json.dumps(
            GatesState.from_json(json.loads(states[number % len(states)]))
            .update(Interval.from_json(json.loads(interval)))
            .to_json()
        )
        for number in range(rollouts)
    ]


def costs_run(*, runs: int, rng: np.random.Generator, intervals: int, rollouts: int, day: int) -> Results:
    """`runs` repetitions of every measurement, in seconds or bytes."""
    seed = int(rng.integers(2**31))
    one, eight = state_after(1, intervals, seed), state_after(8, intervals, seed)
    nxt = usual_interval(intervals, random.Random(seed))
    texts = [json.dumps(state_after(8, intervals, seed + number).to_json()) for number in range(STATES)]
    process = ProportionProcess(delta=0.01, decision="pass")
    strict = ProportionProcess(starts="spread")
    hour, whole_day = state_after(8, intervals, seed), state_after(8, day, seed)
    measured: dict[str, Callable[[], object]] = {
        "one update of one process, strict FAIL": lambda: strict.update(100, 2, 100, 1),
        "one update of one process, PASS at +1 pp": lambda: process.update(100, 2, 100, 1),
        "one interval of one gate": lambda: one.update(nxt),
        "one interval of eight gates": lambda: eight.update(nxt),
        "verdicts and sentences of eight gates": lambda: eight.assess(),
        "reading a state of eight gates from JSON": lambda: GatesState.from_json(json.loads(texts[0])),
        "writing it as JSON": lambda: json.dumps(eight.to_json()),
    }
    results = {name: np.array([_seconds(what) for _ in range(runs)]) for name, what in measured.items()}
    interval_text = json.dumps(nxt.to_json())
    results[TICK] = np.array(
        [_once(lambda: tick(texts, interval_text, rollouts)) * ROLLOUTS / rollouts for _ in range(runs)]
    )
    for name, size in (
        (f"a state of eight gates after {_span(intervals)}", len(json.dumps(hour.to_json()))),
        (f"a state of eight gates after {_span(day)}", len(json.dumps(whole_day.to_json()))),
        ("one interval of evidence", len(interval_text)),
    ):
        results["bytes " + name] = np.full(runs, float(size))
    return results


TICK = "1,000 rollouts of eight gates, one interval each, from stored JSON to new JSON"


def _seconds(what: Callable[[], object], atleast: float = 0.02) -> float:
    """Seconds of one call, the mean over as many as fill `atleast` seconds."""
    calls, begin = 0, time.process_time()
    while (now := time.process_time()) - begin < atleast:
        what()
        calls += 1
    return (now - begin) / max(calls, 1)


def _once(what: Callable[[], object]) -> float:
    begin = time.process_time()
    what()
    return time.process_time() - begin


def _span(intervals: int) -> str:
    return f"{intervals * SECONDS / 3600:g} h"


def _cells(size: Size) -> Sequence[Cell]:
    settings = {
        "intervals": size.pick(HOUR, HOUR // 4, 5),
        "rollouts": size.pick(ROLLOUTS, ROLLOUTS, 20),
        "day": size.pick(24 * HOUR, HOUR, 10),
    }
    return [Cell("costs", costs_run, size.runs(7, 3, 2), settings, chunk=100)]


def _show(results: Mapping[str, Results]) -> Sequence[Grid]:
    aims = {TICK: "1 s", "one update of one process, PASS at +1 pp": "100 µs"}
    times, sizes = [], []
    for name, values in results["costs"].items():
        if name.startswith("bytes "):
            sizes.append([name.removeprefix("bytes "), f"{values[0] / 1000:.1f} kB"])
        else:
            times.append([name, _time(float(np.median(values))), aims.get(name, "")])
    return [Grid(["one core, median", "time", "aim"], times), Grid(["as JSON", "size"], sizes)]


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1e6:,.0f} µs"


COSTS = Table(
    "costs",
    "What it costs",
    "Measured alone, in one process, after the simulations; the median of several repetitions. Eight gates: "
    "errors twice, latency four times, golden pairs, thumbs; both histograms with seven edges in every interval.",
    "A state stays as large as it is, however long the rollout; evidence grows by one interval every few "
    "seconds until it is compacted.",
    _cells,
    _show,
)
