"""Brings the files of versions that are to be launched, and compares them: what runs is what was registered."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import Refused, TamperedFile, Unavailable
from controlplane.timekeeping.claims import is_free
from registry.domain.contents import classify_folder
from registry.domain.formats import FileClass, refusal_of
from registry.domain.manifest import Manifest, Progress, nothing, verify_folder
from registry.models import ManifestState, Version
from registry.ports import ModelStore
from registry.selectors import CLAIM_LIFETIME
from registry.services.claims import claimed
from registry.services.files import IN_STORE, fetched, folder_of, land, verify_local
from registry.services.manifests import register_manifest
from registry.services.marks import load_version, mark_changed, mark_version, refused_of


def fetch_version(
    *,
    version_id: int,
    store: ModelStore,
    models_dir: Path,
    clock: Clock,
    allowed_files: Collection[str] = (),
    progress: Progress = nothing,
) -> bool:
    """Brings a version's files to this machine and compares every byte, as `materialise_version` does, while it keeps
    everybody else from reading the same ones.

    Returns False, and does nothing, while another process reads them. Raises what `materialise_version` raises.
    """
    version = load_version(version_id)
    if version.manifest is None:
        version = register_manifest(
            version_id=version_id,
            store=store,
            models_dir=models_dir,
            now=clock.now(),
            allowed_files=allowed_files,
            progress=progress,
        )
        if not is_free(version.manifest_claimed_until, now=clock.now(), lifetime=CLAIM_LIFETIME):
            return False
        if version.manifest is None:
            raise _cannot_serve(version)
    # Taking the manifest may have lasted long: a claim as of its beginning would be over from the start.
    now = clock.now()
    with claimed(version, now) as claim:
        if claim is None:
            return False
        materialise_version(
            version_id=version_id,
            store=store,
            models_dir=models_dir,
            now=now,
            allowed_files=allowed_files,
            progress=claim.along(progress),
        )
    return True


def source_of(*, version_id: int) -> tuple[str, Manifest]:
    """The URI of a version's files, as the model store has it, and what they must be. Nothing is read: whoever runs
    them compares.

    Raises Refused when it has no manifest."""
    version = load_version(version_id)
    manifest = version.manifest_value
    if manifest is None:
        raise _cannot_serve(version)
    return version.source, manifest


def check_unread(*, version_id: int, now: datetime, allowed_files: Collection[str] = ()) -> None:
    """Whether a version may be served whose files somebody else fetches and compares: by what they were found to be
    when its manifest was taken, because nothing is read here.

    Raises Refused for a file that is not data and not in `allowed_files` (the version is `failed` from then on), and
    for a version whose files nobody looked into.
    """
    version = load_version(version_id)
    if not version.classes:
        raise Refused(
            f"{version} cannot be served: it was registered before Headgate looked into files.",
            code="no-files",
            fix="Register the version anew in MLflow.",
        )
    _check_classes(version, version.classes, allowed_files, now)


def materialise_version(
    *,
    version_id: int,
    store: ModelStore,
    models_dir: Path,
    now: datetime,
    allowed_files: Collection[str] = (),
    progress: Progress = nothing,
) -> tuple[Path, Manifest]:
    """A folder with the version's files, every byte compared with the manifest just now, for a launch.

    Fetches what is not on this machine yet. Raises TamperedFile when a file differs (the version is `changed`
    from then on, and nothing that was fetched is kept), Refused when the version may not be served (a file that is
    not data and not in `allowed_files`: the version is `failed` from then on),
    Unavailable when the store is needed and does not answer, NotFound when it is needed and the version was
    deleted there.
    """
    version = load_version(version_id)
    if version.manifest is None:
        version = register_manifest(
            version_id=version_id,
            store=store,
            models_dir=models_dir,
            now=now,
            allowed_files=allowed_files,
            progress=progress,
        )
    manifest = version.manifest_value
    if manifest is None:
        raise _cannot_serve(version)
    folder = folder_of(models_dir, manifest)
    try:
        classes = verify_local(folder, manifest, progress) if folder.is_dir() else ()
        if classes and version.manifest_state != ManifestState.CHANGED:
            _check_classes(version, classes, allowed_files, now)
        else:
            with fetched(version, store, models_dir, progress=progress) as incoming:
                verify_folder(incoming, manifest, where=IN_STORE, progress=progress)
                _check_classes(version, classify_folder(incoming, manifest), allowed_files, now)
                land(incoming, models_dir, manifest, progress)
    except TamperedFile as error:
        mark_changed(version, error, now)
        raise
    mark_version(version, ManifestState.VERIFIED, "", now)
    return folder, manifest


def _cannot_serve(version: Version) -> Unavailable | Refused:
    if version.manifest_state == ManifestState.PENDING:
        return Unavailable(
            f"The files of {version} are not here yet. {version.manifest_problem}".strip(),
            fix="Try again in a moment.",
        )
    return Refused(f"{version} cannot be served: {version.manifest_problem}", code="no-files")


def _check_classes(
    version: Version, classes: Collection[FileClass], allowed: Collection[str], now: datetime
) -> None:
    refused = refused_of(version, classes, allowed)
    if refused:
        mark_version(version, ManifestState.FAILED, refusal_of(refused), now)
        raise Refused(
            refusal_of(refused), code="unsafe-file", extra={"paths": [file.path for file in refused]}
        )
