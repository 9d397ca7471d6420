"""Proofs: before any user is sent to a candidate, it answers a request that is forced to it through the router.

The request may take as long as an engine that hangs lets it, so it is made beside the loop, with the probes; the loop
reads when it was last answered (`Arm.proven_at`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import HeadgateError
from controlplane.timekeeping.claims import has_run_out
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.decision import RolloutView
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Arm, Endpoint, Rollout
from rollouts.services.loop.leases import look_soon
from rollouts.services.loop.observe import Observation
from rollouts.services.world import World

log = logging.getLogger(__name__)

PROOF_LIFETIME = timedelta(seconds=30)  # so long an answer proves that the candidate answers now
RENEWED_AFTER = timedelta(seconds=15)
MOST_ASKED_AT_ONCE = 4


def prove_candidates(*, rollout_id: int, world: World) -> int:
    """Asks the candidates that are ready and routed, and have no users yet, for one token; returns how many answered.

    Those that answered a moment ago are not asked again. Bounded by `world.probe_timeout` for each four of them.
    """
    rollout = (
        Rollout.objects.select_related("endpoint")
        .filter(pk=rollout_id, phase=Phase.PROVISIONING.value)
        .first()
    )
    if rollout is None:
        return 0
    now = world.clock.now()
    arms = _to_prove(rollout)
    # As they are now: another process, or another route, is not proven by the answer.
    proofs = {arm.pk: _proof(rollout.endpoint, arm.variant.workload.process_started_at) for arm in arms}
    asked = [arm for arm in arms if not _is_proven(arm, proofs[arm.pk], now, RENEWED_AFTER)]
    if not asked:
        return 0
    with ThreadPoolExecutor(max_workers=min(len(asked), MOST_ASKED_AT_ONCE)) as pool:
        # Names only: a thread of the pool has no connection to the database.
        names = [arm.variant.name for arm in asked]
        answers = list(pool.map(lambda name: _answers(rollout.endpoint.name, name, world), names))
    answered = [arm for arm, it_did in zip(asked, answers, strict=True) if it_did]
    for arm in answered:
        Arm.objects.filter(pk=arm.pk).update(proven_at=now, proof=proofs[arm.pk])
    if answered:
        look_soon(pk=rollout.endpoint_id)
    return len(answered)


def proven(
    endpoint: Endpoint, view: RolloutView, arms: Iterable[Arm], seen: Observation, *, now: datetime
) -> frozenset[str]:
    """The candidates that answer a forced request themselves, as proven a moment ago on the route in force.

    arms    the rollout's rows, each with its variant
    """
    if view.phase is not Phase.PROVISIONING or seen.route is None:
        return frozenset()
    racing = {arm.variant for arm in view.racing if arm.variant in seen.route.healthy}
    found = set()
    for arm in arms:
        if arm.variant.name not in racing:
            continue
        status = seen.status(arm.variant.name)
        proof = _proof(endpoint, None if status is None else status.started_at)
        if _is_proven(arm, proof, now, PROOF_LIFETIME):
            found.add(arm.variant.name)
    return frozenset(found)


def _to_prove(rollout: Rollout) -> list[Arm]:
    """Candidates in the race whose engine is ready and to which the router sends forced requests."""
    routed = {backend["variant"] for backend in rollout.endpoint.applied.get("backends", ())}
    arms = Arm.objects.filter(
        rollout=rollout, dropped_at=None, variant__workload__phase=WorkloadPhase.READY.value
    )
    arms = arms.exclude(name=BASELINE).select_related("variant__workload").order_by("pk")
    return [arm for arm in arms if arm.variant.name in routed]


def _is_proven(arm: Arm, proof: str, now: datetime, lifetime: timedelta) -> bool:
    """Whether it answered lately, and what it proved is still so."""
    if arm.proven_at is None or has_run_out(arm.proven_at, now=now, lifetime=lifetime):
        return False
    return arm.proof == proof


def _proof(endpoint: Endpoint, process_started_at: float | None) -> str:
    """What an answer proves something about: the route that is in force and the process that runs. No times are
    compared: a clock may jump."""
    return digest_of([endpoint.applied, process_started_at])


def _answers(endpoint: str, variant: str, world: World) -> bool:
    try:
        world.prober.ask(
            endpoint=endpoint,
            variant=variant,
            messages=({"role": "user", "content": "ready?"},),
            max_tokens=1,
            timeout=world.probe_timeout,
        )
    except HeadgateError as error:
        log.info("rollout.forced_request_failed endpoint=%s variant=%s %s", endpoint, variant, error)
        return False
    return True
