"""A whole Kubernetes for tests: real etcd, API server, controllers, scheduler, Envoy Gateway and Envoy.

Only the nodes are played (see `nodes`): three of them with eight GPUs each, that run pods as processes of this machine.
All of it is in a sandbox that dies with the test's process.

    lab = KubernetesLab(folder, binaries=built(), envoy=Path(".venv/bin/envoy"))
    lab.start()
    client = lab.client()              # may do everything
    httpx.get(lab.gateway_url)         # what routes of the Gateway gateway-system/edge answer
    lab.stop()

The programs of a pod are what its image brings: `ENGINE` (with any tag or digest) is the stand-in engine as `vllm
serve`, and `REAL_ENGINE` this machine's vLLM where it is installed. Pods, Services and nodes have addresses that this
process can reach, except for the addresses of Services.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import kubernetes

from tests.kubernetes.build import Binaries
from tests.kubernetes.certificates import Authority, Identity
from tests.kubernetes.control_plane import API_PORT, ControlPlane
from tests.kubernetes.gateway import NAMESPACE, PORT, GatewayHome, show_certificates
from tests.kubernetes.nodes.api import NodeApi
from tests.kubernetes.nodes.images import ENGINE, REAL_ENGINE, ROOT
from tests.kubernetes.nodes.serving import ORDERS_PORT
from tests.kubernetes.sandbox import Sandbox

__all__ = ["COMPONENTS", "ENGINE", "NODES", "REAL_ENGINE", "KubernetesLab", "LabError"]

NODES = ("gpu-1", "gpu-2", "gpu-3")
GATEWAY_CONTROLLER = "envoy-gateway"
ENVOY = "envoy"
COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    GATEWAY_CONTROLLER,
    ENVOY,
)
READY_SECONDS = 120.0  # 3 on a machine that does nothing else
ADMINISTRATORS = "system:masters"


class LabError(Exception):
    """The lab did not come up or a part of it ended: the message says which, with the end of its log."""


class KubernetesLab:
    """One such cluster. `folder` is empty and this lab's own; it keeps certificates and logs."""

    def __init__(self, folder: Path, *, binaries: Binaries, envoy: Path) -> None:
        self.folder = folder
        self._binaries = binaries
        self._certificates = folder / "certificates"
        self._shown = folder / "shown"
        self._logs = folder / "pods"
        self._volumes = folder / "volumes"
        self._claims = folder / "claims"
        for made in (self._certificates, self._shown, self._logs, self._volumes, self._claims):
            made.mkdir()
        self._gateway = GatewayHome(folder / "gateway", envoy)
        self._gateway.folder.mkdir()
        self._sandbox = Sandbox(folder, certificates=self._shown)
        self._commands: dict[str, tuple[list[str], dict[str, str]]] = {}
        self._running: set[str] = set()  # that were started and not killed
        self._api: NodeApi | None = None

    # --- what tests read ---------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The API server's address."""
        return self._plane.url

    @property
    def authority(self) -> Path:
        """The certificate of the authority that signed the API server's, and that signs clients'."""
        return self._authority.certificate

    @property
    def kubeconfig(self) -> Path:
        """Of a user who may do everything."""
        return self._certificates / "admin.kubeconfig"

    @property
    def gateway_url(self) -> str:
        """What users of the cluster ask: the Gateway's listener."""
        return f"http://{self._sandbox.addresses.inside}:{PORT}"

    @property
    def address_here(self) -> str:
        """Where the cluster reaches this machine."""
        return self._sandbox.addresses.here

    @property
    def link(self) -> str:
        """The interface on this machine that leads to the cluster, for as long as the cluster lives."""
        return self._sandbox.link

    @property
    def here(self) -> str:
        """This process's address as pods reach it."""
        return self._sandbox.addresses.here

    def client(self) -> kubernetes.dynamic.DynamicClient:
        """A client that may do everything."""
        return self.client_of(self.kubeconfig)

    def client_of(self, kubeconfig: Path) -> kubernetes.dynamic.DynamicClient:
        """A client for this kubeconfig file."""
        asks = kubernetes.config.new_client_from_config(str(kubeconfig))
        # By default what it discovers is kept in a file for the next cluster of the same address.
        return kubernetes.dynamic.DynamicClient(
            asks, cache_file=str(self.folder / f"{kubeconfig.stem}.discovered")
        )

    def kubeconfig_of(self, user: str, group: str = "") -> Path:
        """A file for a new user of this name, who may do what RBAC says of the user and the group."""
        return self._authority.kubeconfig(self._authority.issue(user, group=group), self.url)

    def log(self, component: str) -> str:
        """What a component, or "nodes", printed so far."""
        return self._sandbox.log(component)

    def memory(self) -> dict[str, int]:
        """Resident memory of each component in MiB."""
        return self._sandbox.memory()

    # --- what tests do -----------------------------------------------------------------------------------------------

    def kill(self, component: str) -> None:
        """kill -9 of one of COMPONENTS; returns when it has ended."""
        self._running.discard(component)
        self._sandbox.kill(component)

    def restart(self, component: str) -> None:
        """Starts one again that was killed, as it was started before; the API server and etcd answer on return."""
        self._start(component)
        if component in ("etcd", "kube-apiserver"):
            self._wait("the API server is ready", self._asked.ready)

    def silence_node(self, node: str, *, kill: bool = False) -> None:
        """From now on the node says nothing and hears nothing. Its pods serve on; with `kill` they end at once."""
        self._order(do="silence", node=node, kill=kill)

    def wake_node(self, node: str) -> None:
        """The node goes on; containers that were killed are started again."""
        self._order(do="wake", node=node)

    def run_out_of_memory(self, namespace: str, pod: str, container: str) -> None:
        """The container ends as if the kernel had killed it for its memory: OOMKilled, exit status 137."""
        self._order(do="out_of_memory", namespace=namespace, pod=pod, container=container)

    def publish_image(self, image: str) -> None:
        """From now on nodes can pull it; it holds the stand-in engine."""
        self._order(do="publish", image=image)

    def run_beside(self, name: str, command: list[str]) -> None:
        """Starts a program beside the cluster, which reaches pods and gateway and ends with them."""
        self._sandbox.run(name, command)

    def make_claim(self, namespace: str, name: str) -> Path:
        """A volume, and a PersistentVolumeClaim of this name bound to it. Returns the folder that pods will see."""
        folder = self._claims / namespace / name
        folder.mkdir(parents=True)
        for collection, content in claim_objects(namespace, name, folder):
            self._create(collection, content)
        claim = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"

        def bound() -> bool:
            return bool(self._asked.call("GET", claim).json()["status"].get("phase") == "Bound")

        self._wait(f"claim {name} is bound", bound)
        return folder

    # --- its life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when the control plane, the nodes and the Gateway are ready. Raises LabError, and stops then."""
        try:
            self._begin()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends everything. May be called again."""
        if self._api is not None:
            self._api.close()
        self._sandbox.stop()

    def _begin(self) -> None:
        self._authority = Authority(self._certificates)
        proxy = self._authority.issue("envoy")
        self._gateway.prepare(self._authority, proxy)
        # Before the sandbox is made, its address is not known: the folder is shown as it is, and filled afterwards.
        self._sandbox.start()
        addresses = self._sandbox.addresses
        names = ("127.0.0.1", addresses.inside, addresses.bridge, addresses.first_service)
        server = self._authority.issue("server", addresses=names)
        show_certificates(self._shown, self._authority, server)
        self._plane = ControlPlane(
            binaries=self._binaries,
            addresses=addresses,
            authority=self._authority,
            server=server,
            tokens=self._authority.key_pair("service-accounts"),
            **self._identities(f"https://{addresses.inside}:{API_PORT}"),
        )
        self._api = NodeApi(self.url, self._certificates, "admin")
        for name, command in self._plane.commands().items():
            self._commands[name] = (command, {})
            if name in ("kube-controller-manager", "kube-scheduler"):
                self._wait("the API server is ready", self._asked.ready)
            self._start(name)
        self._start_nodes()
        self._define()
        self._open_gateway(proxy)
        self._wait("the nodes are ready", self._nodes_ready)

    def _identities(self, url: str) -> dict[str, Any]:
        """The kubeconfig files of those who ask the API server, and the certificate by which it asks nodes."""
        wanted = {
            "admin": ADMINISTRATORS,
            "system:kube-controller-manager": ADMINISTRATORS,
            "system:kube-scheduler": "",
            GATEWAY_CONTROLLER: ADMINISTRATORS,
        }
        files: dict[str, tuple[Identity, Path]] = {}
        for name, group in wanted.items():
            identity = self._authority.issue(name, group=group)
            files[name] = (identity, self._authority.kubeconfig(identity, url))
        return {
            "asks_nodes_as": files["admin"][0],
            "controllers": files["system:kube-controller-manager"][1],
            "scheduler": files["system:kube-scheduler"][1],
        }

    def _start_nodes(self) -> None:
        addresses = self._sandbox.addresses
        name = "lab-nodes"
        self._authority.issue(name, group=ADMINISTRATORS, addresses=(addresses.bridge,))
        command = [
            *(sys.executable, "-m", "tests.kubernetes.nodes", "--number", str(addresses.number)),
            *(
                "--api",
                self.url,
                "--certificates",
                str(self._certificates),
                "--logs",
                str(self._logs),
                "--volumes",
                str(self._volumes),
                *NODES,
            ),
        ]
        self._commands["nodes"] = (command, {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"})
        self._start("nodes")

    def _define(self) -> None:
        """Creates the custom resource definitions, and returns when the API server serves them."""
        contents = [json.loads(path.read_text()) for path in self._binaries.definitions]
        contents.sort(key=lambda one: one["kind"])
        with ThreadPoolExecutor(4) as several:
            list(several.map(self._create_definition, contents))
        names = {one["metadata"]["name"] for one in contents if one["kind"] == "CustomResourceDefinition"}
        self._wait("the definitions are established", lambda: names <= self._established())

    def _create_definition(self, content: dict[str, Any]) -> None:
        collection = {
            "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            "ValidatingAdmissionPolicyBinding": (
                "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"
            ),
        }[content["kind"]]
        self._create(collection, content)

    def _established(self) -> set[str]:
        listed = self._asked.call("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions").json()
        return {
            one["metadata"]["name"]
            for one in listed["items"]
            for condition in one.get("status", {}).get("conditions") or []
            if condition["type"] == "Established" and condition["status"] == "True"
        }

    def _open_gateway(self, proxy: Identity) -> None:
        for collection, content in self._gateway.objects(self._authority, proxy):
            self._wait(
                f"{content['kind']} {content['metadata']['name']} is created",
                lambda collection=collection, content=content: self._create(collection, content),  # type: ignore[misc]
            )
        self._commands[GATEWAY_CONTROLLER] = (
            [str(self._binaries.gateway), "server", f"--config-path={self._gateway.configuration}"],
            {
                "KUBECONFIG": str(self._certificates / f"{GATEWAY_CONTROLLER}.kubeconfig"),
                "ENVOY_GATEWAY_NAMESPACE": NAMESPACE,
            },
        )
        self._start(GATEWAY_CONTROLLER)
        self._wait("the gateway's controller starts Envoy", lambda: self._gateway.envoy_command() is not None)
        self._commands[ENVOY] = (self._gateway.envoy_command() or [], {})
        self._start(ENVOY)
        self._wait("Envoy listens for users", self._gateway_answers)

    # --- small parts -------------------------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        command, environment = self._commands[name]
        self._sandbox.run(name, command, environment)
        self._running.add(name)

    @property
    def _asked(self) -> NodeApi:
        assert self._api is not None, "the lab was not started"
        return self._api

    def _create(self, collection: str, content: dict[str, Any]) -> bool:
        """Whether it is there now. Its definition may be served a moment later than it is established."""
        answer = self._asked.call("POST", collection, content)
        if answer.status_code not in (201, 404, 409):
            raise LabError(f"POST {collection}: {answer.status_code} {answer.text[:500]}")
        return answer.status_code != 404

    def _nodes_ready(self) -> bool:
        listed = self._asked.call("GET", "/api/v1/nodes").json()
        ready = {
            one["metadata"]["name"]
            for one in listed["items"]
            for condition in one["status"].get("conditions") or []
            if condition["type"] == "Ready" and condition["status"] == "True"
            if not one["spec"].get("taints")
        }
        return ready >= set(NODES)

    def _gateway_answers(self) -> bool:
        try:
            return httpx.get(self.gateway_url, trust_env=False, timeout=5).status_code == 404
        except httpx.TransportError:
            return False

    def _order(self, **order: Any) -> None:
        address = f"http://{self._sandbox.addresses.inside}:{ORDERS_PORT}"
        answer = httpx.post(address, json=order, trust_env=False, timeout=30)
        if answer.status_code != 200:
            raise LabError(f"{order}: {answer.text}")

    def _wait(self, what: str, check: Callable[[], bool]) -> None:
        end = time.monotonic() + READY_SECONDS
        while not check():
            for name in self._running:
                if self._sandbox.exit_status(name) is not None:
                    raise LabError(f"{name} ended while waiting until {what}: {self.log(name)[-3000:]}")
            if time.monotonic() > end:
                raise LabError(f"waited {READY_SECONDS:g} s in vain until {what}; logs are in {self.folder}")
            time.sleep(0.05)


def claim_objects(namespace: str, name: str, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """(where to post it, object) of a folder of this machine as a volume, and of a claim that is bound to it."""
    volume = f"{namespace}-{name}"
    common = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",  # nobody makes volumes here: the claim takes the one that it names
    }
    return [
        (
            "/api/v1/persistentvolumes",
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": volume},
                "spec": {
                    **common,
                    "capacity": {"storage": "1Ti"},
                    "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": str(folder)},
                    "claimRef": {"namespace": namespace, "name": name},
                },
            },
        ),
        (
            f"/api/v1/namespaces/{namespace}/persistentvolumeclaims",
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {**common, "volumeName": volume, "resources": {"requests": {"storage": "1Ti"}}},
            },
        ),
    ]
