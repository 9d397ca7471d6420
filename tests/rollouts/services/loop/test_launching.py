"""From a version's files to an engine: what the operator allowed reaches it, what is not data does not."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.kernel.errors import InvalidInput, Refused, Unavailable
from registry.models import ManifestState, Version
from registry.services.manifests import register_manifest
from registry.services.materialise import fetch_version
from registry.services.mirror import mirror_models
from rollouts.domain.engines import FailureReason
from rollouts.domain.variants import ServingSpec
from rollouts.models import FilesState, Variant, Workload
from rollouts.services.commands.endpoints import checked_spec, ensure_variant
from rollouts.services.loop.launching import final_reason, launch
from tests.factories.weights import safetensors
from tests.registry.domain.dressed_up import TORCH
from tests.rollouts.adapters.clusters.machine_room import MachineRoom, until_ready
from tests.rollouts.memory_world import MemoryWorld

pytestmark = pytest.mark.django_db

PICKLED = "pytorch_model.bin"


def register_pickled(w: MemoryWorld) -> Version:
    """Version 5, which holds a pickle that the operator allowed when its manifest was taken."""
    w.store.add_version(
        "triage",
        {"config.json": b"{}", "standin.json": b"{}", PICKLED: TORCH, "model.safetensors": safetensors()},
    )
    mirror_models(store=w.store, clock=w.clock)
    return register_manifest(
        version_id=Version.objects.get(number=5).pk,
        store=w.store,
        models_dir=w.world.models_dir,
        now=w.now,
        allowed_files={PICKLED},
    )


@pytest.mark.story
def test_rollout__file_allowed_by_the_operator__launched_and_promoted(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path).serve()
    w.world = replace(w.world, allowed_files={PICKLED})
    assert register_pickled(w).manifest_state == ManifestState.VERIFIED
    w.start(5)
    w.behave(5, accuracy=1.0)
    assert w.run_to("succeeded", "rolled-back").phase == "succeeded"


@pytest.mark.story
def test_rollout__file_no_longer_allowed__does_not_launch_and_names_the_file(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path).serve()
    register_pickled(w)
    w.start(5)
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "launch:bad-model"
    assert PICKLED in rollout.reason
    version = Version.objects.get(number=5)
    assert version.manifest_state == ManifestState.FAILED
    assert PICKLED in version.manifest_problem
    with pytest.raises(InvalidInput, match=PICKLED):
        w.start(5)


@pytest.mark.story
def test_rollout__cluster_fetches_files_itself__is_promoted_with_none_brought_to_this_machine(
    tmp_path: Path,
) -> None:
    w = MemoryWorld(tmp_path)
    w.cluster.fetch_seconds = 30.0  # longer than a launch may take: files count as no part of it
    w.serve(limit=40)
    w.calls.names.clear()
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.run_for(3)
    assert w.workload(2).message == "it fetches its files"
    assert w.run_to("succeeded", "rolled-back").phase == "succeeded"
    assert "store.download" not in w.calls.names
    assert not Workload.objects.exclude(files_state=FilesState.NONE).exists()
    launched = w.cluster.launched(w.variant(2).name)
    version = Version.objects.get(number=2)
    assert launched is not None
    assert (launched.source, launched.manifest.digest) == (version.source, version.manifest_digest)


@pytest.mark.story
def test_rollout__cluster_takes_the_files_on_from_this_machine__both_ways_are_no_part_of_the_launch(
    tmp_path: Path,
) -> None:
    w = MemoryWorld(tmp_path)
    w.cluster.fetch_seconds, w.cluster.from_here = 30.0, True  # longer than a launch may take
    w.serve(limit=40)
    shutil.rmtree(w.files_of(2))
    w.calls.names.clear()
    w.start(2)
    w.behave(2, accuracy=1.0)
    assert w.run_to("succeeded", "rolled-back").phase == "succeeded"
    assert w.calls.names.count("store.download") == 1
    assert w.files_of(2).is_dir()


@pytest.mark.story
def test_rollout__cluster_fetches_other_files_than_were_registered__does_not_launch_and_names_the_file(
    tmp_path: Path,
) -> None:
    w = MemoryWorld(tmp_path)
    w.cluster.fetch_seconds = 1.0
    w.serve()
    (w.files_of(2) / "config.json").chmod(0o644)
    (w.files_of(2) / "config.json").write_bytes(b"[]")  # what the cluster finds at the source
    w.start(2)
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "launch:tampered-file"
    assert "config.json" in rollout.reason


@pytest.mark.story
@pytest.mark.parametrize("fetch_seconds", [None, 1.0])
def test_rollout__launched_anew_while_the_cluster_still_shows_the_last_failure__is_no_failure(
    tmp_path: Path, fetch_seconds: float | None
) -> None:
    def away(*args: object, **options: object) -> None:
        raise Unavailable("The cluster takes no orders.")

    w = MemoryWorld(tmp_path)
    w.cluster.fetch_seconds = fetch_seconds
    w.serve()
    w.start(2)
    w.behave(2, accuracy=1.0)
    w.cluster.fail(w.variant(2).name, FailureReason.NO_MEMORY, "its node was full")
    drain, ensure = w.cluster.drain, w.cluster.ensure
    w.cluster.drain = away  # type: ignore[method-assign]
    w.run_to("rolled-back")
    w.cluster.mend(w.variant(2).name)
    w.cluster.ensure = away  # type: ignore[method-assign]
    w.start(2)
    w.run_for(4)
    assert w.rollout.phase == "provisioning"
    w.cluster.drain, w.cluster.ensure = drain, ensure  # type: ignore[method-assign]
    assert w.run_to("succeeded", "rolled-back").phase == "succeeded"


@pytest.mark.story
def test_rollout__cluster_fetches_a_file_that_is_no_longer_allowed__does_not_launch_and_names_the_file(
    tmp_path: Path,
) -> None:
    w = MemoryWorld(tmp_path)
    w.cluster.fetch_seconds = 1.0
    w.serve()
    register_pickled(w)
    w.start(5)
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "launch:bad-model"
    assert PICKLED in rollout.reason
    assert w.cluster.launched(w.variant(5).name) is None


def test_launch__cluster_fetches_files_that_nobody_looked_into__is_refused(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path)
    w.cluster.fetch_seconds = 1.0
    w.serve()
    version = Version.objects.get(number=2)
    Version.objects.filter(pk=version.pk).update(file_classes=None)
    variant = ensure_variant(
        endpoint=w.endpoint,
        version=version,
        spec=checked_spec(endpoint=w.endpoint, version=version, spec=ServingSpec(), cluster=w.cluster),
        now=w.now,
    )
    lease = w.claim("test")
    assert lease is not None
    with pytest.raises(Refused, match="before Headgate looked into files") as refused:
        launch(w.endpoint, variant, lease, w.world)
    assert final_reason(refused.value) is FailureReason.BAD_MODEL


@pytest.fixture
def room() -> Iterator[MachineRoom]:
    made = MachineRoom()
    yield made
    made.close()


def fetch(w: MemoryWorld, version: Version, allowed_files: Collection[str] = ()) -> bool:
    """Its files are made ready for a launch, as they are before every one."""
    return fetch_version(
        version_id=version.pk,
        store=w.store,
        models_dir=w.world.models_dir,
        clock=w.clock,
        allowed_files=allowed_files,
    )


@pytest.mark.e2e
def test_launch__file_allowed_by_the_operator__a_real_process_has_it(
    tmp_path: Path, room: MachineRoom
) -> None:
    w = MemoryWorld(tmp_path)
    version = register_pickled(w)
    cluster = room.cluster(models_dir=w.world.models_dir)
    asked = ServingSpec(engine="standin")
    spec = checked_spec(endpoint=w.endpoint, version=version, spec=asked, cluster=cluster)
    variant = ensure_variant(endpoint=w.endpoint, version=version, spec=spec, now=w.now)
    lease = w.claim("test")
    assert lease is not None
    with pytest.raises(Refused) as caught:
        fetch(w, version)
    assert (caught.value.code, final_reason(caught.value)) == ("unsafe-file", FailureReason.BAD_MODEL)
    assert fetch(w, version, allowed_files={PICKLED})
    launch(w.endpoint, variant, lease, replace(w.world, cluster=cluster))
    assert until_ready(cluster, variant.name).is_ready
    assert any(f"--model {w.files_of(5)}" in line for line in cluster.log_tail(variant.name))
    assert (w.files_of(5) / PICKLED).is_file()


@pytest.mark.story
def test_endpoint__that_adopts_a_server__serves_with_no_file_brought_to_this_machine(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path)
    Variant.objects.update(serving=ServingSpec(adopts="llama").to_json())
    w.serve()
    assert "store.download" not in w.calls.names
    launched = w.cluster.launched(w.variant(1).name)
    assert launched is not None
    assert launched.adopts == "llama"
