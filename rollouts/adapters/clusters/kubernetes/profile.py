"""The profile of a cluster: how its operator wants engines to run there.

It is the part `profile` of a cluster's configuration. Only the fields named here exist: what becomes part of a pod is
what was thought of, and nothing else. `profile_reading` makes one of what somebody sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rollouts.domain.capacity.nodes import NodeRule, Toleration
from rollouts.domain.images import Image

METRIC = "vllm_num_requests_waiting"


class AutoscalerKind(StrEnum):
    """What changes the number of replicas by itself."""

    NONE = "none"
    HPA = "hpa"
    KEDA = "keda"


class WeightsKind(StrEnum):
    """Where an engine's files come from."""

    OCI_VOLUME = "oci_volume"  # the version is an OCI artifact; its digest is what was registered
    CLAIM = "claim"  # a volume that holds them, in a folder named by the manifest; compared when a pod starts
    OBJECT_STORE = "object_store"  # the engine reads them from there; nothing compares them
    INIT_CONTAINER = "init_container"  # an image of the operator's fetches them; compared when a pod starts


class FilledBy(StrEnum):
    """Who puts a version's files into the volume of weights of the kind `claim`."""

    OPERATOR = "operator"  # before the rollout, by whatever means
    HEADGATE = "headgate"  # by a Job that fetches them from Headgate, once a variant is launched


@dataclass(frozen=True, slots=True)
class Weights:
    """Where an engine's files come from, and what that kind needs.

    claim             name of the PersistentVolumeClaim
    filled_by         who fills it
    sources           beginnings of the URIs that may be read: "oci://registry.example/models/", "s3://models/"
    image             what fetches them, called with two words: the source, and the folder to fill
    service_account   whose rights fetch or read them; empty: the profile's own
    egress            networks that may be reached for it, in CIDR form: by engines, or by the Job that fills a volume
    """

    kind: WeightsKind
    claim: str = ""
    filled_by: FilledBy = FilledBy.OPERATOR
    sources: tuple[str, ...] = ()
    image: Image | None = None
    service_account: str = ""
    egress: tuple[str, ...] = ()

    @property
    def filled_by_headgate(self) -> bool:
        """Whether a Job brings a version's files before its engine is made."""
        return self.kind is WeightsKind.CLAIM and self.filled_by is FilledBy.HEADGATE

    @property
    def engine_egress(self) -> tuple[str, ...]:
        """Networks that engines reach for their files. Who fills a volume reaches them in the engines' stead."""
        return () if self.kind is WeightsKind.CLAIM else self.egress


@dataclass(frozen=True, slots=True)
class Spread:
    """Replicas are spread over the values of a node's label. `strict`: one waits rather than to stand too close."""

    label: str
    max_skew: int = 1
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """How replicas are added and removed.

    most        replicas at most
    waiting     requests that wait, a replica, above which one is added
    prometheus  address of the Prometheus that KEDA asks
    metric      name of the metric that the HPA is given by the cluster's metrics adapter
    """

    kind: AutoscalerKind = AutoscalerKind.NONE
    most: int = 1
    waiting: int = 4
    prometheus: str = ""
    metric: str = METRIC


@dataclass(frozen=True, slots=True)
class Security:
    """What a pod may do. All else is as the restricted Pod Security standard wants it.

    read_only_root   the container's own files cannot be written; some device hooks need it off
    user, group, fs_group
                     numbers; the user is never root
    """

    read_only_root: bool = True
    user: int = 2000
    group: int = 0
    fs_group: int = 2000


@dataclass(frozen=True, slots=True)
class ClusterProfile:
    """How a cluster is used.

    namespace          where all objects go; it exists already
    image              what engines are started from, by digest
    image_repositories further ones that a serving spec may name
    pull_secrets       names of the Secrets that images are pulled with
    accelerators       resource names that a serving spec may ask for: a GPU, a MIG slice, a shared name
    accelerators_per_node
                       above this count a replica takes several nodes; 0: it never does
    headroom_percent   of free accelerators that a launch leaves free
    gateway_namespaces, metrics_namespaces
                       from where engines may be reached
    replicas           of one variant at most
    memory_mb, cpu_millis, disk_mb, shm_mb
                       of a replica whose serving spec names none
    labels, annotations
                       further ones on every object (cost centre, team)
    fingerprint        whether the engine of the image can say who answers (`system_fingerprint`)
    pod_monitor        whether the Prometheus operator is there
    stop_seconds       that requests inside get to end when an engine stops
    unlisted_seconds   that a pod goes on answering after it was told to stop: until all routers know
    """

    namespace: str
    image: Image
    weights: Weights
    image_repositories: tuple[str, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    accelerators: tuple[str, ...] = ()
    accelerators_per_node: int = 0
    node_labels: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    node_rules: tuple[NodeRule, ...] = ()
    spread: tuple[Spread, ...] = (Spread("kubernetes.io/hostname"),)
    priority_class: str = ""
    scheduler: str = ""
    queue: str = ""
    service_account: str = "default"
    security: Security = field(default_factory=Security)
    headroom_percent: int = 20
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    autoscaler: Autoscaler = field(default_factory=Autoscaler)
    gateway_namespaces: tuple[str, ...] = ()
    metrics_namespaces: tuple[str, ...] = ()
    replicas: int = 8
    memory_mb: int = 8192
    cpu_millis: int = 1000
    disk_mb: int = 4096
    shm_mb: int = 1024
    fingerprint: bool = True
    pod_monitor: bool = False
    stop_seconds: int = 140
    unlisted_seconds: int = 20
