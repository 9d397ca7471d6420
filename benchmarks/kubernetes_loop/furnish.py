"""A thousand endpoints that serve: their rows, their objects in the cluster, and their routes."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client as official

from benchmarks.loop.furnish import PLAN, POLICY
from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import Unavailable
from controlplane.sealing.keys import KeyRing
from registry.models import Version
from rollouts.adapters.clusters.kubernetes.anchors import ATTEMPT, MADE, noted
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.cluster import KubernetesCluster
from rollouts.adapters.clusters.kubernetes.connection import api_client
from rollouts.adapters.clusters.kubernetes.container import CONTAINER_ENGINES, PORT
from rollouts.adapters.clusters.kubernetes.objects import objects_of, with_attempt
from rollouts.adapters.clusters.kubernetes.profile_reading import read_profile
from rollouts.adapters.clusters.kubernetes.tokens import ToldTokens
from rollouts.adapters.clusters.secrets import SecretStore
from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace
from rollouts.adapters.routers.gateway_api.references import REVISION, route_name
from rollouts.adapters.routers.gateway_api.router import GatewayRouter
from rollouts.adapters.routers.gateway_api.user import ServedAnswer
from rollouts.adapters.routers.gateway_api.watched import WatchedRoutes
from rollouts.domain.capabilities import Capability
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.record.readings import ROUTER, SignalReading, TargetReading
from rollouts.models import Arm, Cluster, Endpoint, GatePolicyVersion, Rollout, Variant, Workload
from rollouts.ports import Answer, Backend, Route
from rollouts.services.loop.routing import route_json, route_of
from rollouts.services.workload_specs import workload_spec
from rollouts.services.world import World, Worlds
from rollouts.wake import LoopWaker
from tests import factories
from tests.kubernetes.workloads import PROFILE

INSTALLATION = "bench"
PLACE = GatewayParent("public", "edge")
AT_ONCE = 8


class CountedClient(official.ApiClient):  # type: ignore[misc]
    """Counts every request that it sends, by its method and what is asked for."""

    def __init__(self, settings: official.Configuration, counts: Counter[str]) -> None:
        super().__init__(settings)
        self._counts = counts
        self._lock = threading.Lock()

    def call_api(self, method: str, url: str, *arguments: Any, **options: Any) -> Any:
        path, _, query = url.partition("?")
        parts = urlsplit(path).path.strip("/").split("/")
        at = parts.index("namespaces") + 2 if "namespaces" in parts else len(parts)
        verb = "WATCH" if "watch=true" in query else method
        with self._lock:
            self._counts[f"{verb} {parts[at] if at < len(parts) else 'namespaces'}"] += 1
        return super().call_api(method, url, *arguments, **options)


class PlayedUsers:
    """Nobody asks for anything, and whoever is asked by force answers: signals, prober and log of the world."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now().timestamp()

    def read_all(self, backends: Mapping[str, Collection[Backend]]) -> Mapping[str, SignalReading]:
        now = self._clock.now().timestamp()
        return {one: SignalReading(now, {ROUTER: TargetReading(self._began, {})}) for one in backends}

    def failures(self) -> Mapping[str, Any]:
        return {}

    def find(self, request_ids: Collection[str]) -> Mapping[str, Any]:
        return {}

    def ask(self, *, endpoint: str, variant: str, **_: Any) -> Answer:
        return Answer("yes", variant, 0.01)


class Furnished:
    """The world of all endpoints, on the API server that a kubeconfig leads to.

    requests   that were sent to the API server so far
    """

    def __init__(self, kubeconfig: Path, namespace: str, clock: Clock, waker: LoopWaker) -> None:
        profile, problems = read_profile({**PROFILE, "namespace": namespace})
        assert profile is not None, problems
        self.requests: Counter[str] = Counter()
        text = kubeconfig.read_text()

        def connect() -> official.ApiClient:
            settings = api_client(text, kubeconfig.parent / "headgate").configuration
            return CountedClient(settings, self.requests)

        self._profile = profile
        self._clock = clock
        self.client = KubernetesClient(connect, namespace)
        self._tokens = ToldTokens(self.client, INSTALLATION)
        self._routes = WatchedRoutes(self.client, INSTALLATION, wake=waker.wake)
        self.place = GatewayPlace(namespace, (PLACE,), "models.test", INSTALLATION, PORT)
        users: Any = PlayedUsers(clock)
        self.cluster = KubernetesCluster(
            self.client,
            profile,
            INSTALLATION,
            clock,
            SecretStore(Path("/nonexistent"), lambda: KeyRing(())),
            self._tokens,
            wake=waker.wake,
        )
        can = frozenset({Capability.FORCED_VARIANT})
        self.router = GatewayRouter(self._routes, self.place, clock, lambda: can, self._served, self._tokens)
        self.world = World(
            name="here",
            cluster=self.cluster,
            router=self.router,
            signals=users,
            request_log=users,
            prober=users,
            store=None,  # type: ignore[arg-type]  # no file is read here
            models_dir=None,  # type: ignore[arg-type]
            clock=clock,
            edges={},
        )
        self.worlds = Worlds((self.world.name,), lambda name: self.world, clock)

    def _served(self, host: str, variant: str) -> ServedAnswer:
        """As a proxy that takes a route at the moment when its gateway says so."""
        document = self._routes.at_hand(route_name(host.partition(".")[0]))
        if document is None:
            raise Unavailable(f"There is no route of {host}.")
        return ServedAnswer(variant, int(document["metadata"]["annotations"][REVISION]))

    # --- rows and objects -------------------------------------------------------------------------------------------

    def furnish(self, count: int) -> None:
        """Endpoints with one variant each, which serve."""
        now = self._clock.now()
        rows = _rows(count, self.client.namespace, now)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._launch, [(one.name, variant.name) for one, variant, _ in rows]))
            routes = [route_of(endpoint, [workload], None, (), self.world) for endpoint, _, workload in rows]
            list(pool.map(self._publish, routes))
        for (endpoint, _, _), route in zip(rows, routes, strict=True):
            endpoint.applied, endpoint.applied_at = route_json(route), now
        Endpoint.objects.bulk_update([row[0] for row in rows], ["applied", "applied_at"], batch_size=500)

    def _launch(self, names: tuple[str, str]) -> None:
        """Of its objects those that the loop looks at."""
        endpoint, variant = names
        version = _version(1)
        spec = workload_spec(
            variant=variant, endpoint=endpoint, source=version[0], manifest=version[1], spec=version[2]
        )
        objects = objects_of(
            spec, self._profile, installation=INSTALLATION, engines=CONTAINER_ENGINES, secrets={}
        )
        anchor = self.client.create(noted(objects.anchor, {ATTEMPT: "0", MADE: "true"}))
        for body in objects.owned_by(anchor["metadata"]["uid"]):
            if body["kind"] == objects.workload_kind:
                self.client.create(with_attempt(body, 0))

    def _publish(self, route: Route) -> None:
        end = time.monotonic() + 300
        while True:
            generation = self.router.apply(route, token=1)
            seen = self.router.observe(route.endpoint)
            if seen is not None and seen.settled and seen.generation == generation:
                return
            if time.monotonic() > end:
                raise RuntimeError(f"the route of {route.endpoint} does not come into force: {seen}")
            time.sleep(0.1)


_VERSIONS: dict[int, Any] = {}


def _version(number: int) -> Any:
    """Source, manifest and serving spec of a version, without a query a variant."""
    return _VERSIONS[number]


def _rows(count: int, namespace: str, now: datetime) -> list[tuple[Endpoint, Variant, Workload]]:
    of = factories.model(now=now)
    for version in Version.objects.all():
        version.source = f"s3://models/{of.name}/{version.number}"
        kinds = {"model.safetensors": "weights", "tokenizer.json": "tokenizer"}
        version.file_classes = [
            {"path": one["path"], "kind": kinds.get(one["path"], "configuration"), "why": "", "finding": ""}
            for one in version.manifest or ()
        ]
        version.save()
    policy = GatePolicy.from_json(POLICY)
    shared = GatePolicyVersion.objects.create(
        name=policy.name, version=1, body=policy.to_json(), digest="sha256:" + "0" * 64, created_at=now
    )
    here = Cluster.objects.create(name="here")
    endpoints = Endpoint.objects.bulk_create(
        [
            Endpoint(name=name, model=of, gate_policy=shared, cluster=here, alias=name, created_at=now)
            for name in (f"e{number:04}" for number in range(count))
        ],
        batch_size=500,
    )
    variants = Variant.objects.bulk_create(
        [_variant(endpoint, 1, now) for endpoint in endpoints], batch_size=500
    )
    first = of.versions.get(number=1)
    _VERSIONS[1] = (first.source, first.manifest_value, variants[0].spec)
    workloads = Workload.objects.bulk_create(
        [
            Workload(
                variant=one, wanted=True, phase="ready", ready=1, desired=1,
                backend={"kind": "service", "name": one.name, "address": f"{one.name}.{namespace}:{PORT}"},
            )
            for one in variants
        ],
        batch_size=500,
    )  # fmt: skip
    for endpoint, variant in zip(endpoints, variants, strict=True):
        endpoint.stable, endpoint.desired_fallback = variant, variant.name
        endpoint.desired_shares = endpoint.observed_shares = {variant.name: 10_000}
    Endpoint.objects.bulk_update(
        endpoints, ["stable", "desired_fallback", "desired_shares", "observed_shares"], batch_size=500
    )
    return list(zip(endpoints, variants, workloads, strict=True))


def _variant(endpoint: Endpoint, number: int, now: datetime) -> Variant:
    serving = {"engine": "vllm", "arguments": {}, "environment": {}, "resources": {}, "replicas": 1}
    return Variant(
        endpoint=endpoint,
        version=endpoint.model.versions.get(number=number),
        name=f"{endpoint.name}-v{number}-{endpoint.pk:06x}",
        digest=f"sha256:{number}{endpoint.pk:063x}",
        serving=serving,
        created_at=now,
    )


def begin_rollout(endpoint: Endpoint, now: datetime) -> str:
    """As a person begins one: it is pending. Returns the candidate's name."""
    assert endpoint.stable is not None
    candidate = _variant(endpoint, 2, now)
    candidate.save()
    Workload.objects.create(variant=candidate)
    rollout = Rollout.objects.create(
        endpoint=endpoint,
        baseline=endpoint.stable,
        candidate=candidate,
        gate_policy=endpoint.gate_policy,
        plan=PLAN.to_json(),
        plan_digest=PLAN.digest,
        phase="pending",
        phase_since=now,
        created_at=now,
    )
    Arm.objects.create(rollout=rollout, variant=endpoint.stable, name="baseline", desired_bp=10_000)
    Arm.objects.create(rollout=rollout, variant=candidate, name="candidate")
    return candidate.name
