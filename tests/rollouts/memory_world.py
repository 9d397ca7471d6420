"""A whole world in memory: clock, cluster, router with its users, model store, and the real loop on top.

`MemoryWorld.tick` lets one second pass as production does: users send requests, the loop takes a turn, probes
are asked. Every call that the loop makes to the outside goes through a `Tap`, which counts it and can fail it or
kill the worker in it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from controlplane.access.actors import HEADGATE, Actor
from controlplane.access.roles import Role
from controlplane.access.services import ensure_user
from controlplane.kernel.clock import ManualClock
from controlplane.sealing.services import key_ring
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.domain.manifest import Manifest, verify_folder
from registry.models import Model, Version
from registry.services.files import folder_of
from registry.services.golden import upload_golden_set
from registry.services.manifests import register_manifest
from registry.services.mirror import mirror_models
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.adapters.clusters.secrets import SecretStore
from rollouts.adapters.probers.memory import MemoryProber
from rollouts.adapters.request_log.memory import MemoryRequestLog
from rollouts.adapters.routers.memory import EDGES, MemoryEngine, MemoryResponse, MemoryRouter, Messages
from rollouts.adapters.signals.memory import MemorySignals
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.plan import Plan, canary
from rollouts.domain.variants import ServingSpec
from rollouts.models import Arm, Endpoint, HistoryEvent, Rollout, Variant, Workload
from rollouts.services.commands.endpoints import create_endpoint, ensure_cluster
from rollouts.services.commands.feedback import record_feedback
from rollouts.services.commands.rollouts import (
    pause_rollout,
    promote_rollout,
    resume_rollout,
    roll_back_rollout,
)
from rollouts.services.commands.start import start_rollout
from rollouts.services.errands.fetching import fetch_files, versions_to_fetch
from rollouts.services.errands.probes import probe_rollout
from rollouts.services.errands.proofs import prove_candidates
from rollouts.services.errands.write_backs import keep_mlflow_true
from rollouts.services.loop.glances import Glances
from rollouts.services.loop.leases import Lease, claim_endpoints
from rollouts.services.loop.reconcile import due_endpoints, glance, reconcile_endpoint
from rollouts.services.policies.versions import define_gate_policy
from rollouts.services.world import World, Worlds
from tests.factories.weights import safetensors
from tests.rollouts.lock_order import taken_back
from tests.rollouts.worlds import worlds_of

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GOLDEN = 40
TICKET: Messages = ({"role": "user", "content": "ticket 1"},)
SYSTEM = {"role": "system", "content": "answer with one word"}
WRITES = frozenset(
    {
        "cluster.ensure", "cluster.drain", "router.apply", "store.set_alias", "store.set_version_tags",
        "store.download",
    }
)  # fmt: skip
QUALITY = {"key": "quality", "label": "Golden-set score", "kind": "paired", "margin": 0.2, "weight": 0.3}
ERRORS = {"key": "errors", "label": "Error rate", "kind": "error_rate", "delta": 0.05, "weight": 0.3}
LATENCY = {
    "key": "ttft",
    "label": "Time to first token",
    "kind": "latency_slo",
    "signal": "ttft",
    "slo_seconds": 0.25,
    "delta": 0.1,
    "weight": 0.3,
}
THUMBS = {
    "key": "thumbs",
    "label": "Thumbs down",
    "kind": "feedback",
    "delta": 0.1,
    "weight": 0.1,
    "required": False,
}
ALL_GATES = (QUALITY, ERRORS, LATENCY, THUMBS)
LIMITS: dict[str, Any] = {"no_data_seconds": 30, "launch_seconds": 20}
LONG_PLAN = replace(canary((5, 25, 50), hold_seconds=4, min_requests=10, watch_seconds=10), **LIMITS)
PLAN = replace(canary((25, 50), hold_seconds=3, min_requests=10, watch_seconds=10), **LIMITS)
BANDIT = Plan(
    strategy="bandit",
    steps=(),
    watch_seconds=10,
    settings=BanditSpec(burn_in=60, reweight_seconds=4, min_change_bp=100),
    **LIMITS,
)


class WorkerKilledError(BaseException):
    """The worker's process ends here, as kill -9 would end it. Nothing catches it."""


@dataclass
class Kill:
    """Kills the worker in every different writing call once, `when` before or after it; "" in none."""

    when: str = ""
    killed: set[str] = field(default_factory=set)

    def passes(self, call: str, when: str) -> None:
        if when == self.when and call not in self.killed:
            self.killed.add(call)
            raise WorkerKilledError(f"{when} {call}")


@dataclass
class Calls:
    """Every call to the outside, in order; hooks run before the next call of that name."""

    names: list[str] = field(default_factory=list)
    kill: Kill = field(default_factory=Kill)
    hooks: dict[str, Callable[[], object]] = field(default_factory=dict)

    def passes(self, name: str, when: str, arguments: tuple[Any, ...]) -> None:
        if when == "before":
            self.names.append(name)
            hook = self.hooks.pop(name, None)
            if hook is not None:
                hook()
        if name in WRITES:
            self.kill.passes(f"{name} {arguments}", when)


class Tap:
    """Stands before a port and passes every call through `Calls`."""

    def __init__(self, name: str, port: Any, calls: Calls) -> None:
        self._name, self._port, self._calls = name, port, calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls.passes(f"{self._name}.{name}", "before", args)
            result = found(*args, **kwargs)
            self._calls.passes(f"{self._name}.{name}", "after", args)
            return result

        return call


class MemoryWorld:
    """An endpoint `triage` whose version 1 serves; versions 2 to 4 are registered.

    rate      users' requests a second
    lost      requests that ended in an error for the user while the router was up
    refused   requests that an engine refused, by version
    left      requests whose users gave up, by version
    messages  what a user asks
    patience  how many seconds a user waits for the first token and for the whole answer; None: as long as it takes
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: int = 7,
        rate: int = 60,
        gates: tuple[Mapping[str, Any], ...] = ALL_GATES,
        ready_after: float = 2.0,
    ) -> None:
        self.clock = ManualClock(START)
        self.rng = random.Random(seed)
        self.rate = rate
        self.lost = 0
        self.refused: dict[int, int] = {}
        self.left: dict[int, int] = {}
        self.served: dict[str, int] = {}
        self.users = random.Random(seed + 1)  # their own, so that how they are changes nothing else
        self.messages: Callable[[random.Random], Messages] = lambda users: TICKET
        self.patience: Callable[[random.Random], float | None] = lambda users: None
        self.workers = 0
        self.on_answer: Callable[[MemoryResponse], None] | None = None
        self.calls = Calls()
        self.router = MemoryRouter(self.clock, self.rng)
        self.secrets_dir = folder / "secrets"
        self.cluster = MemoryCluster(
            self.clock,
            ready_after=ready_after,
            verify=self._compare_files,
            secrets=SecretStore(self.secrets_dir, key_ring),
        )
        self.signals = MemorySignals(self.router)
        self.store = MemoryModelStore(start=START.timestamp() - 1000)
        tap = self.calls
        self.world = World(
            name="here",
            cluster=Tap("cluster", self.cluster, tap),
            router=Tap("router", self.router, tap),
            signals=Tap("signals", self.signals, tap),
            request_log=Tap("log", MemoryRequestLog(self.router), tap),
            prober=Tap("prober", MemoryProber(self.router), tap),
            store=Tap("store", self.store, tap),
            models_dir=folder / "models",
            clock=self.clock,
            edges=EDGES,
            endpoint_url=lambda name: f"http://here/{name}",
            interval_seconds=2.0,
            feedback_seconds=4.0,
            probe_pairs=10,
        )
        self.glances = Glances()
        self.manager = Actor.person(
            ensure_user(username="mara", role=Role.RELEASE_MANAGER, password="x" * 20)
        )
        self.engineer = Actor.person(ensure_user(username="eli", role=Role.ENGINEER, password="x" * 20))
        self._register()
        self.endpoint_id = self._make_endpoint(gates)

    # --- before the story -------------------------------------------------------------------------

    def _register(self) -> None:
        self.store.add_model("triage")
        for number in range(1, 5):
            self.store.add_version(
                "triage", {"config.json": b"{}", "model.safetensors": safetensors(b"weights %d" % number)}
            )
        mirror_models(store=self.store, clock=self.clock)
        for version in Version.objects.all():
            register_manifest(
                version_id=version.pk, store=self.store, models_dir=self.world.models_dir, now=self.now
            )

    def _make_endpoint(self, gates: tuple[Mapping[str, Any], ...]) -> int:
        examples = "\n".join(
            json.dumps(
                {
                    "messages": [{"role": "user", "content": f"ticket {i}"}],
                    "expected": f"answer {i}",
                    "scorer": "exact",
                    "max_tokens": 8,
                }
            )
            for i in range(GOLDEN)
        )
        golden, _ = upload_golden_set(name="tickets", text=examples, actor=self.manager, now=self.now)
        total = sum(gate["weight"] for gate in gates)
        body = {"gates": [{**gate, "weight": gate["weight"] / total} for gate in gates]}
        model = Model.objects.get(name="triage")
        endpoint = create_endpoint(
            name="triage",
            model=model,
            version=model.versions.get(number=1),
            serving=ServingSpec(),
            gate_policy=define_gate_policy(actor=HEADGATE, name="default", body=body, now=self.now),
            golden_set=golden,
            cluster=ensure_cluster(name="here"),
            worlds=self.worlds,
            actor=self.manager,
            now=self.now,
        )
        return endpoint.pk

    # --- what there is ----------------------------------------------------------------------------

    @property
    def worlds(self) -> Worlds:
        return worlds_of(self.world)

    @property
    def now(self) -> datetime:
        return self.clock.now()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.objects.select_related("stable__version", "previous", "model", "gate_policy").get(
            pk=self.endpoint_id
        )

    @property
    def rollout(self) -> Rollout:
        """The newest rollout, read anew."""
        return (
            Rollout.objects.select_related(
                "baseline__version", "candidate__version", "endpoint", "gate_policy"
            )
            .order_by("-pk")[:1]
            .get()
        )

    def variant(self, number: int) -> Variant:
        return Variant.objects.get(endpoint=self.endpoint_id, version__number=number)

    def workload(self, number: int) -> Workload:
        return Workload.objects.get(variant__endpoint=self.endpoint_id, variant__version__number=number)

    def engine(self, number: int) -> MemoryEngine:
        return self.router.engine(self.variant(number).name)

    def shares(self) -> dict[int, int]:
        """What the router does now: version number -> basis points."""
        route = self.router.routes["triage"]
        by_name = dict(Variant.objects.values_list("name", "version__number"))
        return {by_name[name]: share for name, share in route.shares.items() if share}

    def history(self) -> list[str]:
        rows = HistoryEvent.objects.filter(rollout=self.rollout).order_by("pk")
        return [row.kind for row in rows]

    def titles(self) -> list[str]:
        return [row.title for row in HistoryEvent.objects.filter(rollout=self.rollout).order_by("pk")]

    def arm(self, number: int) -> Arm:
        """The newest rollout's arm that runs this version, read anew."""
        return Arm.objects.get(rollout=self.rollout, variant__version__number=number)

    def _compare_files(self, source: str, manifest: Manifest) -> None:
        verify_folder(folder_of(self.world.models_dir, manifest), manifest)

    def files_of(self, number: int) -> Path:
        manifest = Version.objects.get(number=number).manifest_value
        assert manifest is not None
        return folder_of(self.world.models_dir, manifest)

    # --- behaviour --------------------------------------------------------------------------------

    def behave(self, number: int, *, accuracy: float = 0.7, **engine: Any) -> None:
        """How version `number` answers: `accuracy` of the golden prompts right, the rest as MemoryEngine says."""
        found = self.engine(number)
        found.answer = lambda messages: _answer(messages, accuracy)
        for name, value in engine.items():
            setattr(found, name, value)

    def users_rate(self, down: Mapping[int, float], *, seed: int = 11) -> None:
        """Users rate answers down, by version so many of them; the others are content and say nothing."""
        draws = random.Random(seed)
        by_name: dict[str, float] = {}

        def rate(response: MemoryResponse) -> None:
            if not response.answered or not 200 <= response.status < 300:
                return
            if response.answered not in by_name:
                by_name[response.answered] = down.get(version_of(response.answered), 0.0)
            if draws.random() < by_name[response.answered]:
                record_feedback(
                    actor=HEADGATE,
                    endpoint_name="triage",
                    request_id=response.request_id,
                    variant=response.answered,
                    up=False,
                    now=self.now,
                )

        self.on_answer = rate

    def users_send_system_messages(self, share: float) -> None:
        """So many of the requests hold a system message, which not every engine's template knows."""
        self.messages = lambda users: (SYSTEM, *TICKET) if users.random() < share else TICKET

    def users_give_up_after(self, seconds: float) -> None:
        """Clients have a time-out, for the first token and for the whole answer."""
        self.patience = lambda users: seconds

    # --- time -------------------------------------------------------------------------------------

    def tick(self, seconds: float = 1.0, *, probe: bool = True) -> None:
        """Users ask, time passes, the loop takes a turn, probes are asked."""
        self.clock.advance(seconds)
        self.sync_engines()
        self.use(seconds)
        self.reconcile()
        self.write_back()
        newest = Rollout.objects.order_by("-pk").values_list("pk", flat=True).first()
        if newest is not None and probe:
            probe_rollout(rollout_id=newest, world=self.world)

    def reconcile(self) -> bool:
        """One tick of a worker of its own: a turn where there is a reason for one (`reconcile_now` asks for none). A
        killed one keeps its lease, as a killed process would."""
        glance(glances=self.glances, worlds=self.worlds, now=self.now)
        if self.endpoint_id not in {one.endpoint_id for one in due_endpoints(now=self.now)}:
            return False
        return self.reconcile_now()

    def claim(self, owner: str, *, at: datetime | None = None) -> Lease | None:
        """The endpoint's lease; None while another worker holds it."""
        found = claim_endpoints(endpoint_ids=(self.endpoint_id,), owner=owner, now=at or self.now)
        return found[0] if found else None

    def reconcile_now(self) -> bool:
        """A turn, as a wake-up after a click takes it; what waits for an errand of other workers has it done at once,
        and a turn more."""
        took = self.turn()
        for _ in range(2):
            if not self.run_errands():
                break
            self.turn()
        return took

    def run_errands(self) -> bool:
        """Files that launches wait for are fetched, candidates are asked whether they answer themselves. True when
        something came of it. A worker that is killed in it leaves the version claimed, and that runs out."""
        done = self.run_files()
        for rollout_id in Rollout.objects.filter(phase="provisioning").values_list("pk", flat=True):
            done += prove_candidates(rollout_id=rollout_id, world=self.world)
        return done > 0

    def run_files(self) -> int:
        """How many versions were fetched for launches."""
        done = 0
        with suppress(WorkerKilledError):
            for version_id in versions_to_fetch(now=self.now):
                done += fetch_files(version_id=version_id, worlds=self.worlds).done
        return done

    def turn(self) -> bool:
        """One turn of the loop by a worker of its own."""
        self.workers += 1
        owner = f"worker-{self.workers}"
        try:
            return reconcile_endpoint(endpoint_id=self.endpoint_id, world=self.world, owner=owner)
        except WorkerKilledError:
            Endpoint.objects.filter(pk=self.endpoint_id).update(
                lease_owner=owner, lease_until=self.now + timedelta(seconds=60)
            )
            return False

    def write_back(self) -> None:
        """The pass that keeps the model store true, in a worker of its own: one that is killed leaves nothing held."""
        with suppress(WorkerKilledError):
            keep_mlflow_true(store=self.world.store, clock=self.clock)

    def sync_engines(self) -> None:
        """An engine answers the router exactly while its process runs."""
        if self.cluster.outage:
            return
        alive = {WorkloadPhase.READY, WorkloadPhase.DRAINING}
        statuses = self.cluster.statuses()
        for name in Variant.objects.filter(endpoint=self.endpoint_id).values_list("name", flat=True):
            status = statuses.get(name)
            self.router.engine(name).alive = status is not None and status.phase in alive

    def use(self, seconds: float = 1.0) -> None:
        """What the users ask in so many seconds."""
        if self.router.down or "triage" not in self.router.routes:
            return
        for _ in range(round(self.rate * seconds)):
            response = self.router.send(
                "triage", messages=self.messages(self.users), patience_seconds=self.patience(self.users)
            )
            if response.status >= 500 or response.broken:
                self.lost += 1
            elif response.left:
                self._count(self.left, response)
            elif response.status >= 300:
                self._count(self.refused, response)
            self.served[response.answered] = self.served.get(response.answered, 0) + 1
            if self.on_answer is not None:
                self.on_answer(response)

    def _count(self, counts: dict[int, int], response: MemoryResponse) -> None:
        number = version_of(response.assigned)
        counts[number] = counts.get(number, 0) + 1

    def run(self, until: Callable[[], bool], *, limit: int = 150, seconds: float = 1.0) -> None:
        """Ticks until the condition holds; fails, telling where the story stands, when it never does."""
        for _ in range(limit):
            self.tick(seconds)
            if until():
                return
        found = self.rollout if Rollout.objects.exists() else None
        told = (
            f"{found.phase}: {found.reason} / {found.next_step}"
            if found
            else str(self.endpoint.desired_shares)
        )
        raise AssertionError(f"It never came to that in {limit} ticks. {told}")

    def run_to(self, *phases: str, limit: int = 150) -> Rollout:
        """Ticks until the newest rollout is in one of the phases."""
        self.run(lambda: self.rollout.phase in phases, limit=limit)
        return self.rollout

    def run_for(self, seconds: int) -> None:
        for _ in range(seconds):
            self.tick()

    # --- what people do ---------------------------------------------------------------------------

    def serve(self, *, limit: int = 10) -> MemoryWorld:
        """Version 1 is launched and has all traffic, within so many seconds."""
        self.run(lambda: "triage" in self.router.routes, limit=limit)
        self.behave(1)
        self.run_for(1)
        return self

    def start(
        self, number: int = 2, *, others: tuple[int, ...] = (), plan: Plan = PLAN, **options: Any
    ) -> Rollout:
        return start_rollout(
            endpoint=self.endpoint,
            version_number=number,
            other_versions=others,
            plan=plan,
            actor=self.engineer,
            worlds=self.worlds,
            now=self.now,
            **options,
        )

    def pause(self, **options: Any) -> Rollout:
        return pause_rollout(rollout_id=self.rollout.pk, actor=self.engineer, now=self.now, **options)

    def resume(self, **options: Any) -> Rollout:
        return resume_rollout(rollout_id=self.rollout.pk, actor=self.engineer, now=self.now, **options)

    def promote(self, **options: Any) -> Rollout:
        return promote_rollout(rollout_id=self.rollout.pk, actor=self.manager, now=self.now, **options)

    def roll_back(self, **options: Any) -> Rollout:
        return roll_back_rollout(rollout_id=self.rollout.pk, actor=self.engineer, now=self.now, **options)

    def set_weights_by_hand(self, weights: Mapping[int, int]) -> None:
        """Somebody changes the router's own state, past Headgate."""
        route = self.router.routes["triage"]
        shares = {self.variant(number).name: share for number, share in weights.items()}
        self.router.routes["triage"] = replace(route, shares=shares)


def version_of(variant: str) -> int:
    """The version's number out of a variant's name."""
    return int(variant.split("-v")[1].split("-")[0])


def _answer(messages: Messages, accuracy: float) -> str:
    """Right for a fixed part of the prompts, as a model at temperature 0 is."""
    text = messages[-1]["content"] if messages else ""
    draw = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return text.replace("ticket", "answer") if draw < accuracy else "no idea"


def tell_with_kills(tell: Callable[[Path, Kill], object], folder: Path) -> dict[str, object]:
    """How a story ends: undisturbed (""), and with kill -9 "before" and "after" every different call that writes.

    Each is told in a transaction of its own that is rolled back, so that all begin alike.
    """
    ends: dict[str, object] = {}
    for when in ("", "before", "after"):
        with taken_back():
            ends[when] = tell(folder / when, Kill(when))
    return ends
