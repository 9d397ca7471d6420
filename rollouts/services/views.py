"""A stored rollout as the pure decision sees it."""

from __future__ import annotations

from datetime import datetime

from rollouts.domain.decide import RolloutView
from rollouts.domain.states import PauseReason, Phase
from rollouts.models import Rollout


def view_of(rollout: Rollout) -> RolloutView:
    """Plain values of a rollout. Reads baseline, candidate and their versions: select them with it."""
    return RolloutView(
        phase=Phase(rollout.phase),
        pause_reason=PauseReason(rollout.pause_reason),
        plan=rollout.parsed_plan,
        baseline=rollout.baseline.name,
        candidate=rollout.candidate.name,
        baseline_label=rollout.baseline.version.label,
        candidate_label=rollout.candidate.version.label,
        step_index=rollout.step_index,
        phase_since=rollout.phase_since.timestamp(),
        step_since=_seconds(rollout.step_since),
        step_requests=rollout.step_requests,
        measured_at=_seconds(rollout.measured_at),
        created_at=rollout.created_at.timestamp(),
        watch_until=_seconds(rollout.watch_until),
        watching=rollout.watching,
        cause_sentence=rollout.cause_sentence or rollout.reason,
    )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
