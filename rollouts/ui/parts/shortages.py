"""Engines that answer with a part of their replicas, wherever it is shown: no outage, and people should know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rollouts.domain.engines import WorkloadPhase, short_words
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Endpoint, Rollout, Variant, Workload
from rollouts.ui.parts.arms_table import workload_of


@dataclass(frozen=True, slots=True)
class ShortageNote:
    """The banner: `strong` says which replicas are ready, `first` what follows."""

    strong: str
    first: str


def short_of(workload: Workload) -> str:
    """`2 of 3 replicas are ready` while it answers with a part of them; else empty."""
    return short_words(WorkloadPhase(workload.phase), workload.ready, workload.desired)


def shortages_of_endpoint(endpoint: Endpoint, variants: Iterable[Variant]) -> tuple[ShortageNote, ...]:
    """Of the variants that have traffic."""
    with_traffic = [variant for variant in variants if endpoint.observed_shares.get(variant.name)]
    return _notes((variant, "") for variant in with_traffic)


def shortages_of_rollout(rollout: Rollout) -> tuple[ShortageNote, ...]:
    """Of the arms that have traffic while the rollout is under way or watched: before, its own sentence says it."""
    if rollout.traffic_at is None or not (rollout.is_active or rollout.watching):
        return ()
    grows = rollout.phase in (Phase.PROGRESSING.value, Phase.PAUSED.value)
    held = "It gets no more traffic by itself before that."
    return _notes(
        (arm.variant, held if grows and arm.name != BASELINE else "")
        for arm in rollout.arms.all()
        if arm.dropped_at is None and arm.observed_bp
    )


def _notes(found: Iterable[tuple[Variant, str]]) -> tuple[ShortageNote, ...]:
    notes = []
    for variant, held in found:
        workload = workload_of(variant)
        words = "" if workload is None else short_of(workload)
        if workload is not None and words:
            said = f"Its cluster says: {workload.message.rstrip('.')}." if workload.message else ""
            parts = ("Until the others are back, its requests may take longer.", held, said)
            notes.append(ShortageNote(f"{variant.version.label}: {words}.", " ".join(filter(None, parts))))
    return tuple(notes)
