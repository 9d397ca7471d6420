"""Observe: what the cluster, the router and the counters say now. Reads only; what cannot be read is None."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.kernel.errors import HeadgateError
from controlplane.passes.words import error_words
from rollouts.domain.counters import Difference, difference, reading_from_json
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.readings import SignalReading
from rollouts.models import Endpoint, Workload
from rollouts.ports import Backend, ObservedRoute, WorkloadStatus
from rollouts.services.world import World

log = logging.getLogger(__name__)

LOG_LINES = 50


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at an endpoint's world. None means: could not be read, and an unknown read changes nothing.

    workloads   our rows of the endpoint's variants, as they were before this look
    """

    statuses: Mapping[str, WorkloadStatus] | None
    route: ObservedRoute | None
    route_known: bool
    problems: Mapping[str, str] = field(default_factory=dict)
    reading: SignalReading | None = None
    difference: Difference | None = None
    log_tails: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    workloads: tuple[Workload, ...] = ()

    def status(self, variant: str) -> WorkloadStatus | None:
        """The variant's status; ABSENT when the cluster answers and does not know it, None when it does not answer."""
        if self.statuses is None:
            return None
        from_cluster = self.statuses.get(variant)
        return from_cluster if from_cluster is not None else _absent(variant)


def _absent(variant: str) -> WorkloadStatus:
    return WorkloadStatus(variant=variant, phase=WorkloadPhase.ABSENT)


def observe_endpoint(*, endpoint: Endpoint, world: World, measure: bool) -> Observation:
    """Looks at the cluster and the router; with `measure` at the counters too (once an interval)."""
    problems: dict[str, str] = {}
    statuses: Mapping[str, WorkloadStatus] | None = None
    try:
        statuses = world.cluster.statuses()
    except HeadgateError as error:
        problems["cluster"] = error_words(error)
    route: ObservedRoute | None = None
    route_known = False
    try:
        route = world.router.observe(endpoint.name)
        route_known = True
    except HeadgateError as error:
        problems["router"] = error_words(error)
    reading: SignalReading | None = None
    made: Difference | None = None
    if measure:
        backends = backends_of(endpoint)
        try:
            reading = world.signals.read(endpoint.name, backends)
        except HeadgateError as error:
            problems["signals"] = error_words(error)
        if reading is not None:
            ready = {name: float(status.ready) for name, status in (statuses or {}).items()}
            made = difference(reading_from_json(endpoint.last_reading), reading, ready)
    for part, problem in problems.items():
        log.warning("endpoint.%s_unreadable endpoint=%s %s", part, endpoint.name, problem)
    workloads = tuple(Workload.objects.filter(variant__endpoint=endpoint).select_related("variant"))
    tails = _log_tails(endpoint, workloads, statuses, world, measure)
    return Observation(statuses, route, route_known, problems, reading, made, tails, workloads)


def _log_tails(
    endpoint: Endpoint,
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


def backends_of(endpoint: Endpoint) -> tuple[Backend, ...]:
    """The endpoint's variants that have an address, by name."""
    rows = Workload.objects.filter(variant__endpoint=endpoint, port__gt=0, wanted=True).select_related(
        "variant"
    )
    return tuple(
        sorted((Backend(w.variant.name, w.host, w.port) for w in rows), key=lambda backend: backend.variant)
    )
