"""From what a cluster says of a variant to a phase and words for people. Pure.

*Blocked* is not *failed*: a pod that no node has room for, a quota that is used up, an image that cannot be pulled
right now may all be freed. It is said in the cluster's own words, since when, and the loop's deadline ends it. FAILED
is what the same objects will do again: a file that differs, an engine that cannot load this model or finds too little
memory, an engine that ends again and again. A time is written as a moment, so that the words stay the same while
nothing happens.

A Deployment says `Available` with no ready pod, and `updatedReplicas == replicas` while old pods still serve. So pods
are counted one by one, and a launch is whole only when total, updated and available are all as many as there should be,
of the newest generation, with no pod that is being stopped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.engines.symptoms import explain
from rollouts.adapters.clusters.engines.template import EngineTemplate
from rollouts.adapters.clusters.kubernetes.pod_reading import PodSight, part, parts, seconds_of, text
from rollouts.domain.engines import CRASH_RESTARTS, FailureReason, WorkloadPhase

FETCH_SECONDS = 3_600  # that bringing the files may take before the engine's own time runs all the same
IMAGE_TROUBLE = frozenset({"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "ImageInspectError"})
CONFIG_TROUBLE = frozenset({"CreateContainerConfigError", "CreateContainerError"})
BAD_IMAGE = frozenset({"InvalidImageName", "ErrImageNeverPull"})
NO_PROGRAM = frozenset({"StartError", "ContainerCannotRun"})
OUT_OF_MEMORY = "OOMKilled"
EVICTED = "Evicted"
OWN_LIMIT = re.compile(r"exceed(?:s|ed) (?:the|its) .*limit")  # its own, and not what a node is short of
# What an engine that never answered will do again.
LASTING = frozenset(
    {FailureReason.NO_MEMORY, FailureReason.BAD_MODEL, FailureReason.BAD_SPEC, FailureReason.NO_ENGINE}
)


@dataclass(frozen=True, slots=True)
class WorkloadSight:
    """What a Deployment or a LeaderWorkerSet says of itself.

    settled     total, updated and available are all as many as there should be, of the newest generation
    was_whole   it was so once, since it was made
    refused     why no pod could be made, and since when; empty: they could
    desired     replicas that there should be
    pods        pods that there should be: several for each replica of a group
    scaled      who set another count by hand, as a sentence
    """

    settled: bool = False
    was_whole: bool = False
    refused: str = ""
    refused_since: float | None = None
    overdue: str = ""
    desired: int = 1
    pods: int = 1
    scaled: str = ""
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """As `rollouts.ports.WorkloadStatus` has it. `blocked`: it waits for something that may come."""

    phase: WorkloadPhase
    ready: int = 0
    restarts: int = 0
    started_at: float | None = None
    reason: FailureReason = FailureReason.NONE
    message: str = ""
    files_at: float | None = None
    blocked: bool = False


def workload_of(raw: Mapping[str, Any], *, least: int = 1, scaled: str = "") -> WorkloadSight:
    """What the workload's object says. Never raises.

    least   replicas that were asked for: fewer are not enough, whoever set the object's own count
    scaled  who set the count by hand, as a sentence; empty when nobody did
    """
    metadata, spec, status = (part(raw, name) for name in ("metadata", "spec", "status"))
    conditions = {text(one, "type"): one for one in parts(status, "conditions")}
    desired = max(least, _count(spec, "replicas", 1))
    is_group = raw.get("kind") == "LeaderWorkerSet"
    available = _count(status, "readyReplicas" if is_group else "availableReplicas")
    same = _count(status, "replicas") == _count(status, "updatedReplicas") == available == desired
    observed = is_group or _count(status, "observedGeneration") >= _count(metadata, "generation", 1)
    failing, progress = conditions.get("ReplicaFailure", {}), conditions.get("Progressing", {})
    refused = failing.get("status") == "True"
    return WorkloadSight(
        settled=same and observed and desired > 0,
        was_whole=progress.get("reason") == "NewReplicaSetAvailable" or (is_group and same),
        refused=words_of(text(failing, "message")) if refused else "",
        refused_since=seconds_of(text(failing, "lastTransitionTime")) if refused else None,
        overdue=words_of(text(progress, "message"))
        if progress.get("reason") == "ProgressDeadlineExceeded"
        else "",
        desired=desired,
        pods=desired * max(1, _count(part(spec, "leaderWorkerTemplate"), "size", 1)),
        scaled=scaled,
        stopping=bool(metadata.get("deletionTimestamp")),
    )


def diagnose(
    workload: WorkloadSight | None,
    pods: Sequence[PodSight],
    warnings: Mapping[str, str],
    template: EngineTemplate,
    *,
    draining: bool,
    now: float,
    refused: str = "",
) -> Diagnosis:
    """Phase and words.

    workload  None: its anchor is there, and it is not yet, or no more
    pods      all of the variant
    warnings  by pod, the cluster's latest warning about it
    draining  it was told to end
    now       seconds since the epoch
    refused   why a pod could not be made, as a sentence; empty: nobody says so. It counts while there are too few
    """
    alive = [pod for pod in pods if not pod.stopping and not pod.over]
    answering = [pod for pod in alive if pod.answers]
    sight = workload or WorkloadSight()
    ready = sum(pod.ready for pod in answering)
    stopping = any(pod.stopping for pod in pods)
    if ready >= sight.desired and not sight.was_whole and (not sight.settled or stopping):
        ready = max(0, sight.desired - 1)  # as strict as a launch has to be
    restarts = max((pod.engine.restarts for pod in alive), default=0)
    started = [pod.engine.running_since for pod in alive if pod.engine.running_since is not None]
    started_at = max(started, default=None)
    files_at = _files_at(pods, now) or (None if started_at is None else min(now, started_at))
    if draining or sight.stopping:
        return Diagnosis(WorkloadPhase.DRAINING, 0, restarts, started_at, files_at=files_at)
    failure = None if ready else _failure(pods, alive, sight, template)
    if failure is not None:
        reason, words = failure
        return Diagnosis(WorkloadPhase.FAILED, 0, restarts, None, reason, words, files_at)
    words, blocked = _why(sight, pods, alive, warnings, template, refused)
    if ready:
        whole = ready >= sight.desired
        return Diagnosis(
            WorkloadPhase.READY,
            ready,
            restarts,
            started_at,
            message="" if whole else words,
            files_at=files_at,
            blocked=blocked and not whole,
        )
    phase = WorkloadPhase.UNREADY if sight.was_whole else WorkloadPhase.STARTING
    return Diagnosis(phase, 0, restarts, started_at, message=words, files_at=files_at, blocked=blocked)


def _files_at(pods: Sequence[PodSight], now: float) -> float | None:
    """Until when files were still coming: when the newest pod's were compared, or now while they are brought."""
    found: list[float] = []
    for pod in pods:
        for one in (pod.fetch, pod.verify):
            if one is None:
                continue
            if one.running_since is not None:
                found.append(min(now, one.running_since + FETCH_SECONDS))
            elif one.last is not None and one.last.at is not None:
                found.append(min(now, one.last.at))  # a node's clock may be ahead
    return max(found, default=None)


def _failure(
    pods: Sequence[PodSight], alive: Sequence[PodSight], sight: WorkloadSight, template: EngineTemplate
) -> tuple[FailureReason, str] | None:
    """What the same objects will do again; None when there is nothing of that kind."""
    for pod in alive:
        if pod.tampered is not None:
            path, detail = pod.tampered
            return FailureReason.TAMPERED_FILE, f"The file {path} {detail}."
    for pod in alive:
        engine = pod.engine
        for one in (engine, pod.fetch, pod.verify):
            if one is not None and one.waiting in BAD_IMAGE:
                return FailureReason.BAD_SPEC, f"The image cannot be used ({one.waiting}): {one.words}"
        for one in (engine, pod.verify):
            if one is not None and one.last is not None and one.last.reason in NO_PROGRAM:
                return FailureReason.NO_ENGINE, f"The image cannot start it: {_last_line(one.last.message)}"
        if engine.last is None or engine.running_since is not None:
            continue  # it runs: whatever ended it before, it tries again
        reason, words = _end_of(pod, template)
        if reason in LASTING and not sight.was_whole:
            return reason, words
        if engine.restarts >= CRASH_RESTARTS:
            return FailureReason.CRASH_LOOP, f"It ended {engine.restarts} times and again. {words}"
    for pod in alive:
        for one in (pod.fetch, pod.verify):
            if one is not None and one.restarts >= CRASH_RESTARTS and one.last is not None:
                said = _last_line(one.last.message) or f"exit status {one.last.code}"
                return FailureReason.CRASH_LOOP, f"Its files do not come: {said}"
    full = [pod for pod in pods if pod.over and pod.reason == EVICTED and OWN_LIMIT.search(pod.words)]
    if len(full) >= CRASH_RESTARTS:
        return (
            FailureReason.CRASH_LOOP,
            f"It took more disk than it may, {len(full)} times: ask for more disk_mb. {full[-1].words}",
        )
    return None


def _end_of(pod: PodSight, template: EngineTemplate) -> tuple[FailureReason, str]:
    """Why the engine ended, and the sentence."""
    end = pod.engine.last
    assert end is not None
    if end.reason == OUT_OF_MEMORY:
        return (
            FailureReason.NO_MEMORY,
            "The engine took more memory than it may (OOMKilled): ask for more memory_mb.",
        )
    reason, words = explain(template, end.message.splitlines())
    if reason is FailureReason.NONE:
        words = f"The engine ended with exit status {end.code}" + (f": {words}" if words else ".")
    return reason, words


def _why(
    sight: WorkloadSight,
    pods: Sequence[PodSight],
    alive: Sequence[PodSight],
    warnings: Mapping[str, str],
    template: EngineTemplate,
    refused: str,
) -> tuple[str, bool]:
    """Why not all of it is ready, and whether that may pass by itself. The first that applies is told."""
    if sight.scaled:
        return sight.scaled, True
    if sight.refused:
        return f"No pod can be made{since(sight.refused_since)}: {sight.refused}", True
    if refused and len(alive) < sight.pods:
        return refused, True
    for pod in alive:
        if pod.gates:
            return f"It waits to be admitted ({', '.join(pod.gates)}).", True
        if pod.unplaced is not None:
            _, words, moment = pod.unplaced
            return f"No node can take it{since(moment)}: {words}", True
    for pod in alive:
        if pod.node_lost:
            return (
                f"The node of {pod.name} does not report any more; after a minute the pod is made elsewhere.",
                True,
            )
        for name, one in (("engine", pod.engine), ("fetch", pod.fetch), ("verify", pod.verify)):
            if one is not None and one.waiting in IMAGE_TROUBLE:
                return f"The image of {name} cannot be pulled ({one.waiting}): {one.words}", True
            if one is not None and one.waiting in CONFIG_TROUBLE:
                return f"The container {name} cannot be made ({one.waiting}): {one.words}", True
    for pod in alive:
        if pod.unmet_gate:
            return f"{pod.name} runs, and waits for a readiness gate: {pod.unmet_gate}", True
    for pod in alive:
        if not pod.ready and pod.engine.last is not None:
            return _end_of(pod, template)[1], False
    for pod in alive:
        for name, one in (("brings", pod.fetch), ("compares", pod.verify)):
            if one is not None and one.running_since is not None:
                return f"It {name} its files.", False
    for pod in alive:
        if not pod.ready and warnings.get(pod.name):
            return words_of(warnings[pod.name]), False
    evicted = [pod for pod in pods if pod.over and pod.reason]
    if evicted and not alive:
        return f"{evicted[-1].name} was ended ({evicted[-1].reason}): {evicted[-1].words}", True
    return sight.overdue, False


def _last_line(message: str) -> str:
    lines = [line for line in message.splitlines() if line.strip()]
    return words_of(lines[-1]) if lines else ""


def since(moment: float | None) -> str:
    """` since 2026-01-01 09:00 UTC`; empty where it is not known."""
    if moment is None:
        return ""
    return datetime.fromtimestamp(moment, tz=UTC).strftime(" since %Y-%m-%d %H:%M UTC")


def _count(raw: Mapping[str, Any], name: str, usual: int = 0) -> int:
    found = raw.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else usual
