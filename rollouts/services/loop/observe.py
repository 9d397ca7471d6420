"""Observe: what the cluster, the router and the counters say now. Reads only; what cannot be read is None."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.kernel.errors import HeadgateError
from controlplane.passes.words import error_words
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.record.counters import Difference, counts_between
from rollouts.domain.record.kept_readings import reading_from_json
from rollouts.domain.record.readings import SignalReading
from rollouts.models import Workload
from rollouts.ports import ObservedRoute, WorkloadStatus
from rollouts.services.loop.backends import backends_of
from rollouts.services.loop.own_counters import with_own_counters
from rollouts.services.loop.rows import Rows
from rollouts.services.world import World

log = logging.getLogger(__name__)

LOG_LINES = 50


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at an endpoint's world. None means: could not be read, and an unknown read changes nothing.

    workloads       our rows of the endpoint's variants, as they were before this look
    traffic_waits   a split that was decided was not published yet before this look
    refusal         why the router did not accept it; empty when it did, or was not asked
    """

    statuses: Mapping[str, WorkloadStatus] | None
    route: ObservedRoute | None
    route_known: bool
    problems: Mapping[str, str] = field(default_factory=dict)
    reading: SignalReading | None = None
    difference: Difference | None = None
    log_tails: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    workloads: tuple[Workload, ...] = ()
    traffic_waits: bool = False
    refusal: str = ""

    def status(self, variant: str) -> WorkloadStatus | None:
        """The variant's status; ABSENT when the cluster answers and does not know it, None when it does not answer."""
        if self.statuses is None:
            return None
        from_cluster = self.statuses.get(variant)
        return from_cluster if from_cluster is not None else _absent(variant)


NOTHING_SEEN = Observation(statuses=None, route=None, route_known=False)


def _absent(variant: str) -> WorkloadStatus:
    return WorkloadStatus(variant=variant, phase=WorkloadPhase.ABSENT)


def observe_endpoints(
    *, rows: Sequence[Rows], world: World, measured: Collection[int]
) -> dict[int, Observation]:
    """Looks at the cluster and the router, once for all of these endpoints of theirs; by endpoint.

    measured    the numbers of endpoints whose interval is over: of those the counters too

    Every batch asks the cluster anew, under its own leases. An answer from before them could lack an engine that a
    click had launched in between, and the turn would launch it once more.
    """
    cluster, statuses = "", None
    try:
        statuses = world.cluster.statuses()
    except HeadgateError as error:
        cluster = error_words(error)
    routes = _routes([one.endpoint.name for one in rows], world)
    counted = [one for one in rows if one.endpoint.pk in measured]
    counters = with_own_counters(_counters(counted, world), counted, world)
    ready = {name: float(status.ready) for name, status in (statuses or {}).items()}
    found = {}
    for one in rows:
        endpoint = one.endpoint
        problems = {"cluster": cluster} if cluster else {}
        route, reading = routes[endpoint.name], counters.get(endpoint.name)
        if isinstance(route, str):
            problems["router"] = route
        if isinstance(reading, str):
            problems["signals"] = reading
        made = None
        if isinstance(reading, SignalReading):
            made = counts_between(reading_from_json(endpoint.last_reading), reading, ready)
        for part, problem in problems.items():
            log.warning("endpoint.%s_unreadable endpoint=%s %s", part, endpoint.name, problem)
        found[endpoint.pk] = Observation(
            statuses=statuses,
            route=None if isinstance(route, str) else route,
            route_known=not isinstance(route, str),
            problems=problems,
            reading=reading if isinstance(reading, SignalReading) else None,
            difference=made,
            log_tails=_log_tails(one.workloads, statuses, world, endpoint.pk in measured),
            workloads=one.workloads,
            traffic_waits=one.traffic_waits,
            refusal=one.refusal,
        )
    return found


def _routes(names: Sequence[str], world: World) -> dict[str, ObservedRoute | str | None]:
    """The route of each endpoint, None where the router knows none; words where it cannot be read."""
    if len(names) == 1:
        return {names[0]: _route(names[0], world)}
    try:
        every = world.router.observe_all()
    except HeadgateError as error:
        return dict.fromkeys(names, error_words(error))
    # One that is missing may be unknown, or odd.
    return {name: every[name] if name in every else _route(name, world) for name in names}


def _route(name: str, world: World) -> ObservedRoute | str | None:
    try:
        return world.router.observe(name)
    except HeadgateError as error:
        return error_words(error)


def _counters(rows: Sequence[Rows], world: World) -> dict[str, SignalReading | str]:
    """The counters of each endpoint; words where they cannot be read."""
    if not rows:
        return {}
    try:
        read = world.signals.read_all({one.endpoint.name: backends_of(one.workloads) for one in rows})
    except HeadgateError as error:
        return dict.fromkeys((one.endpoint.name for one in rows), error_words(error))
    return {
        name: error_words(reading) if isinstance(reading, HeadgateError) else reading
        for name, reading in read.items()
    }


def _log_tails(
    workloads: Iterable[Workload],
    statuses: Mapping[str, WorkloadStatus] | None,
    world: World,
    measure: bool,
) -> dict[str, tuple[str, ...]]:
    """The last lines of engines that load (once an interval) and of those that failed (until they are kept)."""
    tails: dict[str, tuple[str, ...]] = {}
    for workload in workloads:
        name = workload.variant.name
        status = (statuses or {}).get(name)
        if status is None:
            continue
        # Read once more at the moment of failure: the last lines are the ones that say why.
        failed = status.phase is WorkloadPhase.FAILED and workload.phase != WorkloadPhase.FAILED.value
        if not failed and not (measure and status.phase is WorkloadPhase.STARTING):
            continue
        try:
            tails[name] = tuple(world.cluster.log_tail(name, LOG_LINES))
        except HeadgateError as error:
            tails[name] = (f"The log could not be read: {error_words(error)}",)
    return tails
