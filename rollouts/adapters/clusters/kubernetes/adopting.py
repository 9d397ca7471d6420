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
from typing import Any, Self

from controlplane.kernel.digests import canonical_json, digest_of
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.container import PORT
from rollouts.adapters.clusters.kubernetes.drift import HandEdits
from rollouts.adapters.clusters.kubernetes.names import INSTALLATION, object_name
from rollouts.adapters.clusters.kubernetes.objects import DEPLOYMENT, ObjectMaker, VariantObjects, service_of
from rollouts.adapters.clusters.kubernetes.pod_reading import part, parts, text
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.clusters.kubernetes.recognised import engine_container, models_of, value_of, words_in
from rollouts.adapters.clusters.kubernetes.record import record_of
from rollouts.ports import WorkloadSpec

SERVER_KEY = "server.json"  # of an anchor
FIELD = "adopts"
HIGHEST_PORT = 65_535
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
KEY_OPTION, KEY_VARIABLE = "--api-key", "VLLM_API_KEY"
CHANGED = "Its owner changed what its pods run since it was adopted."
ALTERED = "its pods, changed by their owner since they were adopted"


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

    def has(self, pod: Mapping[str, Any]) -> bool:
        """Whether this pod is one of its pods."""
        labels = part(part(pod, "metadata"), "labels")
        return bool(self.selector) and self.selector.items() <= labels.items()

    def changes(self, raw: Mapping[str, Any]) -> HandEdits:
        """What its owner changed since it was adopted: its pods then are not those that were."""
        return HandEdits() if template_digest(raw) == self.template else HandEdits(CHANGED, ALTERED)

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


def server_of(raw: Mapping[str, Any], endpoint: str, repositories: Collection[str]) -> Server:
    """The server that this Deployment runs, for a variant of the endpoint.

    repositories   of images that this cluster starts engines from

    Raises InvalidInput (field `adopts`), with what its owner can do, for one that cannot answer for it now.
    """
    metadata, spec = part(raw, "metadata"), part(raw, "spec")
    name = words_of(text(metadata, "name"))
    if INSTALLATION in part(metadata, "labels"):
        raise _unfit(
            f"Deployment {name} is managed by Headgate already.", "Choose a server of somebody else."
        )
    container = engine_container(raw, repositories)
    if container is None:
        raise _unfit(
            f"Deployment {name} is not recognised as a server of models.",
            "Choose one that starts an engine with an OpenAI API.",
        )
    selector = _selector(part(spec, "selector"), name)
    _check_words(container, name, endpoint)
    _check_probe(container, name)
    if _count(part(raw, "status"), "readyReplicas") < 1:
        raise _unfit(f"Deployment {name} has no pod that is ready.", "Wait until it answers.")
    return Server(
        name=name,
        selector=selector,
        container=text(container, "name"),
        port=_port_of(container),
        template=template_digest(raw),
    )


def objects_beside(
    spec: WorkloadSpec, profile: ClusterProfile, server: Server, *, installation: str
) -> VariantObjects:
    """What is made of a variant that adopts this server: its anchor, and a Service on the server's pods."""
    name = object_name(spec.variant)
    maker = ObjectMaker(spec, profile, installation, name)
    data = {**record_of(spec), SERVER_KEY: canonical_json(server.to_json()).decode()}
    anchor = maker.made("v1", "ConfigMap", {"data": data})
    return VariantObjects(name, DEPLOYMENT, anchor, (service_of(maker, server.selector, server.port),))


def template_digest(raw: Mapping[str, Any]) -> str:
    """Of what a Deployment makes its pods from, but for notes and labels on them, which change nothing that runs."""
    return digest_of({"spec": dict(part(part(part(raw, "spec"), "template"), "spec"))})


def _selector(raw: Mapping[str, Any], name: str) -> dict[str, str]:
    labels = part(raw, "matchLabels")
    if raw.get("matchExpressions") or not labels or not all(isinstance(one, str) for one in labels.values()):
        raise _unfit(
            f"Deployment {name} finds its pods by expressions, which a Service cannot.",
            "Let it find them by labels alone (spec.selector.matchLabels).",
        )
    return {str(label): str(value) for label, value in labels.items()}


def _check_words(container: Mapping[str, Any], name: str, endpoint: str) -> None:
    """What the engine is called with: under which name it answers, and whether it lets everybody in."""
    words = words_in(container)
    models = models_of(words)
    if endpoint not in models:
        said = " and ".join(words_of(one) for one in models) or "a name that its arguments do not say"
        raise _unfit(
            f"Deployment {name} answers to {said}, and requests of endpoint {endpoint} ask for {endpoint}.",
            f"Name the endpoint as the server is called, or let it answer to {endpoint}, too"
            " (--served-model-name takes several).",
        )
    variables = {text(one, "name") for one in parts(container, "env")}
    if value_of(words, KEY_OPTION) is not None or KEY_VARIABLE in variables:
        raise _unfit(
            f"Deployment {name} asks for an API key, which no engine that Headgate launches does.",
            "Let your gateway ask for it, and start the server without.",
        )


def _check_probe(container: Mapping[str, Any], name: str) -> None:
    if not part(container, "readinessProbe"):
        raise _unfit(
            f"Deployment {name} has no readiness probe: its pods count as ready while they load the model.",
            "Give its container a readinessProbe of GET /health.",
        )


def _port_of(container: Mapping[str, Any]) -> int:
    """Where the engine listens: as its arguments say, else the first port that its container names, else vLLM's."""
    said = value_of(words_in(container), "--port") or ""
    named = [one.get("containerPort") for one in parts(container, "ports")]
    for found in (int(said) if said.isdecimal() and len(said) <= 5 else None, *named):
        if isinstance(found, int) and not isinstance(found, bool) and 0 < found <= HIGHEST_PORT:
            return found
    return PORT


def _count(raw: Mapping[str, Any], name: str) -> int:
    found = raw.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _unfit(message: str, fix: str) -> InvalidInput:
    return InvalidInput(message, field=FIELD, fix=fix)


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
