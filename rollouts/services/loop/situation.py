"""What an observation means: the statuses, the split in force, drift, and which candidates answer themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from controlplane.kernel.words import clock_time
from rollouts.domain.engines import EngineView, FailureReason, WorkloadPhase
from rollouts.domain.lifecycle.changed import changed_hold
from rollouts.domain.lifecycle.decision import Hold, RolloutView, Seen
from rollouts.domain.lifecycle.effects import SetTraffic
from rollouts.models import Effect, EffectState, Endpoint, FilesState, Workload
from rollouts.ports import WorkloadStatus
from rollouts.services.loop.observe import Observation

# From accepting a route to having it in force; a remote gateway takes some seconds.
USUAL_LAG = timedelta(seconds=15)


def statuses_of(seen: Observation) -> dict[str, WorkloadStatus]:
    """Statuses by variant of the endpoint; empty when the cluster does not answer.

    A launch that was refused before the cluster saw it counts as FAILED; what is wanted and not there yet as STARTING,
    and so does what failed before and is to be launched anew: its failure is old news while its files are checked.
    """
    statuses: dict[str, WorkloadStatus] = {}
    if seen.statuses is None:
        return statuses
    for workload in seen.workloads:
        name = workload.variant.name
        status = seen.status(name)
        anew = workload.wanted and workload.files_state in (FilesState.WANTED, FilesState.HERE)
        again = anew and status is not None and status.phase is WorkloadPhase.FAILED
        absent = status is not None and status.phase is WorkloadPhase.ABSENT and workload.wanted
        if again or absent:
            lost = status.message if absent and status is not None else ""  # that somebody deleted it
            status = (None if anew else _refused(workload)) or WorkloadStatus(
                variant=name,
                phase=WorkloadPhase.STARTING,
                message=lost or _words(workload),
            )
        if status is not None:
            statuses[name] = status
    return statuses


def _words(workload: Workload) -> str:
    """What a variant that is wanted and not there yet waits for."""
    note = workload.files_note if workload.files_state == FilesState.WANTED else ""
    return note or workload.message or "waiting to be launched"


def _engine(status: WorkloadStatus, workload: Workload | None) -> EngineView:
    """The engine as decisions see it: of files that we fetched the cluster does not know since when they are there (it
    may have had to bring them further from here), nor of replicas whether all were ready before."""
    view = status.view
    if workload is None:
        return view
    if workload.files_at is not None:
        view = replace(view, files_at=max(workload.files_at.timestamp(), view.files_at or 0.0))
    # Only of several replicas: one alone is whole or not ready, and evidence keeps what it always kept.
    return replace(view, was_whole=True) if status.desired > 1 and workload.ready_at is not None else view


def altered_of(seen: Observation) -> dict[str, str]:
    """What of each variant runs otherwise than it was asked for, as words; where the cluster cannot be read, what was
    known last. Empty words: nothing does."""
    found = {}
    for workload in seen.workloads:
        status = seen.status(workload.variant.name)
        found[workload.variant.name] = workload.altered if status is None else status.altered
    return found


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
    """True when the router splits exactly as desired, and nothing of ours waits to be published or to come into force.

    The number of the route in force alone tells nothing: somebody who puts back weights that he had set by hand may put
    back a table with an older number, or with none.
    """
    waits = seen.traffic_waits or (endpoint.accepted_at is not None and not _settled(seen))
    return splits_as_desired(endpoint, seen) and not waits


def _settled(seen: Observation) -> bool:
    return seen.route is not None and seen.route.settled


def route_lag_words(endpoint: Endpoint, seen: Observation, now: datetime) -> str:
    """What is to be said of a route that the router accepted and has not put in force; empty while that is usual, and
    while the router cannot be read."""
    since = endpoint.accepted_at
    if since is None or now - since < USUAL_LAG or _settled(seen) or not seen.route_known:
        return ""
    before = " The one before stays in force." if seen.route is not None else ""
    # Of a route, not of this one: another may have overtaken the one that was accepted first.
    moment = clock_time(since.timestamp())
    return f"The router accepted a route at {moment} and has not put it in force yet.{before}"


def splits_as_desired(endpoint: Endpoint, seen: Observation) -> bool:
    """True when the router splits exactly as desired, whatever still waits."""
    if seen.route is None or not endpoint.desired_shares:
        return False
    return split(seen.route.shares) == split(endpoint.desired_shares)


def shares_set_by_hand(endpoint: Endpoint, seen: Observation) -> dict[str, int] | None:
    """Shares set by hand: the router differs from what we published and read back, and nothing of ours waits."""
    if seen.route is None or not endpoint.applied:
        return None
    observed = split(seen.route.shares)
    if observed == split(endpoint.applied.get("shares", {})) or seen.traffic_waits:
        return None
    return observed


def situation_of(
    endpoint: Endpoint,
    view: RolloutView,
    seen: Observation,
    statuses: Mapping[str, WorkloadStatus],
    *,
    answered: frozenset[str],
    hold: Hold | None,
    now: datetime,
) -> Seen:
    """The observation as the pure decision takes it. `answered`: what `proven` says; `hold`: the global stop."""
    route = seen.route
    names = {arm.variant for arm in view.arms}
    rows = {workload.variant.name: workload for workload in seen.workloads}
    return Seen(
        engines={name: _engine(status, rows.get(name)) for name, status in statuses.items() if name in names},
        desired_shares=endpoint.desired_shares,
        in_force=in_force(endpoint, seen),
        split=split(shares_in_force(endpoint, seen)),
        routed=None if route is None else frozenset(route.shares) | route.healthy,
        healthy=frozenset() if route is None else route.healthy,
        answered=answered,
        drift=shares_set_by_hand(endpoint, seen),
        rejected=(route.rejected or seen.refusal) if route is not None else "",
        hold=changed_hold(view, altered_of(seen)) or hold,
        late=route_lag_words(endpoint, seen, now),
    )


def shares_in_force(endpoint: Endpoint, seen: Observation) -> Mapping[str, int]:
    """What the router does now; when it cannot be read, what was last published and read back."""
    if seen.route is not None:
        return seen.route.shares
    shares: Mapping[str, int] = endpoint.applied.get("shares", {})
    return shares
