"""What the cluster should be asked for beside what was decided: launches that it lost, and whether it may take replicas
away. Asked for as effects, so that the pauses between their attempts hold. Level-triggered: nothing is remembered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.convergence import relaunch, scale_in
from rollouts.domain.lifecycle.decision import RolloutView
from rollouts.domain.lifecycle.effects import AnyEffect, DrainWorkload, EnsureWorkload, HoldScaleIn
from rollouts.models import Effect, EffectState, Endpoint
from rollouts.ports import WorkloadStatus
from rollouts.services.loop.observe import Observation
from rollouts.services.writing import add_effects

KINDS = (EnsureWorkload.kind, DrainWorkload.kind, HoldScaleIn.kind)


def converge_workloads(
    *, endpoint: Endpoint, view: RolloutView | None, seen: Observation, now: datetime
) -> None:
    """Asks for what is due. Runs inside a transaction. `view`: of the rollout that goes on."""
    due = due_of_workloads(view, seen, _waiting(endpoint))
    add_effects(endpoint=endpoint, rollout=None, effects=due, now=now)


def relaunch_lost(*, endpoint: Endpoint, seen: Observation, now: datetime) -> None:
    """Asks for the launches alone: for when it is not known which rollout there is. Runs inside a transaction."""
    if seen.statuses is not None:
        add_effects(endpoint=endpoint, rollout=None, effects=_lost(seen, _waiting(endpoint)), now=now)


def due_of_workloads(
    view: RolloutView | None, seen: Observation, waiting: Iterable[Effect]
) -> tuple[AnyEffect, ...]:
    """What is to be asked for of the endpoint's variants. `waiting`: what was asked for already."""
    if seen.statuses is None:
        return ()
    asked = [effect for effect in waiting if effect.kind in KINDS]
    return (*_lost(seen, asked), *_scale_in(view, seen, asked))


def _waiting(endpoint: Endpoint) -> list[Effect]:
    return list(Effect.objects.filter(endpoint=endpoint, kind__in=KINDS, state=EffectState.PENDING))


def _lost(seen: Observation, asked: Sequence[Effect]) -> tuple[AnyEffect, ...]:
    """Launches of what we want to run and the cluster does not know."""
    wanted = [
        workload.variant.name
        for workload in seen.workloads
        if workload.wanted and workload.phase != WorkloadPhase.FAILED.value
    ]
    under_way = {str(one.payload["variant"]) for one in asked if one.kind != HoldScaleIn.kind}
    statuses = _of(wanted, seen)
    known = [name for name, status in statuses.items() if status.phase is not WorkloadPhase.ABSENT]
    return relaunch(wanted, known, under_way)


def _of(names: Iterable[str], seen: Observation) -> dict[str, WorkloadStatus]:
    """The statuses of these variants; those of a cluster may be thousands."""
    every = seen.statuses or {}
    return {name: every[name] for name in names if name in every}


def _scale_in(view: RolloutView | None, seen: Observation, asked: Sequence[Effect]) -> tuple[AnyEffect, ...]:
    ending = {str(one.payload["variant"]) for one in asked if one.kind == DrainWorkload.kind}
    names = [workload.variant.name for workload in seen.workloads if workload.wanted]
    wanted = [name for name in names if name not in ending]
    held = {name: status.scale_in_held for name, status in _of(names, seen).items()}
    under_way = {
        str(one.payload["variant"]): bool(one.payload["on"]) for one in asked if one.kind == HoldScaleIn.kind
    }
    return scale_in(view, held, wanted, under_way)
