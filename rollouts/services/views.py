"""A stored rollout as the pure decision sees it."""

from __future__ import annotations

from datetime import datetime

from rollouts.domain.decision import ArmView, RolloutView
from rollouts.domain.states import PauseReason, Phase
from rollouts.models import Arm, Rollout


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
        arms=_arms(rollout) if rollout.strategy == "bandit" else (),
    )


def _arms(rollout: Rollout) -> tuple[ArmView, ...]:
    """The arms of a bandit, the baseline first, as they are in the database now."""
    rows = Arm.objects.filter(rollout=rollout).select_related("variant__version").order_by("pk")
    return tuple(
        ArmView(
            name=row.name,
            variant=row.variant.name,
            label=row.variant.version.label,
            share_bp=row.desired_bp,
            dropped=row.dropped_at is not None,
            cause=row.dropped_cause,
        )
        for row in rows
    )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
