"""The loop over a database that is an older copy: it finds out, waits until nobody else is at work, takes control
again, and changes no traffic by what may be long undone before a person said so.

At every interval the loop tells its token to the router and the cluster. An answer that is larger than the token of a
lease that is still ours was given by another database: by this one before it was restored, or by another control
plane's (`rollouts.domain.restored`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import transaction

from controlplane.kernel.errors import HeadgateError
from controlplane.kernel.words import percent_of_bp
from controlplane.timekeeping.jumps import Look
from controlplane.web.health import RESTORED, beat, forget
from controlplane.web.live import publish
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.effects import EnsureWorkload
from rollouts.domain.restored import Restored, RestoredState, is_quiet
from rollouts.models import Endpoint
from rollouts.selectors import current_rollout
from rollouts.services.locks import lock_rollouts_of
from rollouts.services.loop.act import run_effects
from rollouts.services.loop.clock_jumps import move_times
from rollouts.services.loop.converging import relaunch_lost
from rollouts.services.loop.leases import Lease, hold, raise_token
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.recording import note_world
from rollouts.services.loop.restored_keep import Keepable, find_keepable, keep_variant
from rollouts.services.loop.situation import split, statuses_of, traffic_waits
from rollouts.services.loop.writes import Writes
from rollouts.services.world import World
from rollouts.services.writing import tell

log = logging.getLogger(__name__)

# Whoever is at work tells a new token in every look, 15 s apart at most, and a cluster may have it some seconds later.
QUIET_SECONDS = 24.0

FIELDS = ["restored_state", "restored", "desired_shares", "applied", "last_reading"]
LISTENING = (RestoredState.WATCHING, RestoredState.RIVAL)  # until it is quiet, nothing is told


def held_as_restored(
    *, endpoint: Endpoint, lease: Lease, world: World, seen: Observation, look: Look, ask: bool
) -> bool:
    """True when this turn ends here, because router and cluster know a newer writer than this database.

    ask   tell them our token now, and learn theirs; without it only an endpoint that is held already is looked after

    Raises StaleWriter when the lease was lost.
    """
    if not ask and not endpoint.restored_state:
        return False
    known = (endpoint.restored_state, endpoint.restored)
    heard = _hear(endpoint, lease, world, look)
    if not endpoint.restored_state and heard.newest <= lease.token:
        return False
    names = _to_be_kept(endpoint, seen) if heard.in_control else ()
    keepable = find_keepable(endpoint=endpoint, names=names, world=world)
    with transaction.atomic():
        hold(lease, now=look.at)  # another worker of this very database has a newer token, too
        lock_rollouts_of(endpoint.pk)  # a choice that is carried out ends them, after workloads were written
        endpoint.refresh_from_db(fields=FIELDS)
        writes = Writes()
        note_world(
            endpoint=endpoint, seen=seen, statuses=statuses_of(seen), measure=True, writes=writes, now=look.at
        )
        writes.flush(now=look.at)
        if (endpoint.restored_state, endpoint.restored) != known:
            return True  # somebody chose meanwhile: the next turn asks for what that needs
        if heard.stranger:
            _meet(endpoint, lease, heard.newest, look)
        elif heard.outbid:
            _take_control(endpoint, lease, heard.newest, look.at)
        elif heard.in_control:
            _go_on(endpoint, lease, keepable, seen, look.at)
    if endpoint.restored_state == RestoredState.RETURNING:
        run_effects(
            endpoint=endpoint, lease=lease, world=world, seen=seen, now=look.at, kinds=(EnsureWorkload.kind,)
        )
    return True


def report_restored(*, now: datetime) -> None:
    """Tells the report on readiness which endpoints are held, or takes that part out of it."""
    rows = list(Endpoint.objects.exclude(restored_state="").values_list("name", "restored_state"))
    if not rows:
        forget(name=RESTORED)
        return
    words = "; ".join(
        f"{name}: {_SHORT.get(state, f'in a state unknown here, {state!r}')}" for name, state in rows
    )
    beat(name=RESTORED, now=now, ok=False, message=f"The database is an older copy. {words}.")


_SHORT: Mapping[str, str] = {
    RestoredState.WATCHING: "waits until nobody newer is at work",
    RestoredState.RIVAL: "another control plane is at work",
    RestoredState.HELD: "a release manager chooses what serves",
    RestoredState.KEEPING: "what serves is written down",
    RestoredState.RETURNING: "what the database says is made ready",
}


@dataclass(frozen=True, slots=True)
class _Heard:
    """What router and cluster know. At most one of the three is true; none: it is not quiet for long enough yet.

    newest      the largest token that they know, ours included
    stranger    it is larger than what was known of before: somebody else is at work, or was
    outbid      nobody else is at work, and ours is not the largest yet
    in_control  nobody else is at work, and ours is the largest
    """

    newest: int
    stranger: bool = False
    outbid: bool = False
    in_control: bool = False


def _hear(endpoint: Endpoint, lease: Lease, world: World, look: Look) -> _Heard:
    """Asks router and cluster, and tells them our token unless somebody else may be at work.

    Every turn's lease adds one to our token. Told too early, it would soon be larger than that of a writer who is at
    work, and shut that one out.
    """
    if endpoint.restored_state in LISTENING:
        found = Restored.from_json(endpoint.restored)
        newest, all_answered = _ask(endpoint, world, token=0)
        if newest > found.newest:
            return _Heard(newest, stranger=True)
        # Who did not answer may know a newer writer.
        if not all_answered or not is_quiet(found, look.reading, seconds=QUIET_SECONDS):
            return _Heard(newest)
        newest, _ = _ask(endpoint, world, token=lease.token)
        return _Heard(newest, outbid=newest > lease.token, in_control=newest <= lease.token)
    newest, _ = _ask(endpoint, world, token=lease.token)
    return _Heard(newest, stranger=newest > lease.token, in_control=newest <= lease.token)


def _ask(endpoint: Endpoint, world: World, *, token: int) -> tuple[int, bool]:
    """The largest token that the router and the cluster know, `token` included, which they are told (0 tells nothing);
    and whether both answered. One that does not, or is busy, is asked again in the next turn."""
    newest, all_answered = token, True
    for part in (world.router, world.cluster):
        try:
            newest = max(newest, part.claim(endpoint.name, token=token))
        except HeadgateError as error:
            all_answered = False
            log.info("endpoint.token_not_told endpoint=%s %s", endpoint.name, error)
    return newest, all_answered


def _to_be_kept(endpoint: Endpoint, seen: Observation) -> set[str]:
    """The variants that a person chose or may choose to keep."""
    state = endpoint.restored_state
    if state == RestoredState.KEEPING:
        return {Restored.from_json(endpoint.restored).choice}
    if state == RestoredState.RETURNING or seen.route is None:
        return set()
    return set(split(seen.route.shares))


def _meet(endpoint: Endpoint, lease: Lease, newest: int, look: Look) -> None:
    """Notes a token that no lease of this database had."""
    if not endpoint.restored_state:
        last = endpoint.reconciled_at
        found = Restored(
            newest=newest,
            since=look.at.timestamp(),
            quiet=look.reading,
            last=None if last is None else last.timestamp(),
        )
        _keep(endpoint, RestoredState.WATCHING, found)
        _warn(
            endpoint,
            look.at,
            "This database is an older copy, or another control plane is at work",
            f"Router and cluster know writer {newest}, this database only {lease.token}. Nothing is changed; "
            f"control is taken again when nobody else was at work for {QUIET_SECONDS:g} s.",
        )
        return
    if endpoint.restored_state != RestoredState.RIVAL:
        _warn(
            endpoint,
            look.at,
            "Another control plane is at work",
            f"Its writer is at {newest}. This one changes nothing while that goes on.",
        )
    found = Restored.from_json(endpoint.restored)
    _keep(endpoint, RestoredState.RIVAL, replace(found, newest=newest, quiet=look.reading))


def _take_control(endpoint: Endpoint, lease: Lease, newest: int, now: datetime) -> None:
    """Raises our token: the lease of the next turn has the largest one."""
    raise_token(lease, above=newest)
    _keep(endpoint, RestoredState.WATCHING, Restored.from_json(endpoint.restored))
    _warn(
        endpoint,
        now,
        "This database has control again",
        f"The writer's number was raised from {lease.token} above {newest}.",
    )


def _go_on(
    endpoint: Endpoint, lease: Lease, keepable: Mapping[str, Keepable], seen: Observation, now: datetime
) -> None:
    """Our token is the largest: what serves is compared with what the database says, or a choice is carried out."""
    found, state = Restored.from_json(endpoint.restored), RestoredState(endpoint.restored_state)
    if state is RestoredState.KEEPING:
        kept = keepable[found.choice]
        problem = keep_variant(endpoint=endpoint, found=found, kept=kept, seen=seen, now=now)
        _settle(endpoint, state, found, problem, f"{found.choice} serves, as it did", now)
    elif state is RestoredState.RETURNING:
        problem = _return(endpoint, found, seen, now)
        _settle(endpoint, state, found, problem, "What the database says is made so", now)
    elif seen.route_known:
        _compare(endpoint, found, keepable, seen, now)
    else:
        # What was told is ours: it is no stranger's when it is heard again in the next turn.
        _keep(endpoint, state, replace(found, newest=lease.token))


def _compare(
    endpoint: Endpoint, found: Restored, keepable: Mapping[str, Keepable], seen: Observation, now: datetime
) -> None:
    served = split(seen.route.shares) if seen.route is not None else {}
    believed = split(endpoint.desired_shares)
    rollout = current_rollout(endpoint.pk)
    if rollout is None and not traffic_waits(endpoint) and (seen.route is None or served == believed):
        _settle(
            endpoint,
            RestoredState.WATCHING,
            found,
            "",
            "What serves is what the database says: it goes on",
            now,
        )
        return
    held = replace(
        found,
        served=served,
        believed=believed,
        rollout=rollout.pk if rollout is not None else None,
        unkept={name: one.message for name, one in keepable.items() if isinstance(one, HeadgateError)},
    )
    if endpoint.restored_state != RestoredState.HELD:
        _warn(
            endpoint,
            now,
            "Held until a person chooses: the database is an older copy",
            f"Served now: {_shares(served)}. The database says: {_shares(believed)}"
            + (f", and that rollout #{rollout.pk} goes on." if rollout is not None else "."),
        )
    _keep(endpoint, RestoredState.HELD, held)


def _return(endpoint: Endpoint, found: Restored, seen: Observation, now: datetime) -> str:
    """Waits for what the database says to be ready, then lets the loop go on; returns what it waits for."""
    statuses = statuses_of(seen)
    stable = endpoint.stable.name if endpoint.stable is not None else ""
    waited_for = []
    for name in sorted(split(endpoint.desired_shares)):
        status = statuses.get(name)
        # A candidate that cannot run is no reason to wait: the loop then returns to the baseline.
        failed = status is not None and status.phase is WorkloadPhase.FAILED and name != stable
        if not failed and (status is None or not status.is_ready):
            waited_for.append(f"{name} ({status.message or status.phase.value})" if status else name)
    if waited_for:
        relaunch_lost(endpoint=endpoint, seen=seen, now=now)
        return f"Waiting for {' and '.join(waited_for)} to be ready."
    if found.last is not None:
        away = timedelta(seconds=max(0.0, now.timestamp() - found.last))
        move_times(endpoint, lambda moment: moment + away)
    return ""


def _settle(
    endpoint: Endpoint, state: RestoredState, found: Restored, problem: str, title: str, now: datetime
) -> None:
    """Ends it when nothing is in the way any more; else keeps what is."""
    if problem:
        if problem != found.problem:
            _keep(endpoint, state, replace(found, problem=problem))
            publish(f"endpoint:{endpoint.pk}", "overview", now=now)
        return
    # The counters went on under splits that this database does not know: the next reading is a first one. And what was
    # published is only known once it is published again.
    endpoint.restored_state, endpoint.restored = RestoredState.NONE, {}
    endpoint.applied, endpoint.accepted_at, endpoint.last_reading = {}, None, {}
    endpoint.save(update_fields=["restored_state", "restored", "applied", "accepted_at", "last_reading"])
    tell(endpoint=endpoint, rollout=None, kind="restored", title=title, now=now)
    publish(f"endpoint:{endpoint.pk}", "overview", now=now)
    log.warning("endpoint.restored_settled endpoint=%s %s", endpoint.name, title)


def _keep(endpoint: Endpoint, state: RestoredState, found: Restored) -> None:
    kept = found.to_json()
    if (endpoint.restored_state, endpoint.restored) == (state, kept):
        return
    endpoint.restored_state, endpoint.restored = state, kept
    endpoint.save(update_fields=["restored_state", "restored"])


def _warn(endpoint: Endpoint, now: datetime, title: str, detail: str) -> None:
    log.warning("endpoint.restored endpoint=%s %s. %s", endpoint.name, title, detail)
    tell(endpoint=endpoint, rollout=None, kind="restored", title=title, detail=detail, now=now)
    publish(f"endpoint:{endpoint.pk}", "overview", now=now)


def _shares(shares: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {percent_of_bp(bp)}" for name, bp in sorted(shares.items())) or "nothing"
