"""The loop: claim what is due, observe, decide, commit, act. Level-triggered: it reads the whole state each time, so
a worker that dies in the middle loses nothing, and two workers never write for one endpoint."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import HeadgateError, StaleWriter
from controlplane.web.live import publish
from rollouts.domain.counters import reading_to_json
from rollouts.domain.decide import Decision, GatesView, Seen, decide
from rollouts.domain.effects import EnsureWorkload, SetTraffic, WriteBack
from rollouts.domain.gates.family import FamilyVerdict
from rollouts.domain.plan import FULL_SHARE_BP
from rollouts.domain.states import ACTIVE, TRAFFIC_MOVES, Phase
from rollouts.models import (
    Arm, Effect, EffectState, Endpoint, Evidence, Feedback, MinuteSample, ProbeResult, Rollout, Workload,
)
from rollouts.ports import WorkloadPhase, WorkloadStatus
from rollouts.services.act import converge_traffic, converge_workloads, refused_status, run_effects
from rollouts.services.commands import stop_is_on
from rollouts.services.feedback import verify_feedback
from rollouts.services.leases import Lease, claim_endpoint, hold, release
from rollouts.services.measure import Measured, gates_view, measure_rollout
from rollouts.services.observe import Observation, observe_endpoint
from rollouts.services.samples import add_sample
from rollouts.services.views import view_of
from rollouts.services.world import World
from rollouts.services.writing import add_effects, apply_decision, tell

log = logging.getLogger(__name__)

MEASURED_PHASES = (*(phase.value for phase in TRAFFIC_MOVES), Phase.SUCCEEDED.value)
REPEATS = 3  # a decision may make the next one possible at once


def worker_name() -> str:
    """A name for this worker thread that no other has, ever: a restarted process is another worker."""
    return f"{os.uname().nodename}:{os.getpid()}:{threading.get_ident()}:{uuid.uuid4().hex[:8]}"


def due_endpoints(*, now: datetime) -> list[int]:
    """All endpoints that no worker holds, those looked at longest ago first."""
    free = Q(lease_until__isnull=True) | Q(lease_until__lte=now)
    return list(Endpoint.objects.filter(free).order_by("reconciled_at", "id").values_list("pk", flat=True))


def reconcile_endpoint(*, endpoint_id: int, world: World, owner: str) -> bool:
    """One turn of the loop for one endpoint. False when another worker holds it.

    An error of the outside world is logged and shown, never raised: the next tick tries again.
    """
    lease = claim_endpoint(endpoint_id=endpoint_id, owner=owner, now=world.clock.now())
    if lease is None:
        return False
    try:
        for turn in range(REPEATS):
            if not _turn(lease, world, first=turn == 0):
                break
    except StaleWriter as error:
        log.info("endpoint.lease_lost endpoint=%s %s", endpoint_id, error)
    finally:
        release(lease, now=world.clock.now())
    return True


def current_rollout(endpoint: Endpoint) -> Rollout | None:
    """The active rollout of an endpoint, else the one whose watch lasts, else None."""
    rows = Rollout.objects.filter(endpoint=endpoint).select_related(
        "endpoint__cluster", "endpoint__model", "baseline__version", "candidate__version", "gate_policy"
    )
    active = rows.filter(phase__in=[phase.value for phase in ACTIVE]).first()
    return active or rows.filter(phase=Phase.SUCCEEDED.value, watching=True).first()


def _turn(lease: Lease, world: World, *, first: bool) -> bool:
    """Observe, decide, commit, act, once. True when a decision changed something, so that another turn is worth it."""
    now = world.clock.now()
    endpoint = _read_endpoint(lease.endpoint_id)
    rollout = current_rollout(endpoint)
    measure = first and _interval_is_over(endpoint, world, now)
    seen = observe_endpoint(endpoint=endpoint, world=world, measure=measure)
    statuses = _with_refusals(endpoint, seen)
    if measure:
        verify_feedback(endpoint=endpoint, log=world.request_log, now=now)
    decision: Decision | None = None
    with transaction.atomic():
        hold(lease, now=now)
        _note_world(endpoint, seen, statuses, now)
        if measure and seen.reading is not None:
            if seen.difference is not None:
                add_sample(endpoint=endpoint, made=seen.difference, reading=seen.reading, now=now)
            endpoint.last_reading = reading_to_json(seen.reading)
            endpoint.save(update_fields=["last_reading"])
    forced = _forced_answer(endpoint, rollout, seen, world)
    try:
        with transaction.atomic():
            hold(lease, now=now)
            if rollout is not None:
                decision = _decide(rollout, endpoint, seen, statuses, forced, world, measure, now)
            else:
                _keep_serving(endpoint, statuses, now)
    except StaleWriter:
        hold(lease, now=world.clock.now())  # the lease itself is lost: raises
        log.info("rollout.decision_dropped rollout=%s: it was changed meanwhile", rollout and rollout.pk)
        return True
    endpoint = _read_endpoint(lease.endpoint_id)
    done = run_effects(endpoint=endpoint, lease=lease, world=world, seen=seen, now=now)
    endpoint = _read_endpoint(lease.endpoint_id)
    converge_workloads(endpoint=endpoint, lease=lease, world=world, seen=seen)
    converge_traffic(endpoint=endpoint, lease=lease, world=world, seen=seen, now=now)
    Endpoint.objects.filter(pk=endpoint.pk, fencing_token=lease.token).update(reconciled_at=now)
    return bool(done) or (decision is not None and decision.event is not None)


def _read_endpoint(endpoint_id: int) -> Endpoint:
    return Endpoint.objects.select_related("cluster", "model", "stable__version", "previous").get(pk=endpoint_id)


def _interval_is_over(endpoint: Endpoint, world: World, now: datetime) -> bool:
    last = endpoint.last_reading.get("at") if endpoint.last_reading else None
    return last is None or now.timestamp() - float(last) >= world.interval_seconds - 0.05


def _with_refusals(endpoint: Endpoint, seen: Observation) -> dict[str, WorkloadStatus]:
    """Statuses by variant of this endpoint; a launch refused before the cluster saw it counts as FAILED."""
    statuses: dict[str, WorkloadStatus] = {}
    if seen.statuses is None:
        return statuses
    for workload in Workload.objects.filter(variant__endpoint=endpoint).select_related("variant"):
        name = workload.variant.name
        status = seen.status(name)
        if status is not None and status.phase is WorkloadPhase.ABSENT and workload.wanted:
            status = refused_status(workload) or WorkloadStatus(
                variant=name, phase=WorkloadPhase.STARTING, message=workload.message or "waiting to be launched"
            )
        if status is not None:
            statuses[name] = status
    return statuses


def _note_world(
    endpoint: Endpoint, seen: Observation, statuses: Mapping[str, WorkloadStatus], now: datetime
) -> None:
    """Keeps what was seen for the pages. A part that could not be read keeps its last values and their time."""
    if seen.route is not None:
        endpoint.observed_shares, endpoint.observed_at = dict(seen.route.shares), now
        endpoint.router_problem = seen.route.rejected
        endpoint.save(update_fields=["observed_shares", "observed_at", "router_problem"])
    elif "router" in seen.problems:
        endpoint.router_problem = seen.problems["router"]
        endpoint.save(update_fields=["router_problem"])
    engines = seen.reading.engines if seen.reading is not None else {}
    changed = False
    for workload in Workload.objects.filter(variant__endpoint=endpoint).select_related("variant"):
        status = statuses.get(workload.variant.name)
        if status is None:
            continue
        was = (workload.phase, workload.ready, workload.message, workload.restarts)
        workload.phase, workload.ready, workload.desired = status.phase.value, status.ready, status.desired
        if status.host:
            workload.host, workload.port = status.host, status.port
        workload.restarts, workload.reason = status.restarts, status.reason.value
        workload.message, workload.process_started_at = status.message, status.started_at
        if status.is_ready and (workload.ready_at is None or was[0] != WorkloadPhase.READY.value):
            workload.ready_at = now
        if status.phase is WorkloadPhase.ABSENT:
            workload.ready_at, workload.port, workload.host = None, 0, ""
        engine = engines.get(workload.variant.name)
        if engine is not None:
            workload.kv_cache_share, workload.running, workload.waiting = (
                engine.kv_cache_share,
                engine.running,
                engine.waiting,
            )
        workload.observed_at = now
        workload.save()
        changed = changed or was != (workload.phase, workload.ready, workload.message, workload.restarts)
    if changed:
        publish(f"endpoint:{endpoint.pk}", "overview", now=now)


def _forced_answer(endpoint: Endpoint, rollout: Rollout | None, seen: Observation, world: World) -> bool:
    """Whether the candidate itself answers a forced request through the router; asked only before traffic moves."""
    if rollout is None or rollout.phase != Phase.PROVISIONING.value or seen.route is None:
        return False
    if rollout.candidate.name not in seen.route.healthy or not _in_force(endpoint, seen):
        return False
    try:
        world.prober.ask(
            endpoint=endpoint.name,
            variant=rollout.candidate.name,
            messages=({"role": "user", "content": "ready?"},),
            max_tokens=1,
            timeout=world.probe_timeout,
        )
    except HeadgateError as error:
        log.info("rollout.forced_request_failed rollout=%s %s", rollout.pk, error)
        return False
    return True


def _shares(shares: Mapping[str, int]) -> dict[str, int]:
    return {name: bp for name, bp in shares.items() if bp}


def _in_force(endpoint: Endpoint, seen: Observation) -> bool:
    """True when the router splits exactly as desired and nothing of ours waits to be published."""
    if seen.route is None or not endpoint.desired_shares:
        return False
    return _shares(seen.route.shares) == _shares(endpoint.desired_shares) and not _traffic_waits(endpoint)


def _traffic_waits(endpoint: Endpoint) -> bool:
    return Effect.objects.filter(endpoint=endpoint, kind=SetTraffic.kind, state=EffectState.PENDING).exists()


def _drift(endpoint: Endpoint, seen: Observation) -> dict[str, int] | None:
    """Shares set by hand: the router differs from what we published and read back, and nothing of ours is waiting."""
    if seen.route is None or not endpoint.applied or _traffic_waits(endpoint):
        return None
    observed, ours = _shares(seen.route.shares), _shares(endpoint.applied.get("shares", {}))
    return None if observed == ours else observed


def _decide(
    rollout: Rollout,
    endpoint: Endpoint,
    observation: Observation,
    statuses: Mapping[str, WorkloadStatus],
    forced: bool,
    world: World,
    measure: bool,
    now: datetime,
) -> Decision:
    measured: Measured | None = None
    if measure and rollout.phase in MEASURED_PHASES and rollout.step_index >= 0:
        measured = measure_rollout(rollout=rollout, seen=observation, world=world, now=now)
    in_force = _in_force(endpoint, observation)
    candidate = statuses.get(rollout.candidate.name)
    seen = Seen(
        baseline=statuses.get(rollout.baseline.name),
        candidate=candidate,
        desired_shares=endpoint.desired_shares,
        in_force=in_force,
        routed=None if observation.route is None else frozenset(observation.route.shares) | observation.route.healthy,
        forced_answered=forced,
        drift=_drift(endpoint, observation),
        rejected=endpoint.router_problem if observation.route is not None else "",
        global_stop=stop_is_on(),
    )
    if measured is not None:
        _count(rollout, measured, observation, now)
    if in_force and rollout.step_since is None and rollout.phase in (Phase.PROGRESSING.value, Phase.PAUSED.value):
        rollout.step_since = now
        Rollout.objects.filter(pk=rollout.pk).update(step_since=now)
    family = measured.family if measured is not None else None
    gates = gates_view(rollout, family) if family is not None else _stored_gates(rollout)
    decision = decide(view_of(rollout), seen, gates, now.timestamp())
    if measured is not None:
        _keep_evidence(rollout, measured, decision, now)
    if decision.event is not None and candidate is not None and candidate.phase is WorkloadPhase.FAILED:
        _keep_log(rollout, world)
    apply_decision(rollout=rollout, decision=decision, now=now)
    return decision


def _stored_gates(rollout: Rollout) -> GatesView:
    """Between two intervals the gates say what they said last."""
    if not rollout.verdicts:
        return GatesView()
    return gates_view(rollout, FamilyVerdict.from_json(rollout.verdicts))


def _count(rollout: Rollout, measured: Measured, observation: Observation, now: datetime) -> None:
    """Adds the interval to the rollout's own counts, before the decision looks at them."""
    interval = measured.interval
    candidate = interval.arms.get("candidate")
    if interval.arms and not interval.broken.get("router"):
        rollout.measured_at = now
    if candidate is not None:
        rollout.step_requests += candidate.requests
    fallbacks = observation.difference.fallbacks if observation.difference is not None else {}
    route = observation.route
    for arm in Arm.objects.filter(rollout=rollout).select_related("variant"):
        counts = interval.arms.get(arm.name)
        if counts is not None:
            hidden = min(fallbacks.get(arm.variant.name, 0), counts.errors)
            arm.requests += counts.requests
            arm.errors += counts.errors
            arm.fallbacks += hidden
            arm.failed += counts.errors - hidden
        if route is not None:
            arm.observed_bp = route.shares.get(arm.variant.name, 0)
        arm.save()


def _keep_evidence(rollout: Rollout, measured: Measured, decision: Decision, now: datetime) -> None:
    """One row an interval, chained by digest; the gates' state beside it in the same transaction."""
    interval, verdicts = measured.interval.to_json(), measured.family.to_json()
    made = {
        "event": decision.event.value if decision.event else None,
        "phase": decision.phase.value,
        "step": decision.step_index,
        "reason": decision.reason,
        "cause": decision.cause,
    }
    before = Evidence.objects.filter(rollout=rollout).order_by("-index").values_list("digest", flat=True).first()
    Evidence.objects.create(
        rollout=rollout,
        index=rollout.next_interval,
        ended_at=now,
        interval=interval,
        verdicts=verdicts,
        decision=made,
        digest=digest_of({"before": before, "interval": interval, "verdicts": verdicts, "decision": made}),
    )
    ProbeResult.objects.filter(pk__in=measured.used_probes).update(interval=rollout.next_interval)
    rollout.gates_state, rollout.verdicts = measured.state.to_json(), verdicts
    rollout.next_interval += 1
    rollout.feedback_interval = measured.fed_until
    Rollout.objects.filter(pk=rollout.pk).update(
        gates_state=rollout.gates_state,
        verdicts=verdicts,
        next_interval=rollout.next_interval,
        feedback_interval=rollout.feedback_interval,
        measured_at=rollout.measured_at,
        step_requests=rollout.step_requests,
    )
    publish(f"rollout:{rollout.pk}", now=now)


def _keep_log(rollout: Rollout, world: World) -> None:
    """The last lines of an engine that failed are kept before anything cleans them away."""
    try:
        lines = world.clusters[rollout.endpoint.cluster.name].log_tail(rollout.candidate.name, 50)
    except HeadgateError as error:
        lines = (f"The log could not be read: {error}",)
    if lines:
        Workload.objects.filter(variant=rollout.candidate).update(log_tail=list(lines))


def _keep_serving(endpoint: Endpoint, statuses: Mapping[str, WorkloadStatus], now: datetime) -> None:
    """Without a rollout: the stable variant runs, and has all traffic from the moment it is ready."""
    stable = endpoint.stable
    if stable is None:
        return
    workload = Workload.objects.get(variant=stable)
    waiting = Effect.objects.filter(endpoint=endpoint, state=EffectState.PENDING)
    if not workload.wanted and not waiting.filter(kind=EnsureWorkload.kind).exists():
        add_effects(endpoint=endpoint, rollout=None, effects=(EnsureWorkload(stable.name),), now=now)
    status = statuses.get(stable.name)
    if status is None or not status.is_ready or endpoint.desired_shares:
        return
    add_effects(
        endpoint=endpoint,
        rollout=None,
        effects=(
            SetTraffic({stable.name: FULL_SHARE_BP}, stable.name),
            WriteBack(stable.name, stable.name, "serving"),
        ),
        now=now,
    )
    tell(
        endpoint=endpoint,
        rollout=None,
        kind="serving",
        title=f"{stable.name} is ready and has all traffic",
        now=now,
    )


def sweep(*, now: datetime) -> None:
    """Prunes what has a retention: samples after 48 h, settled feedback after 30 days, done effects after 30 days."""
    MinuteSample.objects.filter(minute__lt=now - timedelta(hours=48)).delete()
    Feedback.objects.exclude(state="pending").filter(received_at__lt=now - timedelta(days=30)).delete()
    Effect.objects.exclude(state=EffectState.PENDING).filter(created_at__lt=now - timedelta(days=30)).delete()
