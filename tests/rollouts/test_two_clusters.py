"""Two clusters of the kind `local` on one machine, side by side: real supervisords, engines and Envoys, the real loop.

A rollout goes on at each of them at the same time. The one candidate is good and the other is not, so that anything
that one cluster had of the other would show.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import call_command

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.timekeeping.database_clock import CLOCK
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import Model, Version
from registry.services.manifests import register_manifest
from registry.services.mirror import mirror_models
from registry.wiring import models_dir
from rollouts import wiring
from rollouts.adapters.clusters.launcher import STACK_MARK
from rollouts.adapters.clusters.machine import end_processes, processes_marked
from rollouts.domain.lifecycle.plan import canary
from rollouts.domain.variants import ServingSpec
from rollouts.models import Cluster, Effect, Endpoint, Rollout
from rollouts.services.commands.clusters import set_cluster
from rollouts.services.commands.endpoints import create_endpoint
from rollouts.services.commands.start import start_rollout
from rollouts.services.errands.fetching import fetch_files, versions_to_fetch
from rollouts.services.loop.glances import Glances
from rollouts.services.loop.reconcile import reconcile_endpoints
from rollouts.services.policies.versions import define_gate_policy
from rollouts.services.world import World, Worlds
from tests import factories
from tests.factories.weights import safetensors
from tests.rollouts.adapters.addresses import port_of, url_of
from tests.rollouts.adapters.clusters.machine_room import ROOT, STANDINS
from tests.rollouts.probing import probe_rollouts
from tests.standins.running import free_port, wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("envoy"),
]

PLAN = replace(canary((50,), hold_seconds=3, min_requests=20, watch_seconds=60), launch_seconds=60)
GATES = [{"key": "errors", "label": "Error rate", "kind": "error_rate", "delta": 0.3, "weight": 1.0}]
PATIENCE_SECONDS = 120.0


class Place:
    """Where one cluster is: a run folder of its own, which a supervisord watches that runs an Envoy."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.run_dir = Path(tempfile.mkdtemp(prefix="hg-", dir="/tmp"))  # a socket's path is short
        self.first_port = 20_000 + os.getpid() % 500 * 20 + 10 * number
        self.gateway_port = free_port()
        self.users = httpx.Client(base_url=f"http://127.0.0.1:{self.gateway_port}", trust_env=False)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """As an operator does; the place is written down as a cluster already."""
        (self.run_dir / "engines.json").write_text(json.dumps({"standin": STANDINS}))
        said = io.StringIO()
        call_command("prepare_cluster", self.name, stdout=said)
        command = shlex.split(said.getvalue().partition(": ")[2])
        self.process = subprocess.Popen(
            [*command, "-n"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until("Envoy answers", self._answers, 60)

    def _answers(self) -> bool:
        try:
            return self.users.get("/").status_code == 404
        except httpx.TransportError:
            return False

    @property
    def configuration(self) -> dict[str, Any]:
        return {
            "run_dir": str(self.run_dir),
            "gateway_port": self.gateway_port,
            "engine_ports": f"{self.first_port}-{self.first_port + 9}",
            "engine_memory_mb": 50,
        }

    def ask(self) -> httpx.Response:
        """One request of a user of the endpoint, which is named like the place."""
        body = {"messages": [{"role": "user", "content": "hello"}]}
        return self.users.post(f"/{self.name}/v1/chat/completions", json=body)

    def close(self) -> None:
        self.users.close()
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        end_processes(processes_marked(STACK_MARK, str(self.run_dir)), grace_seconds=0)
        shutil.rmtree(self.run_dir)


@dataclass
class Machine:
    """Both places, with an endpoint and the loop over them."""

    places: tuple[Place, ...]
    worlds: Worlds
    manager: Actor
    glances: Glances

    def turn(self) -> None:
        """What all workers do in a tick."""
        reconcile_endpoints(worlds=self.worlds, clock=CLOCK, threads=1, glances=self.glances)
        for version_id in versions_to_fetch(now=CLOCK.now()):
            fetch_files(version_id=version_id, worlds=self.worlds)
        probe_rollouts(self.worlds)

    def until(self, what: str, holds: Any) -> None:
        """Lets the loop go on until it holds."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < ends, (
                f"not within {PATIENCE_SECONDS} s: {what};"
                f" {list(Rollout.objects.values_list('endpoint__name', 'phase', 'reason'))}"
                f" {list(Effect.objects.values_list('kind', 'state', 'problem'))}"
            )
            self.turn()
            time.sleep(0.2)


@pytest.fixture
def machine() -> Iterator[Machine]:
    places: list[Place] = []
    try:
        places += [Place(name, number) for number, name in enumerate(("berlin", "paris"))]
        yield furnish(tuple(places))
    finally:
        for place in places:
            place.close()


def furnish(places: tuple[Place, ...]) -> Machine:
    """Writes the clusters down as people do, with a model of three versions and an endpoint on each."""
    now = factories.right_now()
    admin = Actor.person(factories.person(Role.ADMINISTRATOR))
    store = MemoryModelStore()
    store.add_model("triage")
    for number in (1, 2):
        store.add_version(
            "triage", {"config.json": b"{}", "model.safetensors": safetensors(b"weights %d" % number)}
        )
    mirror_models(store=store, clock=CLOCK)
    for version in Version.objects.all():
        register_manifest(version_id=version.pk, store=store, models_dir=models_dir(), now=now)
    for place in places:
        set_cluster(
            name=place.name, kind="local", configuration=place.configuration, secret="",
            problems=wiring.cluster_problems, actor=admin, now=now,
        )  # fmt: skip
        place.start()
    wired = wiring.worlds()

    def build(name: str) -> World:
        return replace(wired.of(name), store=store, interval_seconds=1.0)

    worlds = Worlds(wired.names, build, CLOCK)
    policy = define_gate_policy(actor=admin, name="errors", body={"gates": GATES}, now=now)
    model = Model.objects.get(name="triage")
    for place in places:
        create_endpoint(
            name=place.name, model=model, version=model.versions.get(number=1),
            serving=ServingSpec(engine="standin"), gate_policy=policy, golden_set=None,
            cluster=Cluster.objects.get(name=place.name), worlds=worlds, actor=admin, now=now,
        )  # fmt: skip
    return Machine(places, worlds, admin, Glances())


def test_two_clusters__a_rollout_on_each_at_once__each_has_its_own_engines_route_and_verdict(
    machine: Machine,
) -> None:
    berlin, paris = machine.places
    machine.until(
        "both endpoints serve", lambda: all(place.ask().status_code == 200 for place in machine.places)
    )
    for place in machine.places:
        start_rollout(
            endpoint=Endpoint.objects.get(name=place.name), version_number=2, plan=PLAN,
            worlds=machine.worlds, actor=machine.manager, now=CLOCK.now(),
        )  # fmt: skip
    bad = Rollout.objects.get(endpoint__name="paris").candidate.name

    machine.until(
        "both candidates have traffic",
        lambda: set(Rollout.objects.values_list("phase", flat=True)) == {"progressing"},
    )
    status = machine.worlds.of("paris").cluster.statuses()[bad]
    with httpx.Client(trust_env=False) as client:
        client.post(f"{url_of(status)}/control", json={"error_rate": 1.0})
    stop = threading.Event()
    users = [threading.Thread(target=use, args=(place, stop)) for place in machine.places]
    for one in users:
        one.start()
    try:
        machine.until(
            "both rollouts are decided",
            lambda: set(Rollout.objects.values_list("phase", flat=True)) == {"succeeded", "rolled-back"},
        )
    finally:
        stop.set()
        for one in users:
            one.join()

    phases = dict(Rollout.objects.values_list("endpoint__name", "phase"))
    assert phases == {"berlin": "succeeded", "paris": "rolled-back"}
    for place in machine.places:
        world = machine.worlds.of(place.name)
        assert {name.split("-")[0] for name in world.cluster.statuses()} == {place.name}
        assert set(world.router.observe_all()) == {place.name}
        assert world.endpoint_url("x") == f"http://127.0.0.1:{place.gateway_port}/x"
        here = Endpoint.objects.get(name=place.name)
        ports = {port_of(status) for status in world.cluster.statuses().values()}
        assert ports <= set(range(place.first_port, place.first_port + 10))
        assert here.stable is not None
        assert place.ask().headers["x-headgate-variant"] == here.stable.name
    stable = dict(Endpoint.objects.values_list("name", "stable__version__number"))
    assert stable == {"berlin": 2, "paris": 1}
    assert berlin.users.post("/paris/v1/chat/completions", json={}).status_code == 404
    assert paris.users.post("/berlin/v1/chat/completions", json={}).status_code == 404


def use(place: Place, stop: threading.Event) -> None:
    """A user who asks one request after the other."""
    while not stop.is_set():
        place.ask()
        time.sleep(0.01)
