from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from controlplane.audit.models import AuditEvent
from controlplane.kernel.clock import ManualClock
from controlplane.passes.models import ItemTrouble
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import ManifestState, Version
from registry.selectors import REFUSED
from registry.services.manifests import register_manifest
from registry.services.materialise import materialise_version
from registry.services.mirror import mirror_models
from registry.services.refusals import accept_allowed
from tests.factories.weights import safetensors
from tests.registry.domain.dressed_up import PICKLE

pytestmark = pytest.mark.django_db


@pytest.fixture
def refused(memory_store: MemoryModelStore, models_dir: Path, now: datetime) -> Version:
    """A version refused for two files."""
    memory_store.add_model("llama")
    files = {"model.safetensors": safetensors(), "a.bin": PICKLE, "run.py": b"1"}
    memory_store.add_version("llama", files)
    mirror_models(store=memory_store, clock=ManualClock(now))
    row = Version.objects.get()
    return register_manifest(version_id=row.pk, store=memory_store, models_dir=models_dir, now=now)


@pytest.mark.parametrize("allowed", [(), {"a.bin"}, {"other"}])
def test_accept_allowed__not_all_of_its_files__stays_refused(
    refused: Version, now: datetime, allowed: set[str]
) -> None:
    assert accept_allowed(allowed_files=allowed, clock=ManualClock(now)) == 0
    assert Version.objects.get().manifest_state == ManifestState.FAILED


def test_accept_allowed__all_of_its_files__may_be_launched_and_is(
    refused: Version, memory_store: MemoryModelStore, models_dir: Path, now: datetime
) -> None:
    allowed = {"a.bin", "run.py"}
    assert accept_allowed(allowed_files=allowed, clock=ManualClock(now)) == 1
    version = Version.objects.get()
    assert (version.may_launch, version.manifest_problem) == (True, "")
    folder, _ = materialise_version(
        version_id=version.pk, store=memory_store, models_dir=models_dir, now=now, allowed_files=allowed
    )
    assert (folder / "a.bin").read_bytes() == PICKLE


def test_accept_allowed__lifted__audited_once_naming_the_files(refused: Version, now: datetime) -> None:
    for _ in range(2):
        accept_allowed(allowed_files={"a.bin", "run.py"}, clock=ManualClock(now))
    event = AuditEvent.objects.get(action="version.allowed")
    assert event.why == "The operator allowed its files that are not data: a.bin, run.py."


def test_accept_allowed__failed_for_another_reason__stays(refused: Version, now: datetime) -> None:
    Version.objects.update(manifest=None, file_classes=None)
    assert accept_allowed(allowed_files={"a.bin", "run.py"}, clock=ManualClock(now)) == 0


def test_accept_allowed__changed_meanwhile__stays_changed(refused: Version, now: datetime) -> None:
    Version.objects.update(manifest_state=ManifestState.CHANGED)
    assert accept_allowed(allowed_files={"a.bin", "run.py"}, clock=ManualClock(now)) == 0
    assert Version.objects.get().manifest_state == ManifestState.CHANGED


def test_accept_allowed__one_cannot_be_understood__keeps_its_error_and_the_others_are_lifted(
    refused: Version, now: datetime
) -> None:
    odd = Version.objects.get()
    odd.pk, odd.number, odd.file_classes = None, 2, [{"path": "a.bin"}]
    odd.save()
    assert accept_allowed(allowed_files={"a.bin", "run.py"}, clock=ManualClock(now)) == 1
    trouble = ItemTrouble.objects.get(pass_name=REFUSED)
    assert (trouble.item, trouble.label) == (str(odd.pk), "llama v2")


def test_accept_allowed__many_newer_ones_stay_refused__older_one_is_lifted(
    refused: Version, now: datetime
) -> None:
    others = [{"path": "other.bin", "kind": "pickle", "why": "is a pickle", "finding": ""}]
    row = Version.objects.get()
    newer = []
    for number in range(2, 303):
        copy = Version.objects.get()
        copy.pk, copy.number, copy.file_classes = None, number, others
        newer.append(copy)
    Version.objects.bulk_create(newer)
    assert accept_allowed(allowed_files={"a.bin", "run.py"}, clock=ManualClock(now)) == 1
    row.refresh_from_db()
    assert row.may_launch


def test_accept_allowed__nothing_is_allowed_any_more__old_troubles_are_forgotten(
    refused: Version, now: datetime
) -> None:
    Version.objects.update(file_classes=[{"path": "a.bin"}])
    accept_allowed(allowed_files={"a.bin"}, clock=ManualClock(now))
    assert ItemTrouble.objects.count() == 1
    accept_allowed(allowed_files=(), clock=ManualClock(now))
    assert ItemTrouble.objects.count() == 0
