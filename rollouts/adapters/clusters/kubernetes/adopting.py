"""A model server of somebody else that answers for a variant: a Deployment in the cluster's namespace, left as it is.

Headgate makes two objects beside it: the variant's anchor, and a Service on the server's own pods. So nothing restarts,
and what serves does not hang on Headgate. Who runs the server goes on to own it: its replicas, its image, its end.

What is looked at is what would send requests into the void, or compare unlike with unlike: a server that answers to
another name, that is called ready while it loads, or that asks for a key that no engine of ours asks for. Its pods'
template is remembered by a digest, never by its words: variables may hold secrets. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

from controlplane.kernel.credentials import SHORTEST, hide, is_like_a_credential, names_a_credential
from controlplane.kernel.digests import canonical_json, digest_of
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.drift import HandEdits
from rollouts.adapters.clusters.kubernetes.events import before_hash
from rollouts.adapters.clusters.kubernetes.names import INSTALLATION, object_name
from rollouts.adapters.clusters.kubernetes.objects import DEPLOYMENT, ObjectMaker, VariantObjects, service_of
from rollouts.adapters.clusters.kubernetes.pod_reading import part, parts, text
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.clusters.kubernetes.recognised import (
    KnownServer,
    engine_container,
    known_server,
    models_of,
    value_of,
    words_in,
)
from rollouts.adapters.clusters.kubernetes.record import check_size, record_of
from rollouts.ports import WorkloadSpec

SERVER_KEY = "server.json"  # of an anchor
FIELD = "adopts"
HIGHEST_PORT = 65_535
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
KEY_OPTIONS = ("--api-key", "--api-key-file")
TLS_OPTIONS = (
    "--ssl-keyfile",
    "--ssl-certfile",
    "--ssl-key-file",
    "--ssl-cert-file",
)  # vLLM and SGLang, llama.cpp
CHANGED = "Its owner changed what its pods run since it was adopted."
ALTERED = "its pods, changed by their owner since they were adopted"
SHARED = (
    "Its requests also reach {pod}, which is no pod of it: both have the labels by which its pods are found."
)
MIXED_UP = "its pods, among which is one of somebody else"
OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was adopted, as an anchor keeps it.

    name        of the Deployment
    selector    the labels by which it finds its pods; Kubernetes lets nobody change them
    container   of its pods, in which the engine runs
    port        where the engine answers
    template    digest of what its pods were made from when it was adopted
    """

    name: str
    selector: Mapping[str, str]
    container: str
    port: int
    template: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def reaches(self, pod: Mapping[str, Any]) -> bool:
        """Whether its Service sends requests to this pod: it asks for labels alone."""
        labels = part(part(pod, "metadata"), "labels")
        return self.finds(labels) and text(part(pod, "status"), "phase") not in OVER

    def has(self, pod: Mapping[str, Any]) -> bool:
        """Whether this pod is one of its pods. Deployments may have the same labels: the pod says who made it."""
        metadata = part(pod, "metadata")
        made_by = [
            before_hash(text(one, "name"))
            for one in parts(metadata, "ownerReferences")
            if text(one, "kind") == "ReplicaSet"
        ]
        return self.finds(part(metadata, "labels")) and self.name in made_by

    def finds_pods_of(self, raw: Mapping[str, Any]) -> bool:
        """Whether it still is found by these labels: one that was deleted and made again may have others."""
        return part(part(part(raw, "spec"), "selector"), "matchLabels") == self.selector

    def changes(self, raw: Mapping[str, Any]) -> HandEdits:
        """What its owner changed since it was adopted: its pods then are not those that were."""
        return HandEdits() if template_digest(raw) == self.template else HandEdits(CHANGED, ALTERED)

    def finds(self, labels: Mapping[str, Any]) -> bool:
        """Whether a pod with these labels gets its requests."""
        return bool(self.selector) and self.selector.items() <= labels.items()

    @classmethod
    def kept(cls, data: Mapping[str, Any]) -> Self | None:
        """What an anchor's data keep; None where they keep none, or an odd one."""
        try:
            found = json.loads(data[SERVER_KEY])
            selector = {str(label): str(value) for label, value in found["selector"].items()}
            port = int(found["port"])
            if not selector or not 0 < port <= HIGHEST_PORT:
                return None
            return cls(str(found["name"]), selector, str(found["container"]), port, str(found["template"]))
        except UNREADABLE:
            return None


def server_of(
    raw: Mapping[str, Any], endpoint: str, repositories: Collection[str], *, ready: bool = True
) -> Server:
    """The server that this Deployment runs, for a variant of the endpoint.

    repositories   of images that this cluster starts engines from
    ready          whether it has to answer now

    Raises InvalidInput (field `adopts`), with what its owner can do, for one that cannot answer for it now.
    """
    metadata, spec = part(raw, "metadata"), part(raw, "spec")
    name = words_of(text(metadata, "name"))
    if is_managed(raw):
        raise _unfit(
            f"Deployment {name} is managed by Headgate already.", "Choose a server of somebody else."
        )
    container = engine_container(raw, repositories, endpoint)
    known = None if container is None else known_server(container, repositories)
    if container is None or known is None:
        raise _unfit(
            f"Deployment {name} is not recognised as a server of models.",
            "Choose one that starts an engine with an OpenAI API.",
        )
    selector = _selector(part(spec, "selector"), name)
    _check_words(container, known, name, endpoint)
    _check_probe(container, name)
    if metadata.get("deletionTimestamp"):
        raise _unfit(f"Deployment {name} is being deleted.", "Choose another server.")
    if ready and _count(part(raw, "status"), "readyReplicas") < 1:
        raise _unfit(f"Deployment {name} has no pod that is ready.", "Wait until it answers.")
    template = template_digest(raw)
    if not template:
        raise _unfit(
            f"What Deployment {name} makes its pods from cannot be understood.", "Choose another server."
        )
    return Server(
        name=name,
        selector=selector,
        container=text(container, "name"),
        port=_port_of(container, known),
        template=template,
    )


def is_managed(raw: Mapping[str, Any]) -> bool:
    """Whether a Deployment, or its pods, are labelled as a Headgate's. Such pods are looked for among our own."""
    template = part(part(part(raw, "spec"), "template"), "metadata")
    return any(INSTALLATION in part(one, "labels") for one in (part(raw, "metadata"), template))


def objects_beside(
    spec: WorkloadSpec, profile: ClusterProfile, server: Server, *, installation: str
) -> VariantObjects:
    """What is made of a variant that adopts this server: its anchor, and a Service on the server's pods."""
    name = object_name(spec.variant)
    maker = ObjectMaker(spec, profile, installation, name)
    data = {**record_of(spec), SERVER_KEY: canonical_json(server.to_json()).decode()}
    check_size(data, spec)
    anchor = maker.made("v1", "ConfigMap", {"data": data})
    return VariantObjects(name, DEPLOYMENT, anchor, (service_of(maker, server.selector, server.port),))


def template_digest(raw: Mapping[str, Any]) -> str:
    """Of what a Deployment makes its pods from, but for notes and labels on them, which change nothing that runs.
    Empty for what no digest covers."""
    try:
        return digest_of({"spec": dict(part(part(part(raw, "spec"), "template"), "spec"))})
    except UNREADABLE:
        return ""


def _selector(raw: Mapping[str, Any], name: str) -> dict[str, str]:
    labels = part(raw, "matchLabels")
    if raw.get("matchExpressions") or not labels or not all(isinstance(one, str) for one in labels.values()):
        raise _unfit(
            f"Deployment {name} finds its pods by expressions, which a Service cannot.",
            "Let it find them by labels alone (spec.selector.matchLabels).",
        )
    return {str(label): str(value) for label, value in labels.items()}


def _check_words(container: Mapping[str, Any], known: KnownServer, name: str, endpoint: str) -> None:
    """What the engine is called with: under which name it answers, and whether it lets everybody in."""
    words = words_in(container)
    models = models_of(words)
    if endpoint not in models:
        said = words_of(hide(" and ".join(models))) or "a name that its arguments do not say"
        raise _unfit(
            f"Deployment {name} answers to {said}, and requests of endpoint {endpoint} ask for {endpoint}.",
            f"Name the endpoint as the server is called, or let it answer to {endpoint}, too"
            " (--served-model-name takes several).",
        )
    variables = {text(one, "name") for one in parts(container, "env")}
    if _sets_any(words, KEY_OPTIONS) or (known.key_variable and known.key_variable in variables):
        raise _unfit(
            f"Deployment {name} asks for an API key, which no engine that Headgate launches does.",
            "Let your gateway ask for it, and start the server without.",
        )
    probe = part(part(container, "readinessProbe"), "httpGet")
    if _sets_any(words, TLS_OPTIONS) or text(probe, "scheme").upper() == "HTTPS":
        raise _unfit(
            f"Deployment {name} answers by HTTPS alone, and requests come to it by HTTP.",
            "Let your gateway end TLS, and start the server without.",
        )


def _sets_any(words: list[str], options: tuple[str, ...]) -> bool:
    return any(value_of(words, option) is not None for option in options)


def _check_probe(container: Mapping[str, Any], name: str) -> None:
    if not part(container, "readinessProbe"):
        raise _unfit(
            f"Deployment {name} has no readiness probe: its pods count as ready while they load the model.",
            "Give its container a readinessProbe of GET /health.",
        )


def _port_of(container: Mapping[str, Any], known: KnownServer) -> int:
    """Where the engine listens: as its arguments say, else where it is asked whether it is ready, else the first port
    that its container names, else its usual one."""
    said = value_of(words_in(container), "--port") or ""
    ports = [one for one in parts(container, "ports") if one.get("protocol", "TCP") == "TCP"]
    by_name = {text(one, "name"): one.get("containerPort") for one in ports}
    probe = part(container, "readinessProbe")
    asked = [part(probe, how).get("port") for how in ("httpGet", "tcpSocket", "grpc")]
    found = [
        int(said) if said.isdecimal() and len(said) <= 5 else None,
        *(by_name.get(one) if isinstance(one, str) else one for one in asked),
        *(one.get("containerPort") for one in ports),
    ]
    for one in found:
        if isinstance(one, int) and not isinstance(one, bool) and 0 < one <= HIGHEST_PORT:
            return one
    return known.port


def _count(raw: Mapping[str, Any], name: str) -> int:
    found = raw.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _unfit(message: str, fix: str) -> InvalidInput:
    return InvalidInput(message, field=FIELD, fix=fix)


def secrets_in(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Values in what a Deployment makes its pods from that are secret by their names, or look so: its engine may write
    them into its log."""
    found: list[str] = []
    for container in parts(part(part(part(raw, "spec"), "template"), "spec"), "containers"):
        named = [(text(one, "name"), text(one, "value")) for one in parts(container, "env")]
        for word, after in pairwise((*words_in(container), "")):
            if word.startswith("--"):
                option, is_joined, value = word.partition("=")
                named.append((option, value if is_joined else after))
        found += [value for name, value in named if names_a_credential(name) or is_like_a_credential(value)]
    return tuple(value for value in found if len(value) >= SHORTEST)


def check_alone(
    server: Server,
    *,
    deployments: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]],
    ours: Iterable[Mapping[str, str]],
) -> None:
    """Raises InvalidInput where the labels of the server's pods are those of others, too: a Service asks for labels
    alone, and would give them requests that are meant for the server.

    deployments, pods   of the namespace
    ours                labels that pods of Headgate's have
    """
    others = [
        f"Deployment {text(part(one, 'metadata'), 'name')}"
        for one in deployments
        if text(part(one, "metadata"), "name") != server.name
        and server.finds(part(part(part(part(one, "spec"), "template"), "metadata"), "labels"))
    ]
    others += [f"pod {text(part(one, 'metadata'), 'name')}" for one in strangers(server, pods)]
    others += ["every engine that Headgate launches" for labels in ours if server.finds(labels)]
    if others:
        selector = ", ".join(f"{label}={value}" for label, value in sorted(server.selector.items()))
        raise _unfit(
            f"Deployment {server.name} finds its pods by {words_of(selector)}, and {words_of(others[0])} has these"
            " labels, too: it would get requests that are meant for the server.",
            "Let the Deployment find its pods by a label of their own. Kubernetes lets nobody change that: delete the"
            " Deployment, and create it again.",
        )


def strangers(server: Server, pods: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pods to which the server's Service sends requests, and which are not its pods."""
    return [one for one in pods if server.reaches(one) and not server.has(one)]


def pods_by_server(
    servers: Mapping[str, Server], pods: Iterable[Mapping[str, Any]]
) -> dict[str, list[Mapping[str, Any]]]:
    """The pods of each server, by the name of its variant's objects."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for pod in pods:
        for name, server in servers.items():
            if server.has(pod):
                found.setdefault(name, []).append(pod)
    return found
