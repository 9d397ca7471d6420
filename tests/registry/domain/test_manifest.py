from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.kernel.errors import InvalidInput, TamperedFile
from registry.domain.manifest import Manifest, ManifestEntry, take_manifest, verify_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "sub" / "config.json").write_text("{}")
    return tmp_path


def test_take__files_in_folders__sorted_with_size_and_digest(folder: Path) -> None:
    manifest = take_manifest(folder)
    assert [(entry.path, entry.size) for entry in manifest.entries] == [
        ("model.safetensors", 7),
        ("sub/config.json", 2),
    ]
    assert manifest.total_bytes == 9


def test_take__empty_folder__refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no files"):
        take_manifest(tmp_path)


def test_digest__same_files_elsewhere__same(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "sub").mkdir()
    for path in ("sub/config.json", "model.safetensors"):
        (other / path).write_bytes((folder / path).read_bytes())
    assert take_manifest(other).digest == take_manifest(folder).digest


def test_json__round_trip__equal(folder: Path) -> None:
    manifest = take_manifest(folder)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_verify__as_it_was__returns(folder: Path) -> None:
    verify_folder(folder, take_manifest(folder))


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("model.safetensors", b"WEIGHTS", "differs in MLflow from the manifest"),
        ("model.safetensors", b"more weights", "has 12 bytes in MLflow, the manifest says 7"),
        ("model.safetensors", None, "is missing in MLflow"),
        ("evil.py", b"import os", "is not in the manifest"),
        ("sub/tokenizer.json", b"{}", "is not in the manifest"),
    ],
)
def test_verify__one_file_differs__refused_naming_it(
    folder: Path, path: str, content: bytes | None, words: str
) -> None:
    manifest = take_manifest(folder)
    if content is None:
        (folder / path).unlink()
    else:
        (folder / path).write_bytes(content)
    with pytest.raises(TamperedFile) as caught:
        verify_folder(folder, manifest, where="in MLflow", fix="Do this.")
    assert caught.value.path == path
    assert words in caught.value.message
    assert caught.value.fix == "Do this."


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ""])
def test_entry__path_out_of_the_folder__refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        ManifestEntry(path, 1, "00")


def link(folder: Path) -> None:
    (folder / "odd").symlink_to(folder / "model.safetensors")


def link_to_folder(folder: Path) -> None:
    (folder / "odd").symlink_to(folder / "sub", target_is_directory=True)


def link_to_nothing(folder: Path) -> None:
    (folder / "odd").symlink_to(folder / "nothing")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "odd")


ODD = pytest.mark.parametrize("make", [link, link_to_folder, link_to_nothing, pipe])


@ODD
def test_take__link_or_pipe__refused_naming_it(folder: Path, make: Callable[[Path], None]) -> None:
    make(folder)
    with pytest.raises(InvalidInput, match="odd is neither a file nor a folder"):
        take_manifest(folder)


@ODD
def test_verify__link_or_pipe_beside_the_files__refused_naming_it(
    folder: Path, make: Callable[[Path], None]
) -> None:
    manifest = take_manifest(folder)
    make(folder)
    with pytest.raises(TamperedFile) as caught:
        verify_folder(folder, manifest)
    assert caught.value.path == "odd"


def test_verify__file_replaced_by_a_link_to_the_same_bytes__refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    manifest = take_manifest(folder)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "weights"
    (folder / "model.safetensors").rename(elsewhere)
    (folder / "model.safetensors").symlink_to(elsewhere)
    with pytest.raises(TamperedFile, match="symbolic link"):
        verify_folder(folder, manifest)
