"""What a cluster warns of by its events: about a pod, and about whatever makes pods. Pure; odd parts are taken as not
there.

A pod that a quota, the standard of its namespace or a webhook refuses does not exist. So the event is about who tried
to make it: a Job, the ReplicaSet of a Deployment, or one of the StatefulSets of a LeaderWorkerSet. Headgate may not
read the latter two. Whose they are follows from their names: a ReplicaSet has that of its Deployment and a hash, the
StatefulSet of the leaders that of its group, and one of workers that of its group and a number.

An event stays for an hour. It is told while it is the last word: not of an earlier object of that name, and not once
who was refused has made a pod since.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.diagnosis import since
from rollouts.adapters.clusters.kubernetes.pod_reading import part, parts, seconds_of, text

WARNED = frozenset({"Pod", "Job"})  # whose every warning is told by their name
OWNERS = frozenset({"Deployment", "ReplicaSet", "LeaderWorkerSet", "StatefulSet"})
NOT_MADE = frozenset(
    {"FailedCreate", "ReplicaSetCreateError"}
)  # of their reasons, those that mean: there is no pod
NAME_AND_HASH = re.compile(
    r"(.+)-[bcdfghjklmnpqrstvwxz2456789]{1,10}"
)  # all that Kubernetes writes hashes with
NAME_AND_NUMBER = re.compile(r"(.+)-[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class ClusterWarning:
    """About an object, by its kind, name and UID. `at`: when it was seen last; `first_at`: when first."""

    at: str
    first_at: str
    kind: str
    name: str
    uid: str
    message: str


def warning_in(event: Mapping[str, Any]) -> ClusterWarning | None:
    """What the event warns of; None: of nothing that is told. Those of newer components have no `lastTimestamp`."""
    about = part(event, "involvedObject")
    kind = text(about, "kind")
    if text(event, "type") != "Warning":
        return None
    if kind not in WARNED and not (kind in OWNERS and text(event, "reason") in NOT_MADE):
        return None
    times = (
        text(event, "lastTimestamp"),
        text(part(event, "series"), "lastObservedTime"),
        text(event, "eventTime"),
        text(part(event, "metadata"), "creationTimestamp"),
    )
    first = text(event, "firstTimestamp") or text(event, "eventTime")
    return ClusterWarning(
        max(times), first, kind, text(about, "name"), text(about, "uid"), text(event, "message")
    )


def refused_pods(
    told: Iterable[ClusterWarning],
    workloads: Mapping[str, Mapping[str, Any]],
    pods: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, str]:
    """Why no pod can be made, as a sentence, by the name of the workload.

    told       oldest first
    workloads  by name
    pods       by the name of their workload
    """
    found: dict[str, str] = {}
    for one in told:
        if one.kind not in OWNERS:
            continue
        workload = _workload_of(one, workloads)
        if workload is not None and not is_past(one, workloads[workload], pods.get(workload, ())):
            found[workload] = f"No pod can be made{since(seconds_of(one.first_at))}: {words_of(one.message)}"
    return found


def _workload_of(warning: ClusterWarning, workloads: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The name of the workload that the object belongs to; None: of none that is known."""
    name = warning.name
    if warning.kind in ("Deployment", "LeaderWorkerSet"):
        there = workloads.get(name, {})
        same = there.get("kind") == warning.kind and warning.uid in ("", text(part(there, "metadata"), "uid"))
        return name if same else None
    if warning.kind == "ReplicaSet":
        owner, names = "Deployment", [before_hash(name)]
    else:
        owner, names = "LeaderWorkerSet", [name, _before(NAME_AND_NUMBER, name)]
    return next((one for one in names if workloads.get(one, {}).get("kind") == owner), None)


def before_hash(replica_set: str) -> str:
    """The name of the Deployment that a ReplicaSet belongs to; empty for one that no Deployment made."""
    return _before(NAME_AND_HASH, replica_set)


def _before(pattern: re.Pattern[str], name: str) -> str:
    match = pattern.fullmatch(name)
    return match[1] if match else ""


def is_past(warning: ClusterWarning, workload: Mapping[str, Any], pods: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the workload, or a pod that was made by who is warned of, is younger than the warning."""
    made = [part(workload, "metadata")]
    for pod in pods:
        metadata = part(pod, "metadata")
        owners = [(text(one, "kind"), text(one, "name")) for one in parts(metadata, "ownerReferences")]
        if (warning.kind, warning.name) in owners:
            made.append(metadata)
    moments = [seconds_of(text(metadata, "creationTimestamp")) for metadata in made]
    at = seconds_of(warning.at)
    return at is not None and any(moment is not None and moment > at for moment in moments)
