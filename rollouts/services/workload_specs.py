"""What a cluster is asked to run for a variant: the same for a launch and for the dry run that asks about it."""

from __future__ import annotations

from registry.domain.manifest import Manifest
from rollouts.domain.variants import ServingSpec
from rollouts.ports import WorkloadSpec


def workload_spec(
    *, variant: str, endpoint: str, source: str, manifest: Manifest, spec: ServingSpec
) -> WorkloadSpec:
    """The variant of an endpoint, by name, with its files and how they are served."""
    return WorkloadSpec(
        variant=variant,
        endpoint=endpoint,
        source=source,
        manifest=manifest,
        engine=spec.engine,
        arguments=spec.arguments,
        environment=spec.environment,
        resources=spec.resources,
        replicas=spec.replicas,
        image=spec.image,
        accelerators=spec.accelerators,
        adopts=spec.adopts,
    )
