"""Reads the profile of a cluster as somebody wrote it down: everything that is wrong is found, each field named."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.kubernetes.names import PREFIX
from rollouts.adapters.clusters.kubernetes.profile import (
    METRIC,
    Autoscaler,
    AutoscalerKind,
    ClusterProfile,
    FilledBy,
    Security,
    Spread,
    Weights,
    WeightsKind,
)
from rollouts.adapters.configuration_parts import (
    DNS_LABEL,
    DNS_NAME,
    LABEL_NAME,
    WORD,
    ConfigurationPart,
    fully,
)
from rollouts.domain.accelerators import LONGEST as LONGEST_RESOURCE
from rollouts.domain.accelerators import RESOURCE
from rollouts.domain.capacity.nodes import NodeRule, Toleration
from rollouts.domain.images import REPOSITORY, Image

FIELD = "configuration.profile"
LONGEST_ANNOTATION = 1_000
LABEL_VALUE = re.compile(rf"(?:{WORD})?")
SOURCE = re.compile(r"[a-z][a-z0-9+.-]*://[^\s?#@]+")
OWN_LABELS = ("app.kubernetes.io/", "kubernetes.io/", "k8s.io/", PREFIX)

TOP = (
    "namespace", "image", "image_repositories", "pull_secrets", "accelerators", "accelerators_per_node", "node_labels",
    "tolerations", "node_rules", "spread", "priority_class", "scheduler", "queue", "service_account", "weights",
    "security", "headroom_percent", "labels", "annotations", "autoscaler", "gateway_namespaces", "metrics_namespaces",
    "replicas", "memory_mb", "cpu_millis", "disk_mb", "shm_mb", "fingerprint", "pod_monitor", "stop_seconds",
    "unlisted_seconds",
)  # fmt: skip
NEEDS: Mapping[WeightsKind, tuple[str, ...]] = {
    WeightsKind.OCI_VOLUME: ("sources",),
    WeightsKind.CLAIM: ("claim",),
    WeightsKind.OBJECT_STORE: ("sources", "egress", "unchanging"),
    WeightsKind.INIT_CONTAINER: ("sources", "image", "egress"),
}


def read_profile(given: object, *, at: str = FIELD) -> tuple[ClusterProfile | None, tuple[InvalidInput, ...]]:
    """The profile, and everything that is wrong with it; None where something is."""
    problems: list[InvalidInput] = []
    top = ConfigurationPart(given, TOP, at, problems)
    namespace = top.matching("namespace", DNS_LABEL, "a name of a namespace", "team-a", needed=True)
    image = top.image("image", needed=True)
    weights = _weights(top)
    profile = ClusterProfile(
        namespace=namespace,
        image=image or Image(""),
        weights=weights or Weights(WeightsKind.CLAIM),
        image_repositories=top.texts(
            "image_repositories", fully(REPOSITORY), "a repository of images", "registry.example/vllm"
        ),
        pull_secrets=top.texts("pull_secrets", fully(DNS_NAME), "a name of a Secret", "registry-login"),
        accelerators=top.texts("accelerators", _is_resource, "a name of a resource", "nvidia.com/gpu"),
        accelerators_per_node=top.number("accelerators_per_node", 0, least=0, most=64),
        node_labels=top.pairs("node_labels", fully(LABEL_VALUE), "a value of a label"),
        tolerations=tuple(_toleration(part) for part in top.parts("tolerations", TOLERATION)),
        node_rules=tuple(
            _node_rule(part) for part in top.parts("node_rules", ("label", "operator", "values"))
        ),
        spread=_spread(top),
        priority_class=top.matching("priority_class", DNS_NAME, "a name of a PriorityClass", "llm-serving"),
        scheduler=top.matching("scheduler", DNS_NAME, "a name of a scheduler", "default-scheduler"),
        queue=top.matching("queue", DNS_LABEL, "a name of a queue of Kueue", "team-a"),
        service_account=_service_account(top) or "default",
        security=_security(top.part("security", ("read_only_root", "user", "group", "fs_group"))),
        headroom_percent=top.number("headroom_percent", 20, least=0, most=90),
        labels=top.pairs("labels", fully(LABEL_VALUE), "a value of a label", reserved=OWN_LABELS),
        annotations=top.pairs(
            "annotations",
            _is_annotation,
            f"a text of at most {LONGEST_ANNOTATION} characters",
            reserved=OWN_LABELS,
        ),
        autoscaler=_autoscaler(top.part("autoscaler", ("kind", "most", "waiting", "prometheus", "metric"))),
        gateway_namespaces=top.texts(
            "gateway_namespaces", fully(DNS_LABEL), "a name of a namespace", "gateway"
        ),
        metrics_namespaces=top.texts(
            "metrics_namespaces", fully(DNS_LABEL), "a name of a namespace", "monitoring"
        ),
        replicas=top.number("replicas", 8, least=1, most=64),
        memory_mb=top.number("memory_mb", 8192, least=64, most=10_000_000),
        cpu_millis=top.number("cpu_millis", 1000, least=10, most=1_000_000),
        disk_mb=top.number("disk_mb", 4096, least=16, most=10_000_000),
        shm_mb=top.number("shm_mb", 1024, least=1, most=1_000_000),
        fingerprint=top.flag("fingerprint", True),
        pod_monitor=top.flag("pod_monitor", False),
        stop_seconds=top.number("stop_seconds", 140, least=1, most=3_600),
        unlisted_seconds=top.number("unlisted_seconds", 20, least=1, most=300),
    )
    return (None if problems else profile), tuple(problems)


TOLERATION = ("key", "operator", "value", "effect", "seconds")


def _toleration(part: ConfigurationPart) -> Toleration:
    operator = part.choice("operator", ("Exists", "Equal"), "Exists") or "Exists"
    effect = part.choice("effect", ("", "NoSchedule", "PreferNoSchedule", "NoExecute"), "") or ""
    key = part.matching("key", LABEL_NAME, "a name of a taint", "nvidia.com/gpu", needed=True)
    value = part.matching("value", LABEL_VALUE, "a value of a taint", "present")
    seconds = part.whole("seconds", least=0, most=86_400)
    if value and operator == "Exists":
        part.note(
            "value", "A value means nothing with the operator Exists.", fix="Leave it out, or write Equal."
        )
    if seconds is not None and effect != "NoExecute":
        part.note("seconds", "Seconds count with the effect NoExecute only.", fix="Leave them out.")
    return Toleration(key, operator, value, effect, seconds)


def _node_rule(part: ConfigurationPart) -> NodeRule:
    label = part.matching("label", LABEL_NAME, "a name of a label", "nvidia.com/gpu.product", needed=True)
    operator = part.choice("operator", ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")) or ""
    values = part.texts("values", fully(LABEL_VALUE), "a value of a label", "NVIDIA-H200")
    if operator in ("Exists", "DoesNotExist") and values:
        part.note("values", f"Values mean nothing with {operator}.", fix="Leave them out.")
    if operator in ("In", "NotIn") and not values:
        part.note("values", f"{operator} needs values.", fix="Write at least one.")
    if operator in ("Gt", "Lt") and (len(values) != 1 or not values[0].isdecimal()):
        part.note("values", f"{operator} needs one whole number.", fix='Write it as a text: ["1"].')
    return NodeRule(label, operator, values)


def _spread(top: ConfigurationPart) -> tuple[Spread, ...]:
    if not top.has("spread"):
        return (Spread("kubernetes.io/hostname"),)
    return tuple(
        Spread(
            part.matching(
                "label", LABEL_NAME, "a name of a label", "topology.kubernetes.io/zone", needed=True
            ),
            part.number("max_skew", 1, least=1, most=64),
            part.flag("strict", False),
        )
        for part in top.parts("spread", ("label", "max_skew", "strict"))
    )


def _security(part: ConfigurationPart) -> Security:
    return Security(
        read_only_root=part.flag("read_only_root", True),
        user=part.number("user", 2000, least=1, most=2**31 - 1),
        group=part.number("group", 0, least=0, most=2**31 - 1),
        fs_group=part.number("fs_group", 2000, least=1, most=2**31 - 1),
    )


def _autoscaler(part: ConfigurationPart) -> Autoscaler:
    kind = AutoscalerKind(
        part.choice("kind", tuple(AutoscalerKind), AutoscalerKind.NONE) or AutoscalerKind.NONE
    )
    found = Autoscaler(
        kind=kind,
        most=part.number("most", 1, least=1, most=64),
        waiting=part.number("waiting", 4, least=1, most=10_000),
        prometheus=part.address("prometheus") or "",
        metric=part.matching(
            "metric", re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,199}"), "a metric's name", "waiting"
        )
        or METRIC,
    )
    if kind is AutoscalerKind.KEDA and not part.has("prometheus"):
        part.note("prometheus", "KEDA asks a Prometheus, and none is named.", fix="Give its address.")
    return found


def _weights(top: ConfigurationPart) -> Weights | None:
    known = ("kind", "claim", "filled_by", "sources", "image", "service_account", "egress", "unchanging")
    part = top.part("weights", known)
    word = part.choice("kind", tuple(WeightsKind))
    if word is None:
        return None
    kind = WeightsKind(word)
    filled_by = FilledBy(part.choice("filled_by", tuple(FilledBy), FilledBy.OPERATOR) or FilledBy.OPERATOR)
    may = {"service_account"}
    if kind is WeightsKind.CLAIM:
        may |= {"filled_by"} | ({"egress"} if filled_by is FilledBy.HEADGATE else set())
    for name in known[1:]:
        if part.has(name) and name not in (*NEEDS[kind], *may):
            part.note(name, f"{name} means nothing for weights of the kind {kind}.", fix="Leave it out.")
        elif not part.has(name) and name in NEEDS[kind] and name != "unchanging":
            part.note(name, f"Weights of the kind {kind} need {name}.", fix=f"Give {name}.")
    if kind is WeightsKind.OBJECT_STORE and not part.flag("unchanging", False):
        part.note(
            "unchanging",
            "An engine that streams its files compares none of them with the manifest.",
            fix="Write true once nothing in that store can be overwritten, or choose another kind.",
        )
    sources = part.texts("sources", fully(SOURCE), "the beginning of a URI", "s3://models/")
    scheme = "oci://" if kind is WeightsKind.OCI_VOLUME else ""
    for index, one in enumerate(sources):
        # Without the slash s3://models would allow s3://models-of-somebody-else, too.
        if not one.startswith(scheme) or not one.endswith("/"):
            part.note(f"sources.{index}", f"It is no beginning {scheme}NAME/.", fix="End it with a slash.")
    return Weights(
        kind=kind,
        claim=part.matching("claim", DNS_NAME, "a name of a PersistentVolumeClaim", "models"),
        filled_by=filled_by,
        sources=sources,
        image=part.image("image", needed=False),
        service_account=_service_account(part),
        egress=part.texts("egress", _is_network, "a network", "10.0.0.0/8"),
    )


def _service_account(part: ConfigurationPart) -> str:
    return part.matching("service_account", DNS_NAME, "a name of a ServiceAccount", "vllm-runtime")


def _is_resource(value: str) -> bool:
    return len(value) <= LONGEST_RESOURCE and RESOURCE.fullmatch(value) is not None


def _is_annotation(value: str) -> bool:
    return len(value) <= LONGEST_ANNOTATION and value.isprintable()


def _is_network(value: str) -> bool:
    """Whether Kubernetes takes it: with the length of its prefix, and written in one way only."""
    try:
        return str(ipaddress.ip_network(value)) == value and "%" not in value
    except ValueError:
        return False
