"""Fills the volume of a cluster for launches: makes what does it, and tells how far it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import HeadgateError
from rollouts.adapters.clusters.kubernetes.anchors import Anchor
from rollouts.adapters.clusters.kubernetes.client import (
    JOBS,
    OBJECT_KINDS,
    SECRET,
    KubernetesClient,
    ObjectKind,
)
from rollouts.adapters.clusters.kubernetes.diagnosis import Diagnosis
from rollouts.adapters.clusters.kubernetes.filling.objects import (
    CONTAINER,
    HeadgateDoor,
    fill_name,
    fill_objects_of,
    fill_seconds,
)
from rollouts.adapters.clusters.kubernetes.filling.reading import FillSight, diagnose_fill, fill_sight_of
from rollouts.adapters.clusters.kubernetes.names import FILL, INSTALLATION, label_value
from rollouts.adapters.clusters.kubernetes.objects import owned_by
from rollouts.adapters.clusters.kubernetes.owned import owned_object
from rollouts.adapters.clusters.kubernetes.pod_reading import PodSight, sight_of
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.clusters.kubernetes.snapshot import Snapshot
from rollouts.ports import WorkloadSpec

READ_EVERY = 10.0  # seconds between two looks into the log of a pod that fetches
MOST_READ = 256  # pods whose last line is kept
AFTER_SECONDS = 600.0  # that a pass outlives the Job: clocks differ, and a Job is not made at once


class Filler:
    """Safe to call from several threads.

    put   is told of every object that was written
    """

    def __init__(
        self,
        client: KubernetesClient,
        profile: ClusterProfile,
        installation: str,
        door: HeadgateDoor,
        clock: Clock,
        put: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._client = client
        self._profile = profile
        self._installation = installation
        self._door = door
        self._clock = clock
        self._put = put
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, str]] = {}  # by pod: when its log was read, and its last line

    def begin(self, spec: WorkloadSpec, anchor_name: str, anchor_uid: str, *, attempt: int) -> None:
        """Makes the Job of this launch and what it needs. What is there already stays as it is. Raises Refused for
        somebody else's object of that name, and what the API server refuses with."""
        name = fill_name(spec.variant, attempt)
        if self._found(JOBS, name) is not None:
            return
        # A pass is shown once, to the Secret: one that is there is not made anew.
        has_pass = self._found(SECRET, name) is not None
        token = (
            "" if has_pass else self._door.grant(spec.manifest, fill_seconds(spec.manifest) + AFTER_SECONDS)
        )
        made = fill_objects_of(
            spec, self._profile, self._installation, self._door, attempt=attempt, token=token
        )
        wanted = [made.network, made.job] if has_pass else [made.secret, made.network, made.job]
        for body in owned_by(wanted, anchor_name, anchor_uid):
            kind = OBJECT_KINDS[body["kind"]]
            self._put(self._client.apply(body, self._found(kind, name)))

    def sight(self, snapshot: Snapshot, anchor: Anchor) -> FillSight | None:
        """How far the Job of the anchor's launch is; None: there is none."""
        raw = snapshot.jobs.get(fill_name(anchor.variant, anchor.attempt))
        return None if raw is None else fill_sight_of(raw)

    def diagnosis(self, snapshot: Snapshot, anchor: Anchor, fit: Callable[[str], str]) -> Diagnosis:
        """What is to be said of a variant whose files are fetched. Reads the end of a log now and then, and says
        nothing of it where that cannot be read."""
        name = fill_name(anchor.variant, anchor.attempt)
        pods = [sight_of(pod, fit, container=CONTAINER) for pod in snapshot.fill_pods.get(name, ())]
        now = self._clock.now().timestamp()
        return diagnose_fill(
            self.sight(snapshot, anchor),
            pods,
            snapshot.warnings,
            job_name=name,
            url=self._door.url,
            told=self._last_line(pods[-1], now) if pods else "",
            now=now,
        )

    def _last_line(self, pod: PodSight, now: float) -> str:
        if pod.engine.running_since is None:
            return ""
        with self._lock:
            at, line = self._told.get(pod.name, (float("-inf"), ""))
            if abs(now - at) < READ_EVERY:
                return line
            if len(self._told) >= MOST_READ:
                self._told.clear()
            self._told[pod.name] = (now, line)  # so that nobody else asks meanwhile
        try:
            said = self._client.log(pod.name, CONTAINER, lines=1)
        except HeadgateError:
            return line
        with self._lock:
            self._told[pod.name] = (now, said)
        return said

    def _found(self, kind: ObjectKind, name: str) -> Mapping[str, Any] | None:
        ours = {INSTALLATION: label_value(self._installation), FILL: name}
        return owned_object(self._client, kind, name, ours)
