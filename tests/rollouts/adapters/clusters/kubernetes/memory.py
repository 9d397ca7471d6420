"""An API server in memory, as far as a cluster of variants needs one: versions, compare-and-set, and no threads."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from controlplane.kernel.clock import ManualClock
from controlplane.sealing.keys import KeyRing
from rollouts.adapters.clusters.kubernetes.client import (
    CONFIG_MAP,
    DEPLOYMENTS,
    EVENT,
    GROUPS,
    JOBS,
    POD,
    KubernetesClient,
    ObjectKind,
    holds,
)
from rollouts.adapters.clusters.kubernetes.cluster import KubernetesCluster
from rollouts.adapters.clusters.kubernetes.container import VLLM_IMAGE
from rollouts.adapters.clusters.kubernetes.errors import Stale, Terminal, UnknownKind
from rollouts.adapters.clusters.kubernetes.filling.objects import HeadgateDoor
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.clusters.secrets import SecretStore
from rollouts.domain.engine_options import Option, OptionKind
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of
from tests.rollouts.adapters.clusters.kubernetes.told import MemoryTokens

INSTALLATION = "8d1f2c"
Key = tuple[str, str]  # kind and name


class MemoryObjects:
    """Has the methods of a `KubernetesClient` that a cluster uses.

    before_get   done once before the next read of this object: somebody who comes between
    fail_write   raised instead of a write of this object, as long as it is there
    logs         what each pod has written
    unknown_kinds  names of kinds that the cluster does not have
    """

    namespace = "team-a"

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.before_get: dict[Key, Callable[[], object]] = {}
        self.fail_write: dict[Key, Exception] = {}
        self.logs: dict[str, str] = {}
        self.writes: list[Key] = []
        self.unknown_kinds: set[str] = set()
        self.containers_read: list[str] = []
        self._version = 100

    def keep(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Somebody puts it there, as it is."""
        self._version += 1
        key = (body["kind"], body["metadata"]["name"])
        there = self.objects.get(key, {}).get("metadata", {})
        uid = there.get("uid", f"u{self._version}")
        metadata = {"uid": uid, "labels": {}, **body["metadata"], "resourceVersion": str(self._version)}
        self.objects[key] = copy.deepcopy({**body, "metadata": metadata})
        return copy.deepcopy(self.objects[key])

    def get(self, kind: ObjectKind, name: str) -> dict[str, Any] | None:
        between = self.before_get.pop((kind.name, name), None)
        if between is not None:
            between()
        return copy.deepcopy(self.objects.get((kind.name, name)))

    def list(self, kind: ObjectKind, selector: str = "") -> tuple[list[dict[str, Any]], str]:
        """All of a kind, those of one label where one is named."""
        if kind.name in self.unknown_kinds:
            raise UnknownKind(f"There are no {kind.plural}.")
        name, _, value = selector.partition("=")
        found = [
            copy.deepcopy(one)
            for (kept, _), one in self.objects.items()
            if kept == kind.name and (not selector or one["metadata"]["labels"].get(name) == value)
        ]
        return found, str(self._version)

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if (body["kind"], body["metadata"]["name"]) in self.objects:
            raise Stale("it exists already")
        return self.apply(body, None)

    def apply(
        self,
        body: Mapping[str, Any],
        seen: Mapping[str, Any] | None,
        *,
        force: bool = False,
        takes_away: bool = False,
    ) -> dict[str, Any]:
        """Of one manager alone: what is applied is all that there is beside the status."""
        key = (body["kind"], body["metadata"]["name"])
        if key in self.fail_write:
            raise self.fail_write[key]
        if seen is not None and not takes_away and holds(seen, body):
            return dict(seen)
        there = self.objects.get(key)
        if seen is not None and (
            there is None or there["metadata"]["resourceVersion"] != seen["metadata"]["resourceVersion"]
        ):
            raise Stale("it was changed")
        if there is not None and there.get("immutable") and there["data"] != body["data"]:
            raise Terminal("data: Forbidden: field is immutable when `immutable` is set")
        self.writes.append(key)
        return self.keep({**({"status": there["status"]} if there and "status" in there else {}), **body})

    def merge(
        self, kind: ObjectKind, name: str, change: Mapping[str, Any], *, version: str
    ) -> dict[str, Any]:
        there = self.objects[kind.name, name]
        if there["metadata"]["resourceVersion"] != version:
            raise Stale("it was changed")
        self.writes.append((kind.name, name))
        return self.keep(_merged(there, change))

    def scale(self, kind: ObjectKind, name: str, replicas: int) -> None:
        self.objects[kind.name, name].setdefault("spec", {})["replicas"] = replicas

    def delete(self, kind: ObjectKind, name: str, uid: str, *, version: str = "") -> bool:
        there = self.objects[kind.name, name]["metadata"]
        if there["uid"] != uid:
            raise Stale("another one has this name")
        if version and there["resourceVersion"] != version:
            raise Stale("it was changed")
        self.keep(
            {
                **self.objects[kind.name, name],
                "metadata": {**there, "deletionTimestamp": "2026-01-01T00:00:00Z"},
            }
        )
        return True

    def log(self, pod: str, container: str, *, lines: int, previous: bool = False) -> str:
        self.containers_read.append(container)
        return "" if previous else self.logs.get(pod, "")


def _merged(there: Any, change: Any) -> Any:
    """As a JSON merge patch does it."""
    if not isinstance(change, Mapping):
        return change
    kept = dict(there) if isinstance(there, Mapping) else {}
    for name, value in change.items():
        kept[name] = _merged(kept.get(name), value)
    return {name: value for name, value in kept.items() if value is not None}


class FreshKind:
    """What a watch keeps, as it is at this moment: all objects of a kind of this installation, or of nobody's."""

    def __init__(self, server: MemoryObjects, kind: ObjectKind, whose: str | None = INSTALLATION) -> None:
        self.kind = kind
        self._server = server
        self._whose = whose

    def objects(self) -> Mapping[str, Mapping[str, Any]]:
        return {
            name: one
            for (kind, name), one in copy.deepcopy(self._server.objects).items()
            if kind == self.kind.name
            and (
                kind == EVENT.name
                or one["metadata"]["labels"].get("headgate.dev/installation") == self._whose
            )
        }

    def put(self, found: Mapping[str, Any]) -> None:
        """It is there already."""


def cluster_of(
    server: MemoryObjects,
    *,
    secrets: Path = Path("/nonexistent"),
    clock: ManualClock | None = None,
    profile: ClusterProfile | None = None,
    door: HeadgateDoor | None = None,
) -> KubernetesCluster:
    """A cluster whose watches are never late, and whose engine takes a secret TOKEN."""
    variables = (*VLLM_IMAGE.template.variables, Option("TOKEN", OptionKind.SECRET, "A token."))
    template = replace(VLLM_IMAGE.template, variables=variables)
    cluster = KubernetesCluster(
        cast(KubernetesClient, server),
        profile or profile_of(),
        INSTALLATION,
        clock or ManualClock(datetime(2026, 1, 1, tzinfo=UTC)),
        SecretStore(secrets, lambda: KeyRing(())),
        MemoryTokens(),
        door=door,
        engines={"vllm": replace(VLLM_IMAGE, template=template)},
    )
    watches: Any = cluster._watches
    watches._anchors, watches._deployments, watches._groups, watches._pods, watches._events = (
        FreshKind(server, kind) for kind in (CONFIG_MAP, DEPLOYMENTS, GROUPS, POD, EVENT)
    )
    watches._jobs = None if watches._jobs is None else FreshKind(server, JOBS)
    watches._servers, watches._server_pods = (FreshKind(server, kind, None) for kind in (DEPLOYMENTS, POD))
    watches._all = ()
    return cluster
