"""A Headgate whose one cluster is the lab, wired as an installation is: with a kubeconfig of the least role, the
Gateway API and a Prometheus."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import yaml
from django.conf import settings

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.timekeeping.database_clock import CLOCK
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import Model, Version
from registry.services.golden import upload_golden_set
from registry.services.manifests import register_manifest
from registry.services.mirror import mirror_models
from registry.wiring import models_dir
from rollouts import wiring
from rollouts.adapters.clusters.kubernetes.client import DEPLOYMENTS, POD, KubernetesClient
from rollouts.adapters.clusters.kubernetes.connection import api_client
from rollouts.adapters.routers.gateway_api.kubernetes import ROUTES
from rollouts.domain.variants import ServingSpec
from rollouts.models import Cluster, Effect, Rollout
from rollouts.services.commands.clusters import set_cluster
from rollouts.services.commands.endpoints import create_endpoint
from rollouts.services.loop.glances import Glances
from rollouts.services.loop.reconcile import reconcile_endpoints
from rollouts.services.policies.versions import define_gate_policy
from rollouts.services.world import World, Worlds
from tests import factories
from tests.factories.weights import safetensors
from tests.kubernetes.edge import open_metrics
from tests.kubernetes.gateway import GATEWAY, NAMESPACE
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.scraping import write_targets
from tests.kubernetes.whole_answers import hold_back_done
from tests.kubernetes.workloads import PROFILE, ROLE, bindings, put
from tests.rollouts.probing import probe_rollouts
from tests.standins.prometheus import SCRAPE_SECONDS, RunningPrometheus, running_prometheus
from tests.standins.running import wait_until

PATIENCE_SECONDS = 240.0  # a busy machine is slow
ENDPOINT = "triage"
INSTALLATION = "tests"
GATES = [
    {"key": "errors", "kind": "error_rate", "delta": 0.05, "weight": 0.4},
    {"key": "quality", "kind": "paired", "margin": 0.2, "weight": 0.4},
    # Its PASS takes longer than these rollouts: nobody waits for it.
    {"key": "left", "kind": "abandoned", "delta": 0.05, "weight": 0.2, "required": False},
]
GOLDEN = "".join(
    f'{{"messages": [{{"role": "user", "content": "{word}"}}], "expected": "yes", "scorer": "exact"}}\n'
    for word in (
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    )
)


@dataclass
class Users:
    """Users of the endpoint, every second of whom streams. What each saw is counted."""

    url: str
    host: str
    answered: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, client: httpx.Client, number: int) -> str:
        """Who answered one request. Raises for one that was lost."""
        stream = number % 2 == 0
        body = {"model": ENDPOINT, "messages": [{"role": "user", "content": "hello"}], "stream": stream}
        answer = client.post(f"{self.url}/v1/chat/completions", json=body, headers={"Host": self.host})
        if answer.status_code != 200 or (stream and "[DONE]" not in answer.text):
            raise AssertionError(f"{answer.status_code} {answer.text[-200:]}")
        return answer.headers["x-headgate-variant"]

    @contextmanager
    def coming(self, per_second: float, threads: int = 8) -> Iterator[None]:
        """So many requests a second for the time of a with block, or as many as this machine can send."""
        self._stop.clear()
        with ThreadPoolExecutor(threads) as pool:
            asking = [pool.submit(self._go_on, per_second / threads) for _ in range(threads)]
            try:
                yield
            finally:
                self._stop.set()
            for one in asking:
                one.result()

    def seen(self) -> Counter[str]:
        with self._lock:
            return Counter(self.answered)

    def _go_on(self, per_second: float) -> None:
        with httpx.Client(trust_env=False, timeout=60) as client:
            number, begun = 0, time.monotonic()
            while not self._stop.is_set():
                time.sleep(max(0.0, begun + number / per_second - time.monotonic()))
                try:
                    who = self.ask(client, number)
                    with self._lock:
                        self.answered[who] += 1
                except (httpx.HTTPError, AssertionError) as error:
                    with self._lock:
                        self.lost.append(f"{type(error).__name__}: {error}")
                number += 1


@dataclass
class Town:
    """The endpoint, the loop over it, and an administrator's hands."""

    lab: KubernetesLab
    namespace: str
    admin: KubernetesClient
    worlds: Worlds
    manager: Actor
    users: Users
    prometheus: RunningPrometheus
    scraped: Path  # what it reads of the pods that there are
    glances: Glances = field(default_factory=Glances)
    blind: bool = False  # while the API server is away, nobody finds pods
    also: Callable[[], object] = lambda: None  # what else happens in a tick

    @property
    def world(self) -> World:
        return self.worlds.of("lab")

    def turn(self) -> None:
        """What all workers do in a tick."""
        if not self.blind:
            self.find_pods()
        self.also()
        reconcile_endpoints(worlds=self.worlds, clock=CLOCK, threads=1, glances=self.glances)
        probe_rollouts(self.worlds)

    def find_pods(self) -> None:
        """Tells Prometheus which pods there are, as its discovery does on a cluster: Debian's is built without that."""
        write_targets(self.scraped, self.admin, self.namespace)

    def until(self, what: str, holds: Callable[[], object]) -> None:
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

    def serves(self) -> bool:
        try:
            with httpx.Client(trust_env=False, timeout=10) as client:
                return bool(self.users.ask(client, 0))
        except (httpx.HTTPError, AssertionError):
            return False

    def change(self, variant: str, **behaviour: Any) -> None:
        """Changes how the variant's engines behave (see `tests.standins.engine.Behaviour`)."""
        for pod in self.admin.list(POD, f"headgate.dev/variant={variant}")[0]:
            where = f"http://{pod['status']['podIP']}:8000/control"
            httpx.post(where, json=behaviour, trust_env=False).raise_for_status()

    def weights(self) -> Mapping[str, int]:
        """The split as the API server has it."""
        document = self.admin.get(ROUTES, ENDPOINT)
        assert document is not None
        split = next(rule for rule in document["spec"]["rules"] if "headers" not in rule["matches"][0])
        return {one["name"]: one["weight"] for one in split["backendRefs"]}


@contextmanager
def town_in(
    lab: KubernetesLab,
    namespace: str,
    folder: Path,
    patch: Any,
    *,
    whole_answers: bool = True,
    server: Mapping[str, Any] | None = None,
) -> Iterator[Town]:
    """A town in a namespace of its own, with three versions of a model of which the first one serves.

    whole_answers   whether its gateway tells who left from who had it all
    server          a Deployment of somebody else that runs already and is adopted as the first one; None: the first one
                    is launched
    """
    gateways = {open_metrics(lab): {"namespace": NAMESPACE, "pod": "edge-0"}}
    jobs: dict[str, dict[str, dict[str, str]]] = {"gateways": gateways, "kubelet": {"/containers": {}}}
    prometheus_folder = folder / "prometheus"
    prometheus_folder.mkdir()
    pods = prometheus_folder / "pods.json"
    pods.write_text("[]")
    found = {"job_name": "engines", "file_sd_configs": [{"files": [str(pods)]}]}
    with running_prometheus(prometheus_folder, jobs, [found]) as (prometheus, exporter):
        exporter.pages["/containers"] = (
            f'container_start_time_seconds{{container="envoy",namespace="{NAMESPACE}",pod="edge-0"}} 1000\n'
        )
        secrets = folder / "secrets"
        (secrets / "clusters").mkdir(parents=True, mode=0o700)
        secrets.chmod(0o700)
        for body in (*yaml.safe_load_all(ROLE.read_text()), *bindings(namespace)):
            put(lab, body)
        if whole_answers:
            hold_back_done(lab, routes=namespace, installation=INSTALLATION)
        kubeconfig = secrets / "clusters" / "lab"
        kubeconfig.write_text(lab.kubeconfig_of(f"headgate-{namespace}").read_text())
        kubeconfig.chmod(0o600)
        patch.setattr(settings, "HEADGATE", replace(settings.HEADGATE, secrets_dir=str(secrets)))
        configuration = {
            "installation": INSTALLATION,
            "profile": {**PROFILE, "namespace": namespace, "gateway_namespaces": [NAMESPACE]},
            "gateways": [f"{NAMESPACE}/{GATEWAY}"],
            "gateway_url": f"http://{namespace}.test",
            "gateway_address": lab.gateway_url,
            "prometheus": prometheus.url,
            "scrape_seconds": 2,
        }
        assert SCRAPE_SECONDS < 2
        hands = KubernetesClient(lambda: api_client(lab.kubeconfig.read_text(), folder / "admin"), namespace)
        serving = ServingSpec(adopts=_running(lab, hands, server) if server else "")
        town = _furnished(lab, namespace, hands, serving, configuration, prometheus, pods)
        try:
            town.until("the endpoint serves", town.serves)
            yield town
        finally:
            town.world.cluster.close()  # type: ignore[attr-defined]
            namespaces = lab.client().resources.get(api_version="v1", kind="Namespace")
            namespaces.delete(name=namespace)  # and with it all that runs


def _running(lab: KubernetesLab, hands: KubernetesClient, server: Mapping[str, Any]) -> str:
    """Starts somebody else's server; its name once all its pods answer."""
    name, namespace = str(server["metadata"]["name"]), hands.namespace
    put(lab, {**server, "metadata": {**server["metadata"], "namespace": namespace}})

    def ready() -> bool:
        found = hands.get(DEPLOYMENTS, name)
        return found is not None and found["status"].get("readyReplicas") == server["spec"]["replicas"]

    wait_until("somebody's server answers", ready, PATIENCE_SECONDS)
    return name


def _furnished(
    lab: KubernetesLab,
    namespace: str,
    hands: KubernetesClient,
    serving: ServingSpec,
    configuration: dict[str, Any],
    prometheus: RunningPrometheus,
    scraped: Path,
) -> Town:
    """Writes everything down as people do."""
    now = factories.right_now()
    admin = Actor.person(factories.person(Role.ADMINISTRATOR))
    store = MemoryModelStore()
    store.add_model(ENDPOINT)
    for number in (1, 2, 3):
        files = {"config.json": b"{}", "model.safetensors": safetensors(b"weights %d" % number)}
        store.add_version(ENDPOINT, files, source=f"s3://models/{ENDPOINT}/{number}")
    mirror_models(store=store, clock=CLOCK)
    for version in Version.objects.all():
        register_manifest(version_id=version.pk, store=store, models_dir=models_dir(), now=now)
    set_cluster(
        name="lab", kind="kubernetes", configuration=configuration, secret="lab",
        problems=wiring.cluster_problems, actor=admin, now=now,
    )  # fmt: skip
    wired = wiring.worlds()

    def build(name: str) -> World:
        return replace(wired.of(name), store=store, interval_seconds=2.0)

    worlds = Worlds(wired.names, build, CLOCK)
    golden, _ = upload_golden_set(name="tickets", text=GOLDEN, actor=admin, now=now)
    policy = define_gate_policy(actor=admin, name="gates", body={"alpha": 0.05, "gates": GATES}, now=now)
    model = Model.objects.get(name=ENDPOINT)
    create_endpoint(
        name=ENDPOINT, model=model, version=model.versions.get(number=1), serving=serving,
        gate_policy=policy, golden_set=golden, cluster=Cluster.objects.get(name="lab"), worlds=worlds, actor=admin,
        now=now,
    )  # fmt: skip
    return Town(
        lab,
        namespace,
        hands,
        worlds,
        admin,
        Users(lab.gateway_url, f"{ENDPOINT}.{namespace}.test"),
        prometheus,
        scraped,
    )
