"""One turn of the loop for a batch of endpoints: read, observe, measure, decide, commit, act.

What is common is done once for all of them, so that an endpoint's share of the queries and of the looks at cluster and
router is small. What fails for one endpoint is kept apart: the others of its batch go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError, transaction

from controlplane.kernel.errors import StaleWriter
from controlplane.passes.words import error_words
from controlplane.timekeeping.claims import TOLERANCE
from controlplane.timekeeping.jumps import Look, look_at_clock, recent_jumps
from rollouts.domain.lifecycle.convergence import keep_stable
from rollouts.domain.lifecycle.decision import Decision, Hold, RolloutView
from rollouts.domain.lifecycle.effects import AnyEffect as DomainEffect
from rollouts.domain.lifecycle.effects import EnsureWorkload, HoldScaleIn, SetTraffic
from rollouts.domain.lifecycle.looking import next_look
from rollouts.domain.lifecycle.states import TRAFFIC_MOVES, Phase
from rollouts.domain.strategies import is_known
from rollouts.models import Effect, EffectState, Rollout
from rollouts.ports import WorkloadStatus
from rollouts.services.commands.feedback import verify_feedback
from rollouts.services.commands.rollouts import hold_in_force
from rollouts.services.errands.proofs import proven
from rollouts.services.loop.act import converge_traffic, run_effects
from rollouts.services.loop.clock_jumps import settle_together
from rollouts.services.loop.converging import converge_workloads, due_of_workloads
from rollouts.services.loop.deciding import decide_rollout
from rollouts.services.loop.leases import Lease, hold_together
from rollouts.services.loop.measure import Measured, measure_rollout
from rollouts.services.loop.observe import NOTHING_SEEN, Observation, observe_endpoints
from rollouts.services.loop.outages import note_outage
from rollouts.services.loop.past import read_pasts
from rollouts.services.loop.recording import note_reading, note_world
from rollouts.services.loop.restored import held_as_restored
from rollouts.services.loop.routing import route_json, route_of
from rollouts.services.loop.rows import CARRIED_OUT, Rows, read_rows
from rollouts.services.loop.samples import Minutes, read_minutes
from rollouts.services.loop.situation import (
    route_lag_words,
    shares_set_by_hand,
    splits_as_desired,
    statuses_of,
)
from rollouts.services.loop.views import view_of, with_counts
from rollouts.services.loop.writes import Writes
from rollouts.services.world import WHOLE_ENOUGH, World
from rollouts.services.writing import (
    add_effects,
    apply_decision,
    changes_words_only,
    keep_words,
    tell,
)

log = logging.getLogger(__name__)

MEASURED_PHASES = (*(phase.value for phase in TRAFFIC_MOVES), Phase.SUCCEEDED.value, Phase.ROLLING_BACK.value)
# Effects for which the loop looks again at its next tick. Whether a cluster may scale in waits for the next interval.
PRESSING = tuple(kind for kind in CARRIED_OUT if kind != HoldScaleIn.kind)
SHORTEST_INTERVAL = 0.5  # seconds: on the way back the last requests are counted before the candidate is gone


@dataclass(slots=True)
class Turn:
    """One endpoint's part of a turn, as far as it has come.

    measure     its interval is over
    over        it ends before anything is decided: a restored copy is looked after, somebody else has it, or it failed
    plain       nothing but numbers and words changes: no effect, no event
    acts        effects wait to be carried out, or the router is to be told something
    again       something changed, so that another turn is worth it at once
    looks_at    when to look again; None: at the next tick
    lost        another worker has the endpoint now
    error       what was wrong with this endpoint alone
    """

    lease: Lease
    rows: Rows
    measure: bool = False
    seen: Observation = NOTHING_SEEN
    statuses: Mapping[str, WorkloadStatus] = field(default_factory=dict)
    view: RolloutView | None = None
    answered: frozenset[str] = frozenset()
    measured: Measured | None = None
    decision: Decision | None = None
    over: bool = False
    plain: bool = True
    acts: bool = False
    again: bool = False
    looks_at: datetime | None = None
    lost: bool = False
    error: Exception | None = None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """What goes wrong inside is this endpoint's, and ends its turn; the others go on."""
        try:
            yield
        except StaleWriter as error:
            # If an adapter refused our token, the next interval's claim finds the newer writer (`restored.py`).
            log.info("endpoint.lease_lost endpoint=%s %s", self.lease.endpoint_id, error)
            self.over = self.lost = True
        except Exception as error:  # the boundary of one endpoint: whatever is wrong with it stops no other
            self.over, self.error = True, error


def decide_together(*, leases: Sequence[Lease], world: World, first: bool) -> list[Turn]:
    """Reads, observes, measures, decides and commits for endpoints of one cluster; what is left is to act.

    first       of the turns under these leases: only then intervals are measured

    All that is observed of an endpoint is committed in one transaction with what was decided on it: a dropped decision
    drops its interval too, and the next one covers it. Raises what the database raises: then nothing was committed.
    """
    look = look_at_clock(world.clock)
    turns = _read(leases, look)
    for turn in turns:
        turn.measure = (
            first and not turn.rows.endpoint.restored_state and _interval_is_over(turn, world, look.at)
        )
    going = _going(turns)
    measured = frozenset(turn.lease.endpoint_id for turn in going if turn.measure)
    seen = observe_endpoints(rows=[turn.rows for turn in going], world=world, measured=measured)
    for turn in going:
        with turn.alone():
            _look_at(turn, seen[turn.lease.endpoint_id], world, look)
    _measure([turn for turn in _going(turns) if turn.measure], world, look)
    _commit(_going(turns), world, look)
    for turn in _going(turns):
        with turn.alone():
            turn.acts = not turn.plain or bool(turn.rows.waiting) or not _routed(turn, world)
            turn.looks_at = _next_look(turn, world, look.at, waits=False)
    return turns


def act(turn: Turn, *, world: World) -> None:
    """Carries out what waits for the endpoint, and brings the router up to date."""
    now = world.clock.now()
    with turn.alone():
        endpoint, lease, seen = turn.rows.endpoint, turn.lease, turn.seen
        done = run_effects(endpoint=endpoint, lease=lease, world=world, seen=seen, now=now)
        converge_traffic(endpoint=endpoint, lease=lease, world=world, seen=seen, now=now)
        moved = turn.decision is not None and (turn.decision.event is not None or turn.decision.end_watch)
        turn.again = bool(done) or moved
        # A route that is late is seen by a glance when it comes into force.
        soon = (EnsureWorkload.kind,) if route_lag_words(endpoint, seen, now) else PRESSING
        waits = Effect.objects.filter(endpoint=endpoint, state=EffectState.PENDING, kind__in=soon).exists()
        turn.looks_at = now if turn.again else _next_look(turn, world, now, waits=waits)


def _going(turns: Iterable[Turn]) -> list[Turn]:
    return [turn for turn in turns if not turn.over and not turn.again]


# --- read -----------------------------------------------------------------------------------------------------


def _read(leases: Sequence[Lease], look: Look) -> list[Turn]:
    """The rows of all, the times of those that a jump of the clock moved settled before."""
    by_endpoint = {lease.endpoint_id: lease for lease in leases}
    lost = settle_together(leases=leases, look=look)
    for lease in lost:
        log.info("endpoint.lease_lost endpoint=%s", lease.endpoint_id)
    turns = []
    for rows in read_rows(by_endpoint, now=look.at):
        lease = by_endpoint[rows.endpoint.pk]
        turns.append(Turn(lease, rows, over=lease in lost, lost=lease in lost))
    return turns


def _interval_is_over(turn: Turn, world: World, now: datetime) -> bool:
    endpoint, rollout = turn.rows.endpoint, turn.rows.rollout
    last = endpoint.last_reading.get("at") if endpoint.last_reading else None
    if last is None:
        return True
    returning = rollout is not None and rollout.phase == Phase.ROLLING_BACK.value
    length = SHORTEST_INTERVAL if returning else world.interval_seconds
    passed = now.timestamp() - float(last)
    # What was read in the future was read by a clock that jumped in the middle of a turn.
    return passed >= WHOLE_ENOUGH * length or passed < -TOLERANCE.total_seconds()


# --- observe and measure --------------------------------------------------------------------------------------


def _look_at(turn: Turn, seen: Observation, world: World, look: Look) -> None:
    endpoint, rollout = turn.rows.endpoint, turn.rows.rollout
    turn.seen = seen
    if held_as_restored(
        endpoint=endpoint, lease=turn.lease, world=world, seen=seen, look=look, ask=turn.measure
    ):
        turn.over, turn.looks_at = True, look.at
        return
    turn.statuses = statuses_of(seen)
    if turn.measure and turn.rows.rated:
        verify_feedback(endpoint=endpoint, log=world.request_log, now=look.at)
    if rollout is not None:
        turn.view = view_of(rollout, turn.rows.arms)
        turn.answered = proven(endpoint, turn.view, turn.rows.arms, seen, now=look.at)


def _measure(turns: Sequence[Turn], world: World, look: Look) -> None:
    """Before the transaction: the gates take their time, and the database may have one writer."""
    having = [
        turn
        for turn in turns
        if turn.rows.rollout is not None
        and turn.rows.rollout.phase in MEASURED_PHASES
        and turn.rows.rollout.step_index >= 0
        and is_known(turn.rows.rollout.parsed_plan)
        and not turn.rows.unread
    ]
    if not having:
        return
    ripe_before = look.at - timedelta(seconds=world.feedback_seconds)
    rollouts = [turn.rows.rollout for turn in having if turn.rows.rollout is not None]
    pasts, jumps = read_pasts(rollouts, ripe_before=ripe_before), recent_jumps(look)
    for turn in having:
        assert turn.rows.rollout is not None
        assert turn.view is not None
        with turn.alone():
            try:
                turn.measured = measure_rollout(
                    rollout=turn.rows.rollout,
                    view=turn.view,
                    arm_rows=turn.rows.arms,
                    past=pasts[turn.rows.rollout.pk],
                    seen=turn.seen,
                    world=world,
                    now=look.at,
                    jumps=jumps,
                )
            except DatabaseError:
                raise
            except Exception as error:
                # On the way back nothing is decided by what is measured: whoever rolls back gets away from such gates.
                if turn.rows.rollout.phase != Phase.ROLLING_BACK.value:
                    raise
                log.warning(
                    "rollout.way_back_unmeasured rollout=%s %s", turn.rows.rollout, error_words(error)
                )


# --- decide and commit ----------------------------------------------------------------------------------------


def _commit(turns: Sequence[Turn], world: World, look: Look) -> None:
    """One transaction for all. What only changes numbers and words is written together; what decides more is written by
    itself, so that it fails by itself."""
    if not turns:
        return
    now = look.at
    rollouts = sorted(turn.rows.rollout.pk for turn in turns if turn.rows.rollout is not None)
    with transaction.atomic():
        held = set(hold_together([turn.lease for turn in turns], now=world.clock.now()))
        hold = hold_in_force() if rollouts else None
        revisions = _locked_revisions(rollouts)
        minutes = read_minutes(
            endpoint_ids=[turn.lease.endpoint_id for turn in turns if turn.seen.reading is not None], now=now
        )
        together = Writes()
        for turn in turns:
            rollout = turn.rows.rollout
            if turn.lease not in held:
                log.info("endpoint.lease_lost endpoint=%s", turn.lease.endpoint_id)
                turn.over = turn.lost = True
            elif rollout is not None and revisions.get(rollout.pk) != rollout.revision:
                _drop(turn)
            else:
                with turn.alone():
                    try:
                        _keep(turn, together, minutes, hold, world, now)
                    except StaleWriter:
                        _drop(turn)
        together.flush(now=now)


def _locked_revisions(rollouts: Sequence[int]) -> dict[int, int]:
    """The revisions as they are now; nobody changes these rollouts until the end of the transaction."""
    if not rollouts:
        return {}
    rows = Rollout.objects.filter(pk__in=rollouts).order_by("pk").select_for_update(no_key=True)
    return dict(rows.values_list("pk", "revision"))


def _drop(turn: Turn) -> None:
    """Somebody changed the rollout since it was read: nothing of this turn is written, and it is decided anew."""
    log.info("rollout.decision_dropped rollout=%s: it was changed meanwhile", turn.rows.rollout)
    turn.decision, turn.again = None, True


def _keep(
    turn: Turn, together: Writes, minutes: Minutes, hold: Hold | None, world: World, now: datetime
) -> None:
    """Decides for one endpoint; what is plain is left to be written with the others."""
    endpoint, rollout = turn.rows.endpoint, turn.rows.rollout
    writes = Writes()
    note_world(
        endpoint=endpoint,
        seen=turn.seen,
        statuses=turn.statuses,
        measure=turn.measure,
        writes=writes,
        now=now,
    )
    note_reading(endpoint=endpoint, seen=turn.seen, minutes=minutes, writes=writes)
    if turn.measure:
        note_outage(
            endpoint=endpoint,
            rollout=rollout,
            seen=turn.seen,
            statuses=turn.statuses,
            measured=turn.measured,
            interval_seconds=world.interval_seconds,
            writes=writes,
            now=now,
        )
    effects: tuple[DomainEffect, ...] = ()
    if rollout is not None and turn.view is not None:
        turn.decision = decide_rollout(
            rollout=rollout,
            view=turn.view,
            arms=turn.rows.arms,
            newest_digest=turn.rows.newest_digest,
            observation=turn.seen,
            statuses=turn.statuses,
            measured=turn.measured,
            answered=turn.answered,
            hold=hold,
            writes=writes,
            now=now,
            unread=turn.rows.unread,
        )
    else:
        effects = _serving_effects(turn)
    decided = None if rollout is None or turn.decision is None else (rollout, turn.decision)
    plain = decided is None or changes_words_only(*decided)
    if plain and not effects and not due_of_workloads(turn.view, turn.seen, turn.rows.waiting):
        if decided is not None:
            keep_words(*decided, writes=writes, now=now)
        together.include(writes)
        return
    turn.plain = False
    with transaction.atomic():
        writes.flush(now=now)
        if decided is not None:
            apply_decision(rollout=decided[0], decision=decided[1], now=now)
        add_effects(endpoint=endpoint, rollout=None, effects=effects, now=now)
        if any(isinstance(effect, SetTraffic) for effect in effects):
            title = f"{endpoint.stable} is ready and has all traffic"
            tell(endpoint=endpoint, rollout=None, kind="serving", title=title, now=now)
        converge_workloads(endpoint=endpoint, view=turn.view, seen=turn.seen, now=now)


def _serving_effects(turn: Turn) -> tuple[DomainEffect, ...]:
    """Without a rollout: the stable variant runs and serves."""
    stable = turn.rows.endpoint.stable
    if stable is None:
        return ()
    workload = next((row for row in turn.rows.workloads if row.variant_id == stable.pk), None)
    status = turn.statuses.get(stable.name)
    return keep_stable(
        stable.name,
        None if status is None else status.view,
        wanted=workload is None or workload.wanted,
        launch_waits=any(effect.kind == EnsureWorkload.kind for effect in turn.rows.waiting),
        desired_shares=turn.rows.endpoint.desired_shares,
    )


# --- and then -------------------------------------------------------------------------------------------------


def _routed(turn: Turn, world: World) -> bool:
    """Whether the router needs nothing: it has the route that was published last in force, and that is the one to
    have."""
    endpoint, seen, rollout = turn.rows.endpoint, turn.seen, turn.rows.rollout
    if not endpoint.desired_shares or not seen.route_known:
        return True
    active = rollout if rollout is not None and rollout.is_active else None
    arms = turn.rows.arms if active is not None else ()
    if turn.rows.unread:
        active = None  # nobody here can say whom its evidence blames
    if seen.route is None or endpoint.accepted_at is not None:
        return False
    return bool(endpoint.applied == route_json(route_of(endpoint, turn.rows.workloads, active, arms, world)))


def _next_look(turn: Turn, world: World, now: datetime, *, waits: bool) -> datetime:
    """When there is a reason to look again; `now` for the next tick. `waits`: effects do."""
    endpoint, rollout, seen = turn.rows.endpoint, turn.rows.rollout, turn.seen
    unread = seen.statuses is None or not seen.route_known
    # Weights that were set by hand stay: nothing of ours is on its way.
    moving = not splits_as_desired(endpoint, seen) and shares_set_by_hand(endpoint, seen) is None
    moving = (moving or endpoint.accepted_at is not None) and not route_lag_words(endpoint, seen, now)
    last = endpoint.last_reading.get("at") if endpoint.last_reading else None
    began = float(last) if last is not None else now.timestamp()
    moment = next_look(
        None if rollout is None or turn.view is None else with_counts(turn.view, rollout),
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
