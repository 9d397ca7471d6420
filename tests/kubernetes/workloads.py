"""What tests of workloads use: Headgate's adapter with its least role, and an administrator's hands."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from controlplane.kernel.clock import SystemClock
from controlplane.sealing.keys import KeyRing, new_key
from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.kubernetes.client import OBJECT_KINDS, KubernetesClient
from rollouts.adapters.clusters.kubernetes.cluster import KubernetesCluster
from rollouts.adapters.clusters.kubernetes.connection import api_client
from rollouts.adapters.clusters.kubernetes.container import CONTAINER_ENGINES
from rollouts.adapters.clusters.kubernetes.filling.objects import HeadgateDoor
from rollouts.adapters.clusters.kubernetes.profile_reading import read_profile
from rollouts.adapters.clusters.kubernetes.tokens import ToldTokens
from rollouts.adapters.clusters.secrets import SecretStore
from rollouts.domain.engine_options import Option, OptionKind
from rollouts.domain.engines import WorkloadPhase
from rollouts.ports import WorkloadSpec, WorkloadStatus
from tests.kubernetes.lab import ENGINE, KubernetesLab
from tests.standins.running import ROOT, wait_until

PATIENCE_SECONDS = 120.0  # a busy machine is slow
ROLE = ROOT / "deploy" / "kubernetes" / "role.yaml"
KEY = new_key()
LICENCE = "the licence of sentinel"
MANIFEST = Manifest.of([ManifestEntry("model.safetensors", 7, "aa" * 32)])
PROFILE = {
    "image": f"{ENGINE}@sha256:{'0' * 64}",
    "accelerators": ["nvidia.com/gpu"],
    "weights": {"kind": "object_store", "sources": ["s3://models/"], "egress": [], "unchanging": True},
    "memory_mb": 64,
    "cpu_millis": 10,
    "disk_mb": 16,
    "stop_seconds": 2,
    "unlisted_seconds": 1,
}
numbers = count(1)


def engines() -> Any:
    """The engine, with variables by which a test says how the stand-in behaves."""
    vllm = CONTAINER_ENGINES["vllm"]
    variables = (
        *vllm.template.variables,
        Option("STANDIN", OptionKind.TEXT, "How the stand-in behaves.", pattern=".*"),
        Option("MODEL_LICENCE", OptionKind.SECRET, "What unlocks the model."),
    )
    return {"vllm": replace(vllm, template=replace(vllm.template, variables=variables))}


class WorkloadBench:
    """A cluster as Headgate uses it, and an administrator's hands."""

    def __init__(self, lab: KubernetesLab, folder: Path, namespace: str) -> None:
        self.lab = lab
        self.namespace = namespace
        self.folder = folder
        self.admin = KubernetesClient(
            lambda: api_client(lab.kubeconfig.read_text(), folder / "admin"), namespace
        )
        self._prepare()
        self.user = lab.kubeconfig_of(f"headgate-{namespace}")
        self.client = KubernetesClient(lambda: api_client(self.user.read_text(), folder / "user"), namespace)
        self.cluster = self.control_plane()

    def control_plane(self, door: HeadgateDoor | None = None, **changes: Any) -> KubernetesCluster:
        """A control plane that starts anew; `changes` go into its profile, and pods get files at the `door`."""
        profile, problems = read_profile({**PROFILE, "namespace": self.namespace, **changes})
        assert problems == ()
        assert profile is not None
        return KubernetesCluster(
            self.client,
            profile,
            "8d1f2c",
            SystemClock(),
            SecretStore(self.folder / "secrets", lambda: KeyRing([KEY])),
            ToldTokens(self.client, "8d1f2c"),
            door=door,
            engines=engines(),
            settle_seconds=1.0,
        )

    def spec(self, **changes: Any) -> WorkloadSpec:
        endpoint = f"chat{next(numbers)}"
        spec = WorkloadSpec(f"{endpoint}-v1-aaaa", endpoint, "s3://models/triage/2", MANIFEST)
        return replace(spec, **changes)

    def status(self, spec: WorkloadSpec) -> WorkloadStatus | None:
        return self.cluster.statuses().get(spec.variant)

    def until(self, spec: WorkloadSpec, phase: WorkloadPhase) -> WorkloadStatus:
        def reached() -> WorkloadStatus | None:
            found = self.status(spec) or WorkloadStatus(spec.variant, WorkloadPhase.ABSENT)
            return found if found.phase is phase else None

        found = wait_until(f"{spec.variant} is {phase}", reached, PATIENCE_SECONDS)
        assert found is not None
        return found

    def running(self, **changes: Any) -> WorkloadSpec:
        spec = self.spec(**changes)
        self.cluster.ensure(spec, token=5)
        self.until(spec, WorkloadPhase.READY)
        return spec

    def objects(self, spec: WorkloadSpec) -> dict[str, str]:
        """The versions of the variant's objects by kind, without what a controller writes into."""
        kinds = ("ConfigMap", "Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment")
        found = {kind: self.admin.get(OBJECT_KINDS[kind], spec.variant) for kind in kinds}
        return {kind: one["metadata"]["resourceVersion"] for kind, one in found.items() if one is not None}

    def pods(self, spec: WorkloadSpec) -> list[dict[str, Any]]:
        return self.admin.list(OBJECT_KINDS["Pod"], f"headgate.dev/variant={spec.variant}")[0]

    def kill(self, variant: str) -> None:
        """The process of the variant's engine ends at once."""
        for pod in self.admin.list(OBJECT_KINDS["Pod"], f"headgate.dev/variant={variant}")[0]:
            self.lab.run_out_of_memory(self.namespace, pod["metadata"]["name"], "engine")

    def _prepare(self) -> None:
        """The namespace, the roles and who has them."""
        for body in (*yaml.safe_load_all(ROLE.read_text()), *bindings(self.namespace)):
            put(self.lab, body)


def bindings(namespace: str) -> list[dict[str, Any]]:
    """A namespace that takes restricted pods only, and the roles that Headgate's user has there."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        },
        binding("RoleBinding", "headgate-workloads", f"headgate-{namespace}", namespace=namespace),
        binding("ClusterRoleBinding", "headgate-identity", f"headgate-{namespace}"),
    ]


def binding(kind: str, role: str, user: str, **where: str) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": f"{user}-{role}", **where},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
    }


def put(lab: KubernetesLab, body: dict[str, Any]) -> None:
    """Makes the object, or makes it so."""
    client = lab.client()
    resource = client.resources.get(api_version=body["apiVersion"], kind=body["kind"])
    resource.server_side_apply(
        body=body, namespace=body["metadata"].get("namespace"), field_manager="tests", force_conflicts=True
    )
    client.client.close()


def spec_absent(spec: WorkloadSpec) -> WorkloadStatus:
    return WorkloadStatus(spec.variant, WorkloadPhase.ABSENT)
