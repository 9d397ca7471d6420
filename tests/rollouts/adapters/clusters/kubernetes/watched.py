"""A variant of a cluster in memory, and watches that keep an object that did not change."""

from __future__ import annotations

from typing import Any

from tests.rollouts.adapters.clusters.kubernetes.memory import FreshKind, MemoryObjects, cluster_of
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of

SPEC = spec_of()
NAME = SPEC.variant
DEPLOYMENT = ("Deployment", NAME)
STARTED = "2026-01-01T00:00:00Z"


def a_pod(
    server: MemoryObjects,
    message: str = "",
    *,
    restarts: int = 0,
    attempt: str = "0",
    name: str = f"{NAME}-0",
    state_of: str = "5d9c",
    **metadata: Any,
) -> None:
    """A pod of the variant: ready, or ended with these last words. `state_of`: of its workload, as it was made from."""
    labels = server.objects[DEPLOYMENT]["spec"]["template"]["metadata"]["labels"]
    labels = {**labels, "pod-template-hash": state_of}
    ended = {"exitCode": 1, "reason": "Error", "message": message, "finishedAt": STARTED}
    state = {"terminated": ended} if message else {"running": {"startedAt": STARTED}}
    truth = "False" if message else "True"
    server.keep(
        {
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": {"headgate.dev/attempt": attempt},
                **metadata,
            },
            "status": {
                "phase": "Running",
                "conditions": [{"type": one, "status": truth} for one in ("Ready", "ContainersReady")],
                "containerStatuses": [{"name": "engine", "restartCount": restarts, "state": state}],
            },
        }
    )


class KeptKind:
    """What a watch keeps: an object that did not change is the same one as before."""

    def __init__(self, fresh: FreshKind) -> None:
        self.kind = fresh.kind
        self._fresh = fresh
        self._kept: dict[str, Any] = {}

    def objects(self) -> dict[str, Any]:
        found = {
            name: self._kept[name] if self._kept.get(name) == one else one
            for name, one in self._fresh.objects().items()
        }
        self._kept = found
        return found

    def put(self, found: object) -> None:
        """It is there already."""


def a_cluster_that_watches(server: MemoryObjects, **more: Any) -> Any:
    """`more` as of `cluster_of`."""
    cluster: Any = cluster_of(server, **more)
    for part in ("_anchors", "_deployments", "_groups", "_pods", "_events"):
        setattr(cluster._watches, part, KeptKind(getattr(cluster._watches, part)))
    return cluster


def is_whole(server: MemoryObjects) -> None:
    """All replicas of the variant's workload are there."""
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
    server.keep({**server.objects[DEPLOYMENT], "status": {**counts, "observedGeneration": 1}})
