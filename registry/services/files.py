"""The files of versions on this machine: where they lie, how they come, whether they are right.

They are addressed by content: `MODELS_DIR/<hex digest of the manifest>/`. They arrive in a hidden folder beside it and
are renamed when they are whole and right, so a folder with a digest for its name was right when it came.

`progress` is called again and again while files move or are read, with the bytes of each piece.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from controlplane.kernel.errors import InvalidInput, TamperedFile, Unavailable
from registry.domain.contents import classify_folder
from registry.domain.formats import FileClass
from registry.domain.manifest import Manifest, ManifestEntry, Progress, nothing, verify_folder
from registry.models import Version
from registry.ports import ModelStore, StoredVersion

IN_STORE = "in MLflow"
ON_THIS_MACHINE = "on this machine"
INCOMING_PREFIX = ".incoming-"
INCOMING_LIFETIME_SECONDS = 24 * 3600.0


def folder_of(models_dir: Path, manifest: Manifest) -> Path:
    """Where the files of a manifest lie on this machine, whether or not they are there."""
    return models_dir / manifest.folder_name


def verify_local(folder: Path, manifest: Manifest, progress: Progress = nothing) -> tuple[FileClass, ...]:
    """Returns the class of every file. Raises TamperedFile, and Unavailable when they cannot be read."""
    fix = f"Delete the folder {folder}, so that the files are fetched again, or register a new version."
    try:
        verify_folder(folder, manifest, where=ON_THIS_MACHINE, fix=fix, progress=progress)
        return classify_folder(folder, manifest)
    except OSError as error:
        raise Unavailable(
            f"The files in {folder} cannot be read: {error}.", fix="Mend the folder's permissions."
        ) from error


def read_small_file(
    *, version: Version, path: str, store: ModelStore, models_dir: Path, most_bytes: int, seconds: float
) -> bytes:
    """One file of a version exactly as its manifest says, and nothing else of it: from this machine where it lies here,
    else from the store within `seconds`.

    Raises InvalidInput when the version has no such file (or no manifest yet), or one of more than `most_bytes`;
    TamperedFile when the store has another one; else what `ModelStore.read_file` raises.
    """
    manifest = version.manifest_value
    entries = manifest.entries if manifest is not None else ()
    entry = next((one for one in entries if one.path == path), None)
    if manifest is None or entry is None:
        raise InvalidInput(f"{version} has no file {path} in its folder.", field=path, code="no-such-file")
    if entry.size > most_bytes:
        raise InvalidInput(
            f"{path} of {version} has {entry.size:,} bytes, and at most {most_bytes:,} are read.",
            field=path,
            code="too-large",
        )
    here = _read_here(folder_of(models_dir, manifest) / path, entry)
    if here is not None:
        return here
    content = store.read_file(version.model.name, version.number, path, size=entry.size, seconds=seconds)
    if sha256(content).hexdigest() != entry.sha256:
        raise TamperedFile(path, f"differs {IN_STORE} from the manifest (its SHA-256 changed)")
    return content


def _read_here(path: Path, entry: ManifestEntry) -> bytes | None:
    """The file where it lies on this machine and is right. A launch replaces one that is not; here it is left aside."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size != entry.size:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    return content if sha256(content).hexdigest() == entry.sha256 else None


@contextmanager
def fetched(
    version: Version,
    store: ModelStore,
    models_dir: Path,
    stored: StoredVersion | None = None,
    progress: Progress = nothing,
) -> Iterator[Path]:
    """A hidden folder with the store's files; it is removed at the end unless it was moved away."""
    found = stored or store.version(version.model.name, version.number)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        _sweep(models_dir)
        incoming = Path(tempfile.mkdtemp(prefix=INCOMING_PREFIX, dir=models_dir))
        try:
            store.download(found, incoming, progress)
            yield incoming
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
    except OSError as error:
        raise Unavailable(
            f"The files of {version} cannot be kept in {models_dir}: {error}.",
            fix="Free space there, or mend the folder's permissions.",
        ) from error


def _sweep(models_dir: Path) -> None:
    """Removes what downloads left behind whose process was killed."""
    oldest = time.time() - INCOMING_LIFETIME_SECONDS
    for left in models_dir.glob(INCOMING_PREFIX + "*"):
        if left.stat().st_mtime < oldest:
            shutil.rmtree(left, ignore_errors=True)


def land(incoming: Path, models_dir: Path, manifest: Manifest, progress: Progress = nothing) -> Path:
    """Gives verified files their name. A copy that is there and right stays; a spoilt one is replaced."""
    target = folder_of(models_dir, manifest)
    for entry in manifest.entries:
        (incoming / entry.path).chmod(0o444)
    incoming.chmod(0o755)
    if target.is_dir():
        try:
            verify_folder(target, manifest, progress=progress)
        except TamperedFile:
            shutil.rmtree(target)
        else:
            return target
    incoming.rename(target)
    return target
