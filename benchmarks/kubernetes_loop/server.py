"""The tests' real etcd and API server without controllers, nodes and a gateway: whoever measures plays those."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.kubernetes.build import Binaries
from tests.kubernetes.certificates import Authority
from tests.kubernetes.control_plane import ControlPlane
from tests.kubernetes.gateway import show_certificates
from tests.kubernetes.lab import ADMINISTRATORS, READY_SECONDS
from tests.kubernetes.nodes.api import NodeApi
from tests.kubernetes.sandbox import Sandbox
from tests.kubernetes.workloads import ROLE, bindings

ROUTES_OF = "httproutes.gateway.networking.k8s.io"
COUNTED = "apiserver_request_total"
COLLECTIONS = {
    "Namespace": "/api/v1/namespaces",
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}


class ApiServer:
    """An API server that runs.

    api         asks it as an administrator
    kubeconfig  of a user with the least role in `namespace`
    """

    def __init__(self, sandbox: Sandbox, api: NodeApi, kubeconfig: Path, namespace: str) -> None:
        self.api = api
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self._sandbox = sandbox

    def memory(self) -> dict[str, int]:
        """Resident memory of its processes in MiB."""
        return self._sandbox.memory()

    def requests(self) -> dict[tuple[str, str], float]:
        """By verb and resource, how many it has answered, by its own count."""
        text = self.api.call("GET", "/metrics").text
        lines = "\n".join(line for line in text.splitlines() if COUNTED in line)
        found: dict[tuple[str, str], float] = {}
        for family in text_string_to_metric_families(lines + "\n"):
            for sample in family.samples:
                if sample.name == COUNTED:
                    key = (sample.labels["verb"], sample.labels["resource"])
                    found[key] = found.get(key, 0.0) + sample.value
        return found


@contextmanager
def api_server(folder: Path, binaries: Binaries, *, namespace: str) -> Iterator[ApiServer]:
    """One with a namespace, HTTPRoutes and a user of Headgate's, for the time of a with block. `folder` is empty."""
    certificates, shown = folder / "certificates", folder / "shown"
    for made in (certificates, shown):
        made.mkdir()
    sandbox = Sandbox(folder, certificates=shown)
    sandbox.start()
    try:
        addresses = sandbox.addresses
        authority = Authority(certificates)
        names = ("127.0.0.1", addresses.inside, addresses.bridge, addresses.first_service)
        server = authority.issue("server", addresses=names)
        show_certificates(shown, authority, server)
        admin = authority.issue("admin", group=ADMINISTRATORS)
        nobody = certificates / "nobody.kubeconfig"  # no controller and no scheduler is started
        plane = ControlPlane(
            binaries=binaries,
            addresses=addresses,
            authority=authority,
            server=server,
            controllers=nobody,
            scheduler=nobody,
            tokens=authority.key_pair("service-accounts"),
            asks_nodes_as=admin,
        )
        api = NodeApi(plane.url, certificates, "admin")
        for name in ("etcd", "kube-apiserver"):
            sandbox.run(name, plane.commands()[name])
        _wait("the API server is ready", api.ready)
        _furnish(api, binaries, namespace)
        user = authority.kubeconfig(authority.issue(f"headgate-{namespace}"), plane.url)
        try:
            yield ApiServer(sandbox, api, user, namespace)
        finally:
            api.close()
    finally:
        sandbox.stop()


def _furnish(api: NodeApi, binaries: Binaries, namespace: str) -> None:
    """The namespace, Headgate's roles in it, the account that pods need, and the kind HTTPRoute."""
    definition = next(path for path in binaries.definitions if path.stem.endswith(f"-{ROUTES_OF}"))
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": namespace},
    }
    bodies: list[dict[str, Any]] = [
        *yaml.safe_load_all(ROLE.read_text()),
        *bindings(namespace),
        account,
        json.loads(definition.read_text()),
    ]
    for body in bodies:
        where = COLLECTIONS[body["kind"]].format(namespace=namespace)
        answer = api.call("POST", where, body)
        if answer.status_code != 201:
            raise RuntimeError(f"POST {where}: {answer.status_code} {answer.text[:500]}")
    routes = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"
    _wait("HTTPRoutes are served", lambda: api.call("GET", routes).status_code == 200)


def _wait(what: str, check: Callable[[], bool]) -> None:
    end = time.monotonic() + READY_SECONDS
    while not check():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {READY_SECONDS:g} s in vain until {what}")
        time.sleep(0.1)
