"""What a pod, as the API server tells of it, says about the engine in it. Pure; odd parts are taken as not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.container import ENGINE
from rollouts.adapters.clusters.kubernetes.objects import ROLE, WORKER
from rollouts.adapters.clusters.kubernetes.pod import FETCH, VERIFY
from rollouts.adapters.clusters.kubernetes.verify_files import DIFFERS

LONGEST_MESSAGE = 4096  # characters of a container's last words: Kubernetes keeps as many

# From which state of its workload a pod was made, as a Deployment and a LeaderWorkerSet note it.
STATE_LABELS = ("pod-template-hash", "leaderworkerset.sigs.k8s.io/template-revision-hash")

# Why a pod is not ready though all of its containers are, where its node is lost. Kubernetes' node lifecycle controller
# takes Ready away and gives no reason. A kubelet that still reports always gives one. NodeLost is of older clusters.
LOST_REASONS = frozenset({"", "NodeLost"})
GATE_REASON = "ReadinessGatesNotReady"


@dataclass(frozen=True, slots=True)
class End:
    """How a container ended. `message` are its last words, several lines."""

    code: int = 0
    reason: str = ""
    message: str = ""
    at: float | None = None


@dataclass(frozen=True, slots=True)
class ContainerSight:
    """A container now. Times are seconds since the epoch.

    waiting   why it does not run, by Kubernetes' word for it; empty: it does, or ended
    last      how it ended, or how the run before this one did
    """

    running_since: float | None = None
    waiting: str = ""
    words: str = ""
    last: End | None = None
    restarts: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class PodSight:
    """A pod now.

    answers      whether requests may reach it: one of several of a replica that only computes does not answer
    condition    its condition PodScheduled is false: (reason, words, since)
    node_lost    its node does not report any more
    unmet_gate   what its readiness waits for beside its containers, such as a load balancer; empty: nothing
    gates        names of what holds it back from being placed at all, such as a queue
    template     from which state of its workload it was made; empty: its controller does not say
    """

    name: str
    ready: bool
    stopping: bool
    over: bool
    engine: ContainerSight
    fetch: ContainerSight | None
    verify: ContainerSight | None
    answers: bool = True
    unplaced: tuple[str, str, float | None] | None = None
    node_lost: bool = False
    unmet_gate: str = ""
    gates: tuple[str, ...] = ()
    template: str = ""
    reason: str = ""
    words: str = ""

    @property
    def tampered(self) -> tuple[str, str] | None:
        """(path, detail) of the file that differs from the manifest; None when none does."""
        end = self.verify.last if self.verify is not None else None
        if end is None or end.code != DIFFERS:
            return None
        try:
            said = json.loads(end.message)
            return words_of(str(said["path"])), words_of(str(said["detail"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            return "of the version", "differs in the cluster from the manifest"


def sight_of(pod: Mapping[str, Any], fit: Callable[[str], str] = str, *, container: str = ENGINE) -> PodSight:
    """What the pod says. Never raises. The last words of its containers are told as `fit` gives them back.

    container  what is told of as its engine
    """
    metadata, status, spec = part(pod, "metadata"), part(pod, "status"), part(pod, "spec")
    labels = part(metadata, "labels")
    containers = {text(one, "name"): one for one in parts(status, "containerStatuses")}
    before = {text(one, "name"): one for one in parts(status, "initContainerStatuses")}
    conditions = {text(one, "type"): one for one in parts(status, "conditions")}
    ready, inside = conditions.get("Ready", {}), conditions.get("ContainersReady", {})
    placed = conditions.get("PodScheduled", {})
    return PodSight(
        name=text(metadata, "name"),
        ready=text(ready, "status") == "True",
        stopping=bool(text(metadata, "deletionTimestamp")),
        over=text(status, "phase") in ("Failed", "Succeeded"),
        engine=_container(containers.get(container, {}), fit),
        fetch=_container(before[FETCH], fit) if FETCH in before else None,
        verify=_container(before[VERIFY], fit) if VERIFY in before else None,
        answers=text(labels, ROLE) != WORKER,
        unplaced=(
            text(placed, "reason"),
            words_of(text(placed, "message")),
            seconds_of(text(placed, "lastTransitionTime")),
        )
        if text(placed, "status") == "False"
        else None,
        # A node that falls silent: its pods are said to be not ready, while their containers still count as ready.
        node_lost=text(status, "reason") == "NodeLost"
        or (
            text(ready, "status") == "False"
            and text(inside, "status") == "True"
            and text(ready, "reason") in LOST_REASONS
        ),
        unmet_gate=words_of(text(ready, "message")) or GATE_REASON
        if text(ready, "status") == "False" and text(ready, "reason") == GATE_REASON
        else "",
        gates=tuple(text(one, "name") for one in parts(spec, "schedulingGates")),
        template=next(filter(None, (text(labels, one) for one in STATE_LABELS)), ""),
        reason=text(status, "reason"),
        words=words_of(text(status, "message")),
    )


def seconds_of(written: str) -> float | None:
    """Seconds since the epoch of a time as Kubernetes writes it; None for what is none."""
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _container(status: Mapping[str, Any], fit: Callable[[str], str]) -> ContainerSight:
    state, before = part(status, "state"), part(status, "lastState")
    waiting, running = part(state, "waiting"), part(state, "running")
    ended = part(state, "terminated")
    last = ended or part(before, "terminated")
    restarts = status.get("restartCount")
    return ContainerSight(
        running_since=seconds_of(text(running, "startedAt")),
        waiting=text(waiting, "reason"),
        words=words_of(text(waiting, "message")),
        last=_end(last, fit) if last else None,
        restarts=restarts if isinstance(restarts, int) and restarts >= 0 else 0,
        ended=bool(ended),
    )


def _end(status: Mapping[str, Any], fit: Callable[[str], str]) -> End:
    code = status.get("exitCode")
    return End(
        code=code if isinstance(code, int) else 0,
        reason=text(status, "reason"),
        message=fit(text(status, "message")[:LONGEST_MESSAGE]),
        at=seconds_of(text(status, "finishedAt")),
    )


def part(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object in that field; an empty one where there is none."""
    found = raw.get(name)
    return found if isinstance(found, Mapping) else {}


def parts(raw: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """The objects of the list in that field."""
    found = raw.get(name)
    for one in found if isinstance(found, list) else []:
        if isinstance(one, Mapping):
            yield one


def text(raw: Mapping[str, Any], name: str) -> str:
    """The text in that field; an empty one where there is none."""
    found = raw.get(name)
    return found if isinstance(found, str) else ""
