from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.core import signing

from controlplane.kernel.errors import Forbidden, HeadgateError, NotFound, TamperedFile, Unavailable
from registry.domain.manifest import Manifest, ManifestEntry
from registry.models import Version
from registry.services.file_door import SALT, OpenFile, grant_files, open_file
from tests.registry.services.registering import FILES, remove_copy

pytestmark = pytest.mark.django_db

HOUR = 3_600.0
OTHER = Manifest.of([ManifestEntry("config.json", 2, "bb" * 32)])


def opened(
    version: Version, models_dir: Path, now: datetime, *, path: str = "sub/config.json", token: str
) -> OpenFile:
    manifest = version.manifest_value
    assert manifest is not None
    return open_file(folder=manifest.folder_name, path=path, token=token, models_dir=models_dir, now=now)


def pass_for(version: Version, now: datetime) -> str:
    manifest = version.manifest_value
    assert manifest is not None
    return grant_files(manifest=manifest, seconds=HOUR, now=now)


@pytest.mark.parametrize("path", sorted(FILES))
def test_open_file__with_its_pass__is_the_file_with_its_size(
    registered: Version, models_dir: Path, now: datetime, path: str
) -> None:
    found = opened(registered, models_dir, now, path=path, token=pass_for(registered, now))
    with found.handle as handle:
        assert (handle.read(), found.size) == (FILES[path], len(FILES[path]))


def test_open_file__pass_is_over__is_forbidden(registered: Version, models_dir: Path, now: datetime) -> None:
    token = pass_for(registered, now)
    opened(registered, models_dir, now + timedelta(seconds=HOUR - 1), token=token).handle.close()
    with pytest.raises(Forbidden, match="over"):
        opened(registered, models_dir, now + timedelta(seconds=HOUR), token=token)


def test_open_file__pass_for_other_files__is_forbidden(
    registered: Version, models_dir: Path, now: datetime
) -> None:
    token = grant_files(manifest=OTHER, seconds=HOUR, now=now)
    with pytest.raises(Forbidden, match="other files"):
        opened(registered, models_dir, now, token=token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "é",
        signing.Signer(salt="another").sign_object({"files": 1, "folder": "f", "until": 9e12}),
        signing.Signer(salt=SALT).sign_object("a text"),
        signing.Signer(salt=SALT).sign_object({"folder": "f"}),
    ],
    ids=["empty", "word", "no-ascii", "of-another-purpose", "no-object", "half-of-one"],
)
def test_open_file__no_pass__is_forbidden(
    registered: Version, models_dir: Path, now: datetime, token: str
) -> None:
    with pytest.raises(Forbidden, match="no pass"):
        opened(registered, models_dir, now, token=token)


def test_open_file__pass_that_was_changed__is_forbidden(
    registered: Version, models_dir: Path, now: datetime
) -> None:
    body, _, signature = pass_for(registered, now).rpartition(":")
    with pytest.raises(Forbidden, match="no pass"):
        opened(registered, models_dir, now, token=f"{body}x:{signature}")


@pytest.mark.parametrize("path", ["other.json", "../secret", "sub", "sub/../sub/config.json", "/etc/passwd"])
def test_open_file__not_in_the_manifest__is_not_found(
    registered: Version, models_dir: Path, now: datetime, path: str
) -> None:
    (models_dir / "secret").write_text("s")
    with pytest.raises(NotFound):
        opened(registered, models_dir, now, path=path, token=pass_for(registered, now))


def test_open_file__no_version_has_this_manifest__is_not_found(models_dir: Path, now: datetime) -> None:
    token = grant_files(manifest=OTHER, seconds=HOUR, now=now)
    with pytest.raises(NotFound):
        open_file(folder=OTHER.folder_name, path="config.json", token=token, models_dir=models_dir, now=now)


def test_open_file__copy_is_gone__is_asked_for_again_later(
    registered: Version, models_dir: Path, now: datetime
) -> None:
    remove_copy(models_dir)
    with pytest.raises(Unavailable, match="cannot be read on this machine"):
        opened(registered, models_dir, now, token=pass_for(registered, now))


def _shorter(file: Path) -> None:
    file.write_bytes(b"{")


def _link(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"{}")
    file.unlink()
    file.symlink_to(other)


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("change", "error"),
    [(_shorter, TamperedFile), (_folder, TamperedFile), (_link, Unavailable)],
    ids=["shorter", "folder", "link"],
)
def test_open_file__copy_was_changed__is_not_handed_out(
    registered: Version, models_dir: Path, now: datetime, change: object, error: type[HeadgateError]
) -> None:
    (folder,) = models_dir.iterdir()
    file = folder / "sub" / "config.json"
    file.chmod(0o644)
    assert callable(change)
    change(file)
    with pytest.raises(error):
        opened(registered, models_dir, now, token=pass_for(registered, now))
