"""Act: carry out the effects that decisions wrote, idempotently, with the fencing token, verified by reading back."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from django.db import DatabaseError, transaction

from controlplane.kernel.errors import (
    HeadgateError,
    InvalidInput,
    Rejected,
    StaleWriter,
)
from controlplane.passes.words import error_words
from controlplane.timekeeping.claims import is_free
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.lifecycle.effects import DrainWorkload, EnsureWorkload, HoldScaleIn, SetTraffic
from rollouts.models import Effect, EffectState, Endpoint, FilesState, Variant, Workload
from rollouts.ports import Route
from rollouts.services.commands.rollouts import hold_in_force
from rollouts.services.loop.launching import final_reason, launch, note_failure, note_unfit_files
from rollouts.services.loop.leases import Lease, hold
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.routing import desired_route, route_json
from rollouts.services.loop.rows import CARRIED_OUT, REFUSED
from rollouts.services.loop.situation import (
    altered_of,
    shares_in_force,
    shares_set_by_hand,
    split,
    traffic_waits,
)
from rollouts.services.world import World
from rollouts.services.writing import BY_PERSON

log = logging.getLogger(__name__)

# How long a failed effect waits at most before it is tried again. A split is cheap to try and may be a rollback.
LONGEST_PAUSE = {
    SetTraffic.kind: 4.0,
    DrainWorkload.kind: 30.0,
    EnsureWorkload.kind: 30.0,
    HoldScaleIn.kind: 30.0,
}
ROUTE_FIELDS = ("desired_shares", "desired_fallback", "applied", "accepted_at", "rescue")
NOT_IN_FORCE = "the router accepted the route and has not put it in force yet"
PUBLISHED_FIELDS = (
    "applied", "applied_at", "accepted_at", "observed_shares", "observed_at", "router_problem",
)  # fmt: skip
WAITS_FOR_FILES = "its files are fetched and checked first"
AT_REST = (WorkloadPhase.FAILED.value, WorkloadPhase.ABSENT.value)
RUNNING = (WorkloadPhase.STARTING, WorkloadPhase.READY, WorkloadPhase.UNREADY)


def run_effects(
    *,
    endpoint: Endpoint,
    lease: Lease,
    world: World,
    seen: Observation,
    now: datetime,
    kinds: Collection[str] = CARRIED_OUT,
) -> int:
    """Carries out the waiting effects of an endpoint in order; returns how many were done.

    kinds   only these; MLflow is told by a pass beside the loop (`write_backs.py`): nothing here waits for it

    One that fails is kept with its problem and tried again later; it holds up those of its kind (and variant) only.
    Raises StaleWriter when the lease was lost.
    """
    done = 0
    held: set[tuple[str, str]] = set()
    waiting = Effect.objects.filter(endpoint=endpoint, kind__in=kinds, state=EffectState.PENDING).order_by(
        "id"
    )
    for pk in list(waiting.values_list("pk", flat=True)):
        # Read again one by one: a person's command may have superseded it, and the split, a moment ago.
        effect = Effect.objects.select_related("rollout").filter(pk=pk, state=EffectState.PENDING).first()
        if effect is None:
            continue
        queue = (effect.kind, str(effect.payload.get("variant", "")))
        if queue in held or _is_postponed(effect, now):
            held.add(queue)
            continue
        hold(lease, now=world.clock.now())
        endpoint.refresh_from_db(fields=list(ROUTE_FIELDS))
        try:
            waits_for = _HANDLERS[effect.kind](endpoint, effect, lease, world, seen, now)
        except StaleWriter:
            raise
        except DatabaseError:
            raise
        except Exception as error:  # the boundary of one effect: a split behind it may be a rollback
            if not isinstance(error, HeadgateError):
                log.exception("effect.failed effect=%s kind=%s", effect.pk, effect.kind)
            with _holding(lease, world):
                _postpone(effect, error, world.clock.now())
            held.add(queue)
            continue
        if waits_for:
            held.add(queue)
            if effect.problem != waits_for:
                Effect.objects.filter(pk=pk).update(problem=waits_for)
            continue
        with _holding(lease, world):
            _finish(effect, world.clock.now())
        done += 1
    return done


def converge_traffic(
    *, endpoint: Endpoint, lease: Lease, world: World, seen: Observation, now: datetime
) -> None:
    """Level-triggered: a router that lost the endpoint gets the desired route again, and so does one whose backends
    moved, whose rescuers are others now, or whose engine has other calls.

    Weights that were set by hand stay as they are (they are drift, not loss): only the rest is brought up to date.
    """
    endpoint.refresh_from_db(fields=list(ROUTE_FIELDS))
    if not endpoint.desired_shares or not seen.route_known or traffic_waits(endpoint):
        return
    route = desired_route(endpoint, world)
    # While something else is accepted, it will come into force: the desired one must be accepted after it.
    as_published = seen.route is not None and endpoint.accepted_at is None
    if _without_backend(route) or (as_published and endpoint.applied == route_json(route)):
        return
    hold(lease, now=world.clock.now())
    try:
        _publish(endpoint, lease, world, by_hand=shares_set_by_hand(endpoint, seen))
    except StaleWriter:
        raise
    except HeadgateError as error:
        with _holding(lease, world):
            Endpoint.objects.filter(pk=endpoint.pk).update(router_problem=str(error))
        log.warning("endpoint.route_not_applied endpoint=%s %s", endpoint.name, error)


# --- one function a kind of effect: what it waits for, or "" when it is done ----------------------------------------


def _set_traffic(
    endpoint: Endpoint, effect: Effect, lease: Lease, world: World, seen: Observation, now: datetime
) -> str:
    missing = _without_backend(desired_route(endpoint, world))
    if missing:
        return f"{', '.join(missing)} has no address yet"
    problem = _not_forward(endpoint, effect, seen)
    if problem:
        return problem
    return _publish(endpoint, lease, world)


def _not_forward(endpoint: Endpoint, effect: Effect, seen: Observation) -> str:
    """Why a candidate may not get more traffic now; empty when all may that would, or when none gets more.

    The decision looked at this too; but the effect may have waited for a router since, and the world moved on. If
    a bandit's split takes traffic from one arm and gives it to another that may not grow, it waits here, and the next
    decision replaces it by a split in which no arm grows. A person may give more to a part of the replicas
    (`rollouts/domain/engines.py`).
    """
    rollout = effect.rollout
    if rollout is None:
        return ""
    before = shares_in_force(endpoint, seen)
    grow = [
        name
        for name, share in sorted(endpoint.desired_shares.items())
        if name != rollout.baseline.name and share > before.get(name, 0)
    ]
    if not grow:
        return ""
    held_by = hold_in_force()
    if held_by is not None:
        return held_by.clause
    by_person = bool(effect.payload.get(BY_PERSON))
    altered = {name: words for name, words in altered_of(seen).items() if words and name in grow}
    changed = [f"{name} does not run as it was asked for (changed: {altered[name]})" for name in altered]
    return "; ".join(filter(None, (*changed, *(_not_ready_for_more(name, seen, by_person) for name in grow))))


def _not_ready_for_more(variant: str, seen: Observation, by_person: bool) -> str:
    status = seen.status(variant)
    healthy = seen.route is not None and variant in seen.route.healthy
    if not (healthy if status is None else status.is_ready):
        return f"{variant} is not ready"
    short = "" if status is None or by_person else status.view.short
    return f"of {variant}, {short}" if short else ""


def _ensure_workload(
    endpoint: Endpoint, effect: Effect, lease: Lease, world: World, seen: Observation, now: datetime
) -> str:
    variant = _variant(endpoint, effect)
    workload = Workload.objects.get(variant=variant)
    status = (seen.statuses or {}).get(variant.name)
    if workload.wanted and status is not None and status.phase in RUNNING:
        if workload.files_state != FilesState.NONE:  # a later launch begins with its files, as every one does
            Workload.objects.filter(pk=workload.pk).update(files_state=FilesState.NONE)
        return ""  # nobody reads gigabytes again for what runs already
    # A server that is adopted has its files already.
    fetches = world.cluster.fetches_files() or bool(variant.spec.adopts)
    asked = workload.wanted and workload.files_state != FilesState.NONE
    if not asked and (not workload.wanted or workload.phase in AT_REST):
        workload.wanted, workload.wanted_since = True, now
        workload.phase, workload.reason = WorkloadPhase.STARTING.value, ""
        workload.message = "" if fetches else WAITS_FOR_FILES
        workload.log_tail = []
        # Until the launch is accepted, what the cluster still says of an earlier one is old news.
        workload.files_state = FilesState.HERE if fetches else FilesState.WANTED
        workload.files_note, workload.files_at, workload.ready_at = "", None, None
        workload.save()
    if not fetches and workload.files_state != FilesState.HERE:
        return _wait_for_files(workload, lease, world)
    try:
        launch(endpoint, variant, lease, world)
    except StaleWriter:
        raise
    except HeadgateError as error:
        reason = final_reason(error)
        with _holding(lease, world):
            note_failure(workload, error, reason)
        if reason is FailureReason.NONE:
            raise
    with _holding(lease, world):
        Workload.objects.filter(pk=workload.pk).update(files_state=FilesState.NONE)
    return ""


def _wait_for_files(workload: Workload, lease: Lease, world: World) -> str:
    """What a launch waits for whose files must be on this machine, and are not; "" when they cannot be had."""
    if workload.files_state == FilesState.FAILED:
        with _holding(lease, world):
            note_unfit_files(workload)
        return ""
    if workload.files_state == FilesState.NONE:  # the cluster lost it: every launch begins with its files
        anew = {"files_state": FilesState.WANTED, "files_note": "", "files_at": None}
        Workload.objects.filter(pk=workload.pk, files_state=FilesState.NONE).update(**anew)
    return WAITS_FOR_FILES


def _drain_workload(
    endpoint: Endpoint, effect: Effect, lease: Lease, world: World, seen: Observation, now: datetime
) -> str:
    """Never drains what the route in force names: the router is asked, not our memory of it."""
    variant = _variant(endpoint, effect)
    if seen.route is None:
        return "the router does not say whether it gets traffic"
    if seen.route.shares.get(variant.name, 0) > 0:
        return "it still gets traffic"
    with _holding(lease, world):
        endpoint.refresh_from_db(fields=list(ROUTE_FIELDS))
        if endpoint.desired_shares.get(variant.name, 0) > 0:
            return ""  # it is wanted again meanwhile
        Workload.objects.filter(variant=variant).update(
            wanted=False, message="draining", files_state=FilesState.NONE
        )
        if variant.name in endpoint.desired_shares:
            endpoint.desired_shares = split(endpoint.desired_shares)
            endpoint.save(update_fields=["desired_shares"])
    routed = any(backend["variant"] == variant.name for backend in endpoint.applied.get("backends", ()))
    if endpoint.desired_shares and (routed or variant.name in seen.route.named or not seen.route.settled):
        waits_for = _publish(endpoint, lease, world, by_hand=shares_set_by_hand(endpoint, seen))
        if waits_for:
            return waits_for
    world.cluster.drain(variant.name, endpoint.name, token=lease.token)
    return ""


def _hold_scale_in(
    endpoint: Endpoint, effect: Effect, lease: Lease, world: World, seen: Observation, now: datetime
) -> str:
    variant = _variant(endpoint, effect)
    world.cluster.hold_scale_in(variant.name, endpoint.name, on=bool(effect.payload["on"]), token=lease.token)
    return ""


_HANDLERS = {
    SetTraffic.kind: _set_traffic,
    EnsureWorkload.kind: _ensure_workload,
    DrainWorkload.kind: _drain_workload,
    HoldScaleIn.kind: _hold_scale_in,
}


# --- parts ----------------------------------------------------------------------------------------------------


@contextmanager
def _holding(lease: Lease, world: World) -> Iterator[None]:
    """A transaction that writes only while the lease is ours: a call to the outside world may have outlived it."""
    with transaction.atomic():
        hold(lease, now=world.clock.now())
        yield


def _finish(effect: Effect, now: datetime) -> None:
    Effect.objects.filter(pk=effect.pk, state=EffectState.PENDING).update(
        state=EffectState.DONE, done_at=now, problem=""
    )


def _variant(endpoint: Endpoint, effect: Effect) -> Variant:
    return Variant.objects.select_related("version__model").get(
        endpoint=endpoint, name=effect.payload["variant"]
    )


def _without_backend(route: Route) -> list[str]:
    return sorted(set(split(route.shares)) - {backend.variant for backend in route.backends})


def _publish(endpoint: Endpoint, lease: Lease, world: World, *, by_hand: dict[str, int] | None = None) -> str:
    """Has the router accept the desired route, and reads back what is in force; returns what it waits for, "" when the
    desired route is in force. Only then it counts as applied.

    by_hand     shares that were set by hand and stay; the route's backends are ours all the same
    """
    route = desired_route(endpoint, world)
    sent = route if by_hand is None else replace(route, shares=by_hand)
    generation = world.router.apply(sent, token=lease.token)
    observed = world.router.observe(endpoint.name)
    if observed is None or observed.generation != generation:
        if endpoint.accepted_at is None:
            with _holding(lease, world):
                endpoint.accepted_at = world.clock.now()
                endpoint.save(update_fields=["accepted_at"])
        return NOT_IN_FORCE
    if split(observed.shares) != split(sent.shares):
        raise Rejected(
            f"The router does not show the split that was published for {endpoint.name}.",
            fix="It is published again; look at the router's log if this stays.",
        )
    now = world.clock.now()
    with _holding(lease, world):
        endpoint.applied, endpoint.applied_at = route_json(route), now
        endpoint.observed_shares, endpoint.observed_at = dict(observed.shares), now
        endpoint.router_problem, endpoint.accepted_at = "", None
        endpoint.save(update_fields=PUBLISHED_FIELDS)
    return ""


def _is_postponed(effect: Effect, now: datetime) -> bool:
    """Whether a failed effect still waits. One that waits longer than any does was postponed by another clock."""
    longest = timedelta(seconds=LONGEST_PAUSE[effect.kind])
    return not is_free(effect.not_before, now=now, lifetime=longest)


def _postpone(effect: Effect, error: Exception, now: datetime) -> None:
    effect.attempts += 1
    effect.problem = str(error) if isinstance(error, HeadgateError) else error_words(error)
    if effect.kind == SetTraffic.kind:
        effect.payload[REFUSED] = isinstance(error, (InvalidInput, Rejected))
    pause = min(LONGEST_PAUSE[effect.kind], 2 ** min(effect.attempts, 8) / 2)
    effect.not_before = now + timedelta(seconds=pause)
    effect.save(update_fields=["attempts", "problem", "payload", "not_before"])
    if effect.kind == SetTraffic.kind:
        Endpoint.objects.filter(pk=effect.endpoint_id).update(router_problem=effect.problem)
    log.warning(
        "effect.postponed effect=%s kind=%s attempts=%s %s", effect.pk, effect.kind, effect.attempts, error
    )
