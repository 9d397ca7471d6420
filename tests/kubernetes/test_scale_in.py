"""What scales a variant by itself, held and let go on the real control plane, with Headgate's least role."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.client import OBJECT_KINDS
from rollouts.adapters.clusters.kubernetes.cluster import KubernetesCluster
from rollouts.ports import WorkloadSpec
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.workloads import PATIENCE_SECONDS, WorkloadBench, put
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]

OPEN: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
SCALED_OBJECTS = {  # as far as an API server is concerned; what KEDA makes of it is KEDA's
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "scaledobjects.keda.sh"},
    "spec": {
        "group": "keda.sh",
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "plural": "scaledobjects", "singular": "scaledobject"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": OPEN}}},
            }
        ],
    },
}


@pytest.fixture(scope="module")
def bench(kubernetes_lab: KubernetesLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkloadBench]:
    put(kubernetes_lab, SCALED_OBJECTS)
    made = WorkloadBench(kubernetes_lab, tmp_path_factory.mktemp("headgate"), "scaling")
    yield made
    made.cluster.close()


def scaler_of(bench: WorkloadBench, kind: str, spec: WorkloadSpec) -> dict[str, Any]:
    found = bench.admin.get(OBJECT_KINDS[kind], spec.variant)
    assert found is not None
    return found


def policy_of(found: dict[str, Any]) -> str:
    spec = found["spec"]
    behaviour = spec.get("behavior") or spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    return str(behaviour["scaleDown"].get("selectPolicy", "Max"))


def held(cluster: KubernetesCluster, spec: WorkloadSpec, said: bool) -> bool:
    status = cluster.statuses().get(spec.variant)
    return status is not None and status.scale_in_held is said


def keeps_its_version(
    bench: WorkloadBench, cluster: KubernetesCluster, kind: str, spec: WorkloadSpec, on: bool
) -> bool:
    """Whether asking for what is so already leaves the autoscaler untouched."""
    before = scaler_of(bench, kind, spec)["metadata"]["resourceVersion"]
    cluster.hold_scale_in(spec.variant, spec.endpoint, on=on, token=5)
    return bool(scaler_of(bench, kind, spec)["metadata"]["resourceVersion"] == before)


@pytest.mark.parametrize(("kind", "made"), [("hpa", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")])
def test_scale_in__held_twice_and_let_go__keeps_its_version_where_nothing_changes(
    bench: WorkloadBench, kind: str, made: str
) -> None:
    cluster = bench.control_plane(
        autoscaler={"kind": kind, "most": 3, "prometheus": "http://prometheus:9090"}
    )
    spec = bench.spec()
    try:
        cluster.ensure(spec, token=5)
        for on, policy in ((True, "Disabled"), (False, "Max")):
            cluster.hold_scale_in(spec.variant, spec.endpoint, on=on, token=5)
            assert policy_of(scaler_of(bench, made, spec)) == policy
            wait_until(f"the status says {on}", partial(held, cluster, spec, on), PATIENCE_SECONDS)
            anchor = bench.objects(spec)["ConfigMap"]
            again = partial(keeps_its_version, bench, cluster, made, spec, on)
            wait_until("it keeps its version", again, PATIENCE_SECONDS)  # no controller wrote meanwhile
            assert bench.objects(spec)["ConfigMap"] == anchor
        cluster.ensure(spec, token=5)
        assert policy_of(scaler_of(bench, made, spec)) == "Max"
    finally:
        cluster.close()
