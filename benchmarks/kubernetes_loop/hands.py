"""Plays what a cluster does beside its API server: makes the pods of Deployments and says how they are, as controllers
and a kubelet do, and says that it has each route, as a gateway's controller does.

Pods of a baseline are ready at once. Those of a candidate load for a while; when one became ready, and when its route
first gave it a share, is noted.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from benchmarks.kubernetes_loop.server import ApiServer
from tests.kubernetes.nodes.api import MERGE, now

CANDIDATE = "-v2-"  # in the name of a variant that is rolled out
LOADS_SECONDS = (3.0, 6.0)
FAINT = 1  # the weight of who is only made known to the proxies (`gateway_api/steps.py`)
GATEWAY = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "edge", "name": "public"}
CONTROLLER = "example.com/played"


class Hands:
    """See the module. All works in threads of its own, from `start` to `stop`.

    ready_at, moved_at   by variant, in seconds of a steady clock
    """

    def __init__(self, server: ApiServer, *, threads: int = 4) -> None:
        self.ready_at: dict[str, float] = {}
        self.moved_at: dict[str, float] = {}
        self._api = server.api
        core, apps = f"/api/v1/namespaces/{server.namespace}", "/apis/apps/v1"
        self._pods = f"{core}/pods"
        self._deployments = f"{apps}/namespaces/{server.namespace}/deployments"
        self._slices = f"/apis/discovery.k8s.io/v1/namespaces/{server.namespace}/endpointslices"
        self._routes = f"/apis/gateway.networking.k8s.io/v1/namespaces/{server.namespace}/httproutes"
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="hands")
        self._made: set[str] = set()
        self._over = threading.Event()

    def start(self) -> None:
        for path, see in ((self._deployments, self._see_deployment), (self._routes, self._see_route)):
            threading.Thread(target=self._follow, args=(path, see), daemon=True).start()

    def stop(self) -> None:
        """Nothing more is done; the API server may go."""
        self._over.set()
        self._pool.shutdown(cancel_futures=True)

    def _follow(self, path: str, see: Callable[[dict[str, Any]], None]) -> None:
        for one in self._changes(path):
            see(one)

    def _changes(self, path: str) -> Iterator[dict[str, Any]]:
        """All objects, then each one that changes; from the beginning where the watch was lost."""
        client = self._api._client
        while not self._over.is_set():
            try:
                listed = client.get(path).json()
                yield from listed["items"]
                asked = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
                with client.stream("GET", path, params=asked, timeout=httpx.Timeout(5, read=None)) as stream:
                    for line in stream.iter_lines():
                        event = json.loads(line)
                        if event["type"] in ("ADDED", "MODIFIED"):
                            yield event["object"]
            except (
                httpx.HTTPError,
                ValueError,
                KeyError,
                RuntimeError,
            ):  # the last one: the client was closed
                time.sleep(0.3)

    # --- controllers and a kubelet ----------------------------------------------------------------------------------

    def _see_deployment(self, deployment: dict[str, Any]) -> None:
        name = deployment["metadata"]["name"]
        if name not in self._made:
            self._made.add(name)
            self._pool.submit(_told, self._run, deployment)

    def _run(self, deployment: dict[str, Any]) -> None:
        """Its one pod, ready at once or after a while."""
        template, name = deployment["spec"]["template"], deployment["metadata"]["name"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": f"{name}-0"},
            "spec": {**template["spec"], "nodeName": "played"},
        }
        self._asked("POST", self._pods, pod)
        if CANDIDATE not in name:
            self._set_ready(name, deployment)
            return
        self._say_pod(name, ready=False)
        timer = threading.Timer(
            random.SystemRandom().uniform(*LOADS_SECONDS), _told, (self._set_ready, name, deployment)
        )
        timer.daemon = True
        timer.start()

    def _set_ready(self, name: str, deployment: dict[str, Any]) -> None:
        self._say_pod(name, ready=True)
        self.ready_at[name] = time.monotonic()
        endpoint = {"addresses": ["10.0.0.1"], "conditions": {"ready": True}}
        labels = {"kubernetes.io/service-name": name}
        piece = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-0", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [endpoint],
        }
        self._asked("POST", self._slices, piece)
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        whole = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": ""}
        status = {
            **counts,
            "observedGeneration": deployment["metadata"]["generation"],
            "conditions": [{**whole, "lastTransitionTime": now(), "lastUpdateTime": now()}],
        }
        self._asked("PATCH", f"{self._deployments}/{name}/status", {"status": status}, MERGE)

    def _say_pod(self, name: str, *, ready: bool) -> None:
        truth = "True" if ready else "False"
        kinds = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": truth, "Ready": truth}
        status = {
            "phase": "Running",
            "conditions": [
                {"type": kind, "status": said, "lastTransitionTime": now()} for kind, said in kinds.items()
            ],
            "containerStatuses": [
                {
                    "name": "engine", "ready": ready, "restartCount": 0, "image": "played", "imageID": "",
                    "state": {"running": {"startedAt": now()}},
                }
            ],
        }  # fmt: skip
        self._asked("PATCH", f"{self._pods}/{name}-0/status", {"status": status}, MERGE)

    # --- a gateway --------------------------------------------------------------------------------------------------

    def _see_route(self, route: dict[str, Any]) -> None:
        at = time.monotonic()
        for rule in route["spec"]["rules"]:
            if any("headers" in match for match in rule["matches"]):
                continue
            for backend in rule["backendRefs"]:
                if CANDIDATE in backend["name"] and backend["weight"] > FAINT:
                    self.moved_at.setdefault(backend["name"], at)
        generation = route["metadata"]["generation"]
        parents = route.get("status", {}).get("parents") or []
        if any(one["conditions"][0]["observedGeneration"] >= generation for one in parents):
            return
        conditions = [
            {
                "type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": generation,
                "lastTransitionTime": now(),
            }
            for kind in ("Accepted", "ResolvedRefs")
        ]  # fmt: skip
        said = {"parentRef": GATEWAY, "controllerName": CONTROLLER, "conditions": conditions}
        where = f"{self._routes}/{route['metadata']['name']}/status"
        self._pool.submit(_told, self._asked, "PATCH", where, {"status": {"parents": [said]}}, MERGE)

    def _asked(self, method: str, path: str, body: dict[str, Any], kind: str = "application/json") -> None:
        answer = self._api.call(method, path, body, kind)
        if answer.status_code not in (200, 201, 409):
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")


def _told(do: Callable[..., None], *arguments: Any) -> None:
    """Does it; what goes wrong is printed, for nobody waits for it."""
    try:
        do(*arguments)
    except Exception as error:  # the boundary of a thread
        print(f"hands: {type(error).__name__}: {error}", flush=True)
