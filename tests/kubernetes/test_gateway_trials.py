"""A trial of the real Envoy Gateway on the real control plane, with the least role: what it finds, and what it leaves.

The gateway's words are believed nowhere: the backends of the trial are pods of their own, and tell what reached them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.kernel.clock import ManualClock, SystemClock
from controlplane.kernel.errors import Unavailable
from controlplane.outbound.clients import local_client
from controlplane.timekeeping.database_clock import CLOCK
from rollouts import wiring
from rollouts.adapters.clusters.kubernetes.client import (
    CONFIG_MAP,
    DEPLOYMENTS,
    GATEWAY,
    OBJECT_KINDS,
    POD,
    SERVICE,
    KubernetesClient,
)
from rollouts.adapters.clusters.kubernetes.connection import api_client
from rollouts.adapters.clusters.kubernetes.profile_reading import read_profile
from rollouts.adapters.routers.gateway_api.implementations import IMPLEMENTATIONS
from rollouts.adapters.routers.gateway_api.kubernetes import KubernetesRoutes
from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace
from rollouts.adapters.routers.gateway_api.trial.objects import trial_owner
from rollouts.adapters.routers.gateway_api.trial.runner import LEFT_SECONDS, KubernetesTrials
from rollouts.adapters.routers.gateway_api.user import GatewayUser
from rollouts.domain.trials import TRIED, KnownBy
from rollouts.services.commands.clusters import one_cluster, set_cluster
from rollouts.services.errands.gateway_trials import claim_gateways, look_at_gateway
from tests import factories
from tests.kubernetes.gateway import CONTROLLER, NAMESPACE
from tests.kubernetes.gateway import GATEWAY as EDGE
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.workloads import PROFILE, WorkloadBench
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]

PATIENCE_SECONDS = 120.0
INSTALLATION = "8d1f2c"
PLACE_OF = "gateway-trials"
KINDS = (CONFIG_MAP, DEPLOYMENTS, SERVICE, POD, OBJECT_KINDS["NetworkPolicy"], OBJECT_KINDS["HTTPRoute"])


class TrialBench:
    """A Headgate's trials in a namespace that takes restricted pods only."""

    def __init__(self, lab: KubernetesLab, folder: Path) -> None:
        self.work = WorkloadBench(lab, folder, PLACE_OF)
        self.lab = lab
        self.drawn = 0

    def trials(self, *, clock: Any = None, **profile: Any) -> KubernetesTrials:
        read, problems = read_profile(
            {**PROFILE, "namespace": PLACE_OF, "gateway_namespaces": [NAMESPACE], **profile}
        )
        assert problems == ()
        assert read is not None
        # Connections of its own: a process that was forked must not write into its parent's.
        folder = self.work.folder / "user"
        client = KubernetesClient(lambda: api_client(self.work.user.read_text(), folder), PLACE_OF)
        user = local_client(base_url=self.lab.gateway_url, headers={"Connection": "close"})
        return KubernetesTrials(
            client,
            KubernetesRoutes(client, trial_owner(INSTALLATION)),
            GatewayPlace(PLACE_OF, (GatewayParent(EDGE, NAMESPACE),), f"{PLACE_OF}.test", INSTALLATION),
            read,
            IMPLEMENTATIONS["Envoy Gateway"],
            clock or SystemClock(),
            gateway_of=self.gateway_of,
            user=GatewayUser(user, seconds=10.0),
            draw=self.draw,
        )

    def gateway_of(self, parent: GatewayParent) -> Any:
        """Read with the role that the project documents."""
        folder = self.work.folder / "user"
        client = KubernetesClient(lambda: api_client(self.work.user.read_text(), folder), parent.namespace)
        return client.get(GATEWAY, parent.name)

    def draw(self) -> str:
        self.drawn += 1
        return f"{os.getpid():x}{self.drawn:x}"

    def left(self) -> list[str]:
        """Everything of a trial that is there."""
        return sorted(
            f"{kind.name} {one['metadata']['name']}"
            for kind in KINDS
            for one in self.work.admin.list(kind)[0]
            if "trial" in one["metadata"]["name"] or "probe" in one["metadata"]["name"]
        )


@pytest.fixture(scope="module")
def bench(kubernetes_lab: KubernetesLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialBench]:
    bench = TrialBench(kubernetes_lab, tmp_path_factory.mktemp("trials"))
    yield bench
    bench.work.cluster.close()


def nothing_left(bench: TrialBench) -> None:
    wait_until("all of it is gone", lambda: not bench.left(), PATIENCE_SECONDS)


def test_run__envoy_gateway__does_all_that_is_declared_and_leaves_nothing(bench: TrialBench) -> None:
    trials = bench.trials()
    findings = trials.run()
    assert {one.trait: one.words for one in findings if not one.holds} == {}
    assert tuple(one.trait for one in findings) == TRIED
    assert set(TRIED) <= trials.declared()
    assert CONTROLLER.startswith(IMPLEMENTATIONS["Envoy Gateway"].controller)
    nothing_left(bench)


def test_gateway__with_the_documented_role__is_named_with_its_generation(bench: TrialBench) -> None:
    said = bench.trials().gateway()
    assert said.startswith(f"Envoy Gateway by {NAMESPACE}/{EDGE} of class ")
    assert "generation 1" in said


def test_belongings__while_a_trial_goes_on__are_no_orphan_and_no_server_of_others(bench: TrialBench) -> None:
    trials = bench.trials()
    seen: list[Any] = []

    class Looks:
        """Looks at what lies there before each request that is sent."""

        def send(self, *words: Any, **more: Any) -> Any:
            if not seen:
                seen.append(bench.work.cluster.belongings())
            return kept.send(*words, **more)

    kept, trials._user = trials._user, Looks()  # type: ignore[assignment]
    trials.run()
    assert (seen[0].launches, seen[0].servers) == ((), ())
    nothing_left(bench)


def test_clear__after_the_process_was_killed_in_the_midst__takes_all_of_it_away(bench: TrialBench) -> None:
    ours = multiprocessing.get_context("fork").Process(target=lambda: bench.trials().run())
    ours.start()
    wait_until(
        "it is in the midst of it", lambda: any("HTTPRoute" in one for one in bench.left()), PATIENCE_SECONDS
    )
    assert ours.pid is not None
    os.kill(ours.pid, signal.SIGKILL)
    ours.join()
    left = bench.left()
    assert bench.trials().clear() == 0  # it may still go on
    assert bench.left() == left
    later = ManualClock(SystemClock().now() + timedelta(seconds=LEFT_SECONDS + 5))
    assert bench.trials(clock=later).clear() == 1
    nothing_left(bench)


def test_run__pod_that_no_node_takes__says_so_in_the_clusters_words(bench: TrialBench) -> None:
    trials = bench.trials(node_labels={"no.such/label": "here"})
    trials._steady = lambda: time.monotonic() * 9  # half a minute is as long as a trial may take
    with pytest.raises(Unavailable, match="No node can take it"):
        trials.run()
    nothing_left(bench)


@pytest.mark.django_db
def test_cluster__that_was_just_written_down__is_tried_by_itself_as_an_installation_is_wired(
    bench: TrialBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "secrets"
    (secrets / "clusters").mkdir(parents=True, mode=0o700)
    secrets.chmod(0o700)
    kubeconfig = secrets / "clusters" / "lab"
    kubeconfig.write_text(bench.work.user.read_text())
    kubeconfig.chmod(0o600)
    monkeypatch.setattr(settings, "HEADGATE", replace(settings.HEADGATE, secrets_dir=str(secrets)))
    set_cluster(
        name="lab",
        kind="kubernetes",
        configuration={
            "installation": INSTALLATION,
            "profile": {**PROFILE, "namespace": PLACE_OF, "gateway_namespaces": [NAMESPACE]},
            "gateways": [f"{NAMESPACE}/{EDGE}"],
            "gateway_url": f"http://{PLACE_OF}.test",
            "gateway_address": bench.lab.gateway_url,
            "prometheus": "http://127.0.0.1:1",  # nobody asks it
        },
        secret="lab",
        problems=wiring.cluster_problems,
        actor=Actor.person(factories.person(Role.ADMINISTRATOR)),
        now=factories.right_now(),
    )
    for name, until in claim_gateways(worlds=wiring.worlds(), now=CLOCK.now()):
        look_at_gateway(cluster=name, claimed_until=until, worlds=wiring.worlds())
    found = one_cluster(name="lab", worlds=wiring.worlds())
    known = {one.name: one.known_by for one in found.capabilities}
    assert {known[trait.value] for trait in TRIED} == {KnownBy.PROVEN}, found.trials
    assert found.trials is not None
    assert "generation 1" in found.trials.gateway
    nothing_left(bench)
