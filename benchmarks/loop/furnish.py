"""Endpoints by the hundred on the data plane of `plane`: for the benchmark, and for the tests of batches."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from benchmarks.loop.plane import Plane
from controlplane.kernel.clock import Clock
from registry.models import Model
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.plan import canary
from rollouts.models import Arm, Cluster, Endpoint, GatePolicyVersion, Rollout, Variant, Workload
from rollouts.services.loop.routing import route_json, route_of
from rollouts.services.world import World, Worlds
from tests import factories

SHARE_BP = 2_500
ALPHA_PART = 0.25
POLICY: dict[str, Any] = {
    "name": "loop",
    "version": 1,
    "gates": [
        {"key": "errors", "kind": "error_rate", "delta": 0.05, "weight": ALPHA_PART},
        {"key": "refused", "kind": "refused", "delta": 0.05, "weight": ALPHA_PART},
        {"key": "abandoned", "kind": "abandoned", "mode": "tolerant", "delta": 0.05, "weight": ALPHA_PART},
        {
            "key": "ttft",
            "kind": "latency_slo",
            "signal": "ttft",
            "slo_seconds": 1.0,
            "delta": 0.1,
            "weight": ALPHA_PART,
        },
    ],
}
PLAN = canary((SHARE_BP / 100, 50), hold_seconds=3_600, min_requests=10)


def worlds_of(plane: Plane, *, clock: Clock, interval_seconds: float = 10.0) -> Worlds:
    """The one cluster of these endpoints."""
    world = World(
        name="here",
        cluster=plane,
        router=plane,
        signals=plane,
        request_log=plane,
        prober=None,  # type: ignore[arg-type]  # no engine is launched or probed here
        store=None,  # type: ignore[arg-type]
        models_dir=None,  # type: ignore[arg-type]
        clock=clock,
        edges={},
        interval_seconds=interval_seconds,
    )
    return Worlds((world.name,), lambda name: world, clock)


def furnish(active: int, quiet: int, *, clock: Clock) -> Plane:
    """Endpoints of one model; every active one has a canary at 25 % that goes on for an hour."""
    now = clock.now()
    of = factories.model(now=now)
    policy = GatePolicy.from_json(POLICY)
    shared = GatePolicyVersion.objects.create(
        name=policy.name, version=1, body=policy.to_json(), digest="sha256:" + "0" * 64, created_at=now
    )
    cluster = Cluster.objects.create(name="here")
    names = [f"busy-{number}" for number in range(active)] + [f"quiet-{number}" for number in range(quiet)]
    endpoints = _endpoints(names, of, shared, cluster, now)
    variants = {1: _variants(endpoints, of, 1, now), 2: _variants(endpoints[:active], of, 2, now)}
    plane = Plane(frozenset(names[:active]), clock)
    for position, endpoint in enumerate(endpoints):
        stable = variants[1][position]
        shares = {stable.name: 10_000}
        if position < active:
            shares = {stable.name: 10_000 - SHARE_BP, variants[2][position].name: SHARE_BP}
        endpoint.stable, endpoint.desired_fallback = stable, stable.name
        endpoint.desired_shares = endpoint.observed_shares = shares
        plane.add(endpoint.name, shares)
    Endpoint.objects.bulk_update(
        endpoints, ["stable", "desired_fallback", "desired_shares", "observed_shares"], batch_size=500
    )
    _publish_quiet(endpoints[active:], variants[1][active:], worlds_of(plane, clock=clock).of("here"), now)
    _rollouts(endpoints[:active], variants, shared, now)
    return plane


def _publish_quiet(endpoints: list[Endpoint], stable: list[Variant], world: World, now: datetime) -> None:
    """As after the first turn of each: thousands of first turns would take longer than all that is measured."""
    workloads = {row.variant_id: row for row in Workload.objects.select_related("variant")}
    for endpoint, variant in zip(endpoints, stable, strict=True):
        route = route_of(endpoint, [workloads[variant.pk]], None, (), world)
        world.router.apply(route, token=0)
        endpoint.applied, endpoint.applied_at = route_json(route), now
    Endpoint.objects.bulk_update(endpoints, ["applied", "applied_at"], batch_size=500)


def _endpoints(
    names: list[str], of: Model, shared: GatePolicyVersion, cluster: Cluster, now: datetime
) -> list[Endpoint]:
    made = [
        Endpoint(name=name, model=of, gate_policy=shared, cluster=cluster, alias=name, created_at=now)
        for name in names
    ]
    return Endpoint.objects.bulk_create(made, batch_size=500)


def _variants(endpoints: list[Endpoint], of: Model, number: int, now: datetime) -> list[Variant]:
    version = of.versions.get(number=number)
    made = Variant.objects.bulk_create(
        [
            Variant(
                endpoint=endpoint,
                version=version,
                name=f"{endpoint.name}-v{number}-{position:06x}",
                digest=f"sha256:{position:064x}",
                serving={
                    "engine": "vllm",
                    "arguments": {},
                    "environment": {},
                    "resources": {},
                    "replicas": 1,
                },
                created_at=now,
            )
            for position, endpoint in enumerate(endpoints)
        ],
        batch_size=500,
    )
    Workload.objects.bulk_create(
        [
            Workload(
                variant=one,
                wanted=True,
                phase="ready",
                backend={"kind": "address", "name": "", "address": "127.0.0.1:18000"},
                ready=1,
                desired=1,
            )
            for one in made
        ],
        batch_size=500,
    )
    return made


def _rollouts(
    endpoints: list[Endpoint], variants: dict[int, list[Variant]], shared: GatePolicyVersion, now: datetime
) -> None:
    rollouts = Rollout.objects.bulk_create(
        [
            Rollout(
                endpoint=endpoint,
                baseline=variants[1][position],
                candidate=variants[2][position],
                gate_policy=shared,
                plan=PLAN.to_json(),
                plan_digest=PLAN.digest,
                phase="progressing",
                phase_since=now,
                step_index=0,
                step_since=now,
                traffic_at=now,
                measured_at=now,
                created_at=now,
            )
            for position, endpoint in enumerate(endpoints)
        ],
        batch_size=500,
    )
    arms = []
    for position, rollout in enumerate(rollouts):
        arms.append(
            Arm(rollout=rollout, variant=variants[1][position], name="baseline", desired_bp=10_000 - SHARE_BP)
        )
        arms.append(
            Arm(rollout=rollout, variant=variants[2][position], name="candidate", desired_bp=SHARE_BP)
        )
    Arm.objects.bulk_create(arms, batch_size=500)
