"""Act: carry out the effects that decisions wrote, idempotently, with the fencing token, verified by reading back."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from controlplane.audit.services import record
from controlplane.kernel.errors import HeadgateError, Rejected, StaleWriter, TamperedFile
from registry.services.manifests import materialise_version
from registry.services.write_back import decision_tags, write_back_promotion, write_back_rollback
from rollouts.domain.effects import DrainWorkload, EnsureWorkload, SetTraffic, WriteBack
from rollouts.models import Effect, EffectState, Endpoint, Variant, Workload
from rollouts.ports import FailureReason, Route, WorkloadPhase, WorkloadSpec, WorkloadStatus
from rollouts.services.leases import Lease, hold
from rollouts.services.observe import Observation, backends_of
from rollouts.services.world import World

log = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS = 60
WRITE_BACK_ATTEMPTS = 50


def run_effects(*, endpoint: Endpoint, lease: Lease, world: World, seen: Observation, now: datetime) -> int:
    """Carries out the waiting effects of an endpoint in order; returns how many were done.

    One that fails is kept with its problem and tried again later; it holds up the others of its kind only. Raises
    StaleWriter when the lease was lost.
    """
    done = 0
    held: set[str] = set()
    waiting = Effect.objects.filter(endpoint=endpoint, state=EffectState.PENDING).select_related("rollout")
    for effect in waiting.order_by("id"):
        if effect.kind in held or (effect.not_before is not None and effect.not_before > now):
            held.add(effect.kind)
            continue
        hold(lease, now=world.clock.now())
        try:
            finished = _HANDLERS[effect.kind](endpoint, effect, lease, world, seen, now)
        except StaleWriter:
            raise
        except HeadgateError as error:
            _postpone(effect, error, world.clock.now())
            held.add(effect.kind)
            continue
        if finished:
            effect.state, effect.done_at, effect.problem = EffectState.DONE, world.clock.now(), ""
            effect.save(update_fields=["state", "done_at", "problem"])
            done += 1
        else:
            held.add(effect.kind)
    return done


def converge_workloads(*, endpoint: Endpoint, lease: Lease, world: World, seen: Observation) -> None:
    """Level-triggered: what we want to run and does not, is launched again; the effect row is only the first push."""
    if seen.statuses is None:
        return
    for workload in Workload.objects.filter(variant__endpoint=endpoint, wanted=True).select_related("variant__version"):
        status = seen.status(workload.variant.name)
        if status is not None and status.phase is WorkloadPhase.ABSENT and workload.phase != WorkloadPhase.FAILED.value:
            try:
                _launch(endpoint, workload.variant, lease, world)
            except HeadgateError as error:
                _note_failure(workload, error)


def converge_traffic(*, endpoint: Endpoint, lease: Lease, world: World, seen: Observation, now: datetime) -> None:
    """Level-triggered: a router that lost the endpoint, or whose backends moved, gets the desired route again.

    Weights that were set by hand are left alone: they are drift, not loss.
    """
    if not endpoint.desired_shares or not seen.route_known:
        return
    if Effect.objects.filter(endpoint=endpoint, kind=SetTraffic.kind, state=EffectState.PENDING).exists():
        return
    route = _route(endpoint)
    if seen.route is not None and endpoint.applied == _route_json(route):
        return
    if seen.route is None or endpoint.applied.get("shares") == _route_json(route)["shares"] or not endpoint.applied:
        try:
            _publish(endpoint, route, lease, world, now)
        except StaleWriter:
            raise
        except HeadgateError as error:
            Endpoint.objects.filter(pk=endpoint.pk).update(router_problem=str(error))
            log.warning("endpoint.route_not_applied endpoint=%s %s", endpoint.name, error)


# --- one function a kind of effect ------------------------------------------------------------------------------


def _set_traffic(
    endpoint: Endpoint, effect: Effect, lease: Lease, world: World, seen: Observation, now: datetime
) -> bool:
    route = _route(endpoint)
    missing = set(route.shares) - {backend.variant for backend in route.backends}
    if missing:
        effect.problem = f"{', '.join(sorted(missing))} has no address yet"
        effect.save(update_fields=["problem"])
        return False
    _publish(endpoint, route, lease, world, now)
    return True


def _ensure_workload(
    endpoint: Endpoint, effect: Effect, lease: Lease, world: World, seen: Observation, now: datetime
) -> bool:
    variant = _variant(endpoint, effect)
    workload = Workload.objects.get(variant=variant)
    if not workload.wanted or workload.phase in (WorkloadPhase.FAILED.value, WorkloadPhase.ABSENT.value):
        workload.wanted, workload.wanted_since = True, now
        workload.phase, workload.reason, workload.message = WorkloadPhase.STARTING.value, "", "verifying its files"
        workload.log_tail = []
        workload.save()
    try:
        _launch(endpoint, variant, lease, world)
    except StaleWriter:
        raise
    except Rejected as error:
        _note_failure(workload, error)
        return True
    except HeadgateError as error:
        _note_failure(workload, error)
        if isinstance(error, TamperedFile) or workload.phase == WorkloadPhase.FAILED.value:
            return True
        raise
    return True


def _drain_workload(
    endpoint: Endpoint, effect: Effect, lease: Lease, world: World, seen: Observation, now: datetime
) -> bool:
    """Never drains what gets traffic: the router is asked, not our memory of it."""
    variant = _variant(endpoint, effect)
    if seen.route is None or seen.route.shares.get(variant.name, 0) > 0:
        return False
    if endpoint.desired_shares.get(variant.name, 0) > 0:
        return True  # it is wanted again meanwhile
    Workload.objects.filter(variant=variant).update(wanted=False, message="draining")
    if variant.name in endpoint.desired_shares or any(
        b["variant"] == variant.name for b in endpoint.applied.get("backends", ())
    ):
        shares = {name: bp for name, bp in endpoint.desired_shares.items() if name != variant.name}
        endpoint.desired_shares = shares
        endpoint.save(update_fields=["desired_shares"])
        _publish(endpoint, _route(endpoint), lease, world, now)
    world.clusters[endpoint.cluster.name].drain(variant.name, endpoint.name, token=lease.token)
    return True


def _write_back(
    endpoint: Endpoint, effect: Effect, lease: Lease, world: World, seen: Observation, now: datetime
) -> bool:
    payload: dict[str, Any] = effect.payload
    by_name = {v.name: v for v in Variant.objects.filter(endpoint=endpoint).select_related("version")}
    alias, tagged = by_name[payload["alias_variant"]], by_name[payload["tagged_variant"]]
    rollout = effect.rollout
    by = f"rollout #{rollout.pk}" if rollout else f"endpoint {endpoint.name}"
    why = (rollout.cause_sentence or rollout.reason) if rollout else "first version of the endpoint"
    tags = decision_tags(
        rollout=str(rollout.pk) if rollout else "",
        decision=payload["decision"],
        digest=tagged.version.manifest_digest,
    )
    if payload["decision"] == "rolled-back":
        write_back_rollback(
            store=world.store,
            model=endpoint.model.name,
            alias=endpoint.alias,
            back_to=alias.version.number,
            rejected_number=tagged.version.number,
            tags=tags,
            by=by,
            why=why,
            now=now,
        )
    else:
        write_back_promotion(
            store=world.store,
            model=endpoint.model.name,
            version_number=alias.version.number,
            alias=endpoint.alias,
            tags=tags,
            by=by,
            why=why,
            now=now,
        )
    record(
        at=now,
        actor="Headgate",
        actor_kind="headgate",
        action="alias.moved",
        object_kind="model",
        object_id=endpoint.model.name,
        after={"alias": endpoint.alias, "version": alias.version.number},
        why=by,
    )
    return True


_HANDLERS = {
    SetTraffic.kind: _set_traffic,
    EnsureWorkload.kind: _ensure_workload,
    DrainWorkload.kind: _drain_workload,
    WriteBack.kind: _write_back,
}


# --- parts ----------------------------------------------------------------------------------------------------


def _variant(endpoint: Endpoint, effect: Effect) -> Variant:
    return Variant.objects.select_related("version__model").get(endpoint=endpoint, name=effect.payload["variant"])


def _launch(endpoint: Endpoint, variant: Variant, lease: Lease, world: World) -> None:
    """Verified files, then the cluster. Returns at once when it runs already."""
    folder, manifest = materialise_version(
        version_id=variant.version_id,
        store=world.store,
        models_dir=world.models_dir,
        now=world.clock.now(),
        allowed_files=world.allowed_files,
    )
    spec = variant.spec
    world.clusters[endpoint.cluster.name].ensure(
        WorkloadSpec(
            variant=variant.name,
            endpoint=endpoint.name,
            folder=folder,
            manifest=manifest,
            engine=spec.engine,
            arguments=spec.arguments,
            environment=spec.environment,
            replicas=spec.replicas,
        ),
        token=lease.token,
    )


def _note_failure(workload: Workload, error: HeadgateError) -> None:
    """A launch that was refused is shown where people look; a tampered file is final, a lack of room is not."""
    workload.message = str(error)
    fields = ["message"]
    if isinstance(error, TamperedFile):
        workload.phase, workload.reason = WorkloadPhase.FAILED.value, FailureReason.TAMPERED_FILE.value
        fields += ["phase", "reason"]
    workload.save(update_fields=fields)
    log.warning("workload.not_launched workload=%s %s", workload.pk, error)


def refused_status(workload: Workload) -> WorkloadStatus | None:
    """The failure that was noted before the cluster ever saw the variant (it knows nothing of it), or None."""
    if workload.phase != WorkloadPhase.FAILED.value:
        return None
    return WorkloadStatus(
        variant=workload.variant.name,
        phase=WorkloadPhase.FAILED,
        reason=FailureReason(workload.reason),
        message=workload.message,
    )


def _route(endpoint: Endpoint) -> Route:
    return Route(
        endpoint=endpoint.name,
        shares=dict(endpoint.desired_shares),
        backends=backends_of(endpoint),
        fallback=endpoint.desired_fallback,
    )


def _route_json(route: Route) -> dict[str, Any]:
    return {
        "shares": dict(sorted(route.shares.items())),
        "fallback": route.fallback,
        "backends": [{"variant": b.variant, "host": b.host, "port": b.port} for b in route.backends],
    }


def _publish(endpoint: Endpoint, route: Route, lease: Lease, world: World, now: datetime) -> None:
    """Applies a route and reads it back before it counts as applied."""
    world.router.apply(route, token=lease.token)
    observed = world.router.observe(endpoint.name)
    if observed is None or {n: bp for n, bp in observed.shares.items() if bp} != {
        n: bp for n, bp in route.shares.items() if bp
    }:
        raise Rejected(
            f"The router does not show the split that was published for {endpoint.name}.",
            fix="It is published again; look at the router's log if this stays.",
        )
    endpoint.applied, endpoint.applied_at = _route_json(route), now
    endpoint.observed_shares, endpoint.observed_at = dict(observed.shares), now
    endpoint.router_problem = ""
    endpoint.save(
        update_fields=["applied", "applied_at", "observed_shares", "observed_at", "router_problem"]
    )


def _postpone(effect: Effect, error: HeadgateError, now: datetime) -> None:
    effect.attempts += 1
    effect.problem = str(error)
    effect.not_before = now + timedelta(seconds=min(MAX_BACKOFF_SECONDS, 2 ** min(effect.attempts, 6) / 2))
    if effect.kind == WriteBack.kind and effect.attempts >= WRITE_BACK_ATTEMPTS:
        effect.state = EffectState.FAILED
    effect.save(update_fields=["attempts", "problem", "not_before", "state"])
    if effect.kind == SetTraffic.kind:
        Endpoint.objects.filter(pk=effect.endpoint_id).update(router_problem=str(error))
    log.warning("effect.postponed effect=%s kind=%s attempts=%s %s", effect.pk, effect.kind, effect.attempts, error)
