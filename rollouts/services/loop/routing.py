"""The route that an endpoint should have: its split, who answers for a dead variant, and which calls there are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controlplane.kernel.errors import HeadgateError
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.states import ACTIVE, Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.domain.strategies import is_known, strategy_of
from rollouts.evidence import unread_words, with_newest
from rollouts.models import Arm, Endpoint, Rollout, Workload
from rollouts.ports import OPENAI_API, EngineApi, Route
from rollouts.services.loop.backends import backend_json, backends_of
from rollouts.services.world import World

log = logging.getLogger(__name__)

# On the way back a candidate is no help to anybody, and before its first step nobody has tried it.
RESCUING = (Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING)
# Once ready, a workload stays one of these until it fails for good or is drained. Whether it answers at this moment is
# left to the router's own health check: a route that followed it would be published every second.
WARM = (WorkloadPhase.READY.value, WorkloadPhase.UNREADY.value)


def desired_route(endpoint: Endpoint, world: World) -> Route:
    """The desired route, with all that it follows from as it is in the database now. 3 queries."""
    workloads = Workload.objects.filter(variant__endpoint=endpoint).select_related("variant")
    active = Rollout.objects.filter(endpoint=endpoint, phase__in=[phase.value for phase in ACTIVE])
    rollout = with_newest(active).first()
    arms = [] if rollout is None else list(Arm.objects.filter(rollout=rollout).select_related("variant"))
    if rollout is not None and unread_words(rollout):
        rollout = None  # nobody here can say whom its evidence blames
    return route_of(endpoint, list(workloads), rollout, arms, world)


def route_of(
    endpoint: Endpoint,
    workloads: Sequence[Workload],
    rollout: Rollout | None,
    arms: Sequence[Arm],
    world: World,
) -> Route:
    """The desired route. A fallback that has no address now is no fallback: the largest share takes its place.

    rollout, arms   the one that is active, if any; no rollout where its evidence cannot be read
    """
    backends = backends_of(workloads)
    shares = dict(endpoint.desired_shares)
    known = {backend.variant for backend in backends}
    fallback = endpoint.desired_fallback
    if fallback not in known:
        fallback = max(shares, key=lambda name: (shares[name], name))
    helpers = rescuers_of(endpoint, workloads, rollout, arms)
    return Route(
        endpoint=endpoint.name,
        shares=shares,
        backends=backends,
        fallback=fallback,
        rescuers=tuple(name for name in helpers if name in known and name != fallback),
        api=_api(endpoint, world),
    )


def route_json(route: Route) -> dict[str, Any]:
    """The route as it is kept: two routes are the same when these are."""
    return {
        "shares": dict(sorted(route.shares.items())),
        "fallback": route.fallback,
        "backends": [{"variant": one.variant, **backend_json(one)} for one in route.backends],
        "rescuers": list(route.rescuers),
        "api": {"inference": list(route.api.inference), "other": list(route.api.other)},
    }


def rescuers_of(
    endpoint: Endpoint, workloads: Sequence[Workload], rollout: Rollout | None, arms: Sequence[Arm]
) -> tuple[str, ...]:
    """Variants that may answer for a dead one besides the fallback, the first choice first.

    They are the candidates of the rollout that have traffic and that no gate blames, those with the larger share
    first; then the previous variant, while it is warm. None when the endpoint's switch is off.
    """
    if not endpoint.rescue:
        return ()
    warm = {row.variant.name for row in workloads if row.wanted and row.phase in WARM}
    found = [] if rollout is None else list(_candidates(endpoint, rollout, arms))
    previous = endpoint.previous
    # A candidate that served once before is judged as the candidate that it is now.
    if previous is not None and previous.pk not in {arm.variant_id for arm in arms if arm.name != BASELINE}:
        found.append(previous.name)
    return tuple(name for name in found if name in warm)


def _candidates(endpoint: Endpoint, rollout: Rollout, arms: Sequence[Arm]) -> Iterator[str]:
    if Phase(rollout.phase) not in RESCUING or not is_known(rollout.parsed_plan):
        return  # of a strategy that is not known nobody can say whom its evidence blames
    shares: Mapping[str, int] = endpoint.desired_shares
    with_traffic = [
        arm
        for arm in arms
        if arm.name != BASELINE and arm.dropped_at is None and shares.get(arm.variant.name, 0) > 0
    ]
    if not with_traffic:
        return
    blamed = blamed_arms(rollout)
    for arm in sorted(with_traffic, key=lambda arm: (-shares[arm.variant.name], arm.variant.name)):
        if arm.name not in blamed:
            yield arm.variant.name


def blamed_arms(rollout: Rollout) -> frozenset[str]:
    """Candidates, by their arm's name, that the last assessment speaks against: a gate failed, the fast kill struck,
    or they are out of the race."""
    if not rollout.verdicts:
        return frozenset()
    analysis = strategy_of(rollout.parsed_plan).ANALYSIS
    return analysis.blamed(analysis.stored_assessment(rollout.verdicts))


def _api(endpoint: Endpoint, world: World) -> EngineApi:
    """The calls of the stable variant's engine: what clients rely on does not change with a candidate.

    What cannot be learned now stays as it was published last: a broken declaration takes no call away.
    """
    if endpoint.stable is None:
        return OPENAI_API
    try:
        return world.cluster.api(endpoint.stable.spec.engine)
    except HeadgateError as error:
        log.warning("endpoint.api_unknown endpoint=%s %s", endpoint.name, error)
    published = endpoint.applied.get("api")
    if not published:
        return OPENAI_API
    return EngineApi(tuple(published["inference"]), tuple(published["other"]))
