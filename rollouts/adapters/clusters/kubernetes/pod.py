"""The pod of a variant: its files, its engine, where it may run and what it may do. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.kubernetes.container import (
    DISK,
    ENGINE,
    FOLDERS,
    MODEL_FOLDER,
    PORT,
    PORT_NAME,
    SHM,
    ContainerEngine,
    arguments_of,
    asked,
    environment_of,
    grace_seconds,
    literal,
    probes_of,
    resources_of,
    size_mb,
)
from rollouts.adapters.clusters.kubernetes.names import VARIANT
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile, WeightsKind
from rollouts.domain.capacity.nodes import NodeRule, Toleration
from rollouts.domain.engine_options import Chosen
from rollouts.ports import WorkloadSpec

VERIFY, FETCH = "verify", "fetch"  # names of the init containers
VERIFY_FILES = (Path(__file__).with_name("verify_files.py")).read_text()
RECORD_FOLDER = "/headgate"
MANIFEST_KEY = "manifest.json"
NODE_LOSS_SECONDS = 60  # until a pod is made anew elsewhere
OCI = re.compile(r"oci://(?P<reference>[^@\s]+@sha256:[0-9a-f]{64})")
# What a check takes: it reads each file once, a piece at a time.
CHECK_RESOURCES = {
    "requests": {"cpu": "100m", "memory": "64Mi"},
    "limits": {"memory": "256Mi"},
}


def check_source(spec: WorkloadSpec, profile: ClusterProfile) -> None:
    """Raises InvalidInput (`source`) for a place that this cluster does not read versions from."""
    weights = profile.weights
    if weights.kind is WeightsKind.CLAIM:
        return  # the folder is found by the manifest, wherever the files came from
    inside = any(spec.source.startswith(one) for one in weights.sources)
    if not inside or ".." in spec.source.split("/") or not spec.source.isprintable() or "%" in spec.source:
        raise InvalidInput(
            f"This cluster reads no version from {spec.source!r}.",
            field="source",
            fix=f"Register a version that lies below one of: {', '.join(weights.sources) or 'none'}.",
        )
    if weights.kind is WeightsKind.OCI_VOLUME and not OCI.fullmatch(spec.source):
        raise InvalidInput(
            f"{spec.source!r} does not say by a digest which artifact is meant.",
            field="source",
            fix="Register the version as oci://REPOSITORY@sha256:DIGEST.",
        )


def pod_of(
    spec: WorkloadSpec,
    profile: ClusterProfile,
    engine: ContainerEngine,
    chosen: Chosen,
    name: str,
    *,
    accelerators: int,
    group_words: tuple[str, ...] = (),
    answers: bool = True,
) -> dict[str, Any]:
    """The `spec` of the pod.

    name          of the variant's objects
    accelerators  of this one pod
    group_words   further words of the command, of an engine that takes several pods. Variables in them are put in
    answers       whether requests reach this pod; one of several that only computes has no probes and no port
    """
    weights = profile.weights
    pod: dict[str, Any] = {
        "serviceAccountName": weights.service_account or profile.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service named vllm would set VLLM_PORT
        "terminationGracePeriodSeconds": grace_seconds(profile, chosen),
        "securityContext": pod_security(profile),
        "tolerations": tolerations_of(profile),
        "topologySpreadConstraints": _spread(profile, name),
        "containers": [_engine(spec, profile, engine, chosen, name, accelerators, group_words, answers)],
        "volumes": _volumes(spec, profile, name),
    }
    checks = _init_containers(spec, profile)
    if checks:
        pod["initContainers"] = checks
    pod |= nodes_of(profile)
    if profile.priority_class:
        pod["priorityClassName"] = profile.priority_class
    return pod


def _engine(
    spec: WorkloadSpec,
    profile: ClusterProfile,
    engine: ContainerEngine,
    chosen: Chosen,
    name: str,
    accelerators: int,
    group_words: tuple[str, ...],
    answers: bool,
) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": ENGINE,
        "image": str(spec.image or profile.image),
        "imagePullPolicy": "IfNotPresent",
        "command": list(engine.command),
        "args": [*arguments_of(spec, profile, engine, chosen), *group_words],
        "env": environment_of(engine, chosen, name),
        "resources": resources_of(spec, profile, accelerators),
        "securityContext": confined(profile),
        "volumeMounts": _mounts(spec, profile),
        "terminationMessagePolicy": "FallbackToLogsOnError",  # an engine's last words are then in its status
    }
    if answers:
        container |= {
            "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
            "lifecycle": {"preStop": {"sleep": {"seconds": profile.unlisted_seconds}}},
            **probes_of(spec, engine),
        }
    return container


def confined(profile: ClusterProfile, *, read_only: bool | None = None) -> dict[str, Any]:
    """The `securityContext` of a container. `read_only`: another word on its own files than the profile's."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": profile.security.read_only_root if read_only is None else read_only,
        "capabilities": {"drop": ["ALL"]},
    }


# --- files --------------------------------------------------------------------------------------------------------


def _has_files(profile: ClusterProfile) -> bool:
    return profile.weights.kind is not WeightsKind.OBJECT_STORE


def _volumes(spec: WorkloadSpec, profile: ClusterProfile, name: str) -> list[dict[str, Any]]:
    disk = size_mb(asked(spec, profile, DISK))
    volumes: list[dict[str, Any]] = []
    if _has_files(profile):
        volumes += [
            {"name": "model", **_model_volume(spec, profile)},
            {
                "name": "record",
                "configMap": {
                    "name": name,
                    "items": [{"key": MANIFEST_KEY, "path": MANIFEST_KEY}],
                },
            },
        ]
    shm = {"medium": "Memory", "sizeLimit": size_mb(asked(spec, profile, SHM))}
    volumes.append({"name": "shm", "emptyDir": shm})
    return volumes + [{"name": one, "emptyDir": {"sizeLimit": disk}} for one in FOLDERS]


def _model_volume(spec: WorkloadSpec, profile: ClusterProfile) -> dict[str, Any]:
    weights = profile.weights
    if weights.kind is WeightsKind.CLAIM:
        return {"persistentVolumeClaim": {"claimName": weights.claim, "readOnly": True}}
    if weights.kind is WeightsKind.OCI_VOLUME:
        reference = spec.source.removeprefix("oci://")
        return {"image": {"reference": reference, "pullPolicy": "IfNotPresent"}}
    megabytes = spec.manifest.total_bytes // (1 << 20) + 1
    return {"emptyDir": {"sizeLimit": size_mb(megabytes)}}


def _model_mount(spec: WorkloadSpec, profile: ClusterProfile, *, read_only: bool) -> dict[str, Any]:
    mount: dict[str, Any] = {"name": "model", "mountPath": MODEL_FOLDER}
    if read_only:
        mount["readOnly"] = True
    if profile.weights.kind is WeightsKind.CLAIM:
        mount["subPath"] = spec.manifest.folder_name
    return mount


def _mounts(spec: WorkloadSpec, profile: ClusterProfile) -> list[dict[str, Any]]:
    model = [_model_mount(spec, profile, read_only=True)] if _has_files(profile) else []
    return [
        *model,
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - of the container
        *({"name": one, "mountPath": path} for one, path in FOLDERS.items()),
    ]


def _init_containers(spec: WorkloadSpec, profile: ClusterProfile) -> list[dict[str, Any]]:
    """What brings the files, where this pod does, and what compares them with the manifest when the pod starts."""
    if not _has_files(profile):
        return []
    verify = {
        "name": VERIFY,
        "image": str(spec.image or profile.image),
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "python3",
            "-c",
            literal(VERIFY_FILES),
            MODEL_FOLDER,
            f"{RECORD_FOLDER}/{MANIFEST_KEY}",
            "/dev/termination-log",
        ],
        "resources": CHECK_RESOURCES,
        "securityContext": confined(profile, read_only=True),
        "volumeMounts": [
            _model_mount(spec, profile, read_only=True),
            {"name": "record", "mountPath": RECORD_FOLDER, "readOnly": True},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if profile.weights.image is None:
        return [verify]
    fetch = {
        "name": FETCH,
        "image": str(profile.weights.image),
        "imagePullPolicy": "IfNotPresent",
        "args": [literal(spec.source), MODEL_FOLDER],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": confined(profile),
        "volumeMounts": [
            _model_mount(spec, profile, read_only=False),
            {"name": "tmp", "mountPath": FOLDERS["tmp"]},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return [fetch, verify]


# --- where it may run -----------------------------------------------------------------------------------------------


def pod_security(profile: ClusterProfile) -> dict[str, Any]:
    """The `securityContext` of a pod, as the restricted standard wants it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": profile.security.user,
        "runAsGroup": profile.security.group,
        "fsGroup": profile.security.fs_group,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def tolerations_of(profile: ClusterProfile) -> list[Mapping[str, Any]]:
    """The profile's, and for how long a pod stays on a node that does not report any more."""
    return [*map(_toleration, profile.tolerations), *_node_loss()]


def nodes_of(profile: ClusterProfile) -> dict[str, Any]:
    """The fields of a pod that say on which nodes it may run, who places it, and with what its images are pulled."""
    found: dict[str, Any] = {}
    if profile.node_labels:
        found["nodeSelector"] = dict(profile.node_labels)
    if profile.node_rules:
        terms = [{"matchExpressions": [*map(_node_rule, profile.node_rules)]}]
        required = {"nodeSelectorTerms": terms}
        found["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    if profile.scheduler:
        found["schedulerName"] = profile.scheduler
    if profile.pull_secrets:
        found["imagePullSecrets"] = [{"name": one} for one in profile.pull_secrets]
    return found


def _toleration(one: Toleration) -> dict[str, Any]:
    found: dict[str, Any] = {"key": one.key, "operator": one.operator}
    if one.operator == "Equal":
        found["value"] = one.value
    if one.effect:
        found["effect"] = one.effect
    if one.seconds is not None:
        found["tolerationSeconds"] = one.seconds
    return found


def _node_loss() -> list[Mapping[str, Any]]:
    return [
        {
            "key": f"node.kubernetes.io/{state}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": NODE_LOSS_SECONDS,
        }
        for state in ("not-ready", "unreachable")
    ]


def _node_rule(rule: NodeRule) -> dict[str, Any]:
    found: dict[str, Any] = {"key": rule.label, "operator": rule.operator}
    return {**found, "values": list(rule.values)} if rule.values else found


def _spread(profile: ClusterProfile, name: str) -> list[dict[str, Any]]:
    return [
        {
            "maxSkew": one.max_skew,
            "topologyKey": one.label,
            "whenUnsatisfiable": "DoNotSchedule" if one.strict else "ScheduleAnyway",
            "labelSelector": {"matchLabels": {VARIANT: name}},
        }
        for one in profile.spread
    ]
