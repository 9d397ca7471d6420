"""Sticky units: what happens when users or conversations are randomised but requests are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.gates.report import Grid, Table, rate
from benchmarks.gates.rules import ours
from benchmarks.gates.running import Cell, Results, Size
from benchmarks.gates.traffic import BASE, HOUR, REQUESTS, Counts, shares_of

EVEN = 0.1  # rates of units are Beta with these pseudo-events: one unit in ten or so makes nearly all errors
LENGTHS = (3, 10, 30)
USERS = (200, 1_000, 5_000)
BY_REQUEST, BY_UNIT, RANDOM = "sticky, by request", "sticky, by unit", "each request drawn by itself"


def conversations(*, runs: int, rng: np.random.Generator, length: float, intervals: int = HOUR) -> Results:
    """200 conversations at a time, a request each every 10 s; one ends with chance 1/length and another
    takes its place. A conversation keeps its arm and has an error rate of its own.
    """
    shares = shares_of(None, intervals)
    rates = rng.beta(EVEN, EVEN / BASE - EVEN, (runs, REQUESTS))
    arms = rng.random((runs, REQUESTS)) < shares[0]
    fresh = np.ones((runs, REQUESTS), dtype=bool)
    seen: dict[str, list[np.typing.NDArray[np.float64]]] = {BY_REQUEST: [], BY_UNIT: [], RANDOM: []}
    for share in shares:
        failed = rng.random((runs, REQUESTS)) < rates
        drawn = rng.random((runs, REQUESTS)) < share
        everything = np.ones_like(fresh)
        for name, arm, counted in (
            (BY_REQUEST, arms, everything),
            (BY_UNIT, arms, fresh),
            (RANDOM, drawn, everything),
        ):
            seen[name].append(_row(arm, failed, counted))
        fresh = rng.random((runs, REQUESTS)) < 1 / length
        rates = np.where(fresh, rng.beta(EVEN, EVEN / BASE - EVEN, (runs, REQUESTS)), rates)
        arms = np.where(fresh, rng.random((runs, REQUESTS)) < share, arms)
    return {name: ours(Counts(*np.stack(rows, axis=1))) for name, rows in seen.items()}


def users(*, runs: int, rng: np.random.Generator, population: int, intervals: int = HOUR) -> Results:
    """Every request comes from a user, some far more often than others; a user's arm is a fixed number in
    [0, 1) against the share, and the error rate is the user's own. By unit only the first request counts.
    """
    rates = rng.beta(EVEN, EVEN / BASE - EVEN, (runs, population))
    activity = rng.gamma(1.0, 1.0, (runs, population))
    activity /= activity.sum(axis=1, keepdims=True)
    place = rng.random((runs, population))
    unseen = np.ones((runs, population), dtype=bool)
    shows_up = -np.expm1(-REQUESTS * activity)  # at least one request in an interval
    seen: dict[str, list[np.typing.NDArray[np.float64]]] = {BY_REQUEST: [], BY_UNIT: [], RANDOM: []}
    overall = (activity * rates).sum(axis=1)
    for share in shares_of(None, intervals):
        on_candidate = place < share
        weight = (activity * on_candidate).sum(axis=1)
        n_c = rng.binomial(REQUESTS, np.clip(weight, 0, 1))
        with np.errstate(invalid="ignore", divide="ignore"):
            rate_c = np.nan_to_num((activity * rates * on_candidate).sum(axis=1) / weight)
            rate_b = (activity * rates * ~on_candidate).sum(axis=1) / (1 - weight)
        seen[BY_REQUEST].append(_draw(n_c, np.clip(rate_c, 0, 1), np.clip(rate_b, 0, 1), rng))
        seen[RANDOM].append(_draw(rng.binomial(REQUESTS, share, runs), overall, overall, rng))
        if unseen.any():
            counted = unseen & (rng.random((runs, population)) < shows_up)
            unseen &= ~counted
            failed = rng.random((runs, population)) < rates
            seen[BY_UNIT].append(_row(on_candidate, failed, counted))
        else:
            seen[BY_UNIT].append(np.zeros((4, runs)))
    return {name: ours(Counts(*np.stack(rows, axis=1))) for name, rows in seen.items()}


def _row(
    arm: np.typing.NDArray[np.bool_],
    failed: np.typing.NDArray[np.bool_],
    counted: np.typing.NDArray[np.bool_],
) -> np.typing.NDArray[np.float64]:
    """(n_c, e_c, n_b, e_b) of the counted units, shape (4, runs)."""
    return np.stack(
        [
            (arm & counted).sum(axis=1),
            (arm & counted & failed).sum(axis=1),
            (~arm & counted).sum(axis=1),
            (~arm & counted & failed).sum(axis=1),
        ]
    ).astype(float)


def _draw(
    n_c: np.typing.NDArray[np.int64],
    rate_c: np.typing.NDArray[np.float64],
    rate_b: np.typing.NDArray[np.float64],
    rng: np.random.Generator,
) -> np.typing.NDArray[np.float64]:
    n_b = REQUESTS - n_c
    return np.stack([n_c, rng.binomial(n_c, rate_c), n_b, rng.binomial(n_b, rate_b)]).astype(float)


def _cells(size: Size) -> Sequence[Cell]:
    runs, intervals = size.runs(2_000, 60), size.pick(HOUR, HOUR, 8)
    return [
        *(
            Cell(
                f"conversations of {length} requests",
                conversations,
                runs,
                {"length": length, "intervals": intervals},
                chunk=100,
            )
            for length in LENGTHS
        ),
        *(
            Cell(
                f"{population:,} users",
                users,
                runs,
                {"population": population, "intervals": intervals},
                chunk=100 if population <= 1_000 else 50,
            )
            for population in USERS
        ),
    ]


def _show(results: Mapping[str, Results]) -> Sequence[Grid]:
    aims = {"3": ".13", "10": ".26", "30": ".28", "200": ".39-.45", "5,000": ".12-.35"}
    rows = []
    for cell, found in results.items():
        number = next(word for word in cell.split() if word[0].isdigit())
        rows.append(
            [cell, rate(found[BY_REQUEST]), aims.get(number, ""), rate(found[BY_UNIT]), rate(found[RANDOM])]
        )
    return [Grid(["A/A rolled back", BY_REQUEST, "the design's", BY_UNIT, RANDOM], rows)]


UNITS = Table(
    "units",
    "Sticky users and conversations",
    "200 requests every 10 s for an hour, the usual ramp, no change. Units differ: their error rates are Beta "
    f"distributed with mean 1 % ({EVEN:g} pseudo-errors), users also in how often they come (exponential). A "
    "sticky unit keeps its arm; by unit its first request alone is counted.",
    "When units stick to an arm but requests are counted, one unlucky user is taken for many failures, and "
    "healthy releases are rolled back. Counting the unit, or drawing each request by itself (the default for "
    "canaries), keeps the promise whatever the units are like.",
    _cells,
    _show,
)
