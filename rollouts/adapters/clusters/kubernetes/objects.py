"""All objects of a variant, from the cluster's profile and the variant's serving spec. Pure and deterministic: the same
variant gives the same objects, byte for byte, so that what differs in the cluster was changed there.

The anchor, a ConfigMap, owns the others: who deletes it deletes them all. The workload carries no number of replicas:
whoever applies it would set the number back. Values are written as Kubernetes writes them back.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.digests import digest_of
from rollouts.adapters.clusters.kubernetes.anchors import ATTEMPT
from rollouts.adapters.clusters.kubernetes.autoscaling import autoscaler_of
from rollouts.adapters.clusters.kubernetes.container import (
    PORT,
    PORT_NAME,
    ContainerEngine,
)
from rollouts.adapters.clusters.kubernetes.names import (
    ENDPOINT,
    ENDPOINT_NAME,
    INSTALLATION,
    MANAGED_BY,
    PREFIX,
    SPEC_DIGEST,
    VARIANT,
    VARIANT_NAME,
    label_value,
    object_name,
)
from rollouts.adapters.clusters.kubernetes.pod import pod_of
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.adapters.clusters.kubernetes.record import check_size, record_of, record_of_workload
from rollouts.adapters.clusters.kubernetes.spec_checks import check_spec, pods_of_replica
from rollouts.domain.engine_options import Chosen
from rollouts.ports import WorkloadSpec

COMPONENT = "model-server"
ROLE = f"{PREFIX}role"  # label of pods that are several for one replica
LEADER, WORKER = "leader", "worker"
PULL_SECONDS = 900  # that an image and a new node may take before an engine's own time begins
# Kubernetes puts these in the place of the variables that LeaderWorkerSet sets.
GROUP_WORDS = ("--nnodes=$(LWS_GROUP_SIZE)", "--master-addr=$(LWS_LEADER_ADDRESS)")
LEADER_WORDS = (*GROUP_WORDS, "--node-rank=0")
WORKER_WORDS = (*GROUP_WORDS, "--node-rank=$(LWS_WORKER_INDEX)", "--headless")

DEPLOYMENT, LEADER_WORKER_SET = "Deployment", "LeaderWorkerSet"
QUEUE = "kueue.x-k8s.io/queue-name"


def to_names() -> dict[str, Any]:
    """Of a NetworkPolicy's egress: whoever restricts what a pod reaches has to let it ask for addresses."""
    return {
        "to": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            }
        ],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    }


def common_labels(
    spec: WorkloadSpec, profile: ClusterProfile, installation: str, *, name: str, app: str, component: str
) -> dict[str, str]:
    """Labels of every object that is made for this variant. `name` is the object's, `app` what it runs."""
    shared = _shared_labels(spec.endpoint, profile, installation, app=app, component=component)
    return {**shared, "app.kubernetes.io/instance": name}


def labels_of_engine(
    engine: str, endpoint: str, profile: ClusterProfile, installation: str
) -> dict[str, str]:
    """Labels that the pods of this engine have, whichever variant of the endpoint it is."""
    return _shared_labels(endpoint, profile, installation, app=label_value(engine), component=COMPONENT)


def _shared_labels(
    endpoint: str, profile: ClusterProfile, installation: str, *, app: str, component: str
) -> dict[str, str]:
    return {
        **profile.labels,
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": label_value(endpoint),
        "app.kubernetes.io/managed-by": MANAGED_BY,
        INSTALLATION: label_value(installation),
        ENDPOINT: label_value(endpoint),
    }


def common_annotations(spec: WorkloadSpec, profile: ClusterProfile) -> dict[str, str]:
    """Annotations of every object that is made for this variant."""
    return {**profile.annotations, ENDPOINT_NAME: spec.endpoint, VARIANT_NAME: spec.variant}


@dataclass(frozen=True, slots=True)
class VariantObjects:
    """A variant's objects, in the order in which they are made.

    anchor    owns all others
    others    without an owner yet: only the cluster knows the anchor's UID
    """

    name: str
    workload_kind: str
    anchor: dict[str, Any]
    others: tuple[dict[str, Any], ...]

    def owned_by(self, uid: str) -> tuple[dict[str, Any], ...]:
        """The others, owned by the anchor with this UID. An owner that is gone would delete them at once."""
        return owned_by(self.others, self.name, uid)


def owned_by(objects: Sequence[Mapping[str, Any]], name: str, uid: str) -> tuple[dict[str, Any], ...]:
    """These objects, owned by the anchor of this name and UID."""
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": name,
        "uid": uid,
        "blockOwnerDeletion": True,  # the anchor is there until all others are gone
        "controller": False,
    }
    owned = tuple(copy.deepcopy(dict(one)) for one in objects)
    for one in owned:
        one["metadata"]["ownerReferences"] = [dict(owner)]
    return owned


def with_attempt(body: Mapping[str, Any], attempt: int) -> dict[str, Any]:
    """The object for this launch of the variant. The pods of another attempt are other ones; all else is the same."""
    found: dict[str, Any] = copy.deepcopy(dict(body))
    if found["kind"] == DEPLOYMENT:
        templates = [found["spec"]["template"]]
    elif found["kind"] == LEADER_WORKER_SET:
        group = found["spec"]["leaderWorkerTemplate"]
        templates = [group["leaderTemplate"], group["workerTemplate"]]
    else:
        templates = []
    for template in templates:
        template["metadata"]["annotations"][ATTEMPT] = str(attempt)
    return found


def objects_of(
    spec: WorkloadSpec,
    profile: ClusterProfile,
    *,
    installation: str,
    engines: Mapping[str, ContainerEngine],
    secrets: Mapping[str, str],
) -> VariantObjects:
    """All objects of the variant. Raises InvalidInput naming the field of what cannot be had on this cluster.

    installation  identifies this Headgate: another one leaves its objects alone
    secrets       the values of the spec's secret variables, opened
    """
    engine, chosen = check_spec(spec, profile, engines)
    name = object_name(spec.variant)
    maker = ObjectMaker(spec, profile, installation, name)
    pods = pods_of_replica(spec, profile)
    workload = _deployment(maker, engine, chosen) if pods == 1 else _group(maker, engine, chosen, pods)
    others = [
        workload,
        service_of(maker, _answering(maker, pods), PORT_NAME),
        _budget(maker, pods),
        _network(maker),
    ]
    if chosen.secrets:
        others.insert(0, _secret(maker, {key: secrets[key] for key in sorted(chosen.secrets)}))
    scaler = autoscaler_of(profile, spec, name, workload["apiVersion"], workload["kind"])
    if scaler is not None:
        others.append(maker.made(*scaler))
    if profile.pod_monitor:
        others.append(_monitor(maker))
    record = {**record_of(spec), **record_of_workload(workload)}
    check_size(record, spec)
    return VariantObjects(
        name, workload["kind"], maker.made("v1", "ConfigMap", {"data": record}), tuple(others)
    )


def check_launch(
    spec: WorkloadSpec,
    profile: ClusterProfile,
    *,
    installation: str,
    engines: Mapping[str, ContainerEngine],
) -> None:
    """Raises InvalidInput, as a launch would, for what cannot be made on this cluster. Opens no secret."""
    _, chosen = check_spec(spec, profile, engines)
    unopened = dict.fromkeys(chosen.secrets, "")
    objects_of(spec, profile, installation=installation, engines=engines, secrets=unopened)


@dataclass(frozen=True, slots=True)
class ObjectMaker:
    """What all objects of a variant have in common."""

    spec: WorkloadSpec
    profile: ClusterProfile
    installation: str
    name: str

    @property
    def labels(self) -> dict[str, str]:
        app = label_value(self.spec.engine)
        common = common_labels(
            self.spec, self.profile, self.installation, name=self.name, app=app, component=COMPONENT
        )
        return {**common, VARIANT: self.name}

    @property
    def annotations(self) -> dict[str, str]:
        return common_annotations(self.spec, self.profile)

    @property
    def selector(self) -> dict[str, str]:
        return {VARIANT: self.name}

    def made(self, api_version: str, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {
            "name": self.name,
            "namespace": self.profile.namespace,
            "labels": self.labels,
            "annotations": {**self.annotations, SPEC_DIGEST: digest_of(body)},
        }
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}

    def template(self, pod: Mapping[str, Any], *, role: str = "") -> dict[str, Any]:
        labels = {**self.labels, **({ROLE: role} if role else {})}
        # A node that an autoscaler wants to empty stays while an engine is on it: it would load for minutes elsewhere.
        annotations = {**self.annotations, "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
        return {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}


def _deployment(maker: ObjectMaker, engine: ContainerEngine, chosen: Chosen) -> dict[str, Any]:
    count = maker.spec.accelerators.count if maker.spec.accelerators is not None else 0
    pod = pod_of(maker.spec, maker.profile, engine, chosen, maker.name, accelerators=count)
    body = {
        "spec": {
            "revisionHistoryLimit": 1,
            "minReadySeconds": 0,
            "progressDeadlineSeconds": int(maker.spec.start_seconds) + PULL_SECONDS,  # it only reports
            # A variant is never changed, so nothing of it needs accelerators beside its own.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
            "selector": {"matchLabels": maker.selector},
            "template": maker.template(pod),
        }
    }
    return _queued(maker, maker.made("apps/v1", DEPLOYMENT, body))


def _group(maker: ObjectMaker, engine: ContainerEngine, chosen: Chosen, pods: int) -> dict[str, Any]:
    """A replica of several pods, which live and die together."""
    assert maker.spec.accelerators is not None  # several pods follow from their number
    each = maker.spec.accelerators.count // pods
    leader = pod_of(
        maker.spec, maker.profile, engine, chosen, maker.name, accelerators=each, group_words=LEADER_WORDS
    )
    worker = pod_of(
        maker.spec,
        maker.profile,
        engine,
        chosen,
        maker.name,
        accelerators=each,
        group_words=WORKER_WORDS,
        answers=False,
    )
    body = {
        "spec": {
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "startupPolicy": "LeaderCreated",
            "leaderWorkerTemplate": {
                "size": pods,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": maker.template(leader, role=LEADER),
                "workerTemplate": maker.template(worker, role=WORKER),
            },
        }
    }
    return _queued(maker, maker.made("leaderworkerset.x-k8s.io/v1", LEADER_WORKER_SET, body))


def _queued(maker: ObjectMaker, workload: dict[str, Any]) -> dict[str, Any]:
    if maker.profile.queue:
        workload["metadata"]["labels"][QUEUE] = maker.profile.queue
    return workload


def _answering(maker: ObjectMaker, pods: int) -> dict[str, str]:
    """The labels of the pods that requests reach."""
    return maker.selector if pods == 1 else {**maker.selector, ROLE: LEADER}


def service_of(maker: ObjectMaker, selector: Mapping[str, str], target: str | int) -> dict[str, Any]:
    """The Service of a variant. `target`: the port of its pods, by name or number."""
    port = {"name": PORT_NAME, "port": PORT, "targetPort": target, "protocol": "TCP", "appProtocol": "http"}
    body = {"spec": {"type": "ClusterIP", "selector": dict(selector), "ports": [port]}}
    return maker.made("v1", "Service", body)


def _budget(maker: ObjectMaker, pods: int) -> dict[str, Any]:
    body = {
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",  # else a broken engine keeps its node from being emptied
            "selector": {"matchLabels": _answering(maker, pods)},
        }
    }
    return maker.made("policy/v1", "PodDisruptionBudget", body)


def _network(maker: ObjectMaker) -> dict[str, Any]:
    """Who reaches an engine: gateways, metrics, and pods of the same replica. What it reaches: names, those pods, and
    where its files come from."""
    profile = maker.profile
    sources = sorted({*profile.gateway_namespaces, *profile.metrics_namespaces})
    own_pods = {"podSelector": {"matchLabels": maker.selector}}
    several = profile.accelerators_per_node and pods_of_replica(maker.spec, profile) > 1
    ingress: list[dict[str, Any]] = []
    if sources:
        peers = [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": one}}} for one in sources
        ]
        ingress.append({"from": peers, "ports": [{"protocol": "TCP", "port": PORT}]})
    egress: list[dict[str, Any]] = [to_names()]
    if several:
        ingress.append({"from": [own_pods]})
        egress.append({"to": [own_pods]})
    if profile.weights.engine_egress:
        egress.append({"to": [{"ipBlock": {"cidr": network}} for network in profile.weights.engine_egress]})
    body = {
        "spec": {
            "podSelector": {"matchLabels": maker.selector},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        }
    }
    return maker.made("networking.k8s.io/v1", "NetworkPolicy", body)


def _secret(maker: ObjectMaker, values: Mapping[str, str]) -> dict[str, Any]:
    """The values of secret variables, as they were when the variant was launched last: a file may hold another one by
    the time a launch that failed is tried again."""
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    made = maker.made("v1", "Secret", {"type": "Opaque", "data": data})
    # A digest of a short secret would tell it to whoever tries all of them.
    made["metadata"]["annotations"][SPEC_DIGEST] = digest_of(sorted(values))
    return made


def _monitor(maker: ObjectMaker) -> dict[str, Any]:
    body = {
        "spec": {
            "selector": {"matchLabels": maker.selector},
            "podMetricsEndpoints": [{"port": PORT_NAME, "path": "/metrics", "interval": "5s"}],
        }
    }
    return maker.made("monitoring.coreos.com/v1", "PodMonitor", body)
