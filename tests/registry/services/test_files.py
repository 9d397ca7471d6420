"""One small file of a version, without the rest of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.errors import HeadgateError, InvalidInput, TamperedFile, Unavailable
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import Version
from registry.services.files import read_small_file
from tests.registry.services.registering import add, remove_copy, spoil

pytestmark = pytest.mark.django_db

CONFIG = "sub/config.json"


def read(
    version: Version, store: MemoryModelStore, models_dir: Path, path: str = CONFIG, **changes: Any
) -> bytes:
    given = {"most_bytes": 100, "seconds": 1.0, **changes}
    return read_small_file(version=version, path=path, store=store, models_dir=models_dir, **given)


def test_read__file_on_this_machine__comes_from_here_and_the_store_is_not_asked(
    registered: Version, store: MemoryModelStore, models_dir: Path
) -> None:
    store.down = True
    assert read(registered, store, models_dir) == b"{}"


@pytest.mark.parametrize("away", ["gone", "spoilt"])
def test_read__not_right_on_this_machine__comes_from_the_store_and_nothing_is_kept(
    registered: Version, store: MemoryModelStore, models_dir: Path, away: str
) -> None:
    if away == "gone":
        remove_copy(models_dir)
    else:
        spoil(models_dir, CONFIG)
    before = sorted(models_dir.rglob("*"))
    assert read(registered, store, models_dir) == b"{}"
    assert sorted(models_dir.rglob("*")) == before


def test_read__link_in_its_place__is_not_followed(
    registered: Version, store: MemoryModelStore, models_dir: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"{}")
    (folder,) = (path for path in models_dir.iterdir() if path != other)
    file = folder / CONFIG
    file.unlink()
    file.symlink_to(other)
    store.down = True
    with pytest.raises(Unavailable):
        read(registered, store, models_dir)


def test_read__store_has_another_one_of_that_size__is_tampered(
    registered: Version, store: MemoryModelStore, models_dir: Path
) -> None:
    remove_copy(models_dir)
    store.overwrite_file("llama", 1, CONFIG, b"[]")
    with pytest.raises(TamperedFile, match="differs in MLflow"):
        read(registered, store, models_dir)


@pytest.mark.parametrize(
    ("path", "most_bytes", "words"),
    [("config.json", 100, "has no file config.json"), (CONFIG, 1, "has 2 bytes, and at most 1 are read")],
)
def test_read__no_such_file_or_a_large_one__is_refused_before_anybody_is_asked(
    registered: Version, store: MemoryModelStore, models_dir: Path, path: str, most_bytes: int, words: str
) -> None:
    store.down = True
    with pytest.raises(InvalidInput, match=words):
        read(registered, store, models_dir, path, most_bytes=most_bytes)


def test_read__no_manifest_yet__is_refused(store: MemoryModelStore, models_dir: Path, now: datetime) -> None:
    version = Version.objects.get(pk=add(store, now))
    with pytest.raises(InvalidInput, match="has no file"):
        read(version, store, models_dir)


def test_read__store_away__says_so(registered: Version, store: MemoryModelStore, models_dir: Path) -> None:
    remove_copy(models_dir)
    store.down = True
    with pytest.raises(HeadgateError, match="does not answer"):
        read(registered, store, models_dir)
