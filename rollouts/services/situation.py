"""What an observation means: the statuses, the split in force, drift, and whether the candidate answers itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from controlplane.kernel.errors import HeadgateError
from rollouts.domain.decide import Seen
from rollouts.domain.effects import SetTraffic
from rollouts.domain.states import Phase
from rollouts.models import Effect, EffectState, Endpoint, Rollout, Workload
from rollouts.ports import FailureReason, WorkloadPhase, WorkloadStatus
from rollouts.services.commands import stop_is_on
from rollouts.services.observe import Observation
from rollouts.services.world import World

log = logging.getLogger(__name__)


def statuses_of(seen: Observation) -> dict[str, WorkloadStatus]:
    """Statuses by variant of the endpoint; empty when the cluster does not answer.

    A launch that was refused before the cluster saw it counts as FAILED; what is wanted and not there yet as STARTING.
    """
    statuses: dict[str, WorkloadStatus] = {}
    if seen.statuses is None:
        return statuses
    for workload in seen.workloads:
        name = workload.variant.name
        status = seen.status(name)
        if status is not None and status.phase is WorkloadPhase.ABSENT and workload.wanted:
            status = _refused(workload) or WorkloadStatus(
                variant=name,
                phase=WorkloadPhase.STARTING,
                message=workload.message or "waiting to be launched",
            )
        if status is not None:
            statuses[name] = status
    return statuses


def _refused(workload: Workload) -> WorkloadStatus | None:
    """The failure that was noted before the cluster ever saw the variant (it knows nothing of it), or None."""
    if workload.phase != WorkloadPhase.FAILED.value:
        return None
    return WorkloadStatus(
        variant=workload.variant.name,
        phase=WorkloadPhase.FAILED,
        reason=FailureReason(workload.reason),
        message=workload.message,
    )


def split(shares: Mapping[str, int]) -> dict[str, int]:
    """The shares above zero: two routes split alike when these are equal."""
    return {name: bp for name, bp in shares.items() if bp}


def traffic_waits(endpoint: Endpoint) -> bool:
    """True while a split that was decided is not published yet."""
    return Effect.objects.filter(endpoint=endpoint, kind=SetTraffic.kind, state=EffectState.PENDING).exists()


def in_force(endpoint: Endpoint, seen: Observation) -> bool:
    """True when the router splits exactly as desired and nothing of ours waits to be published."""
    return splits_as_desired(endpoint, seen) and not traffic_waits(endpoint)


def splits_as_desired(endpoint: Endpoint, seen: Observation) -> bool:
    """True when the router splits exactly as desired, whatever still waits."""
    if seen.route is None or not endpoint.desired_shares:
        return False
    return split(seen.route.shares) == split(endpoint.desired_shares)


def drift_of(endpoint: Endpoint, seen: Observation) -> dict[str, int] | None:
    """Shares set by hand: the router differs from what we published and read back, and nothing of ours waits."""
    if seen.route is None or not endpoint.applied:
        return None
    observed = split(seen.route.shares)
    if observed == split(endpoint.applied.get("shares", {})) or traffic_waits(endpoint):
        return None
    return observed


def forced_answer(endpoint: Endpoint, rollout: Rollout | None, seen: Observation, world: World) -> bool:
    """Whether the candidate itself answers a forced request through the router; asked only before traffic moves.

    Asks the outside world: call it outside a transaction.
    """
    if rollout is None or rollout.phase != Phase.PROVISIONING.value or seen.route is None:
        return False
    if rollout.candidate.name not in seen.route.healthy or not in_force(endpoint, seen):
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


def situation_of(
    rollout: Rollout, seen: Observation, statuses: Mapping[str, WorkloadStatus], *, forced: bool
) -> Seen:
    """The observation as the pure decision takes it."""
    endpoint, route = rollout.endpoint, seen.route
    return Seen(
        baseline=statuses.get(rollout.baseline.name),
        candidate=statuses.get(rollout.candidate.name),
        desired_shares=endpoint.desired_shares,
        in_force=in_force(endpoint, seen),
        routed=None if route is None else frozenset(route.shares) | route.healthy,
        healthy=frozenset() if route is None else route.healthy,
        forced_answered=forced,
        drift=drift_of(endpoint, seen),
        rejected=endpoint.router_problem if route is not None else "",
        global_stop=stop_is_on(),
    )
