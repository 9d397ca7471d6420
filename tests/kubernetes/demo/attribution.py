"""Who answered, told by the lab's gateway: deploy/kubernetes/attribution.yaml with its values."""

from __future__ import annotations

from typing import Any

import yaml

from tests.kubernetes.gateway import CLASS, GATEWAY, NAMESPACE
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.workloads import put
from tests.standins.running import ROOT

OBJECTS = ROOT / "deploy" / "kubernetes" / "attribution.yaml"
RECEIVER = "headgate-receiver"
PORT = 4317


def objects(*, routes: str, receiver: str, token: str) -> list[dict[str, Any]]:
    """All that the gateway needs to tell the receiver at this address, for routes of this namespace."""
    proxy, policy = yaml.safe_load_all(OBJECTS.read_text())
    log = proxy["spec"]["telemetry"]["accessLog"]
    (setting,) = log["settings"]
    setting["matches"] = [
        one.replace("httproute/ROUTES/", f"httproute/{routes}/") for one in setting["matches"]
    ]
    (sink,) = setting["sinks"]
    sink["openTelemetry"]["backendRefs"] = [{"name": RECEIVER, "namespace": NAMESPACE, "port": PORT}]
    sink["openTelemetry"]["headers"] = [{"name": "authorization", "value": f"Bearer {token}"}]
    log["disable"] = False  # which the lab says of its gateway's usual log
    proxy["metadata"] = {"name": CLASS, "namespace": NAMESPACE}
    policy["metadata"]["namespace"] = NAMESPACE
    policy["spec"]["targetRefs"][0]["name"] = GATEWAY
    return [*_service(receiver), proxy, policy]


def _service(receiver: str) -> list[dict[str, Any]]:
    """The receiver, which runs outside of the cluster, as a Service of it."""
    common = {"name": RECEIVER, "namespace": NAMESPACE}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": common,
            "spec": {"ports": [{"name": "otlp", "port": PORT, "targetPort": PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": common | {"labels": {"kubernetes.io/service-name": RECEIVER}},
            "addressType": "IPv4",
            "ports": [{"name": "otlp", "port": PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [receiver], "conditions": {"ready": True}}],
        },
    ]


def tell_who_answers(lab: KubernetesLab, *, routes: str, receiver: str, token: str) -> None:
    """From now on the gateway does."""
    for body in objects(routes=routes, receiver=receiver, token=token):
        put(lab, body)
