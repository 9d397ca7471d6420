"""What a serving spec may ask for on a cluster with this profile. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.engines.declared import template_named
from rollouts.adapters.clusters.kubernetes.container import RESOURCES, ContainerEngine, chosen_by
from rollouts.adapters.clusters.kubernetes.names import longest_group_name, object_name
from rollouts.adapters.clusters.kubernetes.pod import check_source
from rollouts.adapters.clusters.kubernetes.profile import AutoscalerKind, ClusterProfile
from rollouts.domain.engine_options import Chosen
from rollouts.domain.limits import Limits
from rollouts.ports import WorkloadSpec


def limits_of(profile: ClusterProfile) -> Limits:
    """What a serving spec may ask for on a cluster with this profile."""
    return Limits(
        resources=RESOURCES,
        replicas=profile.replicas,
        images=frozenset({profile.image.repository, *profile.image_repositories}),
        accelerators=frozenset(profile.accelerators),
        adopts=True,
    )


def check_spec(
    spec: WorkloadSpec, profile: ClusterProfile, engines: Mapping[str, ContainerEngine]
) -> tuple[ContainerEngine, Chosen]:
    """The spec's engine and what it sets of it. Raises InvalidInput naming the field of what cannot be had here."""
    engine = template_named(spec.engine, engines)
    chosen = chosen_by(spec, engine)
    limits_of(profile).check(
        resources=spec.resources,
        replicas=spec.replicas,
        image=spec.image,
        accelerators=spec.accelerators,
        adopts=spec.adopts,
    )
    if spec.image is not None and not spec.image.digest:
        raise InvalidInput(
            f"The image {spec.image} has no digest: what its tag means can change between two replicas.",
            field="image",
            fix="Write REPOSITORY@sha256:DIGEST.",
        )
    check_source(spec, profile)
    if pods_of_replica(spec, profile) > 1:
        _check_group(spec, profile)
    return engine, chosen


def pods_of_replica(spec: WorkloadSpec, profile: ClusterProfile) -> int:
    """How many pods, each on a node of its own, one replica takes."""
    count = spec.accelerators.count if spec.accelerators is not None else 0
    most = profile.accelerators_per_node
    if most == 0 or count <= most:
        return 1
    if count % most:
        raise InvalidInput(
            f"{count} accelerators do not fill nodes of {most}.",
            field="accelerators.count",
            fix=f"Ask for at most {most}, or for a multiple of it.",
        )
    return count // most


def _check_group(spec: WorkloadSpec, profile: ClusterProfile) -> None:
    """Raises InvalidInput where a replica takes several nodes and its objects' name is too long for that."""
    assert spec.accelerators is not None  # several nodes follow from their number
    scaler = profile.autoscaler
    most = spec.replicas if scaler.kind is AutoscalerKind.NONE else max(spec.replicas, scaler.most)
    name, longest = object_name(spec.variant), longest_group_name(most)
    if len(name) > longest:
        raise InvalidInput(
            f"{spec.accelerators.count} accelerators take several nodes. The name of such objects has at most"
            f" {longest} characters, and {name} has {len(name)}.",
            field="accelerators.count",
            fix=f"Ask for at most {profile.accelerators_per_node}, or use an endpoint with a shorter name.",
        )
