"""The figures of the gates at smoke size, in under two minutes: `python -m benchmarks.gates_smoke`.

Everything runs through the product's own code: errors through its vectorised form
(`rollouts.domain.gates.batch`), latency, load and pairs through `GatesState` and `PairedProcess` themselves.
Standard errors stand beside every rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rollouts.domain.gates.batch import ProportionBatch
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.paired import PairedProcess
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.proportion import ProportionProcess
from rollouts.domain.gates.verdict import Verdict
from rollouts.domain.intervals import ArmCounts, Interval, LatencyCounts

Array = npt.NDArray[np.float64]

SECONDS = 10  # an interval
REQUESTS = 200  # an interval, both arms
RAMP = (0.05, 0.10, 0.25, 0.50)
HOUR = 3600 // SECONDS
BASE = 0.01
THRESHOLD = math.log(20)  # alpha 0.05


@dataclass(frozen=True)
class Traffic:
    """How a simulated rollout's requests and errors come about.

    ratio       candidate error rate / baseline error rate from interval `late` on (1 before)
    incident    errors of both arms eightfold for five minutes
    delta       the boundary FAIL tests is baseline + delta (0: a strict gate)
    share       of the candidate; None: the ramp 5, 10, 25, 50 %, a quarter of `hours` each
    """

    ratio: float = 1.0
    hours: float = 1.0
    late: int = 0
    incident: bool = False
    share: float | None = None
    base: float = BASE
    drift: bool = True
    spread: bool = True
    delta: float = 0.0


def minutes_to_rollback(traffic: Traffic, runs: int, rng: np.random.Generator) -> Array:
    """Minutes from the regression's beginning to the rollback, shape (runs,); infinity where it never
    came.
    """
    intervals = int(traffic.hours * HOUR)
    batch = ProportionBatch(runs, delta=traffic.delta, spread=traffic.spread)
    drift, found = np.zeros(runs), np.full(runs, np.inf)
    for index in range(intervals):
        if traffic.spread and index and index % 3 == 0:
            batch.start_again()
        drift = 0.95 * drift + rng.normal(0, 0.1, runs) if traffic.drift else drift
        base = traffic.base * np.exp(drift)
        if traffic.incident and intervals * 0.4 <= index < intervals * 0.4 + 30:
            base = base * 8
        base = np.clip(base, 0, 0.9)
        ratio = traffic.ratio if index >= traffic.late else 1.0
        share = traffic.share or RAMP[index * len(RAMP) // intervals]
        n_c = rng.binomial(REQUESTS, share, runs)
        n_b = REQUESTS - n_c
        e_c, e_b = rng.binomial(n_c, np.clip(base * ratio, 0, 0.95)), rng.binomial(n_b, base)
        batch.update(n_c.astype(float), e_c.astype(float), n_b.astype(float), e_b.astype(float))
        newly = (batch.log_e >= THRESHOLD) & np.isinf(found)
        found[newly] = (index + 1 - traffic.late) * SECONDS / 60
        if not np.isinf(found).any():
            break
    return found


def seconds_to_burst(healthy_seconds: int, runs: int, rng: np.random.Generator) -> Array:
    """Seconds from the beginning of a tenfold burst, after healthy time, to the rollback (runs already
    rolled back before it are left out). Intervals of one second, 10 requests of each arm on average.
    """
    batch, found = ProportionBatch(runs, spread=True), np.full(runs, np.inf)
    for second in range(healthy_seconds + 600):
        if second and second % 30 == 0:
            batch.start_again()
        n_c = rng.binomial(20, 0.5, runs)
        n_b = 20 - n_c
        e_c = rng.binomial(n_c, BASE * (10 if second >= healthy_seconds else 1))
        e_b = rng.binomial(n_b, BASE)
        batch.update(n_c.astype(float), e_c.astype(float), n_b.astype(float), e_b.astype(float))
        newly = (batch.log_e >= THRESHOLD) & np.isinf(found)
        found[newly] = second + 1 - healthy_seconds
        if not np.isinf(found).any():
            break
    return found[found > 0]


def requests_to_pass(
    *, ratio: float, delta: float, base: float, runs: int, rng: np.random.Generator, share: float = 0.05
) -> Array:
    """Requests of an unchanged candidate until PASS, shape (runs,); infinity where four hours were not."""
    batch = ProportionBatch(runs, ratio=ratio, delta=delta, decision="pass")
    seen, found = np.zeros(runs), np.full(runs, np.inf)
    for _ in range(4 * HOUR):
        n_c = rng.binomial(REQUESTS, share, runs)
        n_b = REQUESTS - n_c
        e_c, e_b = rng.binomial(n_c, base), rng.binomial(n_b, base)
        batch.update(n_c.astype(float), e_c.astype(float), n_b.astype(float), e_b.astype(float))
        seen += n_c
        newly = (batch.log_e >= THRESHOLD) & np.isinf(found)
        found[newly] = seen[newly]
        if not np.isinf(found).any():
            break
    return found


def latency_policy(**limit: float) -> GatePolicy:
    """One tolerant latency gate at 500 ms."""
    gate = GateSpec(
        key="ttft",
        label="Time to first token",
        kind="latency_slo",
        mode="tolerant",
        weight=1.0,
        signal="ttft",
        slo_seconds=0.5,
        **(limit or {"ratio": 1.25}),  # type: ignore[arg-type]
    )
    return GatePolicy(name="latency", version=1, gates=(gate,))


def _interval(
    index: int, share: float, counts: Sequence[tuple[int, int]], ready: tuple[float, float] = (1.0, 1.0)
) -> Interval:
    arms = {
        name: ArmCounts(n, 0, n, ready[position], {"ttft": LatencyCounts(n, {0.5: over})})
        for position, (name, (n, over)) in enumerate(zip(("baseline", "candidate"), counts, strict=True))
    }
    return Interval(index, index * SECONDS, SECONDS, round(share * 10_000), arms)


def latency_rollout(
    slowdown: float, rng: np.random.Generator, *, intervals: int = HOUR
) -> tuple[float, bool]:
    """(minutes to rollback or infinity, whether PASS came first) with replicas in proportion to the weights.

    Latencies are log-normal (sigma 0.5, 4 % over the SLO) under a shared drift and with minute-long
    disturbances of each arm of its own: the over-dispersion that tempering is for.
    """
    state = GatesState.initial(latency_policy())
    drift, passed = 0.0, False
    own = [0.0, 0.0]
    for index in range(intervals):
        share = RAMP[index * len(RAMP) // intervals]
        drift = 0.95 * drift + rng.normal(0, 0.03)
        own = [0.8 * value + rng.normal(0, 0.015) for value in own]
        n_c = int(rng.binomial(REQUESTS, share))
        over = []
        for position, n in enumerate((REQUESTS - n_c, n_c)):
            shift = drift + own[position] + (math.log(slowdown) if position else 0.0)
            z = (1.75 - shift / 0.5) / math.sqrt(2)
            over.append((n, int(rng.binomial(n, math.erfc(z) / 2))))
        state = state.update(_interval(index, share, over, ((1 - share) * 20, share * 20)))
        passed = passed or state.tracks[0].has_passed
        if state.crossed:
            return (index + 1) * SECONDS / 60, passed
    return math.inf, passed


def load_rollout(slowdown: float, rng: np.random.Generator, *, per_step: int = 120) -> tuple[bool, bool]:
    """(FAIL ever, PASS before FAIL) with one replica an arm at 5, 25 and 50 %: an M/M/1 queue that serves
    22.5/s.

    At 5 % identical engines show almost nothing over the SLO on the candidate and 17 % on the baseline.
    """
    state = GatesState.initial(latency_policy())
    arrivals = REQUESTS / SECONDS
    for index in range(3 * per_step):
        share = (0.05, 0.25, 0.5)[index // per_step]
        counts = []
        for part, speed in ((1 - share, 22.5), (share, 22.5 / slowdown)):
            n = int(rng.poisson(REQUESTS * part))
            counts.append((n, int(rng.binomial(n, math.exp(-max(speed - arrivals * part, 0.0) * 0.5)))))
        state = state.update(_interval(index, share, counts))
        verdict = state.assess().verdicts[0].verdict if state.tracks[0].has_passed or state.crossed else None
        if verdict is Verdict.FAIL:
            return True, False
        if verdict is Verdict.PASS:
            return False, slowdown > 1.0
    return False, False


def pairs_to_fail(drop: float, rng: np.random.Generator, *, graded: bool, most: int) -> float:
    """Pairs until a strict paired gate fails; infinity when `most` were not enough."""
    process = PairedProcess()
    for number in range(1, most + 1):
        easiness = float(rng.beta(4, 1))  # of this prompt, for both variants; 0.8 on average
        if graded:
            scores = np.clip(0.15 + 0.6 * easiness + rng.normal(0, 0.1, 2) - (0.0, drop), 0, 1)
        else:
            scores = (rng.random(2) < (easiness, easiness * (1 - drop / 0.8))).astype(float)
        baseline, candidate = (float(score) for score in scores)
        process = process.update(baseline, candidate)
        if process.log_e >= THRESHOLD:
            return number
    return math.inf


def cost_of_update() -> float:
    """Microseconds of one `ProportionProcess.update`, the median of 5 x 2,000 calls."""
    process = ProportionProcess(delta=0.01, decision="pass")
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        for number in range(2000):
            process.update(100, number % 4, 100, (number + 1) % 4)
        times.append((time.perf_counter() - begin) / 2000 * 1e6)
    return float(np.median(times))


def _rate(found: Array) -> str:
    rate = float(np.mean(np.isfinite(found)))
    return f"{rate:.3f} ± {math.sqrt(max(rate * (1 - rate), 1e-9) / len(found)):.3f}"


def _mean(found: Array, most: float) -> str:
    minutes = np.minimum(found, most)
    return f"{minutes.mean():.2f} ± {minutes.std() / math.sqrt(len(minutes)):.2f}"


def main() -> None:
    """Prints every table, with the design's figure in brackets where it states one."""
    begin = time.perf_counter()
    rng = np.random.default_rng(20260711)
    print(
        "Errors, strict, 200 requests / 10 s, 1 h, ramp, shared drift, base 1 % (in brackets: the design's)"
    )
    for spread, rates, means in (
        (True, (".030", ".029"), "33 15.8 6.4 2.4 0.9"),
        (False, (".026", ".030"), "32 14.1 5.8 2.1 0.8"),
    ):
        print(f"  starts {'every 5 min' if spread else 'single'}")
        print(
            "    A/A false rollback ",
            _rate(minutes_to_rollback(Traffic(spread=spread), 3000, rng)),
            f"({rates[0]})",
        )
        incident = minutes_to_rollback(Traffic(spread=spread, incident=True), 3000, rng)
        print("    + shared incident  ", _rate(incident), f"({rates[1]})")
        for ratio, mean in zip((1.5, 2.0, 3.0, 5.0, 10.0), means.split(), strict=True):
            found = minutes_to_rollback(Traffic(ratio=ratio, spread=spread), 600, rng)
            print(f"    minutes at x{ratio:<5g}   ", _mean(found, 60), f"({mean})")
    print("  A/A over 12 h        ", _rate(minutes_to_rollback(Traffic(hours=12), 600, rng)), "(.030)")
    print("A burst x10 at 50 %, 20 requests/s, looked at every second: seconds from its beginning")
    for late, target in ((0, "11"), (1200, "18"), (3600, "20"), (6 * 3600, "30")):
        seconds = seconds_to_burst(late, 200, rng)
        error = seconds.std() / math.sqrt(len(seconds))
        print(f"  after {late / 60:4.0f} healthy minutes  {seconds.mean():.0f} ± {error:.1f} ({target})")
    print("Modes: a ratio of 3 with a limit of +1 pp, ramp, minutes to roll back")
    for mode, delta, target in (("strict", 0.0, "6"), ("tolerant", 0.01, "23")):
        found = minutes_to_rollback(Traffic(ratio=3, delta=delta), 400, rng)
        print(f"  {mode:8}  {_mean(found, 60)} ({target})")
    found = minutes_to_rollback(Traffic(ratio=1.5), 600, rng)
    print(f"  ratio 1.5: strict rolls back {_rate(found)}, tolerant +1 pp", end=" ")
    print(_rate(minutes_to_rollback(Traffic(ratio=1.5, delta=0.01), 600, rng)))
    print("Candidate requests to PASS when nothing changed, median, base 1 %, at 5 %")
    for label, ratio, delta, target in (
        ("+1 pp", 1.0, 0.01, "1054"),
        ("+0.5 pp", 1.0, 0.005, "2688"),
        ("x1.5", 1.5, 0.0, "3024"),
    ):
        found = requests_to_pass(ratio=ratio, delta=delta, base=BASE, runs=600, rng=rng)
        print(f"  {label:8} {np.median(found):.0f} ({target})")
    print("Latency, SLO share, tolerant x1.25, tempered")
    runs = np.array([latency_rollout(1.0, rng)[0] for _ in range(80)])
    print("  A/A false rollback   ", _rate(runs), "(.000-.004)")
    for slowdown, target in ((1.5, "5.4"), (2.0, "1.2")):
        runs = np.array([latency_rollout(slowdown, rng)[0] for _ in range(60)])
        print(f"  minutes at x{slowdown:<4g}     ", _mean(runs, 60), f"({target})")
    print("Load: one replica an arm at 5/25/50 %")
    for slowdown in (1.0, 1.25, 1.5, 2.0):
        outcome = [load_rollout(slowdown, rng) for _ in range(25)]
        failed, passed = (sum(row[column] for row in outcome) for column in (0, 1))
        print(f"  slow by {slowdown:<4g}  FAIL {failed}/25, PASS before FAIL {passed}/25 (0)")
    print("Paired quality, strict")
    aa = np.array([pairs_to_fail(0.0, rng, graded=number % 2 == 0, most=600) for number in range(400)])
    print("  A/A false rollback   ", _rate(aa), "(.025)")
    for graded, target in ((False, "197"), (True, "55")):
        found = np.array([pairs_to_fail(0.1, rng, graded=graded, most=2000) for _ in range(200)])
        kind = "graded" if graded else "binary"
        print(f"  pairs at a drop of .10, {kind}: median {np.median(found):.0f} ({target})")
    print(f"One proportion update: {cost_of_update():.0f} microseconds (100)")
    print(f"All of it took {time.perf_counter() - begin:.0f} s.")


if __name__ == "__main__":
    main()
