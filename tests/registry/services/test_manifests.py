"""Manifests are taken once, checked when asked and again when they were found changed."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from controlplane.audit.models import AuditEvent
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, NotFound, Rejected, Unavailable
from controlplane.passes.models import ItemTrouble
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.domain.manifest import Progress, nothing, take_manifest
from registry.models import ManifestState, Version
from registry.ports import ODD_ANSWER, StoredVersion
from registry.selectors import CHECKED_AGAIN, MANIFESTS, has_changed_versions
from registry.services.claims import claimed
from registry.services.manifests import (
    NEWEST_OF_A_MODEL,
    register_manifest,
    register_pending_manifests,
    verify_changed,
    verify_version,
)
from registry.services.mirror import mirror_models
from tests.factories.weights import safetensors
from tests.registry.domain.dressed_up import PICKLE
from tests.registry.services.registering import FILES, LATER, add, folders, spoil

pytestmark = pytest.mark.django_db


def test_register__first_sight__manifest_kept_and_files_lie_under_its_digest(
    registered: Version, models_dir: Path, now: datetime
) -> None:
    assert (registered.manifest_state, registered.manifest_problem, registered.manifest_checked_at) == (
        ManifestState.VERIFIED,
        "",
        now,
    )
    assert folders(models_dir) == [registered.manifest_digest.removeprefix("sha256:")]
    assert take_manifest(models_dir / folders(models_dir)[0]) == registered.manifest_value
    assert (registered.manifest_bytes, registered.manifest_claimed_until) == (len(safetensors()) + 2, None)


def test_register__files_changed_since__first_manifest_stands(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    store.overwrite_file("llama", 1, "model.safetensors", safetensors(b"others"))
    again = register_manifest(version_id=registered.pk, store=store, models_dir=models_dir, now=now + LATER)
    assert (again.manifest_digest, again.manifest_checked_at) == (registered.manifest_digest, now)


def test_register__two_versions_with_the_same_files__one_folder(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    other = register_manifest(version_id=add(store, now), store=store, models_dir=models_dir, now=now)
    assert other.manifest_digest == registered.manifest_digest
    assert len(folders(models_dir)) == 1


def test_register__store_down__raised_and_nothing_changes(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now)
    before = Version.objects.values().get(id=version_id)
    store.down = True
    with pytest.raises(Unavailable):
        register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert (Version.objects.values().get(id=version_id), folders(models_dir)) == (before, [])


def test_register__download_breaks_off__raised_and_nothing_is_left(models_dir: Path, now: datetime) -> None:
    class Breaking(MemoryModelStore):
        def download(self, version: StoredVersion, to: Path, progress: Progress = nothing) -> None:
            (to / "model.safetensors").write_bytes(b"wei")
            raise Unavailable("The connection broke.")

    store = Breaking()
    version_id = add(store, now)
    with pytest.raises(Unavailable):
        register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now)
    version = Version.objects.get(id=version_id)
    assert (version.manifest, version.manifest_state, folders(models_dir)) == (
        None,
        ManifestState.PENDING,
        [],
    )


def test_register__no_room_for_the_files__raised_naming_the_folder(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    models_dir.write_text("a file where the folder should be")
    with pytest.raises(Unavailable, match=str(models_dir)):
        register_manifest(version_id=add(store, now), store=store, models_dir=models_dir, now=now)


def test_register__files_still_being_written__pending_with_the_reason(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now, status="PENDING")
    version = register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert (version.manifest_state, version.manifest) == (ManifestState.PENDING, None)
    assert "still being written" in version.manifest_problem


@pytest.mark.parametrize(("files", "status"), [({}, "READY"), (FILES, "FAILED")])
def test_register__nothing_to_serve__failed_with_the_reason(
    store: MemoryModelStore, models_dir: Path, now: datetime, files: dict[str, bytes], status: str
) -> None:
    version_id = add(store, now, files=files, status=status)
    version = register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert version.manifest_state == ManifestState.FAILED
    assert version.manifest_problem


def test_register__pickled_file__manifest_taken_but_refused_by_name(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now, files=FILES | {"optimizer.pt": b"x"})
    version = register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert version.manifest_state == ManifestState.FAILED
    assert version.manifest is not None
    assert "optimizer.pt" in version.manifest_problem
    assert folders(models_dir) == []


def test_register__pickled_file_allowed_by_name__verified(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now, files=FILES | {"optimizer.pt": b"x"})
    version = register_manifest(
        version_id=version_id, store=store, models_dir=models_dir, now=now, allowed_files={"optimizer.pt"}
    )
    assert version.manifest_state == ManifestState.VERIFIED


def test_register__every_file__kept_with_what_it_is(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    files = FILES | {"config.json": b'{"auto_map": {"AutoModel": "x.X"}}'}
    version_id = add(store, now, files=files)
    version = register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert [(file.path, file.kind.value) for file in version.classes] == [
        ("config.json", "configuration"),
        ("model.safetensors", "weights"),
        ("sub/config.json", "configuration"),
    ]
    assert version.manifest_state == ManifestState.VERIFIED
    (finding,) = version.findings
    assert finding.startswith("config.json asks for code of its own (auto_map: AutoModel)")


def test_register__pickle_renamed_to_safetensors__refused_as_a_pickle(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now, files={"model.safetensors": PICKLE})
    version = register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now)
    assert version.manifest_state == ManifestState.FAILED
    assert "model.safetensors is a pickle" in version.manifest_problem
    assert folders(models_dir) == []


def test_register__another_process_reads_it__left_alone_until_its_claim_ends(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now)
    Version.objects.update(manifest_claimed_until=now + timedelta(minutes=1))
    early = register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now)
    late = register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now + LATER)
    assert (early.manifest_state, late.manifest_state) == (ManifestState.PENDING, ManifestState.VERIFIED)


def test_register__remains_of_a_killed_download__swept_after_a_day(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    for name, age in (("old", 25 * 3600), ("young", 3600)):
        left = models_dir / f".incoming-{name}"
        left.mkdir(parents=True)
        os.utime(left, (time.time() - age,) * 2)
    register_manifest(version_id=add(store, now), store=store, models_dir=models_dir, now=now)
    assert [name for name in folders(models_dir) if name.startswith(".")] == [".incoming-young"]


def test_register_pending__aliased_and_newest__others_wait_until_wanted(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    for _ in range(NEWEST_OF_A_MODEL + 3):
        last = add(store, now)
    store.set_alias("llama", "production", 1)
    mirror_models(store=store, clock=ManualClock(now))
    clock = ManualClock(now)
    for _ in range(NEWEST_OF_A_MODEL):
        register_pending_manifests(store=store, models_dir=models_dir, clock=clock)
        clock.advance(10)
    waiting = Version.objects.filter(manifest_state=ManifestState.PENDING).values_list("number", flat=True)
    assert sorted(waiting) == [2, 3]
    assert Version.objects.get(id=last).manifest_state == ManifestState.VERIFIED


def test_register_pending__aliased_version__comes_first(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    for _ in range(8):
        add(store, now)
    store.set_alias("llama", "production", 1)
    mirror_models(store=store, clock=ManualClock(now))
    register_pending_manifests(store=store, models_dir=models_dir, clock=ManualClock(now))
    taken = Version.objects.filter(manifest_state=ManifestState.VERIFIED).values_list("number", flat=True)
    assert sorted(taken) == [1, 5, 6, 7, 8]


class Broken(MemoryModelStore):
    """Hands out no file of some versions: MLflow answers 500 for them, and is well otherwise."""

    broken: frozenset[int] = frozenset()
    error: Exception = Unavailable("MLflow failed (500).")

    def download(self, version: StoredVersion, to: Path, progress: Progress = nothing) -> None:
        if version.number in self.broken:
            raise self.error
        super().download(version, to, progress)


@pytest.fixture
def broken(now: datetime) -> Broken:
    """Model llama with versions 1 to 8, the newest six broken."""
    made = Broken()
    made.add_model("llama")
    for _ in range(8):
        made.add_version("llama", FILES)
    made.broken = frozenset(range(3, 9))
    mirror_models(store=made, clock=ManualClock(now))
    return made


def states() -> dict[int, str]:
    return dict(Version.objects.values_list("number", "manifest_state"))


def test_register_pending__more_broken_ones_than_a_pass_takes__the_others_are_read_all_the_same(
    broken: Broken, models_dir: Path, now: datetime
) -> None:
    clock = ManualClock(now)
    for _ in range(3):
        register_pending_manifests(store=broken, models_dir=models_dir, clock=clock)
        clock.advance(10)
    assert [number for number, state in states().items() if state == ManifestState.VERIFIED] == [2, 1]
    assert ItemTrouble.objects.filter(pass_name=MANIFESTS).count() == 6


def test_register_pending__broken_one_is_mended__taken_after_its_pause(
    broken: Broken, models_dir: Path, now: datetime
) -> None:
    clock = ManualClock(now)
    register_pending_manifests(store=broken, models_dir=models_dir, clock=clock)
    broken.broken = frozenset()
    for _ in range(8):
        clock.advance(10)
        register_pending_manifests(store=broken, models_dir=models_dir, clock=clock)
    assert set(states().values()) == {ManifestState.VERIFIED}
    assert not ItemTrouble.objects.exists()


@pytest.mark.parametrize(
    "error",
    [
        Rejected("A proxy refused it (403)."),
        InvalidInput("It cannot be understood.", code=ODD_ANSWER),
        KeyError("x"),
    ],
)
def test_register_pending__refused_for_now__stays_pending_and_is_tried_again(
    broken: Broken, models_dir: Path, now: datetime, error: Exception
) -> None:
    broken.error = error
    register_pending_manifests(store=broken, models_dir=models_dir, clock=ManualClock(now))
    assert ManifestState.FAILED not in states().values()
    assert ItemTrouble.objects.filter(pass_name=MANIFESTS).count() == 5


def test_register_pending__store_down__no_version_is_blamed(
    broken: Broken, models_dir: Path, now: datetime
) -> None:
    broken.down = True
    report = register_pending_manifests(store=broken, models_dir=models_dir, clock=ManualClock(now))
    assert "does not answer" in report.source
    assert not ItemTrouble.objects.exists()


def test_register_pending__another_process_reads_it__its_trouble_is_kept(
    broken: Broken, models_dir: Path, now: datetime
) -> None:
    register_pending_manifests(store=broken, models_dir=models_dir, clock=ManualClock(now))
    failed = Version.objects.get(number=8)
    Version.objects.filter(pk=failed.pk).update(manifest_claimed_until=now + timedelta(minutes=6))
    register_pending_manifests(
        store=broken, models_dir=models_dir, clock=ManualClock(now + timedelta(minutes=5))
    )
    assert ItemTrouble.objects.get(item=str(failed.pk)).attempts == 1


def test_verify__local_copy_and_store_as_registered__verified(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version = verify_version(version_id=registered.pk, models_dir=models_dir, store=store, now=now + LATER)
    assert (version.manifest_state, version.manifest_checked_at) == (ManifestState.VERIFIED, now + LATER)


def test_verify__file_changed_in_the_store__changed_naming_file_and_place(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    store.overwrite_file("llama", 1, "model.safetensors", safetensors(b"WEIGHTS"))
    version = verify_version(version_id=registered.pk, models_dir=models_dir, store=store, now=now)
    assert version.manifest_state == ManifestState.CHANGED
    assert version.manifest_problem.startswith(
        "The file model.safetensors differs in MLflow from the manifest"
    )


def test_verify__changed__audited_once(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    store.overwrite_file("llama", 1, "model.safetensors", safetensors(b"WEIGHTS"))
    for _ in range(2):
        verify_version(version_id=registered.pk, models_dir=models_dir, store=store, now=now)
    event = AuditEvent.objects.get()
    assert (event.action, event.object_id) == ("version.changed", "llama v1")
    assert event.after == {"manifest_state": "changed", "path": "model.safetensors"}


def test_verify__local_copy_changed__changed_naming_this_machine(
    registered: Version, models_dir: Path, now: datetime
) -> None:
    spoil(models_dir, "sub/config.json")
    version = verify_version(version_id=registered.pk, models_dir=models_dir, now=now)
    assert version.manifest_state == ManifestState.CHANGED
    assert "sub/config.json" in version.manifest_problem
    assert "on this machine" in version.manifest_problem


def test_verify__changed_in_the_store_and_local_copy_right__stays_changed(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    store.overwrite_file("llama", 1, "model.safetensors", safetensors(b"WEIGHTS"))
    verify_version(version_id=registered.pk, models_dir=models_dir, store=store, now=now)
    version = verify_version(version_id=registered.pk, models_dir=models_dir, now=now + LATER)
    assert (version.manifest_state, version.manifest_checked_at) == (ManifestState.CHANGED, now + LATER)


def test_verify__file_restored_in_the_store__verified_again(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    for content in (safetensors(b"WEIGHTS"), FILES["model.safetensors"]):
        store.overwrite_file("llama", 1, "model.safetensors", content)
        version = verify_version(version_id=registered.pk, models_dir=models_dir, store=store, now=now)
    assert (version.manifest_state, version.manifest_problem) == (ManifestState.VERIFIED, "")


def test_verify__refused_file_allowed_since__verified(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    version_id = add(store, now, files=FILES | {"optimizer.pt": b"x"})
    register_manifest(version_id=version_id, store=store, models_dir=models_dir, now=now)
    version = verify_version(
        version_id=version_id, models_dir=models_dir, store=store, now=now, allowed_files={"optimizer.pt"}
    )
    assert version.manifest_state == ManifestState.VERIFIED


def test_verify__store_down__raised_and_the_state_stays(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    store.down = True
    with pytest.raises(Unavailable):
        verify_version(version_id=registered.pk, models_dir=models_dir, store=store, now=now + LATER)
    assert Version.objects.get().manifest_checked_at == now


def test_verify__nothing_to_compare__not_found(
    store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    with pytest.raises(NotFound, match="no manifest yet"):
        verify_version(version_id=add(store, now), models_dir=models_dir, now=now)


def test_register__download_of_hours__another_worker_does_not_take_it_meanwhile(
    models_dir: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr("registry.services.claims.time", SimpleNamespace(monotonic=lambda: steady.seconds))
    reads: list[str] = []

    class Slow(MemoryModelStore):
        def download(self, version: StoredVersion, to: Path, progress: Progress = nothing) -> None:
            reads.append("begun")
            if len(reads) == 1:
                for minutes in range(5, 125, 5):
                    steady.seconds = minutes * 60.0
                    progress(1)
                clock = ManualClock(now + timedelta(hours=2))
                register_pending_manifests(store=self, models_dir=models_dir, clock=clock)
            super().download(version, to, progress)

    slow = Slow()
    register_manifest(version_id=add(slow, now), store=slow, models_dir=models_dir, now=now)
    assert reads == ["begun"]


def found_changed(store: MemoryModelStore, models_dir: Path, now: datetime, version_id: int) -> ManualClock:
    """A file of the version was overwritten in the store, and a check found it; the clock shows that time."""
    store.overwrite_file("llama", 1, "sub/config.json", b"[]")
    verify_version(version_id=version_id, models_dir=models_dir, store=store, now=now)
    return ManualClock(now)


def test_verify_changed__file_was_put_back__verified_without_being_asked(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    clock = found_changed(store, models_dir, now, registered.pk)
    store.overwrite_file("llama", 1, "sub/config.json", b"{}")
    assert not has_changed_versions(now=clock.now())
    clock.advance(CHECKED_AGAIN.total_seconds())
    assert has_changed_versions(now=clock.now())
    assert verify_changed(store=store, models_dir=models_dir, clock=clock).done == 1
    version = Version.objects.get()
    assert (version.may_launch, version.manifest_problem) == (True, "")
    assert version.manifest_claimed_until is None


def test_verify_changed__still_changed__stays_so_and_is_not_read_again_at_once(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    clock = found_changed(store, models_dir, now, registered.pk)
    assert verify_changed(store=store, models_dir=models_dir, clock=clock).done == 0
    clock.advance(CHECKED_AGAIN.total_seconds())
    assert verify_changed(store=store, models_dir=models_dir, clock=clock).done == 1
    assert verify_changed(store=store, models_dir=models_dir, clock=clock).done == 0
    assert Version.objects.get().manifest_state == ManifestState.CHANGED
    assert AuditEvent.objects.filter(action="version.changed").count() == 1


def test_verify_changed__another_process_reads_it__left_alone(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    clock = found_changed(store, models_dir, now, registered.pk)
    clock.advance(CHECKED_AGAIN.total_seconds())
    with claimed(Version.objects.get(), clock.now()):
        assert verify_changed(store=store, models_dir=models_dir, clock=clock).done == 0


def test_verify_changed__store_down__no_version_is_blamed(
    registered: Version, store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    clock = found_changed(store, models_dir, now, registered.pk)
    clock.advance(CHECKED_AGAIN.total_seconds())
    store.down = True
    assert "does not answer" in verify_changed(store=store, models_dir=models_dir, clock=clock).source
    assert not ItemTrouble.objects.exists()


def test_verify_changed__one_cannot_be_read__keeps_its_error_and_the_other_is_verified(
    models_dir: Path, now: datetime
) -> None:
    faulty = Broken()
    faulty.add_model("llama")
    for _ in range(2):
        faulty.add_version("llama", FILES)
    mirror_models(store=faulty, clock=ManualClock(now))
    register_pending_manifests(store=faulty, models_dir=models_dir, clock=ManualClock(now))
    Version.objects.update(manifest_state=ManifestState.CHANGED)
    faulty.broken = frozenset({2})
    clock = ManualClock(now + CHECKED_AGAIN)
    verify_changed(store=faulty, models_dir=models_dir, clock=clock)
    assert states() == {1: ManifestState.VERIFIED, 2: ManifestState.CHANGED}
    assert ItemTrouble.objects.get().label == "llama v2"
