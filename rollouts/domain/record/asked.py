"""A team's own counters, asked for by two expressions of a gate: what was read of an arm, and what that makes of an
interval.

Counters belong to a process, known by its name and its start. What a process has counted is compared with what the same
process had counted, series by series, and nothing else is: one that restarted, came or went since the last reading is
left out, so no restart makes events that did not happen. A series that begins in a process that was read before began
at zero: a counter with labels is not there before it first counts. An arm without any series of bad events says
nothing, and the interval in which they come is left out, too: it would be one that was chosen for its bad events.

Where a process counts all events, its bad ones are those of the same process, and one that is left out takes both with
it. Where one process counts what is bad and another one all (a guardrail beside the engine), they only make a share
together: then one that is left out voids the interval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.digests import canonical_json
from rollouts.domain.record.numbers import NumberReading

UNSEEN_AT_MOST = 0.6  # of an arm's processes, as of the router's
NAMED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class CounterPair:
    """Two expressions of cumulative counters: of the events that are bad, and of all events, the bad ones included."""

    bad: str
    all: str

    @property
    def expressions(self) -> tuple[str, ...]:
        """What a person may ask by hand, with placeholders for the arm."""
        return (self.bad, self.all)

    @property
    def digest(self) -> str:
        """By which evidence knows what these two counted: another pair of expressions counts something else."""
        return hashlib.sha256(canonical_json([self.bad, self.all])).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ProcessCounters:
    """What one process has counted since it started, by series."""

    bad: Mapping[str, int]
    all: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class AskedReading:
    """What a pair of expressions says of an arm.

    at         when the oldest of it was counted, in seconds since the epoch
    processes  by name and start; evidence holds the names, so they are never addresses. At least one has a series of
               bad events, and at least one of all events
    """

    at: float
    processes: Mapping[str, ProcessCounters]

    @property
    def bad(self) -> int:
        return sum(sum(process.bad.values()) for process in self.processes.values())

    @property
    def all(self) -> int:
        return sum(sum(process.all.values()) for process in self.processes.values())

    @property
    def why_unusable(self) -> str:
        """Why these can be no part and no whole; empty when they can."""
        if self.bad <= self.all:
            return ""
        return f"there are more bad events ({self.bad:,}) than events ({self.all:,}); are the two exchanged?"

    def to_json(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "processes": {
                name: {"bad": dict(one.bad), "all": dict(one.all)} for name, one in self.processes.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            float(data["at"]),
            {
                name: ProcessCounters(_counts(one["bad"]), _counts(one["all"]))
                for name, one in data["processes"].items()
            },
        )


@dataclass(frozen=True, slots=True)
class CounterAnswer:
    """What a source of signals says of one arm: the reading of a pair or the number of a query, or why there is none.

    queries  what was asked (of a pair bad events and all), as a person may ask it by hand; empty where nobody is asked
    """

    reading: AskedReading | None = None
    why: str = ""
    queries: tuple[str, ...] = ()
    number: NumberReading | None = None


@dataclass(frozen=True, slots=True)
class AskedCounts:
    """What an arm's own counters say of one interval. `why` there is nothing to say: both counts are 0 then and mean
    nothing."""

    bad: int = 0
    total: int = 0
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"why": self.why} if self.why else {"bad": self.bad, "total": self.total}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(int(data.get("bad", 0)), int(data.get("total", 0)), str(data.get("why", "")))

    def plus(self, other: AskedCounts) -> AskedCounts:
        """Both stretches together; one that says nothing adds nothing."""
        if self.why or other.why:
            return other if self.why else self
        return AskedCounts(self.bad + other.bad, self.total + other.total)


def asked_between(
    before: Mapping[str, AskedReading | str], after: Mapping[str, AskedReading | str]
) -> dict[str, AskedCounts]:
    """What was counted between two readings of an arm, by the digest of the pair; a text is why there is no reading."""
    return {digest: _between(before.get(digest), now) for digest, now in after.items()}


def _between(then: AskedReading | str | None, now: AskedReading | str) -> AskedCounts:
    if isinstance(now, str):
        return AskedCounts(why=now)
    if not isinstance(then, AskedReading):
        return AskedCounts(why="its counters were not read before: there is nothing to compare them with yet")
    if now.why_unusable:
        return AskedCounts(why=now.why_unusable)
    bad = total = 0
    unseen: dict[str, str] = {}
    for name in sorted({*then.processes, *now.processes}):
        grown = _grown(then.processes.get(name), now.processes.get(name))
        if isinstance(grown, str):
            unseen[name] = grown
        else:
            bad, total = bad + grown[0], total + grown[1]
    apart = any(not one.all for reading in (then, now) for one in reading.processes.values())
    share = max(_share(unseen, then.processes), _share(unseen, now.processes))
    if share > UNSEEN_AT_MOST or (unseen and apart):
        told = "; ".join(f"{name} {why}" for name, why in list(unseen.items())[:NAMED_AT_MOST])
        return AskedCounts(why=f"{len(unseen)} of its processes could not be counted: {told}")
    # What is bad of an event that was counted an interval ago may be known in this one.
    return AskedCounts(bad, max(bad, total))


def _grown(then: ProcessCounters | None, now: ProcessCounters | None) -> tuple[int, int] | str:
    """(bad, all) that this process counted in between, or why that is not known."""
    if then is None:
        return "was not read before"
    if now is None:
        return "is gone, began again or was not read"
    bad, every = _difference(then.bad, now.bad), _difference(then.all, now.all)
    return "lost a series or counted down" if bad is None or every is None else (bad, every)


def _difference(then: Mapping[str, int], now: Mapping[str, int]) -> int | None:
    if not then.keys() <= now.keys():
        return None
    steps = [count - then.get(series, 0) for series, count in now.items()]
    return None if min(steps, default=0) < 0 else sum(steps)


def _share(unseen: Collection[str], of: Collection[str]) -> float:
    return sum(name in unseen for name in of) / len(of) if of else 0.0


def _counts(data: Mapping[str, Any]) -> dict[str, int]:
    return {str(series): int(count) for series, count in data.items()}
