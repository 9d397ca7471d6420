"""What was measured in one interval of a rollout: the only thing that gates ever see.

Counts are by *assigned* arm: the arm that the router chose for the request, also when another one answered in the end.
They are of ordinary user requests only: forced-variant requests, probes and shadow copies are left out before they come
here. A part that could not be measured is None with a reason beside it: never a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from rollouts.domain.record.asked import AskedCounts
from rollouts.domain.record.numbers import NumberReading

LatencySignal = Literal["ttft", "duration"]
BASELINE = "baseline"
DEPARTURES = "departures"  # in `missing`: why nobody can say of this interval who left before the end


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """A histogram of one interval.

    total, over         requests measured and, for each edge in seconds, how many of them were above it
    left, left_over     requests whose client left before this could be measured, and how many of them had waited
                        longer than each edge: those are over it, the others are censored (neither good nor bad)
    """

    total: int
    over: Mapping[float, int]
    left: int = 0
    left_over: Mapping[float, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data; evidence from before those who left were counted keeps its bytes."""
        data: dict[str, Any] = {
            "total": self.total,
            "over": [[edge, n] for edge, n in sorted(self.over.items())],
        }
        if self.left:
            data["left"] = self.left
            data["left_over"] = [[edge, n] for edge, n in sorted(self.left_over.items())]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            total=int(data["total"]),
            over={float(edge): int(n) for edge, n in data["over"]},
            left=int(data.get("left", 0)),
            left_over={float(edge): int(n) for edge, n in data.get("left_over", ())},
        )

    def plus(self, other: LatencyCounts) -> LatencyCounts:
        """Both stretches together, at every edge that either knows."""
        return LatencyCounts(
            total=self.total + other.total,
            over=_summed(self.over, other.over),
            left=self.left + other.left,
            left_over=_summed(self.left_over, other.left_over),
        )


def _summed(one: Mapping[float, int], other: Mapping[float, int]) -> dict[float, int]:
    return {edge: one.get(edge, 0) + other.get(edge, 0) for edge in {*one, *other}}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How the requests of one arm ended in one interval: every one in exactly one class.

    answered            whole answers of the assigned arm
    refused_request     4xx of the engine that blame the request: 400, 404, 413, 422 and the like
    refused_rate        429 of the engine
    refused_gateway     refused by the router itself
    failed              5xx, broken streams, resets, errors inside a stream
    fallback            another arm answered
    abandoned_before    the client left before its first token; abandoned_midway: after it
    running             had not ended at the end of the interval (a level, not a count of the interval)
    """

    answered: int = 0
    refused_request: int = 0
    refused_rate: int = 0
    refused_gateway: int = 0
    failed: int = 0
    fallback: int = 0
    abandoned_before: int = 0
    abandoned_midway: int = 0
    running: int = 0

    @property
    def refused(self) -> int:
        """By the engine: what another version might have answered."""
        return self.refused_request + self.refused_rate

    @property
    def abandoned(self) -> int:
        return self.abandoned_before + self.abandoned_midway

    @property
    def ended(self) -> int:
        """All that ended, in whichever class."""
        return (
            self.answered + self.refused + self.refused_gateway + self.failed + self.fallback + self.abandoned
        )

    def plus(self, later: Outcomes) -> Outcomes:
        """Both stretches together; running is that of the later one."""
        added = {name: getattr(self, name) + getattr(later, name) for name in OUTCOME_CLASSES}
        return Outcomes(**added, running=later.running)

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in (*OUTCOME_CLASSES, "running")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{name: int(data.get(name, 0)) for name in (*OUTCOME_CLASSES, "running")})


OUTCOME_CLASSES = (
    "answered",
    "refused_request",
    "refused_rate",
    "refused_gateway",
    "failed",
    "fallback",
    "abandoned_before",
    "abandoned_midway",
)


@dataclass(frozen=True, slots=True)
class Completions:
    """The completions that the engine of one arm finished in one interval, as it counted them, probes and test requests
    included.

    total       finished, aborted ones left out
    empty       of those, with at most one token (the end itself is one)
    truncated   ended by their length limit; filtered: by a content filter or a refusal
    tokens      generated in the interval
    """

    total: int
    empty: int = 0
    truncated: int = 0
    filtered: int = 0
    tokens: int = 0

    def plus(self, other: Completions) -> Completions:
        return Completions(*(getattr(self, n) + getattr(other, n) for n in self.__dataclass_fields__))

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{name: int(data.get(name, 0)) for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """One arm in one interval; inference requests only.

    requests      ended requests (whatever the status), without those that the client abandoned
    errors        of those: 5xx, resets, time-outs, broken streams, and answers by another arm (fallbacks)
    arrived       requests that arrived (the load rule uses it, never running + waiting)
    ready         ready replicas, as seen when it ended; 0 when none was ready
    latency       per signal; a signal without an entry was not measured
    answers       answers served that could have been rated, for the interval whose ratings are now complete
    thumbs_down   of those answers, how many were rated down (one rating a request, verified ones only)
    ratings       of those answers, how many were rated at all
    outcomes      how each request ended; None in evidence from before that was counted
    completions   what the engine said of its completions; None when it does not say
    asked         what gates counted by expressions of their own, by the digest of the pair
    numbers       what gates with a fixed limit read when it ended, by the digest of the expression
    """

    requests: int
    errors: int
    arrived: int
    ready: float
    latency: Mapping[str, LatencyCounts] = field(default_factory=dict)
    answers: int = 0
    thumbs_down: int = 0
    ratings: int = 0
    outcomes: Outcomes | None = None
    completions: Completions | None = None
    asked: Mapping[str, AskedCounts] = field(default_factory=dict)
    numbers: Mapping[str, NumberReading] = field(default_factory=dict)

    @property
    def exposure(self) -> int:
        """Requests that the arm answered itself: what a step needs before it may end."""
        return self.requests if self.outcomes is None else self.outcomes.answered

    @property
    def ratable(self) -> int:
        """Answers that a user could rate: a refusal is none."""
        return self.requests - self.errors if self.outcomes is None else self.outcomes.answered

    def to_json(self) -> dict[str, Any]:
        """Plain data; what was not counted is left out, so that old evidence keeps its bytes."""
        data: dict[str, Any] = {
            "requests": self.requests,
            "errors": self.errors,
            "arrived": self.arrived,
            "ready": self.ready,
            "latency": {name: counts.to_json() for name, counts in sorted(self.latency.items())},
            "answers": self.answers,
            "thumbs_down": self.thumbs_down,
            "ratings": self.ratings,
        }
        if self.outcomes is not None:
            data["outcomes"] = self.outcomes.to_json()
        if self.completions is not None:
            data["completions"] = self.completions.to_json()
        if self.asked:
            data["asked"] = {digest: counts.to_json() for digest, counts in sorted(self.asked.items())}
        if self.numbers:
            data["numbers"] = {digest: one.to_json() for digest, one in sorted(self.numbers.items())}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            requests=int(data["requests"]),
            errors=int(data["errors"]),
            arrived=int(data["arrived"]),
            ready=float(data["ready"]),
            latency={name: LatencyCounts.from_json(c) for name, c in data["latency"].items()},
            answers=int(data["answers"]),
            thumbs_down=int(data["thumbs_down"]),
            ratings=int(data["ratings"]),
            outcomes=Outcomes.from_json(data["outcomes"]) if data.get("outcomes") is not None else None,
            completions=Completions.from_json(data["completions"])
            if data.get("completions") is not None
            else None,
            asked={digest: AskedCounts.from_json(c) for digest, c in data.get("asked", {}).items()},
            numbers={digest: NumberReading.from_json(one) for digest, one in data.get("numbers", {}).items()},
        )


@dataclass(frozen=True, slots=True)
class ProbePair:
    """One golden prompt sent to both variants and scored in [0, 1] each. `example` names the prompt."""

    example: str
    score_baseline: float
    score_candidate: float


@dataclass(frozen=True, slots=True)
class Interval:
    """One interval of evidence.

    index         0, 1, 2 ... within the rollout
    started_at    seconds since the epoch; `seconds` is its length
    share_bp      the candidate's observed share in basis points
    arms          "baseline" and the candidate arms by name; an arm that could not be measured is missing
    pairs         probe pairs finished in this interval, per candidate arm name
    missing       signal or arm name -> why it could not be measured ("router restarted: counters began again")
    broken        source name -> error, when the source itself failed (a verdict ERROR, not NO_DATA)
    shares        bandits: observed basis points per arm, by name; empty for a canary
    dropped       bandits: arms that left the race for other reasons than evidence (engine failed, a person)
    unseen        processes of the router whose part was not counted, and why; `unseen_share` is about how much of the
                  traffic that was. The arms hold what the others counted
    lost          requests, by arm, that those processes held when they were read last: they arrived in earlier
                  intervals, and nobody will know how they ended
    answer_shares bandits: the shares under which this interval's `answers` were assigned; they come from earlier
                  intervals, whose ratings are complete now. Empty when there are none
    altered       arms of which something else ran, for some of the interval, than what was asked for: what it shows of
                  them proves nothing good. `altered_answers`: those of which it did so when this interval's `answers`
                  were given
    """

    index: int
    started_at: float
    seconds: float
    share_bp: int
    arms: Mapping[str, ArmCounts]
    pairs: Mapping[str, tuple[ProbePair, ...]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    answer_shares: Mapping[str, int] = field(default_factory=dict)
    unseen: Mapping[str, str] = field(default_factory=dict)
    unseen_share: float = 0.0
    lost: Mapping[str, int] = field(default_factory=dict)
    altered: tuple[str, ...] = ()
    altered_answers: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data. What only bandits have, and what was not counted, is left out when empty: evidence without it
        keeps its bytes."""
        data: dict[str, Any] = {
            "index": self.index,
            "started_at": self.started_at,
            "seconds": self.seconds,
            "share_bp": self.share_bp,
            "arms": {name: arm.to_json() for name, arm in sorted(self.arms.items())},
            "pairs": {
                name: [[p.example, p.score_baseline, p.score_candidate] for p in pairs]
                for name, pairs in sorted(self.pairs.items())
            },
            "missing": dict(sorted(self.missing.items())),
            "broken": dict(sorted(self.broken.items())),
        }
        if self.shares:
            data["shares"] = dict(sorted(self.shares.items()))
        if self.dropped:
            data["dropped"] = list(self.dropped)
        if self.answer_shares:
            data["answer_shares"] = dict(sorted(self.answer_shares.items()))
        if self.unseen:
            data["unseen"] = dict(sorted(self.unseen.items()))
            data["unseen_share"] = self.unseen_share
        if self.lost:
            data["lost"] = dict(sorted(self.lost.items()))
        if self.altered:
            data["altered"] = list(self.altered)
        if self.altered_answers:
            data["altered_answers"] = list(self.altered_answers)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            index=int(data["index"]),
            started_at=float(data["started_at"]),
            seconds=float(data["seconds"]),
            share_bp=int(data["share_bp"]),
            arms={name: ArmCounts.from_json(arm) for name, arm in data["arms"].items()},
            pairs={
                name: tuple(ProbePair(str(e), float(b), float(c)) for e, b, c in pairs)
                for name, pairs in data["pairs"].items()
            },
            missing=dict(data["missing"]),
            broken=dict(data["broken"]),
            shares={name: int(bp) for name, bp in data.get("shares", {}).items()},
            dropped=tuple(str(name) for name in data.get("dropped", ())),
            answer_shares={name: int(bp) for name, bp in data.get("answer_shares", {}).items()},
            unseen=dict(data.get("unseen", {})),
            unseen_share=float(data.get("unseen_share", 0.0)),
            lost={name: int(number) for name, number in data.get("lost", {}).items()},
            altered=tuple(str(name) for name in data.get("altered", ())),
            altered_answers=tuple(str(name) for name in data.get("altered_answers", ())),
        )
