"""Variants on the real control plane: what the adapter writes, what it sees, and what it is refused.

It works with the least role that the project documents, in a namespace that enforces restricted pods. The stand-in
engine reads no files: most variants here take theirs from an object store, as far as the cluster can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from kubernetes.dynamic import DynamicClient

from controlplane.kernel.errors import Rejected, StaleWriter, Unavailable
from controlplane.sealing.keys import KeyRing
from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.kubernetes.client import DEPLOYMENTS, MERGE, OBJECT_KINDS, KubernetesClient
from rollouts.adapters.clusters.kubernetes.connection import api_client
from rollouts.adapters.clusters.kubernetes.errors import Denied, Drift, Stale, Terminal
from rollouts.adapters.clusters.kubernetes.objects import objects_of, with_attempt
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.secrets import SealedSecret
from rollouts.ports import WorkloadSpec
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.workloads import (
    KEY,
    LICENCE,
    PATIENCE_SECONDS,
    WorkloadBench,
    binding,
    engines,
    put,
    spec_absent,
)  # fmt: skip
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]

NAMESPACE = "workloads"


@pytest.fixture(scope="module")
def bench(kubernetes_lab: KubernetesLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkloadBench]:
    made = WorkloadBench(kubernetes_lab, tmp_path_factory.mktemp("headgate"), NAMESPACE)
    yield made
    made.cluster.close()


# --- launching --------------------------------------------------------------------------------------------------------


def test_ensure__new_variant__becomes_ready_with_a_reference_to_its_service(bench: WorkloadBench) -> None:
    spec = bench.running()
    status = bench.status(spec)
    assert status is not None
    assert (status.ready, status.desired, status.restarts, status.message) == (1, 1, 0, "")
    assert status.started_at is not None
    assert status.files_at is not None
    assert status.backend is not None
    assert (status.backend.kind, status.backend.name) == ("service", spec.variant)
    assert bench.objects(spec).keys() == {
        "ConfigMap", "Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment",
    }  # fmt: skip


def test_ensure__already_running__writes_nothing(bench: WorkloadBench) -> None:
    spec = bench.running()
    before, pods = bench.objects(spec), [pod["metadata"]["uid"] for pod in bench.pods(spec)]
    bench.cluster.ensure(spec, token=5)
    assert bench.objects(spec) == before
    assert [pod["metadata"]["uid"] for pod in bench.pods(spec)] == pods


def test_apply__every_object_again__keeps_its_version(bench: WorkloadBench) -> None:
    """Also for the API server, which knows no difference where there is none."""
    spec = bench.running()
    before = bench.objects(spec)
    anchor = bench.admin.get(OBJECT_KINDS["ConfigMap"], spec.variant)
    assert anchor is not None
    bench.cluster._launch(spec, bench.cluster._anchors()[spec.variant], attempt=0)
    assert bench.objects(spec) == before


def test_ensure__files_in_a_volume__are_compared_before_the_engine_starts(bench: WorkloadBench) -> None:
    volume = bench.lab.make_claim(bench.namespace, "models")
    cluster = bench.control_plane(weights={"kind": "claim", "claim": "models"})
    content = b"weights"
    entry = ManifestEntry("model.safetensors", len(content), sha256(content).hexdigest())
    whole = bench.spec(manifest=Manifest.of([entry]))
    folder = volume / whole.manifest.folder_name
    folder.mkdir()
    (folder / entry.path).write_bytes(content)
    other = bench.spec(manifest=Manifest.of([replace(entry, sha256="0" * 64)]))
    (volume / other.manifest.folder_name).mkdir()
    (volume / other.manifest.folder_name / entry.path).write_bytes(content)
    try:
        for spec in (whole, other):
            cluster.ensure(spec, token=5)
        bench.until(whole, WorkloadPhase.READY)
        failed = bench.until(other, WorkloadPhase.FAILED)
        assert failed.reason is FailureReason.TAMPERED_FILE
        assert "model.safetensors differs in the cluster from the manifest" in failed.message
    finally:
        for spec in (whole, other):
            cluster.drain(spec.variant, spec.endpoint, token=5)
        cluster.close()


def test_launched__by_a_control_plane_that_starts_anew__is_taken_over(bench: WorkloadBench) -> None:
    spec = bench.running(arguments={"max-model-len": 256}, environment={"OMP_NUM_THREADS": "2"})
    other = bench.control_plane()
    try:
        assert other.launched(spec.variant) == spec
        assert other.statuses()[spec.variant] == bench.status(spec)
    finally:
        other.close()


def test_ensure__several_replicas__are_all_ready(bench: WorkloadBench) -> None:
    spec = bench.spec(replicas=2)
    bench.cluster.ensure(spec, token=5)
    wait_until(
        "both are ready", lambda: (bench.status(spec) or spec_absent(spec)).ready == 2, PATIENCE_SECONDS
    )
    bench.cluster.drain(spec.variant, spec.endpoint, token=5)
    bench.until(spec, WorkloadPhase.ABSENT)


def test_ensure__secret__reaches_the_engine_and_no_record(bench: WorkloadBench) -> None:
    secret = SealedSecret(KeyRing([KEY]).seal(LICENCE), "9f2c")
    spec = bench.running(environment={"MODEL_LICENCE": secret})
    (pod,) = bench.pods(spec)
    (engine,) = pod["spec"]["containers"]
    assert next(one for one in engine["env"] if one["name"] == "MODEL_LICENCE")["valueFrom"]["secretKeyRef"]
    anchor = bench.admin.get(OBJECT_KINDS["ConfigMap"], spec.variant)
    assert "sentinel" not in repr((anchor, pod))


# --- fencing ----------------------------------------------------------------------------------------------------------


def test_ensure__old_token__is_stale_and_starts_nothing(bench: WorkloadBench) -> None:
    spec = bench.spec()
    assert bench.cluster.claim(spec.endpoint, token=9) == 9
    assert bench.cluster.claim(spec.endpoint, token=4) == 9
    with pytest.raises(StaleWriter) as refused:
        bench.cluster.ensure(spec, token=8)
    assert refused.value.extra["newest"] == 9
    assert bench.objects(spec) == {}


def test_apply__by_a_worker_that_was_overtaken__is_refused(bench: WorkloadBench) -> None:
    spec = bench.running()
    seen = bench.client.get(OBJECT_KINDS["ConfigMap"], spec.variant)
    assert seen is not None
    body = bench.cluster._anchors()[spec.variant].raw
    fields = {name: body[name] for name in ("apiVersion", "kind", "data")}
    metadata = {name: body["metadata"][name] for name in ("name", "namespace", "labels", "annotations")}
    first = {**fields, "metadata": {**metadata, "annotations": {**metadata["annotations"], "a/b": "1"}}}
    second = {**fields, "metadata": {**metadata, "annotations": {**metadata["annotations"], "a/b": "2"}}}
    bench.client.apply(first, seen)
    with pytest.raises(Stale):
        bench.client.apply(second, seen)


# --- ending -----------------------------------------------------------------------------------------------------------


def test_drain__running__is_told_to_stop_and_leaves_nothing(bench: WorkloadBench) -> None:
    spec = bench.running()
    bench.cluster.drain(spec.variant, spec.endpoint, token=5)
    assert bench.until(spec, WorkloadPhase.DRAINING)
    bench.until(spec, WorkloadPhase.ABSENT)
    assert bench.objects(spec) == {}
    wait_until("its pods are gone", lambda: bench.pods(spec) == [], PATIENCE_SECONDS)


def test_ensure__while_draining__takes_the_drain_back(bench: WorkloadBench) -> None:
    spec = bench.running()
    before = bench.status(spec)
    bench.cluster._settle_seconds = 600.0
    try:
        bench.cluster.drain(spec.variant, spec.endpoint, token=5)
        assert bench.until(spec, WorkloadPhase.DRAINING)
        bench.cluster.ensure(spec, token=5)
        assert bench.until(spec, WorkloadPhase.READY) == before
    finally:
        bench.cluster._settle_seconds = 1.0


def test_delete__object_of_another_uid__is_refused(bench: WorkloadBench) -> None:
    spec = bench.running()
    with pytest.raises(Stale):
        bench.client.delete(OBJECT_KINDS["ConfigMap"], spec.variant, "00000000-0000-0000-0000-000000000000")
    assert bench.status(spec) is not None


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_unschedulable__more_accelerators_than_a_node_has__is_blocked_in_the_clusters_words(
    bench: WorkloadBench,
) -> None:
    spec = bench.spec(accelerators=Accelerators(9, "nvidia.com/gpu"))
    bench.cluster.ensure(spec, token=5)

    def said() -> bool:
        return "Insufficient nvidia.com/gpu" in (bench.status(spec) or spec_absent(spec)).message

    wait_until("the cluster says why", said, PATIENCE_SECONDS)
    status = bench.status(spec)
    assert status is not None
    assert (status.phase, status.reason) == (WorkloadPhase.STARTING, FailureReason.NONE)
    bench.cluster.drain(spec.variant, spec.endpoint, token=5)
    bench.until(spec, WorkloadPhase.ABSENT)


def test_quota__used_up__is_blocked_and_goes_on_once_it_is_raised(bench: WorkloadBench) -> None:
    """The cluster makes no pod at all: only the Deployment says why."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpu", "namespace": NAMESPACE},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    put(bench.lab, quota)
    spec = bench.spec(accelerators=Accelerators(1, "nvidia.com/gpu"))
    try:
        bench.cluster.ensure(spec, token=5)

        def said() -> bool:
            return "exceeded quota: gpu" in (bench.status(spec) or spec_absent(spec)).message

        wait_until("the cluster says why", said, PATIENCE_SECONDS)
        status = bench.status(spec)
        assert status is not None
        assert (status.phase, status.reason) == (WorkloadPhase.STARTING, FailureReason.NONE)
    finally:
        put(bench.lab, {**quota, "spec": {"hard": {"requests.nvidia.com/gpu": "8"}}})
    bench.until(spec, WorkloadPhase.READY)


def test_ensure__scaled_by_somebody__leaves_the_number_of_replicas_alone(bench: WorkloadBench) -> None:
    spec = bench.running()
    bench.admin.scale(DEPLOYMENTS, spec.variant, 2)
    wait_until(
        "both are ready", lambda: (bench.status(spec) or spec_absent(spec)).ready == 2, PATIENCE_SECONDS
    )

    def applied() -> bool:
        try:
            seen = bench.client.get(DEPLOYMENTS, spec.variant)
            bench.client.apply(wanted(bench, spec), seen, takes_away=True)
        except Stale:
            return False  # its status changed in the meantime
        return True

    wait_until("all that we own is applied again", applied, PATIENCE_SECONDS)
    found = bench.client.get(DEPLOYMENTS, spec.variant)
    assert found is not None
    assert found["spec"]["replicas"] == 2


def test_out_of_memory__engine_that_answered__is_restarted_and_counted(bench: WorkloadBench) -> None:
    spec = bench.running()
    (pod,) = bench.pods(spec)
    bench.lab.run_out_of_memory(NAMESPACE, pod["metadata"]["name"], "engine")
    bench.until(spec, WorkloadPhase.UNREADY)
    assert bench.until(spec, WorkloadPhase.READY).restarts == 1


def test_field__unknown_to_the_api__is_terminal(bench: WorkloadBench) -> None:
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "odd", "namespace": NAMESPACE},
        "spec": {"colour": "red"},
    }
    with pytest.raises(Terminal, match="not declared in schema"):
        bench.client.apply(body, None)


def test_hand_edit__of_the_pod_template__is_seen_and_not_fought_over(bench: WorkloadBench) -> None:
    spec = bench.running()
    body = wanted(bench, spec)
    edit = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": spec.variant, "namespace": NAMESPACE},
        "spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7}}},
    }
    path = DEPLOYMENTS.path(NAMESPACE, spec.variant)
    api = api_client(bench.lab.kubeconfig.read_text(), bench.folder / "hand")
    hand = DynamicClient(api, cache_file=str(bench.folder / "discovered"))
    hand.request("patch", path, body=edit, content_type=MERGE, field_manager="kubectl-edit")
    api.close()
    with pytest.raises(Drift, match="kubectl-edit"):
        bench.client.apply(body, bench.client.get(DEPLOYMENTS, spec.variant))


def wanted(bench: WorkloadBench, spec: WorkloadSpec) -> dict[str, Any]:
    """The Deployment as it should be."""
    objects = objects_of(spec, bench.cluster._profile, installation="8d1f2c", engines=engines(), secrets={})
    uid = bench.cluster._anchors()[spec.variant].uid
    (found,) = [one for one in objects.owned_by(uid) if one["kind"] == "Deployment"]
    return with_attempt(found, 0)


def test_role__one_verb_fewer__is_refused_with_its_name(bench: WorkloadBench, tmp_path: Path) -> None:
    stranger = bench.lab.kubeconfig_of("stranger")
    put(bench.lab, binding("ClusterRoleBinding", "headgate-identity", "stranger"))
    client = KubernetesClient(lambda: api_client(stranger.read_text(), tmp_path), NAMESPACE)
    with pytest.raises(Denied, match=r"lacks the verb get of configmaps in the namespace workloads"):
        client.get(OBJECT_KINDS["ConfigMap"], "x")
    with pytest.raises(Denied, match=r"lacks the verb patch of deployments\.apps"):
        client.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}}, None)


def test_cluster__another_one_than_remembered__is_refused(bench: WorkloadBench, tmp_path: Path) -> None:
    client = KubernetesClient(
        lambda: api_client(bench.user.read_text(), tmp_path), NAMESPACE, cluster_uid="of-another-one"
    )
    with pytest.raises(Rejected, match="Another cluster answers"):
        client.get(DEPLOYMENTS, "x")


def test_log_tail__of_a_running_engine__is_its_own(bench: WorkloadBench) -> None:
    spec = bench.running()
    wait_until("it printed something", lambda: bench.cluster.log_tail(spec.variant, 1), PATIENCE_SECONDS)
    assert len(bench.cluster.log_tail(spec.variant, 1)) == 1
    assert bench.cluster.log_tail(spec.variant, 0) == ()
    assert bench.cluster.log_tail("chat-v9-0000") == ()


def test_api_server__away__is_unknown_and_what_runs_is_as_it_was_when_it_comes_back(
    bench: WorkloadBench,
) -> None:
    spec = bench.running()
    before = bench.status(spec)
    bench.lab.kill("kube-apiserver")

    def unknown() -> bool:
        try:
            bench.cluster.statuses()
        except Unavailable:
            return True
        return False

    wait_until("it is not known any more", unknown, PATIENCE_SECONDS)
    bench.lab.restart("kube-apiserver")
    wait_until("it is known again", lambda: not unknown(), PATIENCE_SECONDS)
    assert bench.status(spec) == before


def test_names__odd_endpoint__runs_all_the_same(bench: WorkloadBench) -> None:
    endpoint = "Support.Chat_" + "x" * 60
    spec = replace(bench.spec(), endpoint=endpoint, variant=f"{endpoint}-v1-aaaa")
    bench.cluster.ensure(spec, token=5)
    status = bench.until(spec, WorkloadPhase.READY)
    assert status.backend is not None
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,51}", status.backend.name)
    assert bench.cluster.launched(spec.variant) == spec
