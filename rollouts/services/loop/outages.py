"""Outages of the variant that serves: noticed at every interval, kept for the pages, told in the history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from rollouts.domain.gates.policy import USUAL_OUTAGE_SHARE
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.record.counters import Difference
from rollouts.domain.record.intervals import ArmCounts
from rollouts.domain.serving import Serving, began_title, ended_title, outage_sentence
from rollouts.models import Endpoint, Rollout
from rollouts.ports import WorkloadStatus
from rollouts.services.loop.measure import Measured
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.writes import Writes
from rollouts.services.writing import history_line

ANOTHER = "another variant"


def note_outage(
    *,
    endpoint: Endpoint,
    rollout: Rollout | None,
    seen: Observation,
    statuses: Mapping[str, WorkloadStatus],
    measured: Measured | None,
    interval_seconds: float,
    writes: Writes,
    now: datetime,
) -> None:
    """Notes how the stable variant fared in the interval that ended now. Call it once an interval.

    interval_seconds    the usual length: an endpoint without requests is looked at less often, and what is seen of it
                        then has just happened

    A rollout that an outage holds tells the history itself (`measured`); otherwise it is told here.
    """
    stable = endpoint.stable
    if stable is None or not endpoint.desired_shares.get(stable.name):
        return
    before = Serving.from_json(endpoint.outage, variant=stable.name)
    made = seen.difference if seen.difference is not None and seen.difference.seconds > 0 else None
    counts = made.arms.get(stable.name) if made is not None else None
    not_ready = _not_ready(statuses.get(stable.name))
    if (counts is None and not not_ready) or (seen.statuses is None and before.lasting is not None):
        return  # an unknown read changes nothing: neither does an outage end by it
    limit = endpoint.gate_policy.policy.baseline_outage_share
    after = before.after(
        counts,
        not_ready=not_ready,
        looked=seen.statuses is not None,
        limit=USUAL_OUTAGE_SHARE if limit is None else limit,
        started_at=_began(made, counts, interval_seconds, now),
        seconds=_seconds(before, made, now),
    )
    if after.to_json() == endpoint.outage:
        return
    endpoint.outage = after.to_json()
    writes.save(endpoint, "outage")
    if after.outage is None and before.outage is None:
        return
    rollout_topics = [f"rollout:{rollout.pk}"] if rollout is not None else []
    writes.publish(f"endpoint:{endpoint.pk}", "overview", *rollout_topics)
    holds = measured is not None and measured.assessment.outage is not None
    if holds and rollout is not None and rollout.phase == Phase.PROGRESSING.value:
        return
    teller = rollout if rollout is not None and rollout.is_active else None
    _tell(endpoint, teller, before, after, writes, now)


def _began(
    made: Difference | None, counts: ArmCounts | None, interval_seconds: float, now: datetime
) -> float:
    """Since when what is seen now may have lasted."""
    if made is None:
        return now.timestamp()
    if counts is not None and counts.arrived:
        return made.started_at
    return max(made.started_at, now.timestamp() - interval_seconds)


def _seconds(before: Serving, made: Difference | None, now: datetime) -> float:
    """What this interval adds: an outage lasts through the intervals in which nothing was read, too."""
    if before.lasting is not None:
        return max(0.0, now.timestamp() - before.lasting.since - before.lasting.seconds)
    return made.seconds if made is not None else 0.0


def _not_ready(status: WorkloadStatus | None) -> str:
    """Why the engine does not answer; empty when it does, and when the cluster could not be asked."""
    if status is None or status.is_ready:
        return ""
    several = f"none of its {status.desired} replicas is ready" if status.desired > 1 else ""
    said = status.message or several
    return f"its engine is {status.phase.value}" + (f": {said}" if said else "")


def _tell(
    endpoint: Endpoint,
    rollout: Rollout | None,
    before: Serving,
    after: Serving,
    writes: Writes,
    now: datetime,
) -> None:
    assert endpoint.stable is not None
    label = endpoint.stable.version.label
    if after.lasting is not None and before.lasting is None:
        title, detail, kind = began_title(label, after.lasting), after.lasting.why, "outage"
    elif after.outage is not None and after.outage.over:
        title, kind = ended_title(label, after.outage), "outage-over"
        detail = outage_sentence(after.outage, helper=ANOTHER)
    else:
        return
    writes.create(
        history_line(
            endpoint=endpoint,
            rollout=rollout,
            kind=kind,
            title=title,
            detail=f"{detail[:1].upper()}{detail[1:]}",
            now=now,
        )
    )
