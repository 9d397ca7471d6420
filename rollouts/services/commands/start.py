"""Starting a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction

from controlplane.access.actors import Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.audit.services import record
from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import Conflict, HeadgateError, InvalidInput, Refused
from controlplane.web.live import publish
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.policy_changes import policy_changes
from rollouts.domain.gates.weaker import Weakening
from rollouts.domain.lifecycle.arms import arm_names
from rollouts.domain.lifecycle.moves import cancel, end_watch
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP, Plan
from rollouts.domain.lifecycle.states import ACTIVE, Event, Phase
from rollouts.domain.strategies import strategy_of
from rollouts.domain.strategies.dry_run import Check, StepForecast
from rollouts.domain.variants import ServingSpec
from rollouts.models import Arm, Endpoint, GatePolicyVersion, Rollout, Variant, Workload
from rollouts.services.commands.endpoints import checked_spec, ensure_variant
from rollouts.services.commands.rollouts import refuse_while_held, refuse_while_restored
from rollouts.services.locks import lock_rollout, locked_endpoints
from rollouts.services.loop.leases import look_soon
from rollouts.services.loop.views import view_of
from rollouts.services.policies.own import require_may_weaken, weaker_than_endpoint
from rollouts.services.preview.rollout import (
    Preview,
    endpoint_to_roll_out,
    find_candidates,
    find_version,
    preview_rollout,
)
from rollouts.services.world import Edges, Worlds
from rollouts.services.writing import apply_decision, tell

__all__ = [
    "Check",
    "Preview",
    "StepForecast",
    "endpoint_to_roll_out",
    "find_version",
    "preview_rollout",
    "start_rollout",
]


@requires(Action.START_ROLLOUT)
def start_rollout(
    *,
    endpoint: Endpoint,
    version_number: int,
    plan: Plan,
    actor: Actor,
    worlds: Worlds,
    now: datetime,
    other_versions: Sequence[int] = (),
    serving: ServingSpec | None = None,
    gate_policy: GatePolicyVersion | None = None,
    own_policy: GatePolicy | None = None,
    note: str = "",
    supersede: bool = False,
) -> Rollout:
    """Starts a rollout of a version on an endpoint; the loop takes it from there.

    other_versions  further candidates, in the order of their arms, where the strategy takes several
    worlds          the endpoint's cluster is asked whether it would serve the versions so
    own_policy      judges this rollout alone, made from `gate_policy` (else from the endpoint's)
    supersede       ends a rollout that has not moved traffic yet

    All or nothing. Raises Forbidden (also for a policy that is weaker than the endpoint's), InvalidInput (an unknown
    version, or versions that cannot be candidates together; an SLO that is no bucket edge; a serving spec that the
    engine's options do not allow), Refused (the first failed check), Conflict (another rollout is active; the endpoint
    changed meanwhile), Unavailable (the endpoint's cluster cannot be used, or cannot say now).
    """
    weaker = weaker_than_endpoint(endpoint, source=gate_policy, own=own_policy)
    require_may_weaken(weaker, endpoint=endpoint, actor=actor)
    shared = gate_policy or endpoint.gate_policy
    world = worlds.of(endpoint.cluster.name)
    preview = preview_rollout(
        endpoint=endpoint,
        version_number=version_number,
        other_versions=other_versions,
        plan=plan,
        worlds=worlds,
        now=now,
        serving=serving,
        gate_policy=gate_policy,
        own_policy=own_policy,
        asks=False,
    )
    active = Rollout.objects.filter(endpoint=endpoint, phase__in=[phase.value for phase in ACTIVE]).first()
    replaceable = active is not None and Phase(active.phase) in (Phase.PENDING, Phase.PROVISIONING)
    if active is not None and not (supersede and replaceable):
        raise _duplicate(active)
    for check in preview.checks:
        if check.state == "refused" and check.code != "rollout-active":
            raise _refusal(check, policy=own_policy or shared.policy, edges=world.edges)
    refuse_while_held()
    chosen = find_candidates(endpoint, plan, (version_number, *other_versions))
    assert endpoint.stable is not None
    asked = serving or endpoint.stable.spec.to_launch
    specs = [
        checked_spec(endpoint=endpoint, version=version, spec=asked, cluster=world.cluster)
        for version, _ in chosen
    ]
    try:
        with transaction.atomic():
            _check_unchanged(endpoint)
            refuse_while_restored(endpoint)
            if active is not None:
                _supersede(active, actor, now)
            candidates = [
                ensure_variant(endpoint=endpoint, version=version, spec=spec, now=now)
                for (version, _), spec in zip(chosen, specs, strict=True)
            ]
            _end_watch(endpoint, candidates, actor, now)
            rollout = _create(endpoint, candidates, plan, shared, own_policy, weaker, actor, note, now)
            look_soon(pk=endpoint.pk)
    except IntegrityError as error:
        other = Rollout.objects.filter(endpoint=endpoint, phase__in=[phase.value for phase in ACTIVE]).first()
        raise (_duplicate(other) if other else Conflict("Another rollout started meanwhile.")) from error
    return rollout


def _create(
    endpoint: Endpoint,
    candidates: Sequence[Variant],
    plan: Plan,
    shared: GatePolicyVersion,
    own_policy: GatePolicy | None,
    weaker: Sequence[Weakening],
    actor: Actor,
    note: str,
    now: datetime,
) -> Rollout:
    baseline, candidate = endpoint.stable, candidates[0]
    assert baseline is not None
    names = ", ".join(variant.name for variant in candidates)
    earlier = Rollout.objects.filter(endpoint=endpoint, candidate=candidate).count()
    own = None if own_policy is None else own_policy.to_json()
    rollout = Rollout.objects.create(
        endpoint=endpoint,
        baseline=baseline,
        candidate=candidate,
        gate_policy=shared,
        own_policy=own,
        own_policy_digest="" if own is None else digest_of(own),
        strategy=plan.strategy,
        plan=plan.to_json(),
        plan_digest=plan.digest,
        attempt=earlier + 1,
        phase_since=now,
        created_by=actor.user,
        created_at=now,
        note=note,
        reason="Waiting for the control loop to take it up.",
    )
    for name, variant in zip(arm_names(len(candidates)), (baseline, *candidates), strict=True):
        share_bp = FULL_SHARE_BP if variant is baseline else 0
        Arm.objects.create(rollout=rollout, variant=variant, name=name, desired_bp=share_bp)
    # A failure of an earlier attempt is that attempt's: this one launches anew.
    Workload.objects.filter(variant__in=candidates, phase="failed").update(
        phase="absent", reason="", message=""
    )
    tell(
        endpoint=endpoint,
        rollout=rollout,
        kind="created",
        title=f"{actor.name} started the rollout",
        detail=note or _what(plan, baseline.name, names, rollout.attempt),
        actor=actor.name,
        now=now,
    )
    changes = [] if own_policy is None else policy_changes(shared.policy, own_policy)
    if changes:
        tell(
            endpoint=endpoint,
            rollout=rollout,
            kind="own-policy",
            title=f"Judged by a policy of its own, from {shared}",
            detail="; ".join(
                f"{one.field} {one.before or 'none'} → {one.after or 'none'}" for one in changes
            ),
            actor=actor.name,
            now=now,
        )
    record(
        at=now,
        actor=actor.name,
        actor_kind=actor.kind,
        action="rollout.created",
        object_kind="rollout",
        object_id=rollout.pk,
        after={
            "endpoint": endpoint.name,
            "candidate": names,
            "plan": rollout.plan_digest,
            "gate_policy": rollout.policy_words,
            "changes": [one.to_json() for one in changes],
            "weaker": [one.to_json() for one in weaker],
        },
        why=note,
        request_id=actor.request_id,
    )
    publish("overview", f"endpoint:{endpoint.pk}", now=now)
    return rollout


def _what(plan: Plan, baseline: str, candidates: str, attempt: int) -> str:
    return f"{strategy_of(plan).started_words(baseline, candidates)}, attempt {attempt}"


def _supersede(active: Rollout, actor: Actor, now: datetime) -> None:
    locked = lock_rollout(active.pk)
    sentence = f"{actor.name} started another rollout before this one moved traffic."
    apply_decision(
        rollout=locked,
        decision=cancel(view_of(locked), sentence=sentence, event=Event.SUPERSEDE),
        actor=actor,
        now=now,
    )


def _check_unchanged(endpoint: Endpoint) -> None:
    """Raises Conflict when the stable variant or the policy changed since the endpoint was read: the plan was made, and
    the role checked, for another."""
    now = locked_endpoints().get(pk=endpoint.pk)
    if now.gate_policy_id != endpoint.gate_policy_id:
        raise Conflict(
            f"The gate policy of {endpoint.name} changed meanwhile.",
            code="policy-changed",
            fix="Look at the plan again and start it anew.",
        )
    if now.stable_id != endpoint.stable_id:
        raise Conflict(
            f"The stable variant of {endpoint.name} changed meanwhile.",
            code="stable-changed",
            fix="Look at the plan again and start it anew.",
        )


def _end_watch(endpoint: Endpoint, candidates: Sequence[Variant], actor: Actor, now: datetime) -> None:
    """A new rollout ends the watch over the last promotion: the old variant has been replaced for good.

    It is drained, unless it is a candidate again.
    """
    names = ", ".join(variant.name for variant in candidates)
    watched = Rollout.objects.filter(endpoint=endpoint, phase=Phase.SUCCEEDED.value, watching=True)
    for pk in list(watched.values_list("pk", flat=True)):
        locked = lock_rollout(pk)
        sentence = f"{actor.name} started a rollout of {names}"
        keep = locked.baseline_id in {variant.pk for variant in candidates}
        decision = end_watch(view_of(locked), sentence=sentence, keep_baseline=keep)
        apply_decision(rollout=locked, decision=decision, actor=actor, now=now)


def _duplicate(active: Rollout) -> Conflict:
    return Conflict(
        f"Rollout #{active.pk} of {active.endpoint} is active ({active.phase}); an endpoint has one at a time.",
        code="rollout-active",
        fix=f"Wait for rollout #{active.pk}, or roll it back.",
        extra={"rollout": active.pk, "phase": active.phase},
    )


def _refusal(check: Check, *, policy: GatePolicy, edges: Edges) -> HeadgateError:
    for error in policy.edge_problems(edges).values():
        if error.field == check.field:
            return error  # with both neighbours, which a check has no place for
    if check.field:
        return InvalidInput(
            f"{check.title}. {check.detail}".strip(), field=check.field, fix=check.fix, code=check.code
        )
    return Refused(f"{check.title}. {check.detail}".strip(), fix=check.fix, code=check.code or "check-failed")
