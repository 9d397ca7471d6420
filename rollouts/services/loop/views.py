"""A stored rollout as the pure decision sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from rollouts.domain.lifecycle.decision import ArmView, RolloutView
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.models import Arm, Rollout


def view_of(rollout: Rollout, arms: Sequence[Arm] | None = None) -> RolloutView:
    """Plain values of a rollout.

    arms    its rows in the order of their making, the baseline first, each with its variant and version; None: as they
            are in the database now (1 query)
    """
    if arms is None:
        arms = _arms(rollout)
    return RolloutView(
        phase=Phase(rollout.phase),
        pause_reason=PauseReason(rollout.pause_reason),
        plan=rollout.parsed_plan,
        step_index=rollout.step_index,
        phase_since=rollout.phase_since.timestamp(),
        step_since=_seconds(rollout.step_since),
        step_requests=rollout.step_requests,
        measured_at=_seconds(rollout.measured_at),
        unread_at=_seconds(rollout.unread_at),
        created_at=rollout.created_at.timestamp(),
        watch_until=_seconds(rollout.watch_until),
        watching=rollout.watching,
        cause_sentence=rollout.cause_sentence or rollout.reason,
        arms=tuple(_view_of_arm(row) for row in arms),
        candidate_arm=next(row.name for row in arms if row.variant_id == rollout.candidate_id),
    )


def with_counts(view: RolloutView, rollout: Rollout) -> RolloutView:
    """The view with what this turn has counted meanwhile. No query."""
    return replace(
        view,
        step_since=_seconds(rollout.step_since),
        step_requests=rollout.step_requests,
        measured_at=_seconds(rollout.measured_at),
        unread_at=_seconds(rollout.unread_at),
    )


def _arms(rollout: Rollout) -> list[Arm]:
    """The baseline first: arms are written in their order."""
    return list(Arm.objects.filter(rollout=rollout).select_related("variant__version").order_by("pk"))


def _view_of_arm(row: Arm) -> ArmView:
    return ArmView(
        name=row.name,
        variant=row.variant.name,
        label=row.variant.version.label,
        share_bp=row.desired_bp,
        dropped=row.dropped_at is not None,
        cause=row.dropped_cause,
    )


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
