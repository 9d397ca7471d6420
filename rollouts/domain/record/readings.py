"""Counters as they were read: cumulative since the process that counts was started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rollouts.domain.record.asked import AskedReading
from rollouts.domain.record.numbers import NumberReading

ROUTER = "router"  # the name of the one target of a router that is a single process


class CountedKind(StrEnum):
    """What counters are about. A latency is called as gates call it."""

    REQUESTS = "requests"  # how they ended
    TTFT = "ttft"
    DURATION = "duration"
    COMPLETIONS = "completions"  # the engine's own counts of its answers
    DEPARTURES = "departures"  # whether whoever left had the whole answer


# Of the answers of an arm. So few cannot move a share of departures by what a gate looks for; and counters that are
# written down one after the other differ by what ends meanwhile.
UNHELD_AT_MOST = 0.02


@dataclass(frozen=True, slots=True)
class HistogramReading:
    """A cumulative histogram since its target started: how many were at or below each edge (seconds), and all."""

    edges: tuple[float, ...]
    at_or_below: tuple[int, ...]
    total: int


@dataclass(frozen=True, slots=True)
class ArmReading:
    """Cumulative counters of the inference requests of one assigned arm at the router, without forced requests,
    shadows, and calls that are no inference.

    Every arrival ends in one class, so `arrived` is the sum of the classes and of `running`.

    arrived     requests that arrived
    answered    whole answers of the assigned arm itself
    refused     4xx, by kind: "request" (400, 404, 413, 422 and the like) and "rate" (429) said by the engine,
                "gateway" said by the router itself
    failed      5xx, broken streams, resets, and errors inside a stream
    fallbacks   answered by another arm: the user saw no error, the assigned arm failed
    abandoned   the client left: "before" its first token, or "midway"
    unheld      answers with a success, from their first byte on, at whose end a client may leave and be in `abandoned`,
                though it had all of its answer; 0 of a router that tells the two apart
    statuses    ended requests by status class: "2xx" ...
    latency     "ttft" (until the first body byte, those who left midway too) and "duration" (whole answers), of
                requests that the assigned arm answered
    left        how long those who left had waited: "ttft" of those who left before their first token, "duration" of
                all
    """

    arrived: int = 0
    answered: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    failed: int = 0
    fallbacks: int = 0
    abandoned: Mapping[str, int] = field(default_factory=dict)
    unheld: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    latency: Mapping[str, HistogramReading] = field(default_factory=dict)
    left: Mapping[str, HistogramReading] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """Requests that ended otherwise than by the client's leaving."""
        return self.answered + sum(self.refused.values()) + self.failed + self.fallbacks

    @property
    def aborted(self) -> int:
        """Requests that the client gave up."""
        return sum(self.abandoned.values())

    @property
    def errors(self) -> int:
        """What the assigned arm did not do though it should have."""
        return self.failed + self.fallbacks

    @property
    def running(self) -> int:
        """Requests that have not ended yet."""
        return self.arrived - self.ended - self.aborted


@dataclass(frozen=True, slots=True)
class EngineReading:
    """Gauges and counters of a variant's engine, for all requests (of users, probes and tests).

    endings     finished requests by the engine's own reason: "stop", "length", "abort", "error" ...
    empty       finished requests with at most one token (the end itself is one); None: the engine does not say
    """

    running: float
    waiting: float
    kv_cache_share: float
    generated_tokens: int
    started_at: float | None = None
    endings: Mapping[str, int] = field(default_factory=dict)
    empty: int | None = None


@dataclass(frozen=True, slots=True)
class TargetReading:
    """The counters of one target: a process of the router, which counts by itself and begins again when it restarts.

    started_at      identifies the process (seconds since the epoch)
    other           calls that are no inference, since that process started
    turned_away     calls that the router refused before an arm was assigned, likewise
    """

    started_at: float
    arms: Mapping[str, ArmReading]
    other: int = 0
    turned_away: int = 0


@dataclass(frozen=True, slots=True)
class SignalReading:
    """One reading of an endpoint.

    targets     of the router, by name: the same process has the same name and start in every reading. People read the
                names, and evidence keeps them: the name of a pod, say, and never an address
    broken      engines that could not be read, and why
    asked       by variant, what the rollout's gates asked for by expressions of their own, by the digest of the pair; a
                text is why there is no reading
    numbers     by variant, what gates with a fixed limit asked for, by the digest of the expression
    """

    at: float
    targets: Mapping[str, TargetReading]
    engines: Mapping[str, EngineReading] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, Mapping[str, AskedReading | str]] = field(default_factory=dict)
    numbers: Mapping[str, Mapping[str, NumberReading]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failures:
    """Cumulative counts of an endpoint's inference requests at one target, whichever arm was drawn: those that ended,
    and how many of them failed or were answered by another arm."""

    ended: int
    failed: int


def why_untold(unheld: int, answers: int) -> str:
    """Why it cannot be said of an arm who left before the end; empty where it can.

    unheld   as in `ArmReading`, of some time
    answers  of the same time: whole ones, and those that clients left
    """
    if unheld <= UNHELD_AT_MOST * answers:
        return ""
    return (
        f"the gateway cannot tell who left from who had the whole answer and closed the connection then"
        f" ({min(unheld, answers):,} of {answers:,} answers)"
    )
