"""Secret files, and values that are stored: what is opened, and what is refused with its remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controlplane.kernel.errors import Refused
from controlplane.sealing.keys import KeyRing, new_key
from rollouts.adapters.clusters.secrets import SecretStore
from rollouts.domain.secrets import KeptSecret, SealedSecret, SecretFile

KEY = new_key()


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    return SecretStore(folder, lambda: KeyRing([KEY]))


def put(store: SecretStore, name: str, content: bytes = b"opensesame\n", mode: int = 0o600) -> Path:
    path = store.folder / name
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refusal(store: SecretStore, name: str = "licence") -> Refused:
    with pytest.raises(Refused) as caught:
        store.open("LICENCE", SecretFile(name))
    assert caught.value.code == "no-secret"
    assert caught.value.fix
    assert name not in store.files()
    return caught.value


def test_open__file__is_its_content_without_the_last_line_break(store: SecretStore) -> None:
    put(store, "licence")
    put(store, "lines", b"one line\nand another\n", 0o400)
    assert store.open("LICENCE", SecretFile("licence")) == "opensesame"
    assert store.open("LINES", SecretFile("lines")) == "one line\nand another"
    assert store.files() == ("licence", "lines")


def test_open__no_such_file__names_it_and_the_folder(store: SecretStore) -> None:
    assert "'licence'" in str(refusal(store))
    assert str(store.folder) in str(refusal(store))


def test_open__no_such_folder__names_it(tmp_path: Path) -> None:
    store = SecretStore(tmp_path / "nowhere", lambda: KeyRing([KEY]))
    assert "nowhere" in str(refusal(store))
    assert store.files() == ()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_open__file_that_others_may_use__is_refused(store: SecretStore, mode: int) -> None:
    put(store, "licence", mode=mode)
    assert "others" in str(refusal(store))


def test_open__folder_that_others_may_use__is_refused(store: SecretStore) -> None:
    put(store, "licence")
    store.folder.chmod(0o755)
    assert "folder" in str(refusal(store))
    store.folder.chmod(0o700)


@pytest.mark.parametrize("inside", [True, False])
def test_open__link__is_refused_wherever_it_leads(store: SecretStore, tmp_path: Path, inside: bool) -> None:
    target = put(store, "real") if inside else tmp_path / "outside"
    target.write_bytes(b"opensesame")
    (store.folder / "licence").symlink_to(target)
    assert "opensesame" not in str(refusal(store))


def test_open__pipe_or_folder__is_refused_at_once(store: SecretStore) -> None:
    os.mkfifo(store.folder / "licence", 0o600)
    assert "plain file" in str(refusal(store))
    (store.folder / "folder").mkdir(mode=0o700)
    refusal(store, "folder")


@pytest.mark.parametrize("content", [b"", b"abc\n", b"nul\0 inside", b"\xff\xfe not text", b"x" * 70_000])
def test_open__file_that_holds_no_secret__is_refused_without_its_content(
    store: SecretStore, content: bytes
) -> None:
    put(store, "licence", content)
    assert "inside" not in str(refusal(store))


def test_open__stored_value__needs_its_key_and_says_so(store: SecretStore) -> None:
    secret = SealedSecret(KeyRing([KEY]).seal("opensesame"), "9f2c")
    assert store.open("LICENCE", secret) == "opensesame"
    other = SecretStore(store.folder, lambda: KeyRing([new_key()]))
    with pytest.raises(Refused, match="value of LICENCE was encrypted with a key that is not here") as caught:
        other.open("LICENCE", secret)
    assert caught.value.code == "no-secret"
    assert other.values({"LICENCE": secret, "OTHER": "plain", "KEPT": KeptSecret("")}) == ()
