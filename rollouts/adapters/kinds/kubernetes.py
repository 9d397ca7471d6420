"""A Kubernetes cluster: engines as workloads of one namespace, traffic by the Gateway API, signals from a Prometheus.

Its secret is a kubeconfig, in the folder `clusters` of the operator's folder of secrets: serving specs may refer to
files of that folder itself, and a pod must not be given the key of its cluster (docs/kubernetes.md).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
from kubernetes import client as official

from controlplane.kernel.errors import HeadgateError, InvalidInput, Refused, Unavailable
from controlplane.outbound.clients import remote_client
from controlplane.sealing.known import remember
from rollouts.adapters.clusters.kubernetes.client import (
    CONFIG_MAP,
    DEPLOYMENTS,
    EVENT,
    GATEWAY,
    JOBS,
    POD,
    KubernetesClient,
)
from rollouts.adapters.clusters.kubernetes.cluster import KubernetesCluster
from rollouts.adapters.clusters.kubernetes.connection import LONGEST, api_client, state_of
from rollouts.adapters.clusters.kubernetes.container import PORT
from rollouts.adapters.clusters.kubernetes.filling.objects import HeadgateDoor
from rollouts.adapters.clusters.kubernetes.namespace import refused_there
from rollouts.adapters.clusters.kubernetes.tokens import ToldTokens
from rollouts.adapters.clusters.secrets import SecretStore
from rollouts.adapters.kinds.kind import ClusterKind, Installation
from rollouts.adapters.kinds.kubernetes_place import GATEWAYS, Place, read_place
from rollouts.adapters.probers.openai import Asked, OpenAIProber
from rollouts.adapters.request_log.otlp.log import GatewayRequestLog
from rollouts.adapters.routers.gateway_api.implementations import IMPLEMENTATIONS
from rollouts.adapters.routers.gateway_api.kubernetes import ROUTES, SLICES, KubernetesRoutes
from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace
from rollouts.adapters.routers.gateway_api.router import GatewayRouter
from rollouts.adapters.routers.gateway_api.trial.objects import trial_owner
from rollouts.adapters.routers.gateway_api.trial.runner import KubernetesTrials
from rollouts.adapters.routers.gateway_api.user import GatewayUser
from rollouts.adapters.routers.gateway_api.watched import WatchedRoutes
from rollouts.adapters.signals.prometheus.endpoints import PrometheusEndpoints
from rollouts.adapters.signals.prometheus.processes import GatewayProcesses
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.prometheus.source import PrometheusSignals
from rollouts.domain.clusters import ClusterSpec
from rollouts.ports import ClusterPorts

BEGIN_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
SECRETS = "clusters"  # the folder within the operator's folder of secrets
SCRAPES_UNTIL_STALE = 3
TRIED_SECONDS = 10.0  # that an answer of a trial may take
SERVED_SECONDS = 2.0  # that a proxy may take to say which route it has


def problems(spec: ClusterSpec) -> tuple[InvalidInput, ...]:
    """Everything that is wrong with it; see `ClusterKind.problems`."""
    found = list(read_place(spec)[1])
    if not spec.secret:
        found.append(
            InvalidInput(
                "A Kubernetes cluster needs a kubeconfig.",
                field="secret",
                fix=f"Put it into the folder {SECRETS} of the operator's folder of secrets, and give the file's name.",
            )
        )
    return tuple(found)


def build(spec: ClusterSpec, installation: Installation) -> ClusterPorts:
    """The ports of this cluster. Raises Refused and InvalidInput when one of its secrets cannot be read."""
    place = _place(spec)
    profile, template = place.profile, GATEWAYS[place.gateway]
    client = _client(spec, place, installation)
    gateway_place = GatewayPlace(
        namespace=profile.namespace,
        parents=place.gateways,
        domain=str(urlsplit(place.gateway_url).hostname),
        installation=place.installation,
        port=PORT,
    )
    implementation = IMPLEMENTATIONS[place.gateway]
    # As declared: what was refuted is known to services.
    can = implementation.capabilities(implementation.traits)
    server = _prometheus(place, installation)
    stale_seconds = SCRAPES_UNTIL_STALE * place.scrape_seconds
    processes = GatewayProcesses(
        server,
        template,
        installation.clock,
        namespaces=profile.gateway_namespaces,
        stale_seconds=stale_seconds,
    )
    tokens = ToldTokens(client, place.installation)
    routes = WatchedRoutes(client, place.installation, wake=installation.wake)
    router = GatewayRouter(
        routes,
        gateway_place,
        installation.clock,
        lambda: can,
        _user(place, installation).served,
        tokens,
        endpoints=PrometheusEndpoints(server, template, processes).lacking if template.endpoints else None,
    )
    cluster = KubernetesCluster(
        client,
        profile,
        place.installation,
        installation.clock,
        SecretStore(installation.secrets_dir, installation.keys),
        tokens,
        door=HeadgateDoor(place.headgate_url, installation.grant_files) if place.headgate_url else None,
        wake=installation.wake,
    )

    def close() -> None:
        for one in (cluster, routes):
            one.close()
        tokens.stop()

    return ClusterPorts(
        cluster=cluster,
        router=router,
        signals=PrometheusSignals(
            server,
            template,
            router.counted,
            installation.clock,
            engine_namespace=profile.namespace,
            gateway_namespaces=profile.gateway_namespaces,
            stale_seconds=stale_seconds,
        ),
        request_log=GatewayRequestLog(installation.answers(), cluster=spec.name, namespace=profile.namespace),
        prober=_prober(place, gateway_place, installation),
        edges=dict.fromkeys(template.latency, template.edges),
        endpoint_url=partial(_endpoint_url, place, gateway_place),
        trials=KubernetesTrials(
            client,
            KubernetesRoutes(client, trial_owner(place.installation)),
            gateway_place,
            profile,
            implementation,
            installation.clock,
            gateway_of=_gateway_of(spec, place, installation),
            user=_user(place, installation, TRIED_SECONDS),
            draw=lambda: secrets.token_hex(5),
        ),
        close=close,
    )


def prepare(spec: ClusterSpec, installation: Installation) -> str:
    """Asks everything once that is needed later, and says what to do about what is missing. Writes nothing. Raises as
    `build` does, and Unavailable with all that was refused."""
    place = _place(spec)
    client = _client(spec, place, installation)
    uid = client.cluster_uid()
    jobs = (JOBS,) if place.profile.weights.filled_by_headgate else ()
    wrong = refused_there(client, (CONFIG_MAP, DEPLOYMENTS, POD, EVENT, *jobs, ROUTES, SLICES))
    try:
        now = _prometheus(place, installation).now()
    except HeadgateError as error:
        wrong.append(f"{error.message} {error.fix}".strip())
    if wrong:
        raise Unavailable(" ".join(wrong), fix="Mend that, and ask again.")
    behind = now - installation.clock.now().timestamp()
    told = (
        f"The API server and Prometheus answer; their clocks are {abs(behind):.0f} s apart from this one."
        " Departures are judged once the gateway has deploy/kubernetes/whole-answers.yaml."
    )
    if place.cluster_uid:
        return f"{told} Nothing is to be run."
    return f'{told} Write down "cluster_uid": "{uid}", so that no other cluster is ever taken for this one.'


def occupies(spec: ClusterSpec, installation: Installation) -> Mapping[str, frozenset[str]]:
    """Its name in its namespace: all objects that carry it are taken for its own."""
    place = _place(spec)
    return {
        "installation": frozenset({f"the name {place.installation} in {place.profile.namespace}"}),
        "profile.namespace": frozenset({f"the namespace {place.profile.namespace} as {place.installation}"}),
    }


# --- parts ------------------------------------------------------------------------------------------------------


def _place(spec: ClusterSpec) -> Place:
    place, wrong = read_place(spec)
    if place is None:
        raise wrong[0]
    return place


def _client(spec: ClusterSpec, place: Place, installation: Installation) -> KubernetesClient:
    """Reads the kubeconfig now, so that what is wrong with it is said at once, and again where it is refused or does
    not help any more."""
    connect = _connect(spec, installation)
    connect()
    store = _secrets(installation)
    return KubernetesClient(
        connect,
        place.profile.namespace,
        cluster_uid=place.cluster_uid,
        state=lambda: state_of(store.read_file(spec.secret, longest=LONGEST)),
    )


def _connect(spec: ClusterSpec, installation: Installation) -> Callable[[], official.ApiClient]:
    store = _secrets(installation)
    folder = installation.run_dir / SECRETS / spec.name
    return lambda: api_client(store.read_file(spec.secret, longest=LONGEST), folder)


def _gateway_of(
    spec: ClusterSpec, place: Place, installation: Installation
) -> Callable[[GatewayParent], Mapping[str, Any] | None]:
    """Reads a Gateway, in whichever namespace it is."""
    connect = _connect(spec, installation)

    def read(parent: GatewayParent) -> Mapping[str, Any] | None:
        namespace = parent.namespace or place.profile.namespace
        return KubernetesClient(connect, namespace, cluster_uid=place.cluster_uid).get(GATEWAY, parent.name)

    return read


def _secrets(installation: Installation) -> SecretStore:
    return SecretStore(installation.secrets_dir / SECRETS, installation.keys)


def _prometheus(place: Place, installation: Installation) -> PrometheusServer:
    headers = {}
    if place.prometheus_secret:
        token = _secrets(installation).read_file(place.prometheus_secret)
        remember(token)
        headers["Authorization"] = f"Bearer {token}"
    authorities = _authorities(place, installation)
    return PrometheusServer(place.prometheus, headers=headers, authorities=authorities)


def _authorities(place: Place, installation: Installation) -> str:
    """The certificates (PEM) of who vouches for the gateway and for Prometheus, beside the usual ones."""
    if not place.authorities_secret:
        return ""
    found = _secrets(installation).read_file(place.authorities_secret, longest=LONGEST)
    if BEGIN_CERTIFICATE not in found:
        raise Refused(
            f"The secret file {place.authorities_secret!r} holds no certificate.",
            fix="Put the certificates of the authorities there as PEM.",
            code="no-authorities",
        )
    return found


def _prober(place: Place, gateway_place: GatewayPlace, installation: Installation) -> OpenAIProber:
    def asked(endpoint: str) -> Asked:
        host = gateway_place.host(endpoint)
        return Asked("" if place.gateway_address else _url_of(place, host), {"Host": host})

    return OpenAIProber(_gateway_client(place, installation), asked)


def _user(place: Place, installation: Installation, seconds: float = SERVED_SECONDS) -> GatewayUser:
    return GatewayUser(
        _gateway_client(place, installation),
        seconds=seconds,
        url_of=lambda host: "" if place.gateway_address else _url_of(place, host),
    )


def _gateway_client(place: Place, installation: Installation) -> httpx.Client:
    """Keeps no connections: they would not outlive the gateway's restart or a worker's fork."""
    return remote_client(
        place.gateway_address or place.gateway_url,
        headers={"Connection": "close"},
        authorities=_authorities(place, installation),
    )


def _endpoint_url(place: Place, gateway_place: GatewayPlace, endpoint: str) -> str:
    return _url_of(place, gateway_place.host(endpoint))


def _url_of(place: Place, host: str) -> str:
    """Where people reach this host."""
    parts = urlsplit(place.gateway_url)
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


KUBERNETES = ClusterKind(
    name="kubernetes",
    title="Kubernetes",
    problems=problems,
    build=build,
    prepare=prepare,
    occupies=occupies,
)
