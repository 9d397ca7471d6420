"""The fast kill: fixed thresholds for what needs no proof. It stands beside the statistics and outside
alpha.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rollouts.domain.gates import checks
from rollouts.domain.gates.policy import FastKill
from rollouts.domain.gates.words import percent, seconds_text
from rollouts.domain.intervals import ArmCounts

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
class Window:
    """The last seconds of traffic: rows of (seconds, candidate requests, errors, baseline requests,
    errors).
    """

    rows: tuple[tuple[float, int, int, int, int], ...] = ()

    def add(
        self, baseline: ArmCounts | None, candidate: ArmCounts | None, seconds: float, keep_seconds: float
    ) -> Self:
        """The window after one interval; the oldest rows go when the rest covers `keep_seconds`."""
        row = (
            seconds,
            0 if candidate is None else int(candidate.requests),
            0 if candidate is None else int(candidate.errors),
            0 if baseline is None else int(baseline.requests),
            0 if baseline is None else int(baseline.errors),
        )
        rows = (*self.rows, row)
        covered = sum(row[0] for row in rows)
        while len(rows) > 1 and (covered - rows[0][0] >= keep_seconds or len(rows) > LONGEST_WINDOW):
            covered -= rows[0][0]
            rows = rows[1:]
        return type(self)(rows)

    def total(self, column: int) -> float:
        return sum(row[column] for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {"rows": [list(row) for row in self.rows]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        checks.mapping(data, field="window", allowed=("rows",), needed=("rows",))
        rows: Sequence[Sequence[Any]] = data["rows"]
        return cls(tuple((float(row[0]), int(row[1]), int(row[2]), int(row[3]), int(row[4])) for row in rows))


def why_kill(rules: FastKill, window: Window, share_bp: int, workload: WorkloadFacts | None) -> str | None:
    """The sentence of the fast kill, or None. Every rule needs the candidate bad *and* the baseline not."""
    if not rules.enabled:
        return None
    facts = workload or WorkloadFacts()
    if facts.candidate_oom_kills >= rules.oom_kills and facts.baseline_oom_kills < rules.oom_kills:
        return (
            f"The candidate's engine was killed for memory {_times(facts.candidate_oom_kills)} "
            f"(the baseline's {_times(facts.baseline_oom_kills)})."
        )
    if facts.candidate_restarts >= rules.crash_restarts and facts.baseline_restarts < rules.crash_restarts:
        return (
            f"The candidate's engine crashed and restarted {_times(facts.candidate_restarts)} "
            f"(the baseline's {_times(facts.baseline_restarts)})."
        )
    return _error_burst(rules, window, share_bp)


def _error_burst(rules: FastKill, window: Window, share_bp: int) -> str | None:
    seconds, n_c, errors_c, n_b, errors_b = (window.total(column) for column in range(5))
    if n_c < rules.min_requests or errors_c / n_c < rules.error_share:
        return None
    said = (
        f"{percent(errors_c / n_c)} of the candidate's {n_c:,.0f} requests failed within "
        f"{seconds_text(seconds)}"
    )
    if n_b:
        if errors_b / n_b > rules.baseline_error_share:
            return None
        return f"{said}, against {percent(errors_b / n_b)} of the baseline's {n_b:,.0f}."
    if share_bp == WHOLE and rules.without_baseline:
        return f"{said}, with all traffic on it and so no baseline to compare."
    return None


def _times(number: int) -> str:
    return "once" if number == 1 else "not at all" if number == 0 else f"{number} times"
