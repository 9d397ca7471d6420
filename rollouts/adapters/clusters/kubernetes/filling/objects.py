"""The objects that fill a volume for one launch of a variant: a Job, the pass that it shows Headgate, and a
NetworkPolicy. Pure.

They belong to the variant's anchor and go with it. Each launch has its own, so that one that failed is tried again with
a Job of its own and a fresh pass. Its pods carry no label of the variant: a Service, a budget and a NetworkPolicy that
find engines by that label must not find them.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from controlplane.kernel.digests import digest_of
from registry.domain.manifest import Manifest
from rollouts.adapters.clusters.kubernetes.container import literal
from rollouts.adapters.clusters.kubernetes.filling.fill_volume import DIFFERS, REFUSED
from rollouts.adapters.clusters.kubernetes.names import (
    FILL,
    SPEC_DIGEST,
    object_name,
)
from rollouts.adapters.clusters.kubernetes.objects import QUEUE, common_annotations, common_labels, to_names
from rollouts.adapters.clusters.kubernetes.pod import (
    MANIFEST_KEY,
    RECORD_FOLDER,
    confined,
    nodes_of,
    pod_security,
    tolerations_of,
)
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.ports import WorkloadSpec

CONTAINER = "fill"
FILL_VOLUME = Path(__file__).with_name("fill_volume.py").read_text()
VOLUME_FOLDER = "/models"
PASS_KEY, PASS_FOLDER = "pass", "/pass"
LAST_EXITS = (DIFFERS, REFUSED)  # another try would end alike
TRIES = 6  # with pauses of 10 s, 20 s and so on: over ten minutes
SLOWEST_BYTES = 10_000_000  # a second, from Headgate's disk to the volume
LEAST_SECONDS = 1_800
RESOURCES = {
    "requests": {"cpu": "100m", "memory": "64Mi"},
    "limits": {"memory": "256Mi"},
}


@dataclass(frozen=True, slots=True)
class HeadgateDoor:
    """Where pods of a cluster get a version's files from.

    url    scheme, host and port at which pods reach Headgate
    grant  a pass for the files of this manifest alone, for so many seconds
    """

    url: str
    grant: Callable[[Manifest, float], str]


def fill_name(variant: str, attempt: int) -> str:
    """The name of the objects of this launch's filling. No variant's objects have it: no variant has a slash."""
    return object_name(f"{variant}/fill/{attempt}")


def fill_seconds(manifest: Manifest) -> int:
    """For how long a Job may take, all its tries together."""
    return LEAST_SECONDS + manifest.total_bytes // SLOWEST_BYTES


@dataclass(frozen=True, slots=True)
class FillObjects:
    """In the order in which they are made: a pod finds all that it needs."""

    secret: dict[str, Any]
    network: dict[str, Any]
    job: dict[str, Any]


def fill_objects_of(
    spec: WorkloadSpec,
    profile: ClusterProfile,
    installation: str,
    door: HeadgateDoor,
    *,
    attempt: int,
    token: str,
) -> FillObjects:
    """What fills the volume for this launch.

    installation  identifies this Headgate
    token         the pass; it stands in the Secret and nowhere else
    """
    name = fill_name(spec.variant, attempt)
    common = common_labels(
        spec, profile, installation, name=name, app="headgate-fill", component="model-files"
    )
    labels = {**common, FILL: name}
    annotations = common_annotations(spec, profile)

    def made(api_version: str, kind: str, body: Mapping[str, Any], said: object) -> dict[str, Any]:
        metadata = {
            "name": name,
            "namespace": profile.namespace,
            "labels": dict(labels),
            "annotations": {**annotations, SPEC_DIGEST: digest_of(said)},
        }
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}

    # A digest of the pass is no secret, and would change with every pass.
    data = {PASS_KEY: base64.b64encode(token.encode()).decode()}
    secret = made("v1", "Secret", {"type": "Opaque", "data": data}, [PASS_KEY])
    policy = {"spec": _policy(profile, door, name)}
    network = made("networking.k8s.io/v1", "NetworkPolicy", policy, policy)
    body = {
        "spec": {
            "backoffLimit": TRIES,
            "activeDeadlineSeconds": fill_seconds(spec.manifest),
            "podFailurePolicy": {"rules": _rules()},
            "template": {
                "metadata": {"labels": dict(labels), "annotations": dict(annotations)},
                "spec": _pod(spec, profile, door, name),
            },
        }
    }
    job = made("batch/v1", "Job", body, body)
    if profile.queue:
        job["metadata"]["labels"][QUEUE] = profile.queue
    return FillObjects(secret, network, job)


def _rules() -> list[dict[str, Any]]:
    """A file that differs will differ again. A pod that a node was emptied of is no failure of the Job's."""
    exits = {"containerName": CONTAINER, "operator": "In", "values": [*LAST_EXITS]}
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    return [
        {"action": "FailJob", "onExitCodes": exits},
        {"action": "Ignore", "onPodConditions": [disrupted]},
    ]


def _pod(spec: WorkloadSpec, profile: ClusterProfile, door: HeadgateDoor, name: str) -> dict[str, Any]:
    folder = spec.manifest.folder_name
    words = (
        f"{door.url}/files/{folder}",
        VOLUME_FOLDER,
        folder,
        f"{RECORD_FOLDER}/{MANIFEST_KEY}",
        f"{PASS_FOLDER}/{PASS_KEY}",
        "/dev/termination-log",
    )
    container = {
        "name": CONTAINER,
        "image": str(spec.image or profile.image),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", literal(FILL_VOLUME), *map(literal, words)],
        "resources": RESOURCES,
        "securityContext": confined(profile, read_only=True),
        "volumeMounts": [
            {"name": "models", "mountPath": VOLUME_FOLDER},
            {"name": "record", "mountPath": RECORD_FOLDER, "readOnly": True},
            {"name": "pass", "mountPath": PASS_FOLDER, "readOnly": True},
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    record = {"name": object_name(spec.variant), "items": [{"key": MANIFEST_KEY, "path": MANIFEST_KEY}]}
    return {
        "restartPolicy": "Never",
        "serviceAccountName": profile.weights.service_account or profile.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": pod_security(profile),
        "tolerations": tolerations_of(profile),
        "containers": [container],
        "volumes": [
            {"name": "models", "persistentVolumeClaim": {"claimName": profile.weights.claim}},
            {"name": "record", "configMap": record},
            {"name": "pass", "secret": {"secretName": name, "defaultMode": 0o440}},
        ],
        **nodes_of(profile),
    }


def _policy(profile: ClusterProfile, door: HeadgateDoor, name: str) -> dict[str, Any]:
    """Nobody reaches the Job. It reaches names and Headgate's port: at Headgate's own address where that is a number,
    else in the profile's networks, and anywhere where none is named."""
    parts = urlsplit(door.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    networks = profile.weights.egress or _network_of(parts.hostname or "")
    headgate: dict[str, Any] = {"ports": [{"protocol": "TCP", "port": port}]}
    if networks:
        headgate["to"] = [{"ipBlock": {"cidr": network}} for network in networks]
    return {
        "podSelector": {"matchLabels": {FILL: name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [],
        "egress": [to_names(), headgate],
    }


def _network_of(host: str) -> tuple[str, ...]:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ()
    return (f"{address}/{address.max_prefixlen}",)
