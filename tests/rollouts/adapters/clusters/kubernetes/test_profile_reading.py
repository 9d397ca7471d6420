"""The profile of a cluster as somebody wrote it down."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.profile import AutoscalerKind, Spread
from rollouts.adapters.clusters.kubernetes.profile_reading import read_profile
from rollouts.domain.capacity.nodes import NodeRule, Toleration
from tests.rollouts.adapters.clusters.kubernetes.profiles import (
    DIGEST,
    FETCHES,
    FILLED,
    IMAGE,
    SOUND,
    profile_of,
)


def wrong_with(given: Any) -> list[str]:
    return [problem.field.removeprefix("configuration.profile") for problem in read_profile(given)[1]]


def test_read_profile__least__has_safe_values_for_the_rest() -> None:
    profile = profile_of()
    assert str(profile.image) == IMAGE
    assert (profile.headroom_percent, profile.autoscaler.kind) == (20, AutoscalerKind.NONE)
    assert profile.security.read_only_root
    assert profile.spread == (Spread("kubernetes.io/hostname"),)


def test_read_profile__everything__is_read() -> None:
    profile = profile_of(
        node_labels={"pool": "gpu"},
        tolerations=[{"key": "nvidia.com/gpu", "effect": "NoExecute", "seconds": 60}],
        node_rules=[{"label": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-H200"]}],
        spread=[{"label": "topology.kubernetes.io/zone", "strict": True}],
        priority_class="llm-serving",
        scheduler="volcano",
        queue="team-a",
        labels={"cost-centre": "4711"},
        annotations={"example.com/team": "chat, Paris"},
        autoscaler={"kind": "keda", "most": 4, "prometheus": "http://prometheus.monitoring:9090/"},
        weights=FETCHES,
        security={"read_only_root": False, "user": 1000},
        fingerprint=False,
    )
    assert profile.tolerations == (Toleration("nvidia.com/gpu", effect="NoExecute", seconds=60),)
    assert profile.node_rules == (NodeRule("nvidia.com/gpu.product", "In", ("NVIDIA-H200",)),)
    assert profile.spread == (Spread("topology.kubernetes.io/zone", 1, True),)
    assert (profile.priority_class, profile.scheduler, profile.queue) == ("llm-serving", "volcano", "team-a")
    assert profile.autoscaler.prometheus == "http://prometheus.monitoring:9090"
    assert (profile.security.read_only_root, profile.security.user) == (False, 1000)
    assert not profile.fingerprint


def test_read_profile__claim__is_filled_by_its_operator_unless_it_says_otherwise() -> None:
    assert not profile_of().weights.filled_by_headgate
    assert not profile_of(weights={**FILLED, "filled_by": "operator"}).weights.filled_by_headgate
    profile = profile_of(weights={**FILLED, "egress": ["10.0.0.0/8"]})
    assert profile.weights.filled_by_headgate
    assert (profile.weights.egress, profile.weights.engine_egress) == (("10.0.0.0/8",), ())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"weights": {**FILLED, "filled_by": "somebody"}}, "weights.filled_by"),
        ({"weights": {**FILLED, "egress": ["anywhere"]}}, "weights.egress.0"),
        ({"weights": {"kind": "claim", "claim": "models", "egress": ["10.0.0.0/8"]}}, "weights.egress"),
        ({"weights": {**FETCHES, "filled_by": "headgate"}}, "weights.filled_by"),
        ({"namespace": None}, "namespace"),
        ({"namespace": "Team"}, "namespace"),
        ({"namespace": "a" * 64}, "namespace"),
        ({"image": None}, "image"),
        ({"image": "registry.example/vllm:v1"}, "image"),  # a tag may mean something else tomorrow
        ({"image": "vllm serve"}, "image"),
        ({"image_repositories": ["a b"]}, "image_repositories.0"),
        ({"accelerators": ["gpu"]}, "accelerators.0"),
        ({"accelerators": "nvidia.com/gpu"}, "accelerators"),
        ({"accelerators_per_node": -1}, "accelerators_per_node"),
        ({"node_labels": {"pool": 7}}, "node_labels.pool"),
        ({"node_labels": {"a b": "x"}}, "node_labels.a b"),
        ({"tolerations": [{"operator": "Exists"}]}, "tolerations.0.key"),
        ({"tolerations": [{"key": "gpu", "value": "x"}]}, "tolerations.0.value"),
        ({"tolerations": [{"key": "gpu", "seconds": 60}]}, "tolerations.0.seconds"),
        ({"tolerations": [{"key": "gpu", "colour": 1}]}, "tolerations.0.colour"),
        ({"node_rules": [{"label": "a", "operator": "Is"}]}, "node_rules.0.operator"),
        ({"node_rules": [{"label": "a", "operator": "In"}]}, "node_rules.0.values"),
        ({"node_rules": [{"label": "a", "operator": "Gt", "values": ["many"]}]}, "node_rules.0.values"),
        ({"spread": [{"label": "zone", "max_skew": 0}]}, "spread.0.max_skew"),
        ({"priority_class": "Very High"}, "priority_class"),
        ({"scheduler": "/bin/sh"}, "scheduler"),
        ({"queue": "a.b"}, "queue"),
        ({"pull_secrets": ["A"]}, "pull_secrets.0"),
        ({"security": {"privileged": True}}, "security.privileged"),
        ({"security": {"user": 0}}, "security.user"),
        ({"security": []}, "security"),
        ({"headroom_percent": 95}, "headroom_percent"),
        ({"labels": {"headgate.dev/variant": "x"}}, "labels.headgate.dev/variant"),
        ({"labels": {"app.kubernetes.io/managed-by": "x"}}, "labels.app.kubernetes.io/managed-by"),
        (
            {"labels": {"pod-security.kubernetes.io/enforce": "x"}},
            "labels.pod-security.kubernetes.io/enforce",
        ),
        ({"annotations": {"team": "a\nb"}}, "annotations.team"),
        ({"autoscaler": {"kind": "vpa"}}, "autoscaler.kind"),
        ({"autoscaler": {"kind": "keda"}}, "autoscaler.prometheus"),
        ({"autoscaler": {"kind": "keda", "prometheus": "prometheus"}}, "autoscaler.prometheus"),
        ({"weights": None}, "weights.kind"),
        ({"weights": {}}, "weights.kind"),
        ({"weights": {"kind": "claim"}}, "weights.claim"),
        ({"weights": {"kind": "claim", "claim": "m", "sources": ["s3://m/"]}}, "weights.sources"),
        ({"weights": {**FETCHES, "image": "registry.example/fetch:v1"}}, "weights.image"),
        ({"weights": {**FETCHES, "sources": ["s3://models"]}}, "weights.sources.0"),
        ({"weights": {**FETCHES, "sources": ["https://user:pw@host/"]}}, "weights.sources.0"),
        ({"weights": {**FETCHES, "egress": ["anywhere"]}}, "weights.egress.0"),
        # what Python takes for a network, and the API server does not
        ({"weights": {**FETCHES, "egress": ["10.0.0.1"]}}, "weights.egress.0"),
        ({"weights": {**FETCHES, "egress": ["10.0.0.0/255.0.0.0"]}}, "weights.egress.0"),
        ({"weights": {**FETCHES, "egress": ["fe80::%eth0/64"]}}, "weights.egress.0"),
        ({"weights": {"kind": "oci_volume", "sources": ["s3://models/"]}}, "weights.sources.0"),
        (
            {"weights": {"kind": "object_store", "sources": ["s3://models/"], "egress": []}},
            "weights.unchanging",
        ),
        ({"memory_mb": "8G"}, "memory_mb"),
        ({"fingerprint": "yes"}, "fingerprint"),
        ({"privileged": True}, "privileged"),
        ({"pod_template": {}}, "pod_template"),
    ],
)
def test_read_profile__one_wrong_value__names_its_field(change: dict[str, Any], field: str) -> None:
    assert wrong_with({**SOUND, **change}) == [f".{field}"]


@pytest.mark.parametrize("given", [[], None, "profile", 7])
def test_read_profile__no_object__is_said_first(given: Any) -> None:
    assert wrong_with(given)[0] == ""


def test_read_profile__several_mistakes__are_all_named() -> None:
    profile, problems = read_profile({"image": "x:latest", "colour": 1})
    assert profile is None
    assert {problem.field.rpartition("profile.")[2] for problem in problems} >= {
        "colour",
        "namespace",
        "image",
    }


def test_read_profile__digest_beside_a_tag__is_an_image() -> None:
    assert profile_of(image=f"registry.example/vllm:v1@{DIGEST}").image.tag == "v1"


def test_read_profile__very_long_list__is_refused_as_a_whole() -> None:
    assert wrong_with({**SOUND, "accelerators": ["nvidia.com/gpu"] * 51}) == [".accelerators"]
