"""The fast kill: fixed thresholds for what needs no proof. It stands beside the statistics and outside
alpha.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.words import percent_of_share, seconds_text
from rollouts.domain.gates import checks
from rollouts.domain.gates.fast_kill_rules import FastKill
from rollouts.domain.gates.latency import Directions
from rollouts.domain.record.intervals import ArmCounts

WHOLE = 10_000
LONGEST_WINDOW = 600  # intervals kept at most, however short they are


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFacts:
    """What the cluster says about the engines since the rollout began; counts, zero when nothing happened."""

    candidate_restarts: int = 0
    candidate_oom_kills: int = 0
    baseline_restarts: int = 0
    baseline_oom_kills: int = 0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            checks.count(getattr(self, name), field=name)


@dataclass(frozen=True, slots=True)
class ArmTraffic:
    """What one arm had in some seconds: ended requests and errors of them; arrivals, and of those how many the engine
    refused and how many were abandoned."""

    requests: int = 0
    errors: int = 0
    arrived: int = 0
    refused: int = 0
    abandoned: int = 0

    @classmethod
    def of(cls, arm: ArmCounts | None) -> Self:
        if arm is None:
            return cls()
        outcomes = arm.outcomes
        if outcomes is None:  # from before they were counted
            return cls(int(arm.requests), int(arm.errors))
        return cls(int(arm.requests), int(arm.errors), int(arm.arrived), outcomes.refused, outcomes.abandoned)

    def plus(self, other: ArmTraffic) -> Self:
        return type(self)(*map(operator.add, VALUES(self), VALUES(other)))

    def share_of(self, name: str) -> tuple[int, float]:
        """(requests, share) of `errors`, `refused` or `abandoned`. What ends after its arrival was counted may be
        more than arrived."""
        events = getattr(self, name)
        trials = self.requests if name == "errors" else max(self.arrived, events)
        return trials, events / trials if trials else 0.0

    @property
    def counted(self) -> bool:
        """Whether anything is in it that evidence of an earlier version does not have."""
        return bool(self.arrived or self.refused or self.abandoned)


VALUES: Callable[[ArmTraffic], tuple[int, ...]] = operator.attrgetter(*ArmTraffic.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class TrafficWindow:
    """The last seconds of traffic: rows of (seconds, candidate, baseline)."""

    rows: tuple[tuple[float, ArmTraffic, ArmTraffic], ...] = ()

    def add(
        self, baseline: ArmCounts | None, candidate: ArmCounts | None, seconds: float, keep_seconds: float
    ) -> Self:
        """The window after one interval; the oldest rows go when the rest covers `keep_seconds`."""
        rows = (*self.rows, (seconds, ArmTraffic.of(candidate), ArmTraffic.of(baseline)))
        covered = sum(row[0] for row in rows)
        while len(rows) > 1 and (covered - rows[0][0] >= keep_seconds or len(rows) > LONGEST_WINDOW):
            covered -= rows[0][0]
            rows = rows[1:]
        return type(self)(rows)

    @property
    def seconds(self) -> float:
        return sum(row[0] for row in self.rows)

    @property
    def candidate(self) -> ArmTraffic:
        return _sum(row[1] for row in self.rows)

    @property
    def baseline(self) -> ArmTraffic:
        return _sum(row[2] for row in self.rows)

    def baseline_lately(self, seconds: float) -> tuple[int, int]:
        """(requests, errors) of the baseline in the newest rows, until they cover so many seconds."""
        kept: list[ArmTraffic] = []
        covered = 0.0
        for row in reversed(self.rows):
            kept.append(row[2])
            covered += row[0]
            if covered >= seconds:
                break
        lately = _sum(kept)
        return max(lately.requests, lately.errors), lately.errors

    def to_json(self) -> dict[str, Any]:
        return {"rows": [_row_to_json(*row) for row in self.rows]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        checks.mapping(data, field="window", allowed=("rows",), needed=("rows",))
        rows: Sequence[Sequence[Any]] = data["rows"]
        return cls(tuple(_row_from_json(row) for row in rows))


def _row_to_json(seconds: float, candidate: ArmTraffic, baseline: ArmTraffic) -> list[float]:
    """(seconds, candidate's requests and errors, baseline's), then what was not always counted: of the candidate,
    then of the baseline."""
    row = [seconds, candidate.requests, candidate.errors, baseline.requests, baseline.errors]
    if candidate.counted or baseline.counted:
        row += [candidate.arrived, candidate.refused, candidate.abandoned]
        row += [baseline.arrived, baseline.refused, baseline.abandoned]
    return row


def _row_from_json(row: Sequence[Any]) -> tuple[float, ArmTraffic, ArmTraffic]:
    seconds, numbers = float(row[0]), list(map(int, row[1:]))
    return seconds, ArmTraffic(*numbers[0:2], *numbers[4:7]), ArmTraffic(*numbers[2:4], *numbers[7:10])


def _sum(parts: Iterable[ArmTraffic]) -> ArmTraffic:
    return ArmTraffic(*map(sum, zip(*map(VALUES, parts), strict=True)))


def why_kill(
    rules: FastKill, window: TrafficWindow, share_bp: int, workload: WorkloadFacts | None, late: Directions
) -> str | None:
    """The sentence of the fast kill, or None. Every rule needs the candidate bad *and* the baseline not.

    late    which evidence what is counted late may give: after the candidate lost share, those who leave are too many
            for the few that arrive, and kill nothing
    """
    if not rules.enabled:
        return None
    facts = workload or WorkloadFacts()
    if facts.candidate_oom_kills >= rules.oom_kills and facts.baseline_oom_kills < rules.oom_kills:
        return (
            f"The candidate's engine ran out of memory and was killed {_times(facts.candidate_oom_kills)} "
            f"(the baseline's {_times(facts.baseline_oom_kills)})."
        )
    if facts.candidate_restarts >= rules.crash_restarts and facts.baseline_restarts < rules.crash_restarts:
        return (
            f"The candidate's engine crashed and restarted {_times(facts.candidate_restarts)} "
            f"(the baseline's {_times(facts.baseline_restarts)})."
        )
    seen = Burst(window.candidate, window.baseline, window.seconds)
    return (
        _error_burst(rules, seen, share_bp)
        or _burst(rules, seen, "refused", "were refused by its engine")
        or (_burst(rules, seen, "abandoned", "were abandoned by their clients") if late.may_fail else None)
    )


@dataclass(frozen=True, slots=True)
class Burst:
    """The traffic of a window, added up once."""

    candidate: ArmTraffic
    baseline: ArmTraffic
    seconds: float


def _error_burst(rules: FastKill, window: Burst, share_bp: int) -> str | None:
    (n_c, errors_c), (n_b, errors_b) = (
        window.candidate.share_of("errors"),
        window.baseline.share_of("errors"),
    )
    if n_c < rules.min_requests or errors_c < rules.error_share:
        return None
    within = seconds_text(window.seconds)
    said = f"{percent_of_share(errors_c)} of the candidate's {n_c:,.0f} requests failed within {within}"
    if n_b:
        if errors_b > rules.baseline_error_share:
            return None
        return f"{said}, against {percent_of_share(errors_b)} of the baseline's {n_b:,.0f}."
    if share_bp == WHOLE and rules.without_baseline:
        return f"{said}. It has all traffic, so there is no baseline to compare with."
    return None


def _burst(rules: FastKill, window: Burst, name: str, words: str) -> str | None:
    """A burst of what may be the clients' own doing: only a baseline with as many requests tells that it is not."""
    baseline = window.baseline
    (n_c, share_c), (n_b, share_b) = window.candidate.share_of(name), baseline.share_of(name)
    if n_c < rules.min_requests or share_c < rules.error_share or n_b < rules.min_requests:
        return None
    if share_b > rules.baseline_error_share or baseline.share_of("errors")[1] > rules.baseline_error_share:
        return None
    return (
        f"{percent_of_share(share_c)} of the candidate's {n_c:,.0f} requests {words} within "
        f"{seconds_text(window.seconds)}, against {percent_of_share(share_b)} of the baseline's {n_b:,.0f}."
    )


def _times(number: int) -> str:
    return "once" if number == 1 else "not at all" if number == 0 else f"{number} times"
