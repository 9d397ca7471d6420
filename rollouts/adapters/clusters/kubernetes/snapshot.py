"""All of this installation's variants in a cluster at one moment, from what the watches keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.engines.vllm import VLLM
from rollouts.adapters.clusters.kubernetes.adopting import (
    MIXED_UP,
    SHARED,
    Server,
    pods_by_server,
    strangers,
)
from rollouts.adapters.clusters.kubernetes.anchors import ATTEMPT, Anchor, sound_anchor_in
from rollouts.adapters.clusters.kubernetes.client import (
    CONFIG_MAP,
    DEPLOYMENTS,
    EVENT,
    GROUPS,
    JOBS,
    POD,
    KubernetesClient,
)
from rollouts.adapters.clusters.kubernetes.container import ENGINE, PORT, ContainerEngine
from rollouts.adapters.clusters.kubernetes.deletion import waits_for
from rollouts.adapters.clusters.kubernetes.diagnosis import Diagnosis, diagnose, workload_of
from rollouts.adapters.clusters.kubernetes.drift import HandEdits, drift_of, scaled_by_hand
from rollouts.adapters.clusters.kubernetes.events import (
    WARNED,
    ClusterWarning,
    is_past,
    refused_pods,
    warning_in,
)
from rollouts.adapters.clusters.kubernetes.names import FILL, INSTALLATION, VARIANT, label_value
from rollouts.adapters.clusters.kubernetes.pod_reading import PodSight, part, sight_of, text
from rollouts.adapters.clusters.kubernetes.record import workload_in
from rollouts.adapters.clusters.kubernetes.states import PodStates
from rollouts.adapters.clusters.kubernetes.watching import PerObject, WatchedKind
from rollouts.domain.engines import WorkloadPhase
from rollouts.ports import Backend, WorkloadStatus

SERVICE_BACKEND = "service"  # the kind of the references that this cluster gives out
DELETED = "Somebody deleted its workload in the cluster; it is launched again."
SERVER_GONE = "Somebody deleted the server that answers for it, Deployment {name}."

SCALED_AWAY = "Its owner scaled Deployment {name} to 0 replicas."
HALF_MADE = "Its pods are ready, and not all of its objects are made: no request would find them."

Fit = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What there is. Pods are by the name of their variant's objects, oldest first; warnings by pod or Job.

    workloads  by the name of the variant's objects, also that of somebody else which answers for it
    refused    why no pod could be made, in the cluster's words, by the name of the variant's objects
    jobs       that fill a volume, by name
    fill_pods  theirs, by the Job's name, oldest first
    strangers  names of pods that get requests of a server that was adopted and are not its pods, by the name of its
               variant's objects
    """

    anchors: tuple[Anchor, ...]
    workloads: Mapping[str, Mapping[str, Any]]
    pods: Mapping[str, tuple[Mapping[str, Any], ...]]
    warnings: Mapping[str, str]
    refused: Mapping[str, str] = field(default_factory=dict)
    jobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fill_pods: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    strangers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Watches:
    """One watch a kind, for all variants together; of Jobs where they are made, and of Deployments and pods that are
    not ours as soon as a variant has adopted such a server."""

    def __init__(
        self, client: KubernetesClient, installation: str, wake: Callable[[], None], *, fills: bool = False
    ) -> None:
        ours = f"{INSTALLATION}={label_value(installation)}"
        self._anchors = WatchedKind(client, CONFIG_MAP, f"{ours},{VARIANT}", wake=wake)
        self._deployments = WatchedKind(client, DEPLOYMENTS, ours, wake=wake)
        self._groups = WatchedKind(client, GROUPS, ours, wake=wake, optional=True)
        self._pods = WatchedKind(client, POD, ours, wake=wake)
        self._events = WatchedKind(client, EVENT, "")
        self._jobs = WatchedKind(client, JOBS, ours, wake=wake) if fills else None
        every = (self._anchors, self._deployments, self._groups, self._pods, self._events, self._jobs)
        self._all = tuple(one for one in every if one is not None)
        self._servers = WatchedKind(client, DEPLOYMENTS, f"!{INSTALLATION}", wake=wake)
        self._server_pods = WatchedKind(client, POD, f"!{INSTALLATION}", wake=wake)
        self._read_anchors = PerObject(sound_anchor_in)
        self._read_events = PerObject(warning_in)

    def snapshot(self) -> Snapshot:
        """Raises Unavailable while one of them is not known."""
        read = self._read_anchors.of(self._anchors.objects()).values()
        anchors = tuple(anchor for anchor in read if anchor is not None)
        workloads = {**self._deployments.objects(), **self._groups.objects()}
        jobs = {} if self._jobs is None else self._jobs.objects()
        pods: dict[str, list[Mapping[str, Any]]] = {}
        fill_pods: dict[str, list[Mapping[str, Any]]] = {}
        uids = {name: text(one["metadata"], "uid") for name, one in jobs.items()}
        for one in self._pods.objects().values():
            labels = part(one["metadata"], "labels")
            pods.setdefault(text(labels, VARIANT), []).append(one)
            fill_pods.setdefault(text(labels, FILL), []).append(one)
            uids[text(one["metadata"], "name")] = text(one["metadata"], "uid")
        servers = _servers_in(anchors)
        of_nobody = tuple(self._server_pods.objects().values()) if servers else ()
        of_servers = pods_by_server(servers, of_nobody)
        mixed_up = {
            name: _strangers(one, (*self._pods.objects().values(), *of_nobody))
            for name, one in servers.items()
        }
        workloads |= self._adopted(servers)
        for name, some in of_servers.items():
            pods[name] = some
            uids |= {text(one["metadata"], "name"): text(one["metadata"], "uid") for one in some}
        told = [one for one in self._read_events.of(self._events.objects()).values() if one is not None]
        told.sort(key=_happened)
        # An earlier pod may have had the same name.
        warnings = {
            one.name: one.message
            for one in told
            if one.kind in WARNED
            and one.uid in ("", uids.get(one.name))
            and not (one.kind == "Job" and is_past(one, jobs.get(one.name, {}), fill_pods.get(one.name, ())))
        }
        return Snapshot(
            anchors=anchors,
            workloads=workloads,
            pods=_oldest_first(pods),
            warnings=warnings,
            refused=refused_pods(told, workloads, pods),
            jobs=jobs,
            fill_pods=_oldest_first(fill_pods),
            strangers=mixed_up,
        )

    def _adopted(self, servers: Mapping[str, Server]) -> dict[str, Mapping[str, Any]]:
        """The Deployments of servers that answer for variants, by the name of the variant's objects. One that was made
        again with other labels is another one: nothing leads to its pods."""
        there = self._servers.objects() if servers else {}
        found = {name: there.get(server.name) for name, server in servers.items()}
        return {
            name: raw for name, raw in found.items() if raw is not None and servers[name].finds_pods_of(raw)
        }

    def put(self, written: Mapping[str, Any]) -> None:
        """What this process wrote."""
        for one in self._all:
            if one.kind.name == written["kind"]:
                one.put(written)

    def stop(self) -> None:
        for one in (*self._all, self._servers, self._server_pods):
            one.stop()


def pods_of(snapshot: Snapshot, anchor: Anchor, fit: Fit = str) -> list[PodSight]:
    """The pods of the variant's newest launch, oldest first; those of an earlier one count as being stopped.

    fit   takes out of an engine's last words what must not be told: before they are cut, for half of a secret is not
          found any more
    """
    found = []
    server = Server.kept(part(anchor.raw, "data"))
    for pod in snapshot.pods.get(anchor.name, ()):
        sight = sight_of(pod, fit, container=ENGINE if server is None else server.container)
        attempt = text(part(pod["metadata"], "annotations"), ATTEMPT) or "0"
        if attempt == str(anchor.attempt):
            found.append(sight)
    return found


def objects_there(snapshot: Snapshot, anchor: Anchor) -> list[Mapping[str, Any]]:
    """The variant's workload, where there is one, and all its pods."""
    workload = snapshot.workloads.get(anchor.name)
    return [*([] if workload is None else [workload]), *snapshot.pods.get(anchor.name, ())]


def status_of(
    snapshot: Snapshot,
    anchor: Anchor,
    engine: ContainerEngine | None,
    now: float,
    fit: Fit = str,
    *,
    replicas: int | None,
    autoscaled: bool,
    states: PodStates,
    fill: Diagnosis | None = None,
) -> WorkloadStatus:
    """What is to be said of one variant; `fit` as in `pods_of`.

    replicas    that were asked for; None: not known
    autoscaled  whether an autoscaler owns their number
    states      what was seen of workloads before; this look is added to it
    fill        of one whose files are fetched still: nothing else is there of it
    """
    raw = snapshot.workloads.get(anchor.name)
    server = Server.kept(part(anchor.raw, "data"))
    if raw is None and anchor.made and anchor.draining_since is None and not anchor.deleting:
        return WorkloadStatus(anchor.variant, WorkloadPhase.ABSENT, message=_gone_words(server))
    drift, workload = HandEdits(), None
    if server is not None and raw is not None:
        # Its owner scales it, and may change it: what differs from what was adopted proves nothing of the version.
        scaled = SCALED_AWAY.format(name=server.name) if part(raw, "spec").get("replicas") == 0 else ""
        workload, drift = workload_of(raw, scaled=scaled), server.changes(raw)
        others = snapshot.strangers.get(anchor.name, ())
        if others:
            drift = HandEdits(SHARED.format(pod=others[0]), MIXED_UP)
    elif raw is not None:
        # A launch that goes on sets the count in a moment.
        hand = scaled_by_hand(raw, replicas=replicas, autoscaled=autoscaled) if anchor.made else None
        workload = workload_of(raw, least=replicas or 1, scaled="" if hand is None else hand.sentence)
        if anchor.made:
            kept = workload_in(part(anchor.raw, "data"))
            drift = drift_of(raw, kept, replicas=replicas, autoscaled=autoscaled)
    pods = pods_of(snapshot, anchor, fit)
    mixed = "" if raw is None or workload is None else states.mixed(anchor.variant, raw, workload, pods)
    seen = fill or diagnose(
        workload,
        pods,
        snapshot.warnings,
        VLLM if engine is None else engine.template,
        draining=anchor.draining_since is not None or anchor.deleting,
        now=now,
        refused=snapshot.refused.get(anchor.name, ""),
    )
    if seen.phase is WorkloadPhase.READY and not anchor.made:
        seen = replace(seen, phase=WorkloadPhase.STARTING, ready=0, message=HALF_MADE)
    namespace = text(anchor.raw["metadata"], "namespace")
    held = waits_for([anchor.raw, *objects_there(snapshot, anchor)]) if anchor.deleting else ""
    return WorkloadStatus(
        variant=anchor.variant,
        phase=seen.phase,
        backend=Backend(anchor.variant, SERVICE_BACKEND, anchor.name, f"{anchor.name}.{namespace}:{PORT}"),
        ready=seen.ready,
        desired=1 if workload is None else workload.desired,
        restarts=seen.restarts,
        started_at=seen.started_at,
        reason=seen.reason,
        message=fit(seen.message or held),
        files_at=seen.files_at,
        drift=fit(drift.sentence),
        altered=fit(drift.altered or mixed) if anchor.made else "",
    )


def _servers_in(anchors: Iterable[Anchor]) -> dict[str, Server]:
    """Servers of somebody else that answer for variants, by the name of the variant's objects."""
    found = {one.name: Server.kept(part(one.raw, "data")) for one in anchors}
    return {name: server for name, server in found.items() if server is not None}


def _strangers(server: Server, pods: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted(words_of(text(one["metadata"], "name")) for one in strangers(server, pods)))


def _gone_words(server: Server | None) -> str:
    return DELETED if server is None else SERVER_GONE.format(name=server.name)


def _oldest_first(
    pods: Mapping[str, list[Mapping[str, Any]]],
) -> dict[str, tuple[Mapping[str, Any], ...]]:
    return {name: tuple(sorted(some, key=_age)) for name, some in pods.items()}


def _happened(warning: ClusterWarning) -> str:
    return warning.at


def _age(pod: Mapping[str, Any]) -> tuple[str, str]:
    metadata = pod["metadata"]
    return text(metadata, "creationTimestamp"), text(metadata, "name")
