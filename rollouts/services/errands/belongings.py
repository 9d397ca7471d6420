"""Looks at what lies in a cluster that no endpoint uses, writes it down for people, and takes away what nobody knows
any more, with all the guards of `rollouts.domain.belongings`.

The database is asked after the cluster, and once more before anything is taken away: who makes a variant known writes
its row first and asks the cluster for it then, which changes the launch, so that the cluster refuses to take it away.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from controlplane.access.actors import HEADGATE
from controlplane.audit.services import record
from controlplane.kernel.errors import HeadgateError
from controlplane.kernel.foreign import words_of
from controlplane.passes.words import error_words
from rollouts.domain.belongings import (
    DOUBT_SECONDS,
    Belongings,
    Doubts,
    FoundThere,
    LaunchFound,
    marks,
    orphans_among,
)
from rollouts.models import Cluster, Endpoint, HistoryEvent, Variant
from rollouts.services.commands.rollouts import hold_in_force
from rollouts.services.world import World

LOOK_SECONDS = 300.0  # from one look at a cluster to the next

log = logging.getLogger(__name__)


def look_at_belongings(*, world: World, now: datetime) -> int:
    """Looks, unless it was looked a moment ago; returns how many launches were taken away.

    One that is odd, or cannot be marked or taken away now, stops no other. Raises Unavailable when the cluster does not
    answer: what was found before stays, with its time.
    """
    before = Belongings.from_json(Cluster.objects.get(name=world.name).belongings)
    # A time that is ahead was written by a clock that was wrong.
    if before is not None and 0 <= now.timestamp() - before.at < LOOK_SECONDS:
        return 0
    found = world.cluster.belongings()
    known = _known(found.launches)
    doubts = _doubts([one for one in found.launches if one.variant not in known], world, now)
    orphans = orphans_among(found.launches, known=known, doubts=doubts, now=now.timestamp())
    _mark(found, known, doubts, world, now)
    gone = _take_away([one.launch for one in orphans if not one.waits], world, now)
    told = Belongings(
        now.timestamp(),
        tuple(one for one in orphans if one.launch.where not in gone),
        found.servers,
    )
    Cluster.objects.filter(name=world.name).update(belongings=told.to_json())
    return len(gone)


def _known(launches: Iterable[LaunchFound]) -> set[str]:
    """The variants among them that the database knows, of whatever endpoint. 1 query."""
    names = [one.variant for one in launches]
    return set(Variant.objects.filter(name__in=names).values_list("name", flat=True))


def _doubts(unknown: Sequence[LaunchFound], world: World, now: datetime) -> Doubts:
    """What speaks against taking these away. Asks the router, and the database with up to 3 queries."""
    if not unknown:
        return Doubts(frozenset())
    routed, unread = _routed(unknown, world)
    if Endpoint.objects.exclude(restored_state="").exists():
        said = "The database is an older copy, or another control plane is at work: none is taken away."
        return Doubts(routed, unread, said, anew=True)
    doubted_since = now - timedelta(seconds=DOUBT_SECONDS)
    last = HistoryEvent.objects.filter(kind="restored", at__gt=doubted_since).order_by("-at").first()
    if last is not None:
        until = last.at + timedelta(seconds=DOUBT_SECONDS)
        said = f"The database was an older copy: none is taken away before {until:%Y-%m-%d %H:%M} UTC."
        return Doubts(routed, unread, said, anew=True)
    hold = hold_in_force()
    if hold is not None:
        return Doubts(routed, unread, f"{hold.sentence}: none is taken away.")
    return Doubts(routed, unread)


def _routed(unknown: Sequence[LaunchFound], world: World) -> tuple[frozenset[str] | None, frozenset[str]]:
    """The variants that some route names, None when the router does not answer; and the endpoints whose own route
    cannot be read: one that is odd is left out of all, and says so when it is asked for by itself."""
    unread = set()
    try:
        routes = [*world.router.observe_all().values()]
    except HeadgateError as error:
        log.warning("belongings.routes_unreadable cluster=%s %s", world.name, error_words(error))
        return None, frozenset()
    for endpoint in sorted({one.endpoint for one in unknown if one.endpoint}):
        try:
            route = world.router.observe(endpoint)
        except HeadgateError as error:
            log.warning("belongings.route_unreadable cluster=%s %s", world.name, error_words(error))
            unread.add(endpoint)
        else:
            routes += [] if route is None else [route]
    return frozenset(name for route in routes for name in (*route.shares, *route.named)), frozenset(unread)


def _mark(found: FoundThere, known: Collection[str], doubts: Doubts, world: World, now: datetime) -> None:
    wrong = marks(found.launches, known=known, doubts=doubts, now=now.timestamp())
    for launch in found.launches:
        if launch.where not in wrong:
            continue
        try:
            world.cluster.mark_unknown(launch, now.timestamp() if wrong[launch.where] else None)
        except HeadgateError as error:
            log.warning("belongings.not_marked cluster=%s launch=%s %s", world.name, launch.where, error)


def _take_away(launches: Sequence[LaunchFound], world: World, now: datetime) -> set[str]:
    """Where those are that were taken away."""
    gone = set()
    for launch in launches:
        if launch.variant in _known([launch]):
            continue
        try:
            taken = world.cluster.take_away(launch)
        except HeadgateError as error:
            log.warning("belongings.not_taken_away cluster=%s launch=%s %s", world.name, launch.where, error)
            continue
        if taken:
            gone.add(launch.where)
            _tell(launch, world, now)
    return gone


def _tell(launch: LaunchFound, world: World, now: datetime) -> None:
    log.warning("belongings.taken_away cluster=%s launch=%s", world.name, words_of(launch.where))
    record(
        at=now,
        actor=HEADGATE.name,
        actor_kind=HEADGATE.kind,
        action="cluster.orphan-taken-away",
        object_kind="cluster",
        object_id=world.name,
        after={"where": words_of(launch.where), "variant": launch.variant, "endpoint": launch.endpoint},
    )
