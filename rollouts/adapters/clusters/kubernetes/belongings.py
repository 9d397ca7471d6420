"""What lies in a namespace: all launches of this installation, and model servers that are not ours. Asks the API server
each time, so that nothing that is taken away was seen by a watch that is late.

A server is taken for one of models only by what names one: the image of an engine that answers as OpenAI does, or the
command that starts one. Anything else may be anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

from controlplane.kernel.credentials import hide
from controlplane.kernel.foreign import storable, words_of
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
from rollouts.adapters.clusters.kubernetes.pod_reading import part, parts, seconds_of, text
from rollouts.domain.belongings import FoundThere, LaunchFound, ModelServer
from rollouts.domain.images import Image

# Repositories of images of engines with an OpenAI API, whatever registry they are copied to: their last words.
IMAGES = (
    "vllm/vllm-openai",
    "vllm/vllm-openai-cpu",
    "lmsysorg/sglang",
    "huggingface/text-generation-inference",
    "ggml-org/llama.cpp",
)
COMMANDS = (
    ("vllm", "serve"),
    ("vllm.entrypoints.openai.api_server",),
    ("sglang.launch_server",),
    ("llama-server",),
    ("text-generation-launcher",),
)
NAMES_MODEL = ("--served-model-name", "--model", "--model-path", "--model-id")
MOST_SERVERS = 50  # that are told of
MANAGED = "app.kubernetes.io/managed-by"


def find_belongings(client: KubernetesClient, installation: str, repositories: Collection[str]) -> FoundThere:
    """Everything of this installation, and servers of others that are recognised. Raises Unavailable.

    repositories   of images that this cluster starts engines from
    """
    ours = f"{INSTALLATION}={label_value(installation)}"
    anchors = [one for raw in client.list(CONFIG_MAP, ours)[0] if (one := sound_anchor_in(raw)) is not None]
    deployments = client.list(DEPLOYMENTS)[0]
    try:
        groups = client.list(GROUPS, ours)[0]
    except UnknownKind:
        groups = []
    launches = [launch_of(anchor) for anchor in anchors]
    owned = {anchor.name for anchor in anchors}
    servers: list[ModelServer] = []
    for raw in (*deployments, *groups):
        labels = part(part(raw, "metadata"), "labels")
        if text(labels, INSTALLATION) == label_value(installation):
            left = None if text(part(raw, "metadata"), "name") in owned else _left_behind(raw)
            launches += [] if left is None else [left]
        elif INSTALLATION not in labels and len(servers) < MOST_SERVERS:  # another Headgate's are managed
            server = server_in(raw, repositories)
            servers += [] if server is None else [server]
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


def server_in(raw: Mapping[str, Any], repositories: Collection[str]) -> ModelServer | None:
    """The server that a Deployment runs; None for one that is not recognised as a server of models."""
    metadata, spec, status = (part(raw, name) for name in ("metadata", "spec", "status"))
    pod = part(part(spec, "template"), "spec")
    for container in parts(pod, "containers"):
        words = [*_words(container, "command"), *_words(container, "args")]
        image = text(container, "image")
        if not (_is_engine_image(image, repositories) or _starts_engine(words)):
            continue
        return ModelServer(
            where=f"{raw.get('kind', 'Deployment')} {words_of(text(metadata, 'name'))}",
            image=words_of(image),
            model=words_of(hide(_model_in(words))),
            by=words_of(text(part(metadata, "labels"), MANAGED)),
            ready=_count(status, "readyReplicas"),
            desired=_count(spec, "replicas"),
            made_at=seconds_of(text(metadata, "creationTimestamp")),
        )
    return None


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


def _is_engine_image(image: str, repositories: Collection[str]) -> bool:
    repository = Image.stored(image).repository
    return repository in repositories or any(
        repository == known or repository.endswith(f"/{known}") for known in IMAGES
    )


def _starts_engine(words: list[str]) -> bool:
    """Whether the words of one of these commands stand there one after the other, the first with or without a path."""
    plain = [word.rsplit("/", 1)[-1] for word in words]
    return any(
        tuple(plain[at : at + len(command)]) == command
        for command in COMMANDS
        for at in range(len(plain) - len(command) + 1)
    )


def _model_in(words: list[str]) -> str:
    for option in NAMES_MODEL:
        for at, word in enumerate(words):
            if word.startswith(f"{option}="):
                return word.partition("=")[2]
            if word == option and at + 1 < len(words):
                return words[at + 1]
    after = dict(pairwise(words)).get("serve", "")
    return "" if after.startswith("-") else after


def _words(container: Mapping[str, Any], name: str) -> Iterator[str]:
    found = container.get(name)
    yield from (one for one in (found if isinstance(found, list) else ()) if isinstance(one, str))


def _count(raw: Mapping[str, Any], name: str) -> int:
    found = raw.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else 0
