"""Looks at servers that are to be adopted, and says what is made beside them. Asks the API server each time, and no
watch: one that is late would not know that another endpoint has just adopted the server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from controlplane.kernel.errors import InvalidInput, Unavailable
from rollouts.adapters.clusters.kubernetes.adopting import (
    FIELD,
    Server,
    check_alone,
    is_managed,
    objects_beside,
    secrets_in,
    server_of,
)
from rollouts.adapters.clusters.kubernetes.anchors import Anchor, sound_anchor_in
from rollouts.adapters.clusters.kubernetes.client import CONFIG_MAP, DEPLOYMENTS, POD, KubernetesClient
from rollouts.adapters.clusters.kubernetes.diagnosis import workload_of
from rollouts.adapters.clusters.kubernetes.names import INSTALLATION, label_value
from rollouts.adapters.clusters.kubernetes.objects import VariantObjects, labels_of_engine
from rollouts.adapters.clusters.kubernetes.pod_reading import part
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.clusters.kubernetes.snapshot import SERVER_GONE, Snapshot
from rollouts.adapters.clusters.kubernetes.spec_checks import limits_of
from rollouts.ports import WorkloadSpec


class Adoption:
    """engines   names of those that this Headgate launches"""

    def __init__(
        self, client: KubernetesClient, profile: ClusterProfile, installation: str, engines: Iterable[str]
    ) -> None:
        self._client = client
        self._profile = profile
        self._installation = installation
        self._engines = tuple(engines)

    def server_for(self, name: str, endpoint: str, *, ready: bool = True) -> tuple[Server, int]:
        """The server of this name, for a variant of the endpoint, and how many replicas its owner asks for.

        ready   whether it has to answer now

        Raises InvalidInput for one that cannot be had, and what the client raises.
        """
        raw = self._client.get(DEPLOYMENTS, name)
        if raw is None:
            raise InvalidInput(
                f"There is no Deployment {name} in namespace {self._profile.namespace}.",
                field=FIELD,
                fix="The page of the cluster lists the servers that can be adopted.",
            )
        for anchor in self._anchors():
            server = server_in(anchor)
            if server is not None and server.name == name and anchor.endpoint != endpoint:
                raise InvalidInput(
                    f"Deployment {name} answers for endpoint {anchor.endpoint} already.",
                    field=FIELD,
                    fix="Choose another server.",
                )
        found = server_of(raw, endpoint, limits_of(self._profile).images, ready=ready)
        wanted = ",".join(f"{label}={value}" for label, value in sorted(found.selector.items()))
        check_alone(
            found,
            deployments=self._client.list(DEPLOYMENTS)[0],
            pods=self._client.list(POD, wanted)[0],
            ours=self.labels_of_engines(endpoint),
        )
        return found, workload_of(raw).desired

    def objects(self, spec: WorkloadSpec, anchor: Anchor | None) -> VariantObjects | None:
        """What is to be made beside the server; None: all of it is there, and leads to its pods.

        anchor   of the variant, as it is now

        Raises InvalidInput for a server that cannot be had, Unavailable for one that is gone: its owner may make it
        again.
        """
        kept = None if anchor is None else server_in(anchor)
        if anchor is not None and anchor.made and kept is not None:
            raw = self._client.get(DEPLOYMENTS, kept.name)
            if raw is None:
                raise Unavailable(
                    SERVER_GONE.format(name=kept.name),
                    fix="It is looked for again. Make it again, or roll out a version that Headgate launches.",
                )
            if kept.finds_pods_of(raw) and not is_managed(raw):
                return None
        # A launch was asked for: what is not ready now is told as its status, and may be in a moment.
        server, _ = self.server_for(spec.adopts, spec.endpoint, ready=False)
        if kept is not None:
            server = replace(server, template=kept.template)  # made again, it may be another one
        return objects_beside(spec, self._profile, server, installation=self._installation)

    def labels_of_engines(self, endpoint: str) -> list[dict[str, str]]:
        """Those that pods of the endpoint have which Headgate launches, by engine; of any endpoint where it is ""."""
        return [
            labels_of_engine(engine, endpoint, self._profile, self._installation) for engine in self._engines
        ]

    def _anchors(self) -> list[Anchor]:
        ours = f"{INSTALLATION}={label_value(self._installation)}"
        found = [sound_anchor_in(raw) for raw in self._client.list(CONFIG_MAP, ours)[0]]
        return [anchor for anchor in found if anchor is not None and not anchor.deleting]


def server_in(anchor: Anchor) -> Server | None:
    """The server that answers for the variant; None: Headgate launched it."""
    return Server.kept(part(anchor.raw, "data"))


def secrets_of_owner(snapshot: Snapshot, anchor: Anchor) -> tuple[str, ...]:
    """Of a server that was adopted: what its owner started it with, and is to be told to nobody."""
    raw = snapshot.workloads.get(anchor.name)
    return () if raw is None or server_in(anchor) is None else secrets_in(raw)
