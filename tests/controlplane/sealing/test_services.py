from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.sealing.kept import KEYS_FILE, add_key, kept_keys, kept_secret
from controlplane.sealing.keys import KeyMissing, KeyRing, new_key
from controlplane.sealing.models import FingerprintKey
from controlplane.sealing.services import fingerprint, key_ring, renew_fingerprint_key, seal

OLD, NEW = new_key(), new_key()


def use(settings: Any, *keys: str) -> None:
    settings.HEADGATE = replace(settings.HEADGATE, encryption_keys=",".join(keys))


@pytest.mark.django_db
def test_fingerprint__same_secret__is_the_same_also_after_a_rotation(settings: Any) -> None:
    use(settings, OLD)
    before = fingerprint("LICENCE", "1234")
    use(settings, NEW, OLD)
    assert renew_fingerprint_key()
    use(settings, NEW)
    assert fingerprint("LICENCE", "1234") == before
    assert not renew_fingerprint_key()


@pytest.mark.django_db
def test_fingerprint__other_secret_or_name__is_another() -> None:
    found = {fingerprint("A", "1234"), fingerprint("A", "1235"), fingerprint("B", "1234")}
    assert len(found) == 3


@pytest.mark.django_db
def test_fingerprint__another_installation__has_others_so_guesses_cannot_be_tried() -> None:
    first = fingerprint("A", "1234")
    FingerprintKey.objects.all().delete()
    assert fingerprint("A", "1234") != first


@pytest.mark.django_db
def test_fingerprint__its_key_cannot_be_opened__says_so(settings: Any) -> None:
    use(settings, OLD)
    fingerprint("A", "1234")
    use(settings, NEW)
    with pytest.raises(KeyMissing, match="fingerprints"):
        fingerprint("A", "1234")


def test_key_ring__no_setting__is_the_run_folders_file_as_it_is_now(settings: Any, tmp_path: Path) -> None:
    settings.HEADGATE = replace(settings.HEADGATE, encryption_keys="", run_dir=tmp_path)
    sealed = seal("open-sesame-1")
    assert (tmp_path / KEYS_FILE).stat().st_mode & 0o777 == 0o600
    add_key(tmp_path)
    assert len(key_ring()) == 2
    assert key_ring().open(sealed, what="it") == "open-sesame-1"
    assert (tmp_path / KEYS_FILE).stat().st_mode & 0o777 == 0o600
    assert KeyRing.read(kept_keys(tmp_path)).keys == key_ring().keys


def test_kept_secret__made_before__stays_as_it_is(tmp_path: Path) -> None:
    assert kept_secret(tmp_path / "it", "first") == "first"
    assert kept_secret(tmp_path / "it", "second") == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
