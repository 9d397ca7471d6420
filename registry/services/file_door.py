"""Hands a version's files to machines that have no access to this one's disk, a file at a time.

Whoever shows a pass gets the files of one manifest, for as long as the pass says, and nothing else. A pass is signed
and stored nowhere here. What is handed out is the copy that was compared with the manifest when it came; whoever
receives it compares again.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from django.core import signing

from controlplane.kernel.errors import Forbidden, NotFound, TamperedFile, Unavailable
from registry.domain.manifest import Manifest
from registry.models import Version
from registry.services.files import ON_THIS_MACHINE, folder_of

SALT = "registry.file-door"
ENTRY = {"files": 1}  # the form of a pass


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is to be handed out. Whoever takes it closes the handle. `size` is in bytes."""

    handle: BinaryIO
    size: int


def grant_files(*, manifest: Manifest, seconds: float, now: datetime) -> str:
    """A pass for the files of this manifest, valid for so many seconds from now. It is a secret."""
    until = int(now.timestamp() + seconds)
    return signing.Signer(salt=SALT).sign_object({**ENTRY, "folder": manifest.folder_name, "until": until})


def open_file(*, folder: str, path: str, token: str, models_dir: Path, now: datetime) -> OpenFile:
    """One file of the manifest whose folder has this name, for whoever shows a pass for it. 1 query.

    Raises Forbidden for a pass that is none, is over or is for other files; NotFound for a file that the manifest does
    not name; Unavailable while this machine has no copy; TamperedFile when the copy has another size by now.
    """
    _check_pass(token, folder, now)
    row = Version.objects.filter(manifest_digest=f"sha256:{folder}", manifest__isnull=False).first()
    manifest = None if row is None else row.manifest_value
    entry = next((one for one in manifest.entries if one.path == path), None) if manifest else None
    if manifest is None or entry is None:
        raise NotFound("No version has such a file.", fix="Ask for a file that the manifest names.")
    place = folder_of(models_dir, manifest) / entry.path
    try:
        handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Unavailable(
            f"{entry.path} of {row} cannot be read {ON_THIS_MACHINE}: {error.strerror}.",
            fix="Its files are fetched again with the next launch.",
        ) from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode) or about.st_size != entry.size:
        os.close(handle)
        raise TamperedFile(entry.path, f"is not the file of the manifest any more {ON_THIS_MACHINE}")
    return OpenFile(os.fdopen(handle, "rb", buffering=0), entry.size)


def _check_pass(token: str, folder: str, now: datetime) -> None:
    """Raises Forbidden. What is wrong is said, but for what a pass is for: that is nobody's business."""
    try:
        said = signing.Signer(salt=SALT).unsign_object(token)
        until = float(said["until"])
        fits = said["files"] == ENTRY["files"] and said["folder"] == folder
    except (signing.BadSignature, ValueError, KeyError, TypeError):
        raise Forbidden("This is no pass for files.", fix="Launch the variant again.") from None
    if not fits:
        raise Forbidden("This pass is for other files.", fix="Launch the variant again.")
    if now.timestamp() >= until:
        raise Forbidden("This pass is over.", fix="Launch the variant again: it gets a fresh one.")
