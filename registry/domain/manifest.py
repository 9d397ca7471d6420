"""A manifest: the files of a version as they were when it was registered.

MLflow lets anyone overwrite the artifacts of a READY version, so the manifest, not MLflow, says what may
be served.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from controlplane.kernel.digests import digest_of, sha256_of_file
from controlplane.kernel.errors import InvalidInput, TamperedFile

Progress = Callable[[int], None]
"""Called again and again while files come or are read, with the bytes that did since the last call."""


def nothing(moved: int) -> None:
    """The progress that nobody follows."""


@dataclass(frozen=True, slots=True, order=True)
class ManifestEntry:
    """One file: `path` relative and POSIX, `size` in bytes, `sha256` in hex."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path)
        if not self.path or parts.is_absolute() or ".." in parts.parts:
            raise InvalidInput(f"The path {self.path!r} leaves the version's folder.", field="manifest.path")


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a version, sorted by path. `digest` identifies the content, wherever it is stored."""

    entries: tuple[ManifestEntry, ...]

    @classmethod
    def of(cls, entries: Iterable[ManifestEntry]) -> Self:
        return cls(tuple(sorted(entries)))

    @classmethod
    def from_json(cls, data: Iterable[Mapping[str, Any]]) -> Self:
        return cls.of(ManifestEntry(str(d["path"]), int(d["size"]), str(d["sha256"])) for d in data)

    def to_json(self) -> list[dict[str, Any]]:
        return [{"path": e.path, "size": e.size, "sha256": e.sha256} for e in self.entries]

    @property
    def digest(self) -> str:
        return digest_of(self.to_json())

    @property
    def folder_name(self) -> str:
        """The name of a folder that holds exactly these files: wherever they lie, they are found by their content."""
        return self.digest.removeprefix("sha256:")

    @property
    def total_bytes(self) -> int:
        return sum(entry.size for entry in self.entries)


def take_manifest(folder: Path, progress: Progress = nothing) -> Manifest:
    """Reads every file below `folder` and returns its manifest; calls `progress` as it goes.

    Raises InvalidInput when there is none, or something that is neither a file nor a folder.
    """
    files = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            files.append(path)
        elif not stat.S_ISDIR(mode):
            raise InvalidInput(
                f"{path.relative_to(folder)} is neither a file nor a folder ({_name_of(mode)}).",
                field="source",
                fix="Log the file itself.",
            )
    if not files:
        raise InvalidInput("The version has no files.", field="source", fix="Log the model's files first.")
    entries = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        entries.append(ManifestEntry(name, path.stat().st_size, sha256_of_file(path, progress)))
    return Manifest.of(entries)


def verify_folder(
    folder: Path, manifest: Manifest, *, where: str = "", fix: str = "", progress: Progress = nothing
) -> None:
    """Reads every file again and compares; calls `progress` as it goes. Raises TamperedFile naming the first file that
    differs.

    A file that the manifest does not know is refused too: an engine might load it. So is a link, whatever it leads
    to: what it leads to can change afterwards. `where` ("in MLflow") and `fix` go into the error.
    """
    where = f" {where}" if where else ""
    known = {entry.path for entry in manifest.entries}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            name = path.relative_to(folder).as_posix()
            raise TamperedFile(name, f"is neither a file nor a folder{where} ({_name_of(mode)})", fix=fix)
    for entry in manifest.entries:
        path = folder / entry.path
        if not path.is_file():
            raise TamperedFile(entry.path, f"is missing{where}", fix=fix)
        size = path.stat().st_size
        if size != entry.size:
            raise TamperedFile(
                entry.path, f"has {size} bytes{where}, the manifest says {entry.size}", fix=fix
            )
        if sha256_of_file(path, progress) != entry.sha256:
            raise TamperedFile(entry.path, f"differs{where} from the manifest (its SHA-256 changed)", fix=fix)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in known and not path.is_dir():
            raise TamperedFile(name, f"is not in the manifest, but lies{where} beside the others", fix=fix)


def _name_of(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_it, name in kinds if is_it(mode)), "a device")
