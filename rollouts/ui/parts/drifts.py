"""Engines that somebody changed in their cluster, wherever it is shown: Headgate leaves them so, and says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rollouts.models import Rollout, Variant
from rollouts.ui.parts.arms_table import workload_of

REMEDY = (
    "Headgate leaves it so. Set it back where it was changed, or roll out a version with the serving spec that you"
    " want."
)


@dataclass(frozen=True, slots=True)
class DriftNote:
    """The banner: `strong` says of which version, `words` what was changed and by whom."""

    strong: str
    words: str
    remedy: str = REMEDY


def drifts_of(variants: Iterable[Variant]) -> tuple[DriftNote, ...]:
    """Of these variants, those that are to run. Reads each one's version and workload."""
    notes = []
    for variant in variants:
        workload = workload_of(variant)
        if workload is not None and workload.wanted and workload.drift:
            notes.append(DriftNote(f"{variant.version.label} is not as it was launched.", workload.drift))
    return tuple(notes)


def drifts_of_rollout(rollout: Rollout) -> tuple[DriftNote, ...]:
    """Of the arms of a rollout that is under way or watched."""
    if not (rollout.is_active or rollout.watching):
        return ()
    return drifts_of(arm.variant for arm in rollout.arms.all() if arm.dropped_at is None)
