"""The loop: claim what is due, observe, decide, commit, act. Level-triggered: it reads the whole state each time, so
a worker that dies in the middle loses nothing, and two workers never write for one endpoint."""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Case, Exists, OuterRef, When

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import StaleWriter
from controlplane.passes.services import Pauses, Report, run_each
from controlplane.timekeeping.claims import TOLERANCE, free
from controlplane.timekeeping.jumps import look_at_clock, recent_jumps
from rollouts.domain.analysis import assessment_from_json, gates_view
from rollouts.domain.convergence import keep_stable
from rollouts.domain.decide import decide
from rollouts.domain.decision import Decision, GatesView, RolloutView
from rollouts.domain.effects import EnsureWorkload, SetTraffic
from rollouts.domain.looking import RESYNC_SECONDS, next_look
from rollouts.domain.situation import Situation
from rollouts.domain.states import TRAFFIC_MOVES, Phase
from rollouts.domain.strategies import strategy_of
from rollouts.models import Effect, EffectState, Endpoint, Rollout
from rollouts.ports import WorkloadStatus
from rollouts.selectors import GOES_ON, current_rollout
from rollouts.services.act import KINDS, converge_traffic, relaunch_lost, run_effects
from rollouts.services.clock_jumps import settle_jumps
from rollouts.services.feedback import verify_feedback
from rollouts.services.glances import Glances
from rollouts.services.leases import Lease, claim_endpoint, hold, look_soon, nobody_holds, release
from rollouts.services.measure import Measured, measure_rollout
from rollouts.services.observe import Observation, observe_endpoint
from rollouts.services.outages import note_outage
from rollouts.services.proofs import proven
from rollouts.services.recording import (
    count_interval,
    keep_decision,
    keep_evidence,
    note_reading,
    note_world,
)
from rollouts.services.restored import held_as_restored
from rollouts.services.situation import drift_of, situation_of, splits_as_desired, statuses_of
from rollouts.services.software import software
from rollouts.services.views import counted, view_of
from rollouts.services.world import WHOLE_ENOUGH, World
from rollouts.services.writing import add_effects, apply_decision, tell

log = logging.getLogger(__name__)

MEASURED_PHASES = (*(phase.value for phase in TRAFFIC_MOVES), Phase.SUCCEEDED.value, Phase.ROLLING_BACK.value)
TURNS = "turns of the loop"  # the pass, as people read it
PAUSES = Pauses(first=1, longest=5)  # a rollback may wait for it
QUIET_A_TICK = 40  # endpoints without a rollout that are looked at because time passed
REPEATS = 3  # a decision may make the next one possible at once
SHORTEST_INTERVAL = 0.5  # seconds: on the way back the last requests are counted before the candidate is gone


def worker_name() -> str:
    """A name for this worker thread that no other has, ever: a restarted process is another worker."""
    return f"{os.uname().nodename}:{os.getpid()}:{threading.get_ident()}:{uuid.uuid4().hex[:8]}"


def glance(*, glances: Glances, world: World, now: datetime) -> None:
    """Has every endpoint looked at that looks otherwise than this process saw it last. No query while none does.

    It is written down, so that an endpoint that somebody holds at this moment is looked at after that.
    """
    if glances.clock_went_back(now):
        look_soon()
    changed = glances.changed(world)
    if changed:
        look_soon(name__in=changed)


def due_endpoints(*, now: datetime) -> list[int]:
    """The endpoints to look at now that no worker holds: first those with a rollout, then at most QUIET_A_TICK others.
    Of those what somebody asked for comes first, and else what was looked at longest ago. 1 query.

    However many endpoints are quiet, they delay no rollout: after a start of this process all are looked at, and when a
    cluster falls silent all of its are.
    """
    # One that is to be looked at later than any is was put off by another clock.
    due = free("next_look_at", now=now, lifetime=timedelta(seconds=RESYNC_SECONDS))
    moves = Exists(Rollout.objects.filter(GOES_ON, endpoint=OuterRef("pk")))
    found = (
        Endpoint.objects.filter(nobody_holds(now=now))
        .filter(due)
        .annotate(moves=moves, asked=Case(When(next_look_at=None, then=True), default=False))
        .order_by("-asked", "reconciled_at", "id")
        .values_list("pk", "moves")
    )
    with_rollout = [pk for pk, moves_now in found if moves_now]
    return with_rollout + [pk for pk, moves_now in found if not moves_now][:QUIET_A_TICK]


def reconcile_endpoints(
    *, world: Callable[[], World], clock: Clock, threads: int, glances: Glances | None = None
) -> Report:
    """One tick: a turn for every endpoint that is due and that nobody holds, `threads` of them at a time.

    An endpoint whose turn raises keeps its error and has its next turn after a pause of seconds; the others have theirs
    at once. `world` is made in the thread of the turn.

    glances     what this process saw last: endpoints that look otherwise now are due, too
    """
    now = clock.reading().at
    if glances is not None:
        glance(glances=glances, world=world(), now=now)
    every = list(Endpoint.objects.values_list("pk", flat=True))
    due = due_endpoints(now=now)
    return run_each(
        name=TURNS,
        items=due,
        key=lambda endpoint_id: endpoint_id,
        label=_name_of,
        work=lambda endpoint_id: reconcile_endpoint(
            endpoint_id=endpoint_id, world=world(), owner=worker_name()
        ),
        clock=clock,
        pauses=PAUSES,
        threads=threads,
        elsewhere=every,
    )


def _name_of(endpoint_id: int) -> str:
    return f"endpoint {Endpoint.objects.values_list('name', flat=True).get(pk=endpoint_id)}"


def reconcile_endpoint(*, endpoint_id: int, world: World, owner: str) -> bool:
    """One turn of the loop for one endpoint. False when another worker holds it.

    An error of the outside world is logged and shown, never raised: the next tick tries again.
    """
    lease = claim_endpoint(endpoint_id=endpoint_id, owner=owner, now=world.clock.reading().at)
    if lease is None:
        return False
    looks_at: datetime | None = None
    try:
        looks_at = _turns(lease, world)
    except StaleWriter as error:
        # If an adapter refused our token, the next interval's claim finds the newer writer (`restored.py`).
        log.info("endpoint.lease_lost endpoint=%s %s", endpoint_id, error)
    finally:
        release(lease, now=world.clock.now(), looks_at=looks_at)
    return True


def _turns(lease: Lease, world: World) -> datetime:
    """Turns until nothing more follows at once; returns when to look again."""
    for turn in range(REPEATS):
        again, looks_at = _turn(lease, world, first=turn == 0)
        if not again:
            break
    return looks_at


def _turn(lease: Lease, world: World, *, first: bool) -> tuple[bool, datetime]:
    """Observe, decide, commit, act, once. True when a decision changed something, so that another turn is worth it; and
    when to look again.

    All that is observed is committed in one transaction with what was decided on it: a dropped decision drops its
    interval too, and the next one covers it.
    """
    look = look_at_clock(world.clock)
    settle_jumps(lease=lease, look=look)
    now = look.at
    # The rollout before the endpoint: what a person changes in between then fails the check of its revision.
    rollout = current_rollout(lease.endpoint_id)
    endpoint = _read_endpoint(lease.endpoint_id)
    measure = first and not endpoint.restored_state and _interval_is_over(endpoint, rollout, world, now)
    seen = observe_endpoint(endpoint=endpoint, world=world, measure=measure)
    if held_as_restored(endpoint=endpoint, lease=lease, world=world, seen=seen, look=look, ask=measure):
        return False, now
    statuses = statuses_of(seen)
    if measure:
        verify_feedback(endpoint=endpoint, log=world.request_log, now=now)
    view = None if rollout is None else view_of(rollout)
    answered = frozenset() if view is None else proven(endpoint, view, seen, now=now)
    measured: Measured | None = None
    if rollout is not None and view is not None:
        rollout.endpoint = endpoint
        if measure and rollout.phase in MEASURED_PHASES and rollout.step_index >= 0:
            # Before the transaction: the gates take their time, and the database may have one writer.
            measured = measure_rollout(
                rollout=rollout, view=view, seen=seen, world=world, now=now, jumps=recent_jumps(look)
            )
    decision: Decision | None = None
    try:
        with transaction.atomic():
            hold(lease, now=world.clock.now())
            note_world(endpoint=endpoint, seen=seen, statuses=statuses, measure=measure, now=now)
            note_reading(endpoint=endpoint, seen=seen, now=now)
            if measure:
                note_outage(
                    endpoint=endpoint,
                    rollout=rollout,
                    seen=seen,
                    statuses=statuses,
                    measured=measured,
                    interval_seconds=world.interval_seconds,
                    now=now,
                )
            if rollout is not None and view is not None:
                decision = _decide(rollout, view, seen, statuses, measured, answered=answered, now=now)
            else:
                _keep_serving(endpoint, seen, statuses, now)
            relaunch_lost(endpoint=endpoint, seen=seen, now=now)
    except StaleWriter:
        hold(lease, now=world.clock.now())  # the lease itself is lost: raises
        log.info("rollout.decision_dropped rollout=%s: it was changed meanwhile", rollout and rollout.pk)
        return True, now
    done = run_effects(endpoint=endpoint, lease=lease, world=world, seen=seen, now=now)
    converge_traffic(endpoint=endpoint, lease=lease, world=world, seen=seen, now=now)
    moved = bool(done) or (decision is not None and (decision.event is not None or decision.end_watch))
    return moved, now if moved else _next_look(endpoint, rollout, view, seen, world, now)


def _next_look(
    endpoint: Endpoint,
    rollout: Rollout | None,
    view: RolloutView | None,
    seen: Observation,
    world: World,
    now: datetime,
) -> datetime:
    """When there is a reason to look again; `now` for the next tick."""
    waits = Effect.objects.filter(endpoint=endpoint, state=EffectState.PENDING, kind__in=KINDS).exists()
    unread = seen.statuses is None or not seen.route_known
    # Weights that were set by hand stay: nothing of ours is on its way.
    moving = not splits_as_desired(endpoint, seen) and drift_of(endpoint, seen) is None
    last = endpoint.last_reading.get("at") if endpoint.last_reading else None
    began = float(last) if last is not None else now.timestamp()
    moment = next_look(
        None if rollout is None or view is None else counted(view, rollout),
        now=now.timestamp(),
        interval_ends=began + WHOLE_ENOUGH * world.interval_seconds,
        unsettled=waits or unread or moving,
        watched=bool(endpoint.outage) or not _is_idle(seen),
    )
    return datetime.fromtimestamp(moment, tz=UTC)


def _is_idle(seen: Observation) -> bool:
    """Whether an interval was measured now and nobody asked for anything in it."""
    made = seen.difference
    return made is not None and made.seconds > 0 and not any(arm.arrived for arm in made.arms.values())


def _read_endpoint(endpoint_id: int) -> Endpoint:
    return Endpoint.objects.select_related(
        "cluster", "model", "stable__version", "previous", "gate_policy"
    ).get(pk=endpoint_id)


def _interval_is_over(endpoint: Endpoint, rollout: Rollout | None, world: World, now: datetime) -> bool:
    last = endpoint.last_reading.get("at") if endpoint.last_reading else None
    if last is None:
        return True
    returning = rollout is not None and rollout.phase == Phase.ROLLING_BACK.value
    length = SHORTEST_INTERVAL if returning else world.interval_seconds
    passed = now.timestamp() - float(last)
    # What was read in the future was read by a clock that jumped in the middle of a turn.
    return passed >= WHOLE_ENOUGH * length or passed < -TOLERANCE.total_seconds()


def _decide(
    rollout: Rollout,
    view: RolloutView,
    observation: Observation,
    statuses: Mapping[str, WorkloadStatus],
    measured: Measured | None,
    *,
    answered: frozenset[str],
    now: datetime,
) -> Decision:
    _check_unchanged(rollout)
    seen = situation_of(rollout.endpoint, view, observation, statuses, answered=answered)
    if measured is not None:
        count_interval(rollout=rollout, measured=measured, seen=observation, now=now)
    moving = rollout.phase in (Phase.PROGRESSING.value, Phase.PAUSED.value)
    if seen.in_force and rollout.step_since is None and moving:
        rollout.step_since = now
        Rollout.objects.filter(pk=rollout.pk).update(step_since=now)
    view = counted(view, rollout)
    gates = _gates(rollout, view, measured)
    decision = decide(view, seen, gates, now.timestamp())
    workload = measured.workload if measured is not None else {}
    situation = Situation(now.timestamp(), view, seen, workload, software())
    if measured is not None:
        keep_evidence(rollout=rollout, measured=measured, situation=situation, decision=decision, now=now)
    elif decision.event is not None or decision.effects or decision.end_watch:
        keep_decision(rollout=rollout, situation=situation, decision=decision)
    apply_decision(rollout=rollout, decision=decision, now=now)
    return decision


def _check_unchanged(rollout: Rollout) -> None:
    """Raises StaleWriter when somebody changed the rollout since it was read; locks its row where that exists."""
    row = (
        Rollout.objects.select_for_update(no_key=True)
        .filter(pk=rollout.pk)
        .values_list("revision", flat=True)
    )
    if list(row) != [rollout.revision]:
        raise StaleWriter(f"Rollout {rollout} was changed meanwhile.", fix="It is decided anew at once.")


def _gates(rollout: Rollout, view: RolloutView, measured: Measured | None) -> GatesView:
    """What the gates say; between two intervals what they said last."""
    policy = rollout.policy
    if measured is not None:
        return gates_view(measured.assessment, policy)
    if rollout.verdicts:
        return gates_view(assessment_from_json(rollout.verdicts), policy)
    return strategy_of(view).opening_gates(view, policy)


def _keep_serving(
    endpoint: Endpoint, seen: Observation, statuses: Mapping[str, WorkloadStatus], now: datetime
) -> None:
    """Without a rollout: the stable variant runs and serves."""
    stable = endpoint.stable
    if stable is None:
        return
    workload = next((row for row in seen.workloads if row.variant_id == stable.pk), None)
    waiting = Effect.objects.filter(endpoint=endpoint, kind=EnsureWorkload.kind, state=EffectState.PENDING)
    status = statuses.get(stable.name)
    effects = keep_stable(
        stable.name,
        None if status is None else status.view,
        wanted=workload is None or workload.wanted,
        launch_waits=waiting.exists(),
        desired_shares=endpoint.desired_shares,
    )
    add_effects(endpoint=endpoint, rollout=None, effects=effects, now=now)
    if any(isinstance(effect, SetTraffic) for effect in effects):
        title = f"{stable.name} is ready and has all traffic"
        tell(endpoint=endpoint, rollout=None, kind="serving", title=title, now=now)
