"""The loop: claim what is due, take turns, give it back. Level-triggered: every turn reads the whole state, so a worker
that dies in the middle loses nothing, and two workers never write for one endpoint.

Endpoints are taken in batches (`turns.py`). Those of which something waits to be done, such as a launch or a new split,
are taken one by one beside them: whatever they wait for delays nobody else.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from django.db import close_old_connections, connections
from django.db.models import Case, Exists, OuterRef, Q, When

from controlplane.kernel.clock import Clock, seconds_between
from controlplane.passes.services import Pauses, Report, run_each, troubled
from controlplane.passes.words import error_words
from controlplane.timekeeping.claims import free
from rollouts.domain.lifecycle.looking import RESYNC_SECONDS
from rollouts.domain.lifecycle.states import Phase
from rollouts.models import Effect, EffectState, Endpoint, Rollout
from rollouts.selectors import GOES_ON, TURNS
from rollouts.services.loop.glances import Glances
from rollouts.services.loop.leases import Lease, claim_endpoints, look_soon, nobody_holds, release
from rollouts.services.loop.rows import CARRIED_OUT
from rollouts.services.loop.turns import Turn, act, decide_together
from rollouts.services.loop.under_way import UnderWay
from rollouts.services.world import World, Worlds

log = logging.getLogger(__name__)

PAUSES = Pauses(first=1, longest=5)  # a rollback may wait for it
QUIET_A_TICK = 400  # endpoints without a rollout that are looked at because time passed
TROUBLED_A_TICK = 50  # endpoints that failed the last time, with a rollout, and as many without one
BATCH = 50  # endpoints
BATCHES_AT_ONCE = 2
# After so many batches of endpoints with a rollout comes one of those without: a worker with more rollouts than it has
# time for would otherwise never look at them, and an engine that died would stay dead.
ROLLOUT_BATCHES_FIRST = 3
# So many seconds what was seen of an endpoint may be acted on. A router that hangs keeps a batch waiting 20 s for each
# of its endpoints: the others are given back then, and are looked at anew.
ACTED_ON_FOR = 5.0
# Nothing is begun in a tick after so many seconds: what waits for a cluster that hangs is left to later ticks, and the
# thread of this one is free again after one look at it.
BEGUN_FOR = 5.0
UNDER_WAY = UnderWay()  # of this process
REPEATS = 3  # a decision may make the next one possible at once
# A click that finds its endpoint's turn under way: that turn may have read the rows before the click, and ends in a
# moment. So it is tried again after these seconds; who clicks would else wait for the next tick.
CLICK_PAUSES = (0.05, 0.1, 0.2, 0.4)
# Something is asked of a cluster, a router or an engine, and may have to be waited for.
BUSY_PHASES = tuple(
    phase.value for phase in (Phase.PENDING, Phase.PROVISIONING, Phase.PROMOTING, Phase.ROLLING_BACK)
)


def worker_name() -> str:
    """A name for this worker thread that no other has, ever: a restarted process is another worker."""
    return f"{os.uname().nodename}:{os.getpid()}:{threading.get_ident()}:{uuid.uuid4().hex[:8]}"


def glance(*, glances: Glances, worlds: Worlds, now: datetime) -> None:
    """Has every endpoint looked at that looks otherwise than this process saw it last. No query while none does.

    It is written down, so that an endpoint that somebody holds at this moment is looked at after that.
    """
    if glances.clock_went_back(now):
        look_soon()
    changed = glances.changed(worlds)
    if changed:
        look_soon(name__in=changed)


@dataclass(frozen=True, slots=True)
class Due:
    """An endpoint to look at.

    moves   it has a rollout
    alone   something of it may have to be waited for, or its last turn failed
    """

    endpoint_id: int
    cluster: str
    moves: bool
    alone: bool


def due_endpoints(*, now: datetime) -> list[Due]:
    """The endpoints to look at now that no worker holds: first those with a rollout, then at most QUIET_A_TICK others.
    Of those what somebody asked for comes first, and else what was looked at longest ago. 2 queries at most.

    However many endpoints are quiet, they hardly delay a rollout: after a start of this process all are looked at, and
    when a cluster falls silent all of its are. Those whose last turn failed were looked at longest ago, and would take
    all places: they have TROUBLED_A_TICK of their own, where those come first that were tried longest ago.
    """
    # One that is to be looked at later than any is was put off by another clock.
    due = free("next_look_at", now=now, lifetime=timedelta(seconds=RESYNC_SECONDS))
    rollouts = Rollout.objects.filter(GOES_ON, endpoint=OuterRef("pk"))
    waiting = Effect.objects.filter(endpoint=OuterRef("pk"), state=EffectState.PENDING, kind__in=CARRIED_OUT)
    found = (
        Endpoint.objects.filter(nobody_holds(now=now))
        .filter(due)
        .annotate(
            moves=Exists(rollouts),
            alone=Exists(rollouts.filter(phase__in=BUSY_PHASES)) | Exists(waiting) | ~Q(restored_state=""),
            asked=Case(When(next_look_at=None, then=True), default=False),
        )
        .order_by("-asked", "reconciled_at", "id")
        .values_list("pk", "cluster__name", "alone", "moves")
    )
    rows = list(found)
    tried = troubled(name=TURNS) if rows else {}

    def those(with_rollout: bool, most: int | None) -> list[Due]:
        every = [row for row in rows if row[3] == with_rollout]
        well = [Due(pk, cluster, moves, alone) for pk, cluster, alone, moves in every if str(pk) not in tried]
        failed = [Due(pk, cluster, moves, True) for pk, cluster, _, moves in every if str(pk) in tried]
        failed.sort(key=lambda one: tried[str(one.endpoint_id)])
        return well[:most] + failed[:TROUBLED_A_TICK]

    return those(True, None) + those(False, QUIET_A_TICK)


def reconcile_endpoints(
    *, worlds: Worlds, clock: Clock, threads: int, glances: Glances | None = None
) -> Report:
    """One tick: a turn for every endpoint that is due and that nobody holds, in batches; where something may have to be
    waited for, `threads` of them at a time.

    An endpoint whose turn raises keeps its error and has its next turn after a pause of seconds; the others have theirs
    at once. So is one whose cluster cannot be used. Clusters take turns, and after BEGUN_FOR seconds nothing is begun
    any more: a cluster that hangs keeps the others waiting for a moment only, however many endpoints it has. While
    earlier ticks still wait for it, it is left out.

    glances     what this process saw last: endpoints that look otherwise now are due, too
    """
    began = clock.reading()
    now = began.at
    if glances is not None:
        glance(glances=glances, worlds=worlds, now=now)
    due = [one for one in due_endpoints(now=now) if not UNDER_WAY.hangs(one.cluster)]
    every = dict(Endpoint.objects.values_list("pk", "cluster__name"))

    def one_by_one(endpoint_ids: Sequence[int]) -> Report:
        return run_each(
            name=TURNS,
            items=endpoint_ids,
            key=lambda endpoint_id: endpoint_id,
            label=_name_of,
            work=lambda endpoint_id: reconcile_endpoint(
                endpoint_id=endpoint_id, world=worlds.of(every[endpoint_id]), owner=worker_name()
            ),
            clock=clock,
            pauses=PAUSES,
            threads=threads,
            seconds=BEGUN_FOR if endpoint_ids else None,
            elsewhere=every,
        )

    def batch_of(batch: _Batch) -> list[int] | None:
        if seconds_between(began, clock.reading()) > BEGUN_FOR:
            return None
        return _batch(batch, worlds) if threads == 1 else _batch_in_a_thread(batch, worlds)

    apart = [one.endpoint_id for _, one in _in_turns(one for one in due if one.alone)]
    batches = _batches([one for one in due if not one.alone])
    at_once = BATCHES_AT_ONCE if threads > 1 else 1
    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="batch") as pool:
        running = [pool.submit(batch_of, batch) for batch in batches] if threads > 1 else []
        report = one_by_one(apart)
        failed = [batch_of(batch) for batch in batches] if threads == 1 else [one.result() for one in running]
    begun = [(batch, numbers) for batch, numbers in zip(batches, failed, strict=True) if numbers is not None]
    again = [number for _, numbers in begun for number in numbers]
    more = one_by_one(again) if again else Report()
    tried = sum(len(batch.endpoint_ids) for batch, _ in begun)
    return Report(
        done=report.done + more.done + tried - len(again),
        failed=report.failed + more.failed,
        waiting=report.waiting,
        left=report.left + more.left + sum(len(batch.endpoint_ids) for batch in batches) - tried,
        news=report.news or more.news,
    )


def _name_of(endpoint_id: int) -> str:
    return f"endpoint {Endpoint.objects.values_list('name', flat=True).get(pk=endpoint_id)}"


# --- one endpoint, and many -----------------------------------------------------------------------------------


def reconcile_after_click(
    *, endpoint_id: int, worlds: Worlds, sleep: Callable[[float], None] = time.sleep
) -> None:
    """A turn at once, after a click; while another one of the endpoint is under way, after that (CLICK_PAUSES).

    Where as many as may be are under way on its cluster, which may hang, the next tick takes it: whoever clicks has the
    endpoint looked at (`look_soon`). So it does where a turn lasts longer than the pauses.
    """
    cluster = Endpoint.objects.values_list("cluster__name", flat=True).get(pk=endpoint_id)
    with UNDER_WAY.woken(cluster) as free:
        if not free:
            return
        world = worlds.of(cluster)
        for pause in (*CLICK_PAUSES, None):
            taken = reconcile_endpoint(endpoint_id=endpoint_id, world=world, owner=worker_name())
            if taken or pause is None:
                return
            sleep(pause)


def reconcile_endpoint(*, endpoint_id: int, world: World, owner: str) -> bool:
    """One turn of the loop for one endpoint. False when another worker holds it.

    An error of the outside world is logged and shown, never raised: the next tick tries again. What is wrong with this
    endpoint itself is raised.
    """
    outcome = reconcile_together(endpoint_ids=(endpoint_id,), world=world, owner=owner)
    for error in outcome.errors.values():
        raise error
    return bool(outcome.taken)


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What became of a batch: the endpoints that were taken, and what was wrong with some of them."""

    taken: frozenset[int]
    errors: Mapping[int, Exception]


def reconcile_together(*, endpoint_ids: Collection[int], world: World, owner: str) -> BatchOutcome:
    """A turn for each of these endpoints of one cluster that no other worker holds, and more where something follows.

    owner   a name that no worker had before
    Raises what the database raises for all of them together.
    """
    with UNDER_WAY.turn(world.name):
        return _reconcile_together(endpoint_ids, world, owner)


def _reconcile_together(endpoint_ids: Collection[int], world: World, owner: str) -> BatchOutcome:
    leases = claim_endpoints(endpoint_ids=endpoint_ids, owner=owner, now=world.clock.reading().at)
    held: dict[Lease, None] = dict.fromkeys(leases)
    errors: dict[int, Exception] = {}

    def give_back(turns: Iterable[Turn]) -> None:
        mine = [turn for turn in turns if turn.lease in held]
        # What another worker took stays his. What router or cluster refused is still ours, and is free from now on.
        looks = {turn.lease: None if turn.lost else turn.looks_at for turn in mine}
        release(looks, now=world.clock.now())
        for turn in mine:
            del held[turn.lease]
            if turn.error is not None:
                errors[turn.lease.endpoint_id] = turn.error

    try:
        for number in range(REPEATS):
            going = list(held)
            if not going:
                break
            turns = decide_together(leases=going, world=world, first=number == 0)
            last = number == REPEATS - 1
            # Those with nothing to do wait for nobody.
            give_back(turn for turn in turns if not turn.acts and (last or not turn.again))
            seen_at = world.clock.reading()
            for turn in turns:
                if not turn.acts:
                    continue
                if seconds_between(seen_at, world.clock.reading()) > ACTED_ON_FOR:
                    turn.looks_at = None
                    give_back([turn])
                    continue
                act(turn, world=world)
                if last or not turn.again or turn.over:
                    give_back([turn])
    finally:
        release(dict.fromkeys(held), now=world.clock.now())
    return BatchOutcome(frozenset(lease.endpoint_id for lease in leases), errors)


@dataclass(frozen=True, slots=True)
class _Batch:
    cluster: str
    endpoint_ids: Sequence[int]


def _batches(due: Sequence[Due]) -> list[_Batch]:
    """Endpoints of one cluster together, at most BATCH of them: ROLLOUT_BATCHES_FIRST with rollouts, then one without,
    and so on."""
    quiet = iter(_batches_of(one for one in due if not one.moves))
    batches = []
    for number, batch in enumerate(_batches_of(one for one in due if one.moves), start=1):
        batches.append(batch)
        if number % ROLLOUT_BATCHES_FIRST == 0:
            batches += islice(quiet, 1)
    return [*batches, *quiet]


def _batches_of(due: Iterable[Due]) -> list[_Batch]:
    """In their order; a batch of every cluster before the second one of any."""
    batches: dict[tuple[int, str], list[int]] = defaultdict(list)
    for place, one in _in_turns(due):
        batches[place // BATCH, one.cluster].append(one.endpoint_id)
    return [_Batch(cluster, numbers) for (_, cluster), numbers in batches.items()]


def _in_turns(due: Iterable[Due]) -> list[tuple[int, Due]]:
    """The first of every cluster, then the second of every cluster and so on, each with its place in its cluster."""
    places: dict[str, int] = defaultdict(int)
    found = []
    for one in due:
        found.append((places[one.cluster], one))
        places[one.cluster] += 1
    return sorted(found, key=lambda placed: placed[0])


def _batch(batch: _Batch, worlds: Worlds) -> list[int]:
    """Takes the turns of a batch; returns the endpoints with which something was wrong: they are tried one by one."""
    try:
        world = worlds.of(batch.cluster)
        outcome = reconcile_together(endpoint_ids=batch.endpoint_ids, world=world, owner=worker_name())
    except Exception as error:  # nobody knows which of them is to blame: each is tried by itself
        log.warning(
            "batch.failed cluster=%s endpoints=%s %s",
            batch.cluster,
            len(batch.endpoint_ids),
            error_words(error),
        )
        return list(batch.endpoint_ids)
    for number, wrong in outcome.errors.items():
        log.warning("batch.endpoint_failed endpoint=%s %s", number, error_words(wrong))
    return list(outcome.errors)


def _batch_in_a_thread(batch: _Batch, worlds: Worlds) -> list[int]:
    close_old_connections()
    try:
        return _batch(batch, worlds)
    finally:
        connections.close_all()
