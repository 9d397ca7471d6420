"""The objects of one trial: a Deployment of one small pod, which is both backends by two ports, a Service for each, and
a NetworkPolicy. Pure.

An anchor of their own, a ConfigMap, owns all of them and the route: who deletes it deletes them all. They carry another
installation's label than engines and routes do (`NAME.trial`; no installation has a dot), so that nobody who looks
for launches, routes or orphans takes them for one. Each trial has names of its own, with what was drawn for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollouts.adapters.clusters.kubernetes.container import PORT, PORT_NAME, literal
from rollouts.adapters.clusters.kubernetes.names import INSTALLATION, MANAGED_BY, PREFIX
from rollouts.adapters.clusters.kubernetes.objects import QUEUE
from rollouts.adapters.clusters.kubernetes.pod import confined, nodes_of, pod_security, tolerations_of
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile

CONTAINER = "answers"
TRIAL = f"{PREFIX}trial"  # label: the name of the trial's objects
RESPONDER = Path(__file__).with_name("responder.py").read_text()
PORTS = (PORT, PORT + 1)
PORT_NAMES = (PORT_NAME, f"{PORT_NAME}-second")
RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


def trial_owner(installation: str) -> str:
    """What the objects of this installation's trials have as their label of an installation."""
    return f"{installation}.trial"


@dataclass(frozen=True, slots=True)
class TrialObjects:
    """anchor owns the others, which are in the order in which they are made. `backends` are the names of the Services,
    and of whom they lead to."""

    name: str
    backends: tuple[str, str]
    anchor: dict[str, Any]
    others: tuple[dict[str, Any], ...]


def trial_objects_of(profile: ClusterProfile, installation: str, run: str) -> TrialObjects:
    """The objects of the trial for which `run` was drawn: a few small letters and digits."""
    name = f"headgate-trial-{run}"
    backends = f"{name}-a", f"{name}-b"
    labels = {
        **profile.labels,
        "app.kubernetes.io/name": "headgate-trial",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "gateway-trial",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        INSTALLATION: trial_owner(installation),
        TRIAL: name,
    }

    def made(api_version: str, kind: str, body: Mapping[str, Any], called: str = name) -> dict[str, Any]:
        metadata = {
            "name": called,
            "namespace": profile.namespace,
            "labels": dict(labels),
            "annotations": dict(profile.annotations),
        }
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}

    template = {
        "metadata": {"labels": dict(labels), "annotations": dict(profile.annotations)},
        "spec": _pod(profile, backends),
    }
    deployment = {
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 0,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {TRIAL: name}},
            "template": template,
        }
    }
    workload = made("apps/v1", "Deployment", deployment)
    if profile.queue:
        workload["metadata"]["labels"][QUEUE] = profile.queue
    others = (
        made("networking.k8s.io/v1", "NetworkPolicy", {"spec": _policy(profile, name)}),
        *(
            made("v1", "Service", {"spec": _service(name, port)}, called)
            for called, port in zip(backends, PORT_NAMES, strict=True)
        ),
        workload,
    )
    said = {"what": "A trial of what the gateway does. Delete this object to take all of it away."}
    return TrialObjects(name, backends, made("v1", "ConfigMap", {"data": said}), others)


def _pod(profile: ClusterProfile, backends: tuple[str, str]) -> dict[str, Any]:
    words = [word for name, port in zip(backends, PORTS, strict=True) for word in (literal(name), str(port))]
    container = {
        "name": CONTAINER,
        "image": str(profile.image),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", literal(RESPONDER), *words],
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"}
            for name, port in zip(PORT_NAMES, PORTS, strict=True)
        ],
        "readinessProbe": {
            "httpGet": {"path": "/v1/models", "port": PORT_NAMES[1], "scheme": "HTTP"},
            "periodSeconds": 2,
            "timeoutSeconds": 2,
        },
        "resources": RESOURCES,
        "securityContext": confined(profile, read_only=True),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return {
        "serviceAccountName": profile.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 2,
        "securityContext": pod_security(profile),
        "tolerations": tolerations_of(profile),
        "containers": [container],
        **nodes_of(profile),
    }


def _service(name: str, port: str) -> dict[str, Any]:
    return {
        "type": "ClusterIP",
        "selector": {TRIAL: name},
        "ports": [
            {"name": PORT_NAME, "port": PORT, "targetPort": port, "protocol": "TCP", "appProtocol": "http"}
        ],
    }


def _policy(profile: ClusterProfile, name: str) -> dict[str, Any]:
    """Gateways reach it, and it reaches nobody."""
    peers = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": one}}}
        for one in sorted(profile.gateway_namespaces)
    ]
    ports = [{"protocol": "TCP", "port": port} for port in PORTS]
    return {
        "podSelector": {"matchLabels": {TRIAL: name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers, "ports": ports}] if peers else [],
        "egress": [],
    }
