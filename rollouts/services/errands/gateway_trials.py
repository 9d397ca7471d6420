"""Tries on the gateway of every cluster, once, what its implementation is declared to do, and writes it down.

A look at a gateway asks which one it is, and in which state. One that was not tried in this state is tried then; so is,
some time later, one whose trial came to no end. What was found before stays until something else was found.

A look may hang for as long as a trial may take. Each is a task of its own, in the queue of those who wait for engines,
and no cluster has two at a time.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.db.models import F

from controlplane.access.actors import HEADGATE
from controlplane.audit.services import record
from controlplane.kernel.errors import HeadgateError, Refused, Unavailable
from controlplane.kernel.foreign import words_of
from controlplane.passes.services import Pauses, Report, run_each
from controlplane.timekeeping.claims import TOLERANCE, free
from rollouts.domain.trials import TRIAL_SECONDS, Trials
from rollouts.models import Cluster
from rollouts.ports import GatewayTrials
from rollouts.services.world import World, Worlds

TRIALS = "trials of gateways"  # the pass, as people read it
PAUSES = Pauses(first=300, longest=3600)
LOOK_APART = timedelta(seconds=300)  # from one look at a gateway to the next
LOOK_LIFETIME = timedelta(seconds=2 * TRIAL_SECONDS)  # longer than a look can last
AT_ONCE = 4  # looks under way: the other threads stay free for probes of engines

log = logging.getLogger(__name__)


def claim_gateways(*, worlds: Worlds, now: datetime) -> list[tuple[str, datetime]]:
    """Claims the clusters whose gateway is looked at now: each one's name, and until when it is claimed. Those first
    that were looked at longest ago. 2 queries, and one a claim; asks nobody."""
    rows = list(
        Cluster.objects.filter(name__in=worlds.names).order_by(
            F("trying_until").asc(nulls_first=True), "name"
        )
    )
    is_free = free("trying_until", now=now, lifetime=LOOK_LIFETIME)
    idle = set(Cluster.objects.filter(is_free).values_list("name", flat=True))
    places = AT_ONCE - sum(row.name not in idle for row in rows)
    claimed = []
    until = now + LOOK_LIFETIME
    for row in rows:
        if places <= 0:
            break
        if (
            row.name not in idle
            or not _looked_long_ago(row.trying_until, now)
            or not _is_tried(worlds, row.name)
        ):
            continue
        if _is_claimed(row.name, row.trying_until, until):
            places -= 1
            claimed.append((row.name, until))
    return claimed


def look_at_gateway(*, cluster: str, claimed_until: datetime, worlds: Worlds) -> Report:
    """Looks at the gateway of a cluster that `claim_gateways` claimed, and tries it where that is due; nothing happens
    when the claim is somebody else's by now."""
    until = worlds.clock.now() + LOOK_LIFETIME
    if not _is_claimed(cluster, claimed_until, until):
        return Report()
    try:
        return run_each(
            name=TRIALS,
            items=[cluster],
            key=lambda name: name,
            work=lambda name: _look_at_one(worlds.of(name)),
            clock=worlds.clock,
            pauses=PAUSES,
            forgets=False,
        )
    finally:
        # What was claimed until now is free, and tells who was looked at longest ago.
        Cluster.objects.filter(name=cluster, trying_until=until).update(trying_until=worlds.clock.now())


def try_now(*, world: World) -> Trials:
    """Tries the gateway whether or not it is due, for an operator who waits; returns what is known then. Raises Refused
    where there is nothing to try, and while it is being tried already; what hindered the trial is in `problem`."""
    trials = world.trials
    if trials is None:
        raise Refused(
            f"What the router of {world.name} can do is known: there is nothing to try.",
            code="nothing-to-try",
        )
    now = world.clock.now()
    before = Cluster.objects.get(name=world.name).trying_until
    until = now + LOOK_LIFETIME
    is_free = Cluster.objects.filter(free("trying_until", now=now, lifetime=LOOK_LIFETIME), name=world.name)
    if not is_free.exists() or not _is_claimed(world.name, before, until):
        raise Refused(
            f"The gateway of {world.name} is being tried already.",
            fix="Look at the page of the cluster in some minutes.",
            code="tried-already",
        )
    try:
        return _tried(world, trials, trials.gateway())
    finally:
        Cluster.objects.filter(name=world.name, trying_until=until).update(trying_until=world.clock.now())


def _look_at_one(world: World) -> None:
    trials = world.trials
    if trials is None:
        return
    trials.clear()  # also where nothing is due: what a killed worker left behind goes all the same
    gateway = trials.gateway()
    known = Trials.from_json(Cluster.objects.get(name=world.name).trials)
    if known.is_due(gateway, world.clock.now().timestamp()):
        _tried(world, trials, gateway)


def _tried(world: World, trials: GatewayTrials, gateway: str) -> Trials:
    """What is known after a trial, which is written down."""
    known = Trials.from_json(Cluster.objects.get(name=world.name).trials)
    try:
        findings, problem = trials.run(), ""
    except HeadgateError as error:
        findings, problem = (), words_of(str(error), 1000)
        log.warning("trial.without_end cluster=%s %s", world.name, problem)
    now = world.clock.now()
    at = now.timestamp()
    if findings:
        told = Trials(gateway, at, findings, gateway, at)
    else:
        told = Trials(known.gateway, known.at, known.findings, gateway, at, problem)
    Cluster.objects.filter(name=world.name).update(trials=told.to_json())
    if findings:
        record(
            at=now,
            actor=HEADGATE.name,
            actor_kind=HEADGATE.kind,
            action="cluster.gateway-tried",
            object_kind="cluster",
            object_id=world.name,
            after={"gateway": gateway, "findings": told.to_json()["findings"]},
        )
    return told


def _looked_long_ago(last: datetime | None, now: datetime) -> bool:
    """A moment that is ahead was written by a clock that was wrong: a claim that holds is left out before."""
    return last is None or now - last >= LOOK_APART or last > now + TOLERANCE


def _is_tried(worlds: Worlds, name: str) -> bool:
    try:
        return worlds.of(name).trials is not None
    except Unavailable:
        return False  # the cluster's page says why


def _is_claimed(name: str, before: datetime | None, until: datetime) -> bool:
    """Whether the claim could be taken from the state that was read."""
    return Cluster.objects.filter(name=name, trying_until=before).update(trying_until=until) == 1
