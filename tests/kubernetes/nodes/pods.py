"""The life of one pod on a node of the lab."""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kubernetes.nodes.api import MERGE, NodeApi, now
from tests.kubernetes.nodes.containers import Container
from tests.kubernetes.nodes.environments import environment_of
from tests.kubernetes.nodes.images import Images
from tests.kubernetes.nodes.networks import Networks
from tests.kubernetes.nodes.probes import Probes
from tests.kubernetes.nodes.volumes import Volume, Volumes, mounts_of

TURN_SECONDS = 0.1
PULLED_AGAIN_SECONDS = 2.0
OWN_CONDITIONS = ("PodScheduled", "Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready")


@dataclass(frozen=True)
class House:
    """What all pods of the lab share. A node whose name is in `silent` says nothing and is told nothing."""

    api: NodeApi
    images: Images
    networks: Networks
    volumes: Volumes
    logs: Path
    host: str
    silent: set[str]


class RunningPod:
    """Looks after one pod from the moment it is bound to a node until it is gone from the API.

    `deleting` is set when it shall end, `gone` when the API has it no longer, `finished` at the very end.
    """

    def __init__(self, pod: dict[str, Any], house: House) -> None:
        named = pod["metadata"]
        self.pod = pod
        self.uid: str = named["uid"]
        self.node: str = pod["spec"]["nodeName"]
        self.deleting = threading.Event()
        self.gone = threading.Event()
        self.finished = threading.Event()
        self._house = house
        self._path = f"/api/v1/namespaces/{named['namespace']}/pods/{named['name']}"
        self._since = now()
        self._address = ""
        self._volumes: dict[str, Volume] = {}
        self._initialized = False
        self._sent: dict[str, Any] | None = None
        self._changed: dict[str, tuple[bool, str]] = {}  # condition -> its value, and since when
        logs = house.logs / f"{named['namespace']}_{named['name']}"
        network = house.networks.path(self.uid)
        self._first = [
            Container(spec, network=network, logs=logs) for spec in pod["spec"].get("initContainers", [])
        ]
        self._containers = [Container(spec, network=network, logs=logs) for spec in pod["spec"]["containers"]]
        self._probes: dict[str, Probes] = {}

    @property
    def name_in_namespace(self) -> tuple[str, str]:
        return self.pod["metadata"]["namespace"], self.pod["metadata"]["name"]

    def container(self, name: str) -> Container | None:
        return next((one for one in [*self._first, *self._containers] if one.name == name), None)

    def see(self, pod: dict[str, Any]) -> None:
        """The pod as the API has it now."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self.deleting.set()

    def kill(self) -> None:
        """All its processes, at once."""
        for container in [*self._first, *self._containers]:
            container.kill()

    def start(self) -> None:
        """Its thread ends with the pod."""
        threading.Thread(target=self._live, name=self.pod["metadata"]["name"], daemon=True).start()

    def _live(self) -> None:
        try:
            if self._pull() and self._mount():
                self._address = self._house.networks.add(self.uid)
                self._report()
                if self._run_first():
                    self._run_all()
            self._end()
        except Exception:  # it is one pod's, and the others go on
            traceback.print_exc()
        finally:
            self.kill()
            self._house.networks.remove(self.uid)
            self._house.volumes.remove(self.uid)
            self.finished.set()

    # --- the parts of its life ---------------------------------------------------------------------------------------

    def _pull(self) -> bool:
        """True when all images are there; False when it was deleted before."""
        told = False
        while not self._over():
            if self.node in self._house.silent:
                time.sleep(TURN_SECONDS)
                continue
            missing = [
                one for one in [*self._first, *self._containers]
                if self._house.images.find(one.spec["image"]) is None
            ]  # fmt: skip
            if not missing:
                return True
            for one in missing:
                message = f'failed to pull image "{one.spec["image"]}": {one.spec["image"]}: not found'
                if not told:
                    one.state = {"waiting": {"reason": "ErrImagePull", "message": message}}
                    self._tell("Failed", message, warning=True)
                else:
                    again = f'Back-off pulling image "{one.spec["image"]}": ErrImagePull: {message}'
                    one.state = {"waiting": {"reason": "ImagePullBackOff", "message": again}}
            told = True
            self._report()
            self._wait(PULLED_AGAIN_SECONDS)
        return False

    def _mount(self) -> bool:
        """True when all volumes are there; False when it was deleted before."""
        told = ""
        while not self._over():
            try:
                self._volumes = self._house.volumes.make(self.pod)
                return True
            except LookupError as problem:
                if told != str(problem.args[0]):
                    told = str(problem.args[0])
                    self._tell("FailedMount", told, warning=True)
            self._report()
            self._wait(PULLED_AGAIN_SECONDS)
        return False

    def _run_first(self) -> bool:
        """Init containers, one after the other. False when one failed for good, or the pod was deleted."""
        for container in self._first:
            self._start(container)
            while not (container.ended and container.state["terminated"]["exitCode"] == 0):
                if self._over() or (container.ended and self._policy == "Never"):
                    return False
                self._go_on(container, "Never" if self._policy == "Never" else "OnFailure")
                self._report()
                time.sleep(TURN_SECONDS)
        self._initialized = True
        return True

    def _run_all(self) -> None:
        """Until it is deleted or all its containers ended for good."""
        for container in self._containers:
            self._start(container)
        while not self._over():
            if self.node not in self._house.silent:
                for container in self._containers:
                    self._go_on(container, self._policy)
                self._report()
                if all(container.ended for container in self._containers):
                    self._wait(None)
                    return
            time.sleep(TURN_SECONDS)

    def _end(self) -> None:
        """preStop, SIGTERM, the grace period, SIGKILL; then the API may forget it."""
        if not self.deleting.is_set() and not self.gone.is_set():
            self._report()
            self._wait(None)  # it failed, and is kept until somebody deletes it
        grace = self.pod["metadata"].get("deletionGracePeriodSeconds", 30)
        end = time.monotonic() + grace
        running = [one for one in [*self._first, *self._containers] if one.running]
        if running:
            self._tell("Killing", f"Stopping container {running[0].name}")
        stopping = [
            threading.Thread(target=self._stop, args=(container, end), daemon=True) for container in running
        ]
        for thread in stopping:
            thread.start()
        while any(container.running for container in running):
            if time.monotonic() > end or self.gone.is_set():
                self.kill()
            for container in running:
                if container in self._containers and container.running and container.started:
                    self._judge_readiness(container)
            self._report()
            time.sleep(TURN_SECONDS / 2)
        for container in running:
            container.note_end()
        if self.gone.is_set():
            return
        self._report()
        while self.node in self._house.silent:
            time.sleep(TURN_SECONDS)
        self._house.api.call(
            "DELETE", self._path, {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        )

    def _stop(self, container: Container, end: float) -> None:
        hook = container.spec.get("lifecycle", {}).get("preStop", {})
        left = max(0.1, end - time.monotonic())
        if "sleep" in hook:
            time.sleep(min(hook["sleep"]["seconds"], left))
        elif hook:
            self._probes[container.name].ask(hook, left)
        container.terminate()

    # --- one container, once ----------------------------------------------------------------------------------------

    @property
    def _policy(self) -> str:
        return str(self.pod["spec"].get("restartPolicy", "Always"))

    def _start(self, container: Container) -> None:
        spec, house = container.spec, self._house
        image = house.images.find(spec["image"])
        assert image is not None, "it was pulled"
        try:
            environment = environment_of(house.api, self.pod, spec, self._address)
            mounts = mounts_of(spec, self._volumes)
        except LookupError as problem:
            container.state = {
                "waiting": {"reason": "CreateContainerConfigError", "message": str(problem.args[0])}
            }
            return
        environment = {"PATH": image.path, **image.environment, **environment}
        argv = [*spec.get("command", image.entrypoint), *spec.get("args", [])]
        container.start(
            [_expanded(word, environment) for word in argv],
            environment,
            mounts=mounts,
            kept=image.kept,
            last_words=house.volumes.last_words(self.uid, container.name),
            scratch=house.volumes.scratch(self.uid),
        )
        self._probes[container.name] = Probes(container, self._address)
        self._tell("Started", f"Started container {container.name}")

    def _go_on(self, container: Container, policy: str) -> None:
        """One turn: its probes while it runs, its end when it ended, another start when it is time for that."""
        if container.running:
            self._judge(container)
        elif "running" in container.state:
            container.note_end()
            failed = container.state["terminated"]["exitCode"] != 0
            if policy == "Always" or (failed and policy == "OnFailure"):
                named = f"{container.name} in pod {self.pod['metadata']['name']}"
                message = f"back-off {container.back_off_seconds:g}s restarting failed container={named}"
                container.back_off(message)
                self._tell("BackOff", message, warning=True)
        elif "waiting" in container.state and time.monotonic() >= container.again_at:
            if container.last:
                container.restarts += 1
            container.again_at = (
                time.monotonic() + 1
            )  # a container that cannot be configured is tried every second
            self._start(container)

    def _judge(self, container: Container) -> None:
        probes = self._probes[container.name]
        if not container.started:
            verdict = probes.verdict("startupProbe")
            if verdict:
                container.started = True
            elif verdict is False:
                self._tell("Unhealthy", "Startup probe failed", warning=True)
                self._restart(container, "failed startup probe")
            return
        self._judge_readiness(container)
        if probes.verdict("livenessProbe") is False:
            self._tell("Unhealthy", "Liveness probe failed", warning=True)
            self._restart(container, "failed liveness probe")

    def _judge_readiness(self, container: Container) -> None:
        if "readinessProbe" not in container.spec:
            container.ready = True
            return
        verdict = self._probes[container.name].verdict("readinessProbe")
        if verdict is False and container.ready:
            self._tell("Unhealthy", "Readiness probe failed", warning=True)
        if verdict is not None:
            container.ready = verdict

    def _restart(self, container: Container, why: str) -> None:
        """Ends a container that a probe gave up; this pod's turn goes on when it has ended."""
        self._tell("Killing", f"Container {container.name} {why}, will be restarted")
        grace = self.pod["spec"].get("terminationGracePeriodSeconds", 30)
        end = time.monotonic() + grace
        container.ready = False
        self._report()
        container.terminate()
        while container.running and time.monotonic() < end and not self._over():
            time.sleep(TURN_SECONDS)
        container.kill()

    # --- what the API hears -----------------------------------------------------------------------------------------

    def _over(self) -> bool:
        """Whether it shall end. A node that hears nothing does not know."""
        if self.gone.is_set() or self.deleting.is_set():
            return self.node not in self._house.silent
        return False

    def _wait(self, seconds: float | None) -> None:
        """Until it shall end, or for so long."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self._over() and (end is None or time.monotonic() < end):
            time.sleep(TURN_SECONDS)

    def _tell(self, reason: str, message: str, *, warning: bool = False) -> None:
        if self.node not in self._house.silent:
            self._house.api.event(self.pod, reason, message, warning=warning)

    def _phase(self) -> str:
        ended = [one.state.get("terminated") for one in self._containers]
        if all(ended):
            return "Failed" if any(one and one["exitCode"] for one in ended) else "Succeeded"
        failed_first = any(
            one.ended and one.state["terminated"]["exitCode"] and self._policy == "Never"
            for one in self._first
        )
        if failed_first:
            return "Failed"
        begun = any(one.running or one.restarts or one.last or one.ended for one in self._containers)
        return "Running" if begun else "Pending"

    def _condition(self, name: str, holds: bool) -> dict[str, Any]:
        if self._changed.get(name, (None, ""))[0] != holds:
            self._changed[name] = (holds, now())
        told = {
            "type": name,
            "status": str(holds),
            "lastTransitionTime": self._changed[name][1],
        }
        return told if holds else told | {"reason": "ContainersNotReady"}

    def _report(self) -> None:
        """Writes the status when it changed, and again when somebody else wrote over it: the controllers call a pod not
        ready whose node was silent, and its node says what is."""
        if self.node in self._house.silent or self.gone.is_set():
            return
        ready = all(container.ready for container in self._containers)
        others = [
            one
            for one in self.pod.get("status", {}).get("conditions", [])
            if one["type"] not in OWN_CONDITIONS
        ]
        host = self._house.host
        status: dict[str, Any] = {
            "phase": self._phase(),
            "hostIP": host,
            "hostIPs": [{"ip": host}],
            "startTime": self._since,
            "conditions": [
                self._condition("PodScheduled", True),
                self._condition("PodReadyToStartContainers", bool(self._address)),
                self._condition("Initialized", self._initialized or not self._first),
                self._condition("ContainersReady", ready),
                self._condition("Ready", ready),
                *others,
            ],
            "containerStatuses": [container.status() for container in self._containers],
        }
        if self._first:
            status["initContainerStatuses"] = [container.status() for container in self._first]
        if self._address:
            status |= {"podIP": self._address, "podIPs": [{"ip": self._address}]}
        if status != self._sent or self._is_overwritten(status):
            self._house.api.call(
                "PATCH", f"{self._path}/status", {"metadata": {"uid": self.uid}, "status": status}, MERGE
            )
            self._sent = status

    def _is_overwritten(self, status: dict[str, Any]) -> bool:
        there = {one["type"]: one["status"] for one in self.pod.get("status", {}).get("conditions", [])}
        return any(there.get(one["type"], one["status"]) != one["status"] for one in status["conditions"])


def _expanded(word: str, environment: dict[str, str]) -> str:
    """With $(NAME) replaced and $$ become $, as Kubernetes does in commands and arguments."""
    parts = word.split("$$")
    for name, value in environment.items():
        parts = [part.replace(f"$({name})", value) for part in parts]
    return "$".join(parts)
