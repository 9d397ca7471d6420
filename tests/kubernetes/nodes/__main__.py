"""The nodes' process.

python -m tests.kubernetes.nodes --number 180 --api URL --certificates FOLDER --logs FOLDER --volumes FOLDER NODE...
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from pathlib import Path
from typing import Any

from tests.kubernetes.nodes.api import MERGE, NodeApi, now, now_exactly
from tests.kubernetes.nodes.images import Images
from tests.kubernetes.nodes.networks import Networks
from tests.kubernetes.nodes.pods import House, RunningPod
from tests.kubernetes.nodes.serving import KUBELET_PORT, serve_logs, serve_orders
from tests.kubernetes.nodes.volumes import Volumes
from tests.kubernetes.sandbox import Addresses

LEASE_SECONDS = 3
IDENTITY = "lab-nodes"
GPUS = "8"
GPU_PRODUCT = "NVIDIA-H200"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Nodes:
    """All nodes, and the pods that are bound to them."""

    def __init__(self, names: list[str], house: House) -> None:
        self._names = names
        self._house = house
        self._pods: dict[str, RunningPod] = {}
        self._lock = threading.Lock()

    def register(self) -> None:
        for name in self._names:
            labels = {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "nvidia.com/gpu.product": GPU_PRODUCT,
            }
            self._house.api.call("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
            self._tell_status(name)
            self._renew(name)

    def renew_leases(self) -> None:
        """For ever. A node that was taken for lost, because the API server was away, says that it is there."""
        while True:
            time.sleep(LEASE_SECONDS)
            for name in self._names:
                if name not in self._house.silent:
                    self._renew(name)
                    if not self._taken_for_ready(name):
                        self._tell_status(name)

    def follow_pods(self) -> None:
        """For ever. It starts the pods' threads, which must not end before their containers do: nor does this one."""
        for what, told in self._house.api.pods():
            with self._lock:
                for uid in [uid for uid, pod in self._pods.items() if pod.finished.is_set()]:
                    del self._pods[uid]
                if what == "LIST":
                    here = {pod["metadata"]["uid"] for pod in told}
                    for pod in told:
                        self._see(pod)
                    for uid in self._pods.keys() - here:
                        self._pods[uid].gone.set()
                elif what == "DELETED":
                    running = self._pods.get(told["metadata"]["uid"])
                    if running:
                        running.gone.set()
                else:
                    self._see(told)

    def obey(self, order: dict[str, Any]) -> Any:
        """Carries out a test's order; raises LookupError or ValueError with the reason when it cannot."""
        do = order["do"]
        if do == "silence":
            self._silence(order["node"], order["kill"])
        elif do == "wake":
            self._wake(order["node"])
        elif do == "out_of_memory":
            container = self._pod(order["namespace"], order["pod"]).container(order["container"])
            if container is None:
                raise LookupError(f"pod {order['pod']} has no container {order['container']}")
            container.lose_memory()
        elif do == "publish":
            self._house.images.publish(order["image"])
        else:
            raise ValueError(f"{do}: no such order")

    def log(self, namespace: str, pod: str, container: str, previous: bool) -> Path | None:
        """The file that holds a container's output."""
        try:
            found = self._pod(namespace, pod).container(container)
        except LookupError:
            return None
        if found is None:
            return None
        return found.previous_log if previous else found.log

    def _see(self, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("nodeName") not in self._names:
            return
        if uid not in self._pods:
            ended = pod["status"].get("phase") in ("Succeeded", "Failed")
            if ended and not pod["metadata"].get("deletionTimestamp"):
                return
            self._pods[uid] = RunningPod(pod, self._house)
            self._pods[uid].see(pod)
            self._pods[uid].start()
        else:
            self._pods[uid].see(pod)

    def _silence(self, node: str, kill: bool) -> None:
        if node not in self._names:
            raise LookupError(f"no node {node}; there are {', '.join(self._names)}")
        self._house.silent.add(node)
        if kill:
            with self._lock:
                lost = [pod for pod in self._pods.values() if pod.node == node]
            for pod in lost:
                pod.kill()

    def _wake(self, node: str) -> None:
        self._house.silent.discard(node)
        self._tell_status(node)
        self._renew(node)

    def _pod(self, namespace: str, name: str) -> RunningPod:
        with self._lock:
            for pod in self._pods.values():
                if pod.name_in_namespace == (namespace, name) and not pod.finished.is_set():
                    return pod
        raise LookupError(f"no pod {namespace}/{name} runs here")

    def _taken_for_ready(self, name: str) -> bool:
        told = self._house.api.call("GET", f"/api/v1/nodes/{name}").json().get("status") or {}
        return any(c["type"] == "Ready" and c["status"] == "True" for c in told.get("conditions", []))

    def _renew(self, name: str) -> None:
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now_exactly()}
        if self._house.api.call("PATCH", f"{LEASES}/{name}", {"spec": spec}, MERGE).status_code == 404:
            self._house.api.call("POST", LEASES, {"metadata": {"name": name}, "spec": spec})

    def _tell_status(self, name: str) -> None:
        capacity = {
            "cpu": "32",
            "memory": "256Gi",
            "ephemeral-storage": "500Gi",
            "pods": "110",
            "nvidia.com/gpu": GPUS,
        }
        conditions = [
            {
                "type": kind,
                "status": str(kind == "Ready"),
                "reason": reason,
                "message": reason,
                "lastHeartbeatTime": now(),
                "lastTransitionTime": now(),
            }
            for kind, reason in (
                ("Ready", "KubeletReady"),
                ("MemoryPressure", "KubeletHasSufficientMemory"),
                ("DiskPressure", "KubeletHasNoDiskPressure"),
                ("PIDPressure", "KubeletHasSufficientPID"),
            )
        ]
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": conditions,
            "addresses": [
                {"type": "InternalIP", "address": self._house.host},
                {"type": "Hostname", "address": name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT + self._names.index(name)}},
            "nodeInfo": {
                "kubeletVersion": "v1.36.3",
                "containerRuntimeVersion": "lab://1",
                "kernelVersion": os.uname().release,
                "osImage": "lab",
                "operatingSystem": "linux",
                "architecture": "amd64",
                "machineID": name,
                "systemUUID": name,
                "bootID": name,
                "kubeProxyVersion": "",
            },
        }
        self._house.api.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, MERGE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.kubernetes.nodes")
    parser.add_argument("--number", type=int, required=True, help="of the sandbox")
    parser.add_argument("--api", required=True)
    parser.add_argument("--certificates", type=Path, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--volumes", type=Path, required=True)
    parser.add_argument("nodes", nargs="+")
    given = parser.parse_args()
    addresses = Addresses(given.number)
    silent: set[str] = set()
    api = NodeApi(given.api, given.certificates, IDENTITY)
    house = House(
        api=api,
        images=Images(),
        networks=Networks(addresses),
        volumes=Volumes(api, given.volumes),
        logs=given.logs,
        host=addresses.bridge,
        silent=silent,
    )
    nodes = Nodes(given.nodes, house)
    shown = tuple(given.certificates / name for name in ("ca.crt", f"{IDENTITY}.crt", f"{IDENTITY}.key"))
    for index, name in enumerate(given.nodes):
        serve_logs(
            (addresses.bridge, KUBELET_PORT + index),
            (shown[0], shown[1], shown[2]),
            lambda name=name: name in silent,  # type: ignore[misc]
            nodes.log,
        )
    nodes.register()
    threading.Thread(target=nodes.renew_leases, daemon=True).start()
    serve_orders(addresses.inside, nodes.obey)
    nodes.follow_pods()


main()
