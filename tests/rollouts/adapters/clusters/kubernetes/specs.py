"""Serving specs for tests of a cluster of the kind kubernetes."""

from __future__ import annotations

from typing import Any

from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.kubernetes.container import CONTAINER_ENGINES
from rollouts.adapters.clusters.kubernetes.objects import VariantObjects, objects_of
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.ports import WorkloadSpec
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of

MANIFEST = Manifest.of(
    [
        ManifestEntry("chat.jinja", 3, "aa" * 32),
        ManifestEntry("config.json", 2, "bb" * 32),
        ManifestEntry("model.safetensors", 5 << 20, "cc" * 32),
    ]
)


def spec_of(**changes: Any) -> WorkloadSpec:
    given: dict[str, Any] = {
        "variant": "chat-v7-3f9a1c",
        "endpoint": "chat",
        "source": "models:/m-1f3a",
        "manifest": MANIFEST,
    }
    return WorkloadSpec(**{**given, **changes})


def made(spec: WorkloadSpec | None = None, profile: ClusterProfile | None = None) -> VariantObjects:
    spec = spec or spec_of()
    secrets = {
        name: "the value of sentinel"
        for name, value in spec.environment.items()
        if not isinstance(value, str)
    }
    return objects_of(
        spec, profile or profile_of(), installation="8d1f2c", engines=CONTAINER_ENGINES, secrets=secrets
    )


def of_kind(objects: VariantObjects, kind: str) -> Any:
    (found,) = [one for one in objects.others if one["kind"] == kind]
    return found


def pod_in(objects: VariantObjects) -> Any:
    return of_kind(objects, "Deployment")["spec"]["template"]["spec"]


def engine_in(objects: VariantObjects) -> Any:
    (engine,) = pod_in(objects)["containers"]
    return engine
