"""What a variant's anchor keeps: the serving spec that it was launched with, so that any control plane can take over.

A secret stands in it as the database has it: sealed, or as a reference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from controlplane.kernel.digests import canonical_json
from controlplane.kernel.errors import InvalidInput
from registry.domain.manifest import Manifest
from rollouts.adapters.clusters.kubernetes.pod import MANIFEST_KEY
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.images import Image
from rollouts.domain.secrets import environment_json, stored_environment
from rollouts.ports import WorkloadSpec

LAUNCH_KEY = "launch.json"
MOST_BYTES = 1 << 20  # what the API server takes of a ConfigMap: all its values together
WORKLOAD_KEY = "workload.json"  # the workload as it was written, so that what somebody changes of it is seen


def record_of(spec: WorkloadSpec) -> dict[str, str]:
    """The data of the anchor."""
    launch: dict[str, Any] = {
        "variant": spec.variant,
        "endpoint": spec.endpoint,
        "source": spec.source,
        "engine": spec.engine,
        "arguments": dict(spec.arguments),
        "environment": environment_json(spec.environment),
        "resources": dict(spec.resources),
        "replicas": spec.replicas,
        "start_seconds": spec.start_seconds,
        "image": None if spec.image is None else str(spec.image),
        "accelerators": None if spec.accelerators is None else spec.accelerators.to_json(),
        **({"adopts": spec.adopts} if spec.adopts else {}),
    }
    return {
        LAUNCH_KEY: canonical_json(launch).decode(),
        MANIFEST_KEY: canonical_json(spec.manifest.to_json()).decode(),
    }


def record_of_workload(body: Mapping[str, Any]) -> dict[str, str]:
    """What the anchor keeps of the workload's object. No secret is in it: its variables refer to the Secret."""
    return {WORKLOAD_KEY: canonical_json({"spec": body["spec"]}).decode()}


def check_size(data: Mapping[str, str], spec: WorkloadSpec) -> None:
    """Raises InvalidInput for an anchor's data that no ConfigMap holds. They are counted as the API server does: the
    bytes of all values in UTF-8, without their keys."""
    sizes = {key: len(value.encode()) for key, value in data.items()}
    size = sum(sizes.values())
    if size > MOST_BYTES:
        raise InvalidInput(
            f"What the cluster keeps of {spec.variant} has {size:,} bytes, and a ConfigMap holds {MOST_BYTES:,}:"
            f" the list of the version's {len(spec.manifest.entries):,} files has {sizes[MANIFEST_KEY]:,} of them.",
            field="version",
            fix="Register the model with fewer files, without checkpoints and logs of its training.",
        )


def workload_in(data: Mapping[str, Any]) -> object:
    """The workload as it was written, whatever that is; None where an older launch kept none, or somebody spoilt it."""
    try:
        return json.loads(data[WORKLOAD_KEY])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def spec_in(data: dict[str, str]) -> WorkloadSpec:
    """As `record_of` wrote it. Raises ValueError, KeyError, TypeError, AttributeError or HeadgateError for what it did
    not write."""
    launch = json.loads(data[LAUNCH_KEY])
    image, accelerators = launch["image"], launch["accelerators"]
    return WorkloadSpec(
        variant=str(launch["variant"]),
        endpoint=str(launch["endpoint"]),
        source=str(launch["source"]),
        manifest=Manifest.from_json(json.loads(data[MANIFEST_KEY])),
        engine=str(launch["engine"]),
        arguments=launch["arguments"],
        environment=stored_environment(launch["environment"]),
        resources={str(name): int(value) for name, value in launch["resources"].items()},
        replicas=int(launch["replicas"]),
        start_seconds=float(launch["start_seconds"]),
        image=None if image is None else Image.stored(image),
        accelerators=None if accelerators is None else Accelerators.stored(accelerators),
        adopts=str(launch.get("adopts", "")),
    )
