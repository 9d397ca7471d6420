"""What a turn of the loop writes down besides its decision: what was seen, counted and proven.

Nothing is written here: it is put among the turn's `Writes`, and only what changed. The database may have one writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.decision import Decision
from rollouts.domain.record.intervals import BASELINE
from rollouts.domain.record.kept_readings import reading_to_json
from rollouts.domain.record.recorded import decision_digest, evidence_digest
from rollouts.domain.record.situation import Situation
from rollouts.evidence import last_digest
from rollouts.models import Arm, Endpoint, Evidence, LoopDecision, Rollout, Workload
from rollouts.ports import WorkloadStatus
from rollouts.services.loop.backends import backend_json
from rollouts.services.loop.measure import Measured
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.samples import Minutes, add_sample, completions_with, outcomes_with
from rollouts.services.loop.situation import route_lag_words
from rollouts.services.loop.writes import Writes

OBSERVED = (
    "phase", "ready", "desired", "backend", "restarts", "reason", "message", "process_started_at", "ready_at",
    "kv_cache_share", "running", "waiting", "log_tail", "observed_at",
    "drift", "altered",
)  # fmt: skip
ARM_COUNTS = (
    "requests", "errors", "fallbacks", "failed", "outcomes", "completions", "observed_bp",
)  # fmt: skip


def note_world(
    *,
    endpoint: Endpoint,
    seen: Observation,
    statuses: Mapping[str, WorkloadStatus],
    measure: bool,
    writes: Writes,
    now: datetime,
) -> None:
    """Keeps what was seen for the pages. A part that could not be read keeps its last values and their time.

    Without a change it is written once an interval (`measure`) only.
    """
    _note_route(endpoint, seen, measure, writes, now)
    changed = False
    for workload in seen.workloads:
        status = statuses.get(workload.variant.name)
        if status is not None:
            changed = _note_workload(workload, status, seen, measure, writes, now) or changed
    if changed:
        writes.publish(f"endpoint:{endpoint.pk}", "overview")


def note_reading(*, endpoint: Endpoint, seen: Observation, minutes: Minutes, writes: Writes) -> None:
    """Keeps the counters that were read: the next interval begins with them."""
    if seen.reading is None:
        return
    if seen.difference is not None:
        add_sample(
            endpoint=endpoint,
            variants=[workload.variant for workload in seen.workloads],
            made=seen.difference,
            reading=seen.reading,
            minutes=minutes,
            writes=writes,
        )
    endpoint.last_reading = reading_to_json(seen.reading)
    writes.save(endpoint, "last_reading")


def _note_route(endpoint: Endpoint, seen: Observation, measure: bool, writes: Writes, now: datetime) -> None:
    before = (endpoint.observed_shares, endpoint.router_problem)
    if seen.route is not None:
        endpoint.observed_shares = dict(seen.route.shares)
        endpoint.router_problem = seen.route.rejected or seen.refusal or route_lag_words(endpoint, seen, now)
    elif "router" in seen.problems:
        endpoint.router_problem = seen.problems["router"]
    elif route_lag_words(endpoint, seen, now):  # not even its first route is in force
        endpoint.router_problem = route_lag_words(endpoint, seen, now)
    if (endpoint.observed_shares, endpoint.router_problem) == before and not (
        measure and seen.route is not None
    ):
        return
    if seen.route is not None:
        endpoint.observed_at = now
    writes.save(endpoint, "observed_shares", "observed_at", "router_problem")


def _note_workload(
    workload: Workload,
    status: WorkloadStatus,
    seen: Observation,
    measure: bool,
    writes: Writes,
    now: datetime,
) -> bool:
    """True when something changed that people see."""
    was = _visible(workload)
    workload.phase, workload.ready, workload.desired = status.phase.value, status.ready, status.desired
    if status.backend is not None:
        workload.backend = backend_json(status.backend)
    workload.restarts, workload.reason = status.restarts, status.reason.value
    workload.message, workload.process_started_at = status.message, status.started_at
    workload.drift = status.drift
    if status.altered or seen.reading is not None:
        # Until the interval in which it was undone is counted: that one, too, was not of what was asked for.
        workload.altered = status.altered
    began = status.view.is_whole and workload.ready_at is None
    came_back = status.is_ready and workload.ready_at is not None and was[0] != WorkloadPhase.READY.value
    if began or came_back:
        workload.ready_at = now
    if status.phase is WorkloadPhase.ABSENT:
        workload.ready_at, workload.backend = None, {}
    engine = seen.reading.engines.get(workload.variant.name) if seen.reading is not None else None
    if engine is not None:
        workload.kv_cache_share, workload.running = engine.kv_cache_share, engine.running
        workload.waiting = engine.waiting
    tail = seen.log_tails.get(workload.variant.name)
    if tail:
        workload.log_tail = list(tail)
    changed = _visible(workload) != was
    if changed or (measure and status.phase is not WorkloadPhase.ABSENT):
        workload.observed_at = now
        writes.save(workload, *OBSERVED)
    return changed


def _visible(workload: Workload) -> tuple[object, ...]:
    return (
        workload.phase,
        workload.ready,
        workload.desired,
        dict(workload.backend),
        workload.restarts,
        workload.reason,
        workload.message,
        workload.process_started_at,
        workload.drift,
        workload.altered,
        list(workload.log_tail),
    )


def count_interval(
    *,
    rollout: Rollout,
    arms: Iterable[Arm],
    measured: Measured,
    seen: Observation,
    writes: Writes,
    now: datetime,
) -> None:
    """Adds the interval to the rollout's own counts, before the decision looks at them.

    Exposure is what the candidate answered itself. While the baseline is out of order, while nothing can be read, and
    while something else runs than what was asked for, there is none: nothing of that time can be compared, so it does
    not bring the next step nearer.
    """
    interval = measured.interval
    outage = measured.assessment.outage
    unread = "router" in interval.broken
    exposed = (outage is None or outage.over) and not unread and not interval.altered
    if unread:
        rollout.unread_at = now
    if not exposed and rollout.step_since is not None:
        rollout.step_since = min(now, rollout.step_since + timedelta(seconds=interval.seconds))
    fallbacks = seen.difference.fallbacks if seen.difference is not None else {}
    for arm in arms:
        counts = interval.arms.get(arm.name)
        if counts is not None and arm.name != BASELINE and arm.dropped_at is None:
            rollout.measured_at = now
            rollout.step_requests += counts.exposure if exposed else 0
        if counts is not None:
            hidden = min(fallbacks.get(arm.variant.name, 0), counts.errors)
            arm.requests += counts.requests
            arm.errors += counts.errors
            arm.fallbacks += hidden
            arm.failed += counts.errors - hidden
            arm.outcomes = outcomes_with(arm.outcomes, counts.outcomes)
            arm.completions = completions_with(arm.completions, counts.completions)
        if seen.route is not None:
            arm.observed_bp = seen.route.shares.get(arm.variant.name, 0)
        writes.save(arm, *ARM_COUNTS)


def keep_evidence(
    *,
    rollout: Rollout,
    measured: Measured,
    situation: Situation,
    decision: Decision,
    newest_digest: str | None,
    writes: Writes,
    now: datetime,
) -> None:
    """One row an interval, chained by digest; the analysis beside it in the same transaction.

    newest_digest   of the newest interval that is not packed; None when there is none
    """
    parts = {
        "interval": measured.interval.to_json(),
        "situation": situation.to_json(),
        "verdicts": measured.assessment.to_json(),
        "decision": decision.to_json(),
    }
    before = newest_digest
    if before is None and rollout.next_interval:
        before = last_digest(rollout.pk)
    writes.create(
        Evidence(
            rollout=rollout,
            index=rollout.next_interval,
            ended_at=now,
            digest=evidence_digest(before=before, **parts),
            **parts,
        )
    )
    for probe in measured.used_probes:
        probe.interval = rollout.next_interval
        writes.save(probe, "interval")
    rollout.gates_state, rollout.verdicts = measured.analysis.to_json(), parts["verdicts"]
    rollout.next_interval += 1
    rollout.feedback_interval = measured.fed_until
    writes.save(
        rollout,
        "gates_state",
        "verdicts",
        "next_interval",
        "feedback_interval",
        "measured_at",
        "unread_at",
        "step_requests",
        "step_since",
    )
    writes.publish(f"rollout:{rollout.pk}")


def keep_decision(*, rollout: Rollout, situation: Situation, decision: Decision, writes: Writes) -> None:
    """A decision that changed something between two intervals, chained to the one before it. 1 query: it is rare."""
    parts = {"situation": situation.to_json(), "decision": decision.to_json()}
    before = LoopDecision.objects.filter(rollout=rollout).order_by("-number").values_list("digest", flat=True)
    writes.create(
        LoopDecision(
            rollout=rollout,
            number=rollout.next_decision,
            after=rollout.next_interval,
            digest=decision_digest(before=before.first(), after=rollout.next_interval, **parts),
            **parts,
        )
    )
    rollout.next_decision += 1
    writes.save(rollout, "next_decision")
