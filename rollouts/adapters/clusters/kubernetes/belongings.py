"""What lies in a namespace: all launches of this installation, and model servers that are not ours, each with whether
it can be adopted. Asks the API server each time, so that nothing that is taken away was seen by a watch that is late.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from controlplane.kernel.credentials import hide
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import storable, words_of
from rollouts.adapters.clusters.kubernetes.adopting import Server, check_alone, server_of
from rollouts.adapters.clusters.kubernetes.anchors import Anchor, sound_anchor_in
from rollouts.adapters.clusters.kubernetes.client import CONFIG_MAP, DEPLOYMENTS, GROUPS, KubernetesClient
from rollouts.adapters.clusters.kubernetes.errors import UnknownKind
from rollouts.adapters.clusters.kubernetes.names import (
    ENDPOINT_NAME,
    INSTALLATION,
    VARIANT,
    VARIANT_NAME,
    label_value,
)
from rollouts.adapters.clusters.kubernetes.objects import DEPLOYMENT
from rollouts.adapters.clusters.kubernetes.pod_reading import part, seconds_of, text
from rollouts.adapters.clusters.kubernetes.recognised import engine_container, models_of, words_in
from rollouts.domain.belongings import FoundThere, LaunchFound, ModelServer

MOST_SERVERS = 50  # that are told of
MANAGED = "app.kubernetes.io/managed-by"
_ENDPOINT = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")  # what may name one; whoever makes it says the rest


def find_belongings(
    client: KubernetesClient,
    installation: str,
    repositories: Collection[str],
    ours: Sequence[Mapping[str, str]] = (),
) -> FoundThere:
    """Everything of this installation, and servers of others that are recognised. Raises Unavailable.

    repositories   of images that this cluster starts engines from
    ours           labels that pods of Headgate's have
    """
    mine = f"{INSTALLATION}={label_value(installation)}"
    anchors = [one for raw in client.list(CONFIG_MAP, mine)[0] if (one := sound_anchor_in(raw)) is not None]
    deployments = client.list(DEPLOYMENTS)[0]
    try:
        groups = client.list(GROUPS, mine)[0]
    except UnknownKind:
        groups = []
    launches = [launch_of(anchor) for anchor in anchors]
    owned = {anchor.name for anchor in anchors}
    adopted = {kept.name for one in anchors if (kept := Server.kept(part(one.raw, "data"))) is not None}
    servers: list[ModelServer] = []
    for raw in (*deployments, *groups):
        labels = part(part(raw, "metadata"), "labels")
        if text(labels, INSTALLATION) == label_value(installation):
            left = None if text(part(raw, "metadata"), "name") in owned else _left_behind(raw)
            launches += [] if left is None else [left]
        elif INSTALLATION in labels or text(part(raw, "metadata"), "name") in adopted:
            continue  # another Headgate's, or one that answers for a variant of ours
        elif len(servers) < MOST_SERVERS:
            seen = server_in(raw, repositories, deployments, ours)
            servers += [] if seen is None else [seen]
    return FoundThere(tuple(launches), tuple(servers))


def launch_of(anchor: Anchor) -> LaunchFound:
    """A variant as its anchor holds it."""
    return LaunchFound(
        variant=storable(anchor.variant),
        endpoint=storable(anchor.endpoint),
        where=f"ConfigMap {anchor.name}",
        made_at=seconds_of(text(part(anchor.raw, "metadata"), "creationTimestamp")),
        unknown_since=anchor.unknown_since,
        state=f"{anchor.uid} {anchor.version}",
        ending=anchor.deleting or anchor.draining_since is not None,
    )


def server_in(
    raw: Mapping[str, Any],
    repositories: Collection[str],
    deployments: Sequence[Mapping[str, Any]] = (),
    ours: Sequence[Mapping[str, str]] = (),
) -> ModelServer | None:
    """The server that a Deployment runs; None for one that is not recognised as a server of models.

    deployments   all of the namespace
    """
    container = engine_container(raw, repositories)
    if container is None:
        return None
    metadata, spec, status = (part(raw, name) for name in ("metadata", "spec", "status"))
    return ModelServer(
        where=f"{raw.get('kind', DEPLOYMENT)} {words_of(text(metadata, 'name'))}",
        image=words_of(text(container, "image")),
        model=words_of(hide(" ".join(models_of(words_in(container))))),
        by=words_of(text(part(metadata, "labels"), MANAGED)),
        ready=_count(status, "readyReplicas"),
        desired=_count(spec, "replicas"),
        made_at=seconds_of(text(metadata, "creationTimestamp")),
        unfit=_unfit(raw, models_of(words_in(container)), repositories, deployments, ours),
    )


def _unfit(
    raw: Mapping[str, Any],
    models: Sequence[str],
    repositories: Collection[str],
    deployments: Sequence[Mapping[str, Any]],
    ours: Sequence[Mapping[str, str]],
) -> str:
    """Why it cannot be adopted, and what its owner can do; empty: it can, by an endpoint of the name it answers to."""
    if raw.get("kind", DEPLOYMENT) != DEPLOYMENT:
        return "Only a Deployment can be adopted."
    name = next((one for one in models if _ENDPOINT.fullmatch(one)), "")
    if models and not name:
        said = words_of(hide(" and ".join(models)))
        return f"It answers to {said}, which cannot name an endpoint: give it a second --served-model-name that can."
    try:
        check_alone(server_of(raw, name, repositories), deployments=deployments, pods=(), ours=ours)
    except InvalidInput as error:
        return words_of(str(error))
    return ""


def _left_behind(raw: Mapping[str, Any]) -> LaunchFound | None:
    """A workload of ours whose anchor is gone: nothing ends it. None for what is ended already."""
    metadata = part(raw, "metadata")
    labels, noted = part(metadata, "labels"), part(metadata, "annotations")
    name = text(metadata, "name")
    if VARIANT not in labels or metadata.get("deletionTimestamp"):
        return None
    where = f"{raw.get('kind', 'Deployment')} {name}"
    return LaunchFound(
        variant=storable(text(noted, VARIANT_NAME)) or name,
        endpoint=storable(text(noted, ENDPOINT_NAME)),
        where=where,
        made_at=seconds_of(text(metadata, "creationTimestamp")),
        state=text(metadata, "uid"),
        by_hand="Somebody took its anchor away, so that Headgate may not end it: delete it by hand.",
    )


def _count(raw: Mapping[str, Any], name: str) -> int:
    found = raw.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else 0
