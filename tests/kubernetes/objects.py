"""Objects for tests of the lab itself: engines behind a Service, and a route to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from kubernetes.dynamic import DynamicClient

from tests.kubernetes.gateway import GATEWAY, NAMESPACE
from tests.kubernetes.lab import ENGINE, KubernetesLab
from tests.standins.running import wait_until

PATIENCE_SECONDS = 90.0  # a busy machine is slow
PORT = 8000


class Cluster:
    """What tests do in one namespace, with a client that may do everything."""

    def __init__(self, client: DynamicClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace

    def create(self, content: Mapping[str, Any]) -> None:
        resource = self.client.resources.get(api_version=content["apiVersion"], kind=content["kind"])
        resource.create(body=content, namespace=self.namespace)

    def get(self, kind: str, name: str, version: str = "v1") -> dict[str, Any]:
        resource = self.client.resources.get(api_version=version, kind=kind)
        found: dict[str, Any] = resource.get(name=name, namespace=self.namespace).to_dict()
        return found

    def pods(self, app: str) -> list[dict[str, Any]]:
        resource = self.client.resources.get(api_version="v1", kind="Pod")
        listed = resource.get(namespace=self.namespace, label_selector=f"app={app}").to_dict()
        found: list[dict[str, Any]] = listed["items"]
        return found

    def wait_for_pod(self, app: str, what: str, check: Any) -> dict[str, Any]:
        """The first pod of this app for which `check(container status)` holds."""

        def found() -> dict[str, Any] | None:
            for pod in self.pods(app):
                statuses = (pod.get("status") or {}).get("containerStatuses") or []
                if statuses and check(statuses[0]):
                    return pod
            return None

        pod = wait_until(f"a pod of {app} {what}", found, PATIENCE_SECONDS)
        assert pod is not None
        return pod

    def run(self, app: str, *, replicas: int = 1, **changes: Any) -> None:
        """A Deployment of engines; `changes` go into the container."""
        container = {
            "name": "engine",
            "image": f"{ENGINE}:1",
            "args": ["model", "--served-model-name", app, f"--port={PORT}"],
            "ports": [{"name": "http", "containerPort": PORT}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
        } | changes
        labels = {"app": app}
        self.create(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": app},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
                    },
                },
            }
        )
        ports = [{"name": "http", "port": PORT, "targetPort": "http"}]
        self.create(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": app},
                "spec": {"selector": labels, "ports": ports},
            }
        )

    def scale(self, app: str, replicas: int) -> None:
        """The Deployment has so many replicas from now on; returns when that is so."""
        resource = self.client.resources.get(api_version="apps/v1", kind="Deployment")
        resource.patch(
            name=app,
            namespace=self.namespace,
            body={"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
        )
        wait_until(f"{app} has {replicas} pods", lambda: len(self.pods(app)) == replicas, PATIENCE_SECONDS)
        if replicas:
            self.wait_until_available(app)

    def wait_until_available(self, app: str) -> None:
        def available() -> bool:
            found = self.get("Deployment", app, "apps/v1")
            told = found.get("status") or {}
            return bool(told.get("availableReplicas") == found["spec"]["replicas"])

        wait_until(f"Deployment {app} is available", available, PATIENCE_SECONDS)

    def route(self, name: str, weights: Mapping[str, int]) -> None:
        """A route for the host `NAME.test`; returns when the gateway took it and its answers come from an engine."""
        backends = [{"name": app, "port": PORT, "weight": weight} for app, weight in weights.items()]
        self.create(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": name},
                "spec": {
                    "parentRefs": [{"name": GATEWAY, "namespace": NAMESPACE}],
                    "hostnames": [f"{name}.test"],
                    "rules": [{"backendRefs": backends}],
                },
            }
        )

        def taken() -> bool:
            found = self.get("HTTPRoute", name, "gateway.networking.k8s.io/v1")
            holds = {
                condition["type"]
                for parent in (found.get("status") or {}).get("parents", [])
                for condition in parent["conditions"]
                if condition["status"] == "True"
            }
            return holds >= {"Accepted", "ResolvedRefs"}

        wait_until(f"route {name} is taken", taken, PATIENCE_SECONDS)


@contextmanager
def namespace(lab: KubernetesLab, name: str) -> Iterator[Cluster]:
    """A new namespace, deleted at the end with all that is in it."""
    client = lab.client()
    resource = client.resources.get(api_version="v1", kind="Namespace")
    resource.create(body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    cluster = Cluster(client, name)
    try:
        # The pods' own account: without it, the API server refuses pods.
        accounts = client.resources.get(api_version="v1", kind="ServiceAccount")
        wait_until(
            "the namespace has its account",
            lambda: accounts.get(namespace=name).items,
            PATIENCE_SECONDS,
        )
        yield cluster
    finally:
        resource.delete(name=name)
        client.client.close()


def asks(lab: KubernetesLab, route: str) -> httpx.Client:
    """A user of the gateway, for this route."""
    return httpx.Client(
        base_url=lab.gateway_url, headers={"Host": f"{route}.test"}, trust_env=False, timeout=30
    )


def answered_by(user: httpx.Client) -> str:
    """Which app answers: it names itself as the model."""
    answer = user.get("/v1/models")
    answer.raise_for_status()
    return str(answer.json()["data"][0]["id"])
