"""The records of launches: what is written is what is read, also by another version of Headgate."""

from __future__ import annotations

from pathlib import Path

from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.folder import Launch
from rollouts.ports import WorkloadSpec

SPEC = WorkloadSpec(
    variant="chat-v1-aaaa",
    endpoint="chat",
    source="models:/m-1",
    manifest=Manifest.of([ManifestEntry("model.safetensors", 1, "0" * 64)]),
    resources={"memory_mb": 3_000},
)
LAUNCH = Launch(
    spec=SPEC,
    folder=Path("/run/models/abc"),
    port=18_100,
    requested_at=1.0,
    engine_python=Path("/usr/bin/python3"),
    run_dir=Path("/run"),
    supervisor_socket=Path("/run/supervisor.sock"),
)


def test_launch__read_again__is_the_same() -> None:
    assert Launch.from_json(LAUNCH.to_json()) == LAUNCH


def test_launch__of_a_version_that_knew_folders_only__still_runs_from_its_folder() -> None:
    """An engine that was launched before an update is started again by the launcher after it."""
    kept = LAUNCH.to_json()
    del kept["source"]
    launch = Launch.from_json(kept)
    assert (launch.folder, launch.spec.source, launch.spec.manifest) == (LAUNCH.folder, "", SPEC.manifest)
