"""Latency: requests over the SLO with over-dispersion, unequal loads, and the trap of per-token counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from benchmarks.gates import peers
from benchmarks.gates.report import Grid, Table, mean, rate, share
from benchmarks.gates.rules import ours
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import HOUR, MINUTE, REQUESTS, SECONDS, Counts, ar1, shares_of
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.verdict import Verdict
from rollouts.domain.record.intervals import ArmCounts, Interval, LatencyCounts

SIGMAS = (0.5, 1.0)  # of the log-normal latencies
TO_SLO = 1.75  # standard deviations from the middle to the SLO: 4 % are over it
NOISE = 0.03  # kick of each arm's own disturbances, in standard deviations of the latencies
SLOWDOWNS = (1.25, 1.5, 2.0)
OURS, UNTEMPERED = "Headgate, tolerant x1.25", "the same, not tempered"
ARGO, KAYENTA = "Argo-like p95 > SLO, failureLimit 3", "Kayenta-like, every 5 min"


def draw_latency(
    slowdown: float, sigma: float, noise: float, runs: int, rng: np.random.Generator, intervals: int = HOUR
) -> Counts:
    """Requests over the SLO of both arms: log-normal latencies, a drift that both share and, with `noise`,
    disturbances of each arm of its own that last about a minute (AR(1), keep 0.8).
    """
    shared = ar1(intervals, runs, 0.95, 2 * NOISE, rng)
    own = [ar1(intervals, runs, 0.8, noise, rng) for _ in range(2)]
    n_c = rng.binomial(REQUESTS, shares_of(None, intervals)[:, None], (intervals, runs))
    e_c, e_b = (
        rng.binomial(n, special.ndtr(shared + of_arm + math.log(slow) / sigma - TO_SLO))
        for n, of_arm, slow in ((n_c, own[0], slowdown), (REQUESTS - n_c, own[1], 1.0))
    )
    return Counts(n_c.astype(float), e_c.astype(float), (REQUESTS - n_c).astype(float), e_b.astype(float))


def slo_run(
    *,
    runs: int,
    rng: np.random.Generator,
    slowdown: float,
    sigma: float = 0.5,
    noise: float = NOISE,
    intervals: int = HOUR,
) -> Results:
    """Minutes until each rule rolls back. A p95 above the SLO is a share over it above 5 %."""
    counts = draw_latency(slowdown, sigma, noise, runs, rng, intervals)
    found = {
        OURS: ours(counts, ratio=1.25, tempered=True),
        UNTEMPERED: ours(counts, ratio=1.25),
        ARGO: peers.argo(counts, limit=0.05),
        KAYENTA: peers.kayenta(counts),
    }
    return {name: looks / MINUTE for name, looks in found.items()}


def _slo(size: Size) -> Sequence[Cell]:
    intervals = size.pick(HOUR, HOUR, 6)
    false, true = size.runs(6_000, 200), size.runs(1_500, 60)
    return [
        Cell("x1", slo_run, false, {"slowdown": 1.0, "intervals": intervals}),
        Cell("x1 restless", slo_run, false, {"slowdown": 1.0, "noise": 5 * NOISE, "intervals": intervals}),
        *(
            Cell(
                f"{sigma:g} x{slow:g}",
                slo_run,
                true,
                {"slowdown": slow, "sigma": sigma, "intervals": intervals},
            )
            for sigma in SIGMAS
            for slow in SLOWDOWNS
        ),
    ]


def _show_slo(results: Mapping[str, Results]) -> Sequence[Grid]:
    aims = {
        OURS: (".000-.004", "", "", "5.4", "1.2"),
        ARGO: (".92", "", "", "", ""),
        KAYENTA: ("", "", "", "10.4", ""),
    }
    rows, wide = [], []
    for name in results["x1"]:
        cells = [rate(results["x1"][name]), rate(results["x1 restless"][name])]
        rows.append([name, *cells, *(mean(results[f"0.5 x{slow:g}"][name], 60) for slow in SLOWDOWNS)])
        if name in aims:
            rows.append(["*aim*", *(f"*{aim}*" if aim else "" for aim in aims[name])])
        wide.append([name, *(mean(results[f"1 x{slow:g}"][name], 60) for slow in SLOWDOWNS)])
    slower = [f"slower x{slow:g}, min" for slow in SLOWDOWNS]
    return [
        Grid(["rule", "A/A rolled back", "A/A, restless arms", *slower], rows),
        Grid(["rule", *slower], wide, "Latencies twice as spread (sigma 1)"),
    ]


SLO = Table(
    "latency",
    "Latency: share of requests over the SLO",
    "Log-normal latencies (sigma 0.5), 4 % over the SLO, replicas in proportion to the weights, otherwise as in "
    "the first table; a drift both arms share and disturbances of each arm that last about a minute (standard "
    "deviation 0.05 of the latencies', restless 0.25). Limit x1.25, tolerant. Means count never as 60 minutes. "
    "(The design does not say how spread its latencies were.)",
    "Over-dispersed counts look like regressions to a test for independent requests; tempering takes out what "
    "is visible from minute to minute, and costs some time. It is an approximation: where each arm wanders by "
    "itself (restless) it lowers false rollbacks much, and not below .05.",
    _slo,
    _show_slo,
)


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


def load_rollout(
    slowdown: float, rng: np.random.Generator, *, per_step: int = 120, directional: bool = True
) -> tuple[bool, bool]:
    """(FAIL ever, PASS before FAIL) of one rollout through `GatesState`, with one replica an arm at 5, 25 and
    50 %: M/M/1 queues that serve 22.5 requests a second, 20 arriving in all.

    directional     False: the gate is told that the replicas were in proportion to the weights, so that no
                    interval is left out
    """
    state = GatesState.initial(latency_policy())
    arrivals = REQUESTS / SECONDS
    for index in range(3 * per_step):
        part = (0.05, 0.25, 0.5)[index // per_step]
        arms = {}
        for name, of_arm, speed in (("baseline", 1 - part, 22.5), ("candidate", part, 22.5 / slowdown)):
            n = int(rng.poisson(REQUESTS * of_arm))
            over = int(rng.binomial(n, math.exp(-max(speed - arrivals * of_arm, 0.0) * 0.5)))
            ready = 1.0 if directional else max(n, 1) / REQUESTS
            arms[name] = ArmCounts(n, 0, n, ready, {"ttft": LatencyCounts(n, {0.5: over})})
        state = state.update(Interval(index, index * SECONDS, SECONDS, round(part * 10_000), arms))
        verdict = state.assess().verdicts[0].verdict if state.tested[0].has_passed or state.crossed else None
        if verdict is Verdict.FAIL:
            return True, False
        if verdict is Verdict.PASS:
            return False, True
    return False, False


def load_run(
    *, runs: int, rng: np.random.Generator, slowdown: float, directional: bool, per_step: int
) -> Results:
    outcomes = np.array(
        [load_rollout(slowdown, rng, per_step=per_step, directional=directional) for _ in range(runs)]
    )
    return {"fail": outcomes[:, 0].astype(float), "pass": outcomes[:, 1].astype(float)}


def _load(size: Size) -> Sequence[Cell]:
    return [
        Cell(
            f"x{slow:g}, {'directional' if directional else 'every interval counts'}",
            load_run,
            size.runs(200, 12, 1),
            {"slowdown": slow, "directional": directional, "per_step": size.pick(120, 120, 3)},
            chunk=50,
        )
        for directional in (True, False)
        for slow in (1.0, *SLOWDOWNS)
    ]


def _show_load(results: Mapping[str, Results]) -> Sequence[Grid]:
    rows = [[cell, share(found["fail"]), share(found["pass"])] for cell, found in results.items()]
    return [Grid(["slower by, evidence", "FAIL", "PASS before FAIL (aim: 0)"], rows)]


LOAD = Table(
    "load",
    "Different loads",
    "Through the product's state itself, interval by interval: one replica an arm at 5, 25 and 50 % for 20 "
    "minutes each, queues (M/M/1) that serve 22.5 requests a second; identical engines then show next to "
    "nothing over the SLO on the candidate and much on the baseline. x1 is an unchanged candidate.",
    "An engine with little traffic looks fast. If every interval counts, a slower candidate passes before it "
    "fails; the directional rule (a candidate under more load cannot be blamed, one under less cannot be "
    "praised) never lets it.",
    _load,
    _show_load,
)

TOKENS = 100
CLUMP = (
    0.5  # pseudo-events of a request's own chance that a token is slow: near 0 all or none of its tokens are
)
PER_TOKEN, TEMPERED_TOKEN, PER_REQUEST = (
    "tokens counted",
    "tokens counted, tempered",
    "requests counted, tempered",
)


def token_run(*, runs: int, rng: np.random.Generator, intervals: int = HOUR) -> Results:
    """A/A with 100 tokens a request whose slowness goes together: 4 % of tokens are slow on average."""
    tokens: list[np.typing.NDArray[np.float64]] = []
    requests: list[np.typing.NDArray[np.float64]] = []
    for part in shares_of(None, intervals):
        on_candidate = rng.random((runs, REQUESTS)) < part
        slow = rng.binomial(TOKENS, rng.beta(CLUMP, CLUMP / 0.04 - CLUMP, (runs, REQUESTS)))
        over = slow > TOKENS // 10
        n_c = on_candidate.sum(axis=1)
        e = [(slow * arm).sum(axis=1) for arm in (on_candidate, ~on_candidate)]
        o = [(over & arm).sum(axis=1) for arm in (on_candidate, ~on_candidate)]
        tokens.append(np.stack([TOKENS * n_c, e[0], TOKENS * (REQUESTS - n_c), e[1]]).astype(float))
        requests.append(np.stack([n_c, o[0], REQUESTS - n_c, o[1]]).astype(float))
    of_tokens, of_requests = (Counts(*np.stack(rows, axis=1)) for rows in (tokens, requests))
    return {
        PER_TOKEN: ours(of_tokens, ratio=1.25),
        TEMPERED_TOKEN: ours(of_tokens, ratio=1.25, tempered=True),
        PER_REQUEST: ours(of_requests, ratio=1.25, tempered=True),
    }


def _tokens(size: Size) -> Sequence[Cell]:
    settings = {"intervals": size.pick(HOUR, HOUR, 6)}
    return [Cell("A/A", token_run, size.runs(1_500, 40), settings, chunk=100)]


def _show_tokens(results: Mapping[str, Results]) -> Sequence[Grid]:
    aims = {PER_TOKEN: ".49"}
    rows = [[name, rate(found), aims.get(name, "")] for name, found in results["A/A"].items()]
    return [Grid(["what is counted", "A/A rolled back", "the design's"], rows)]


TOKEN = Table(
    "tokens",
    "The trap of per-token histograms",
    f"{TOKENS} tokens a request, whose slowness goes together (Beta with mean 4 %, {CLUMP:g} pseudo-events); a "
    "request is over when a tenth of its tokens is slow. Limit x1.25, tolerant, otherwise as in the first table.",
    "A histogram of the times between tokens holds a hundred samples of each request that are anything but "
    "independent. Gates therefore use histograms of requests only.",
    _tokens,
    _show_tokens,
)
