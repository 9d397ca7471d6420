"""What is served is what was registered: files are given by their manifest or not at all."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import NotFound, Refused, TamperedFile
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.domain.manifest import take_manifest
from registry.models import ManifestState, Version
from registry.services.claims import claimed
from registry.services.manifests import (
    register_manifest,
    verify_version,
)
from registry.services.materialise import fetch_version, materialise_version
from tests.factories.weights import safetensors
from tests.registry.domain.dressed_up import PICKLE
from tests.registry.services.registering import FILES, add, folders, remove_copy, spoil

pytestmark = pytest.mark.django_db


def test_materialise__copy_on_this_machine__given_without_the_store(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    store.down = True
    folder, manifest = materialise_version(
        version_id=registered.pk, store=store, models_dir=models_dir, now=now
    )
    assert (take_manifest(folder), manifest) == (registered.manifest_value, registered.manifest_value)


def test_materialise__copy_missing__fetched_again(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    remove_copy(models_dir)
    folder, manifest = materialise_version(
        version_id=registered.pk, store=store, models_dir=models_dir, now=now
    )
    assert take_manifest(folder) == manifest


def test_materialise__copy_missing_and_store_changed__refused_and_nothing_kept(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    remove_copy(models_dir)
    store.overwrite_file("llama", 1, "evil.py", b"import os")
    with pytest.raises(TamperedFile) as caught:
        materialise_version(version_id=registered.pk, store=store, models_dir=models_dir, now=now)
    assert (caught.value.path, folders(models_dir)) == ("evil.py", [])
    assert Version.objects.get().manifest_state == ManifestState.CHANGED


def test_materialise__copy_changed__refused_naming_file_and_remedy(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    spoil(models_dir, "model.safetensors")
    with pytest.raises(TamperedFile, match=r"model\.safetensors.*Delete the folder"):
        materialise_version(version_id=registered.pk, store=store, models_dir=models_dir, now=now)
    assert Version.objects.get().manifest_state == ManifestState.CHANGED


def test_materialise__spoilt_copy_deleted_as_advised__fetched_and_verified(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    spoil(models_dir, "model.safetensors")
    verify_version(version_id=registered.pk, models_dir=models_dir, now=now)
    remove_copy(models_dir)
    materialise_version(version_id=registered.pk, store=store, models_dir=models_dir, now=now)
    assert Version.objects.get().manifest_state == ManifestState.VERIFIED


def test_materialise__found_changed_in_the_store_before__refused_although_the_copy_is_right(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    store.overwrite_file("llama", 1, "model.safetensors", safetensors(b"WEIGHTS"))
    verify_version(version_id=registered.pk, models_dir=models_dir, store=store, now=now)
    with pytest.raises(TamperedFile, match="in MLflow"):
        materialise_version(version_id=registered.pk, store=store, models_dir=models_dir, now=now)


def test_materialise__no_manifest_yet__taken_first(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now)
    folder, _ = materialise_version(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert (folder / "model.safetensors").read_bytes() == safetensors()
    assert Version.objects.get().manifest_state == ManifestState.VERIFIED


def test_materialise__pickled_file__refused(store: MemoryModelStore, models_dir: Path, now: datetime) -> None:
    version_id = add(store, now, files={"pytorch_model.bin": b"x"})
    with pytest.raises(Refused, match=r"pytorch_model\.bin") as caught:
        materialise_version(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert caught.value.code == "unsafe-file"


def test_materialise__file_allowed_by_the_operator__given_with_it(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now, files=FILES | {"pytorch_model.bin": PICKLE})
    folder, _ = materialise_version(
        version_id=version_id,
        store=store,
        models_dir=models_dir,
        now=now,
        allowed_files={"pytorch_model.bin"},
    )
    assert (folder / "pytorch_model.bin").read_bytes() == PICKLE
    version = Version.objects.get()
    assert (version.manifest_state, version.manifest_problem) == (ManifestState.VERIFIED, "")
    assert "pytorch_model.bin is a pickle" in version.findings[0]


def test_materialise__file_no_longer_allowed__refused_and_shown(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now, files=FILES | {"pytorch_model.bin": PICKLE})
    register_manifest(
        version_id=version_id,
        store=store,
        models_dir=models_dir,
        now=now,
        allowed_files={"pytorch_model.bin"},
    )
    with pytest.raises(Refused, match=r"pytorch_model\.bin is a pickle") as caught:
        materialise_version(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert caught.value.extra["paths"] == ["pytorch_model.bin"]
    version = Version.objects.get()
    assert version.manifest_state == ManifestState.FAILED
    assert version.manifest_problem == str(caught.value)


def test_materialise__verified_before_there_were_classes__classified_and_refused(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now, files=FILES | {"vocab.txt": PICKLE})
    register_manifest(
        version_id=version_id, store=store, models_dir=models_dir, now=now, allowed_files={"vocab.txt"}
    )
    Version.objects.update(file_classes=None)
    with pytest.raises(Refused, match=r"vocab\.txt is a pickle"):
        materialise_version(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert len(Version.objects.get().classes) == 3


def test_materialise__before_there_were_classes_and_all_data__digest_and_name_stay(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    Version.objects.update(file_classes=None)
    folder, manifest = materialise_version(
        version_id=registered.pk, store=store, models_dir=models_dir, now=now
    )
    assert (manifest.digest, folder.name) == (registered.manifest_digest, folders(models_dir)[0])
    assert len(Version.objects.get().classes) == 2


def test_materialise__found_changed_and_not_data__told_as_changed(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now, files=FILES | {"a.bin": PICKLE})
    register_manifest(
        version_id=version_id, store=store, models_dir=models_dir, now=now, allowed_files={"a.bin"}
    )
    store.overwrite_file("llama", 1, "sub/config.json", b"[]")
    verify_version(version_id=version_id, models_dir=models_dir, store=store, now=now)
    with pytest.raises(TamperedFile):
        materialise_version(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert Version.objects.get().manifest_state == ManifestState.CHANGED


def test_materialise__no_files__refused_with_the_reason(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    with pytest.raises(Refused, match="has no files"):
        materialise_version(version_id=add(store, now, files={}), store=store, models_dir=models_dir, now=now)


def test_materialise__unknown_version__not_found(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    with pytest.raises(NotFound, match="77"):
        materialise_version(version_id=77, store=store, models_dir=models_dir, now=now)


# --- for launches, beside other workers --------------------------------------------------------------------------


def test_fetch__another_process_reads_them__reads_nothing(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    remove_copy(models_dir)
    with claimed(registered, now):
        assert not fetch_version(
            version_id=registered.pk, store=store, models_dir=models_dir, clock=ManualClock(now)
        )
    assert folders(models_dir) == []
    assert fetch_version(version_id=registered.pk, store=store, models_dir=models_dir, clock=ManualClock(now))
    assert Version.objects.get().manifest_claimed_until is None


def test_fetch__version_without_a_manifest_that_another_process_reads__reads_nothing(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now)
    with claimed(Version.objects.get(pk=version_id), now):
        assert not fetch_version(
            version_id=version_id, store=store, models_dir=models_dir, clock=ManualClock(now)
        )
    assert fetch_version(version_id=version_id, store=store, models_dir=models_dir, clock=ManualClock(now))


def test_fetch__fails__is_free_again_at_once(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    spoil(models_dir, "model.safetensors")
    with pytest.raises(TamperedFile):
        fetch_version(version_id=registered.pk, store=store, models_dir=models_dir, clock=ManualClock(now))
    assert Version.objects.get().manifest_claimed_until is None


def test_fetch__told_of_every_byte_that_comes_and_is_read(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    remove_copy(models_dir)
    told: list[int] = []
    fetch_version(
        version_id=registered.pk,
        store=store,
        models_dir=models_dir,
        clock=ManualClock(now),
        progress=told.append,
    )
    assert sum(told) == 2 * registered.manifest_bytes
