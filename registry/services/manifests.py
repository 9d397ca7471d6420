"""Takes, checks and uses manifests: what may be served is what was registered, whatever MLflow holds by now.

Files live in a store of this machine, addressed by content: `MODELS_DIR/<hex digest of the manifest>/`. They
arrive in a hidden folder beside it and are renamed when they are whole and right, so a folder with a digest
for its name was right when it came. No transaction is open while files move.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from controlplane.audit.services import record
from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import InvalidInput, NotFound, Refused, Rejected, TamperedFile, Unavailable
from controlplane.passes.services import Report, run_each
from controlplane.timekeeping.claims import free, is_free
from controlplane.web.live import publish
from registry.domain.contents import classify_folder
from registry.domain.formats import FileClass, refusal_of, refused_files
from registry.domain.manifest import Manifest, take_manifest, verify_folder
from registry.models import Alias, ManifestState, Version
from registry.ports import LEAVES_FOLDER, NOT_SERVED, ODD_ANSWER, ModelStore, StoredVersion
from registry.selectors import CLAIM_LIFETIME, MANIFESTS
from registry.services.aliases import TOPIC

log = logging.getLogger(__name__)

IN_STORE = "in MLflow"
ON_THIS_MACHINE = "on this machine"
INCOMING_PREFIX = ".incoming-"
INCOMING_LIFETIME_SECONDS = 24 * 3600.0
# Older versions without an alias are fetched when somebody wants them: a registry may hold ten thousand.
NEWEST_OF_A_MODEL = 20
MANIFESTS_A_PASS = 5


def register_manifest(
    *,
    version_id: int,
    store: ModelStore,
    models_dir: Path,
    now: datetime,
    allowed_files: Collection[str] = (),
) -> Version:
    """Downloads a version once, writes its manifest down for good, and keeps the files.

    Returns the version: `verified`; `failed` with the problem when there is nothing to serve (no files, a
    source that MLflow does not hand out, a file that is not data and not in `allowed_files`); still `pending`
    while MLflow says that the files are being written, or while another process reads them. A version that has its
    manifest is returned as it is. Raises Unavailable when the store does not answer or refuses to, InvalidInput when
    its answer cannot be understood; then nothing changed.
    """
    version = _load(version_id)
    if version.manifest is not None or not _claim(version, now):
        return version
    try:
        _take(version, store, models_dir, now, frozenset(allowed_files))
    finally:
        Version.objects.filter(id=version.id).update(manifest_claimed_until=None)
    return _load(version_id)


def register_pending_manifests(
    *, store: ModelStore, models_dir: Path, clock: Clock, allowed_files: Collection[str] = ()
) -> Report:
    """Takes the manifests that are due, aliased versions first, then the newest; returns what came of it.

    At most MANIFESTS_A_PASS a call. A version whose files cannot be read keeps its error and is tried again later; it
    takes one place of a pass at most, so that the others go on. How long one takes is bounded by the time-out of each
    read (the store's adapter), not as a whole: files may be large.
    """
    newer = Version.objects.filter(model=OuterRef("model"), number__gte=OuterRef("number"), gone_at=None)
    due = (
        Version.objects.filter(manifest_state=ManifestState.PENDING, gone_at=None)
        .annotate(has_alias=Exists(Alias.objects.filter(version=OuterRef("pk"))))
        .filter(Q(has_alias=True) | ~Exists(newer[NEWEST_OF_A_MODEL:]))
        .order_by("-has_alias", "manifest_checked_at", "-id")
        .values_list("id", "model__name", "number", "manifest_claimed_until")
    )
    now = clock.now()
    rows = list(due)
    claimed = {row[0] for row in rows if not is_free(row[3], now=now, lifetime=CLAIM_LIFETIME)}

    def take(row: tuple[int, str, int, datetime | None]) -> None:
        register_manifest(
            version_id=row[0],
            store=store,
            models_dir=models_dir,
            now=clock.now(),
            allowed_files=allowed_files,
        )

    report = run_each(
        name=MANIFESTS,
        items=[row for row in rows if row[0] not in claimed],
        key=lambda row: row[0],
        label=lambda row: f"{row[1]} v{row[2]}",
        work=take,
        clock=clock,
        source=store.ping,
        most=MANIFESTS_A_PASS,
        elsewhere=claimed,
    )
    if report.news:
        publish(TOPIC, "overview", now=clock.now())
    return report


def verify_version(
    *,
    version_id: int,
    models_dir: Path,
    now: datetime,
    store: ModelStore | None = None,
    allowed_files: Collection[str] = (),
) -> Version:
    """Compares the copy on this machine, and what `store` holds if it is given, with the manifest.

    Returns the version, `verified` or `changed` (the problem names the file and the place). What was found
    changed before is verified again only by a check that includes the store. A version without a manifest
    gets one when the store is given. Raises NotFound when there is nothing to compare, Unavailable when the
    store does not answer; then nothing changed.
    """
    version = _load(version_id)
    manifest = version.manifest_value
    if manifest is None:
        if store is None:
            raise NotFound(f"{version} has no manifest yet.", fix="It is taken when MLflow's files are read.")
        return register_manifest(
            version_id=version_id,
            store=store,
            models_dir=models_dir,
            now=now,
            allowed_files=allowed_files,
        )
    folder = folder_of(models_dir, manifest)
    if store is None and not folder.is_dir():
        raise NotFound(f"There is no copy of {version} on this machine.", fix="Check it against MLflow.")
    classes: tuple[FileClass, ...] = ()
    try:
        if folder.is_dir():
            classes = _verify_local(folder, manifest)
        if store is not None:
            with _fetched(version, store, models_dir) as incoming:
                verify_folder(incoming, manifest, where=IN_STORE)
                classes = classes or classify_folder(incoming, manifest)
    except TamperedFile as error:
        _mark_changed(version, error, now)
        return _load(version_id)
    refusal = refusal_of(_refused(version, classes, allowed_files))
    if store is None and version.manifest_state != ManifestState.VERIFIED:
        # A copy that is right says nothing about what was found in the store.
        Version.objects.filter(id=version.id).update(manifest_checked_at=now)
    else:
        _mark(version, ManifestState.FAILED if refusal else ManifestState.VERIFIED, refusal, now)
    return _load(version_id)


def materialise_version(
    *,
    version_id: int,
    store: ModelStore,
    models_dir: Path,
    now: datetime,
    allowed_files: Collection[str] = (),
) -> tuple[Path, Manifest]:
    """A folder with the version's files, every byte compared with the manifest just now, for a launch.

    Fetches what is not on this machine yet. Raises TamperedFile when a file differs (the version is `changed`
    from then on, and nothing that was fetched is kept), Refused when the version may not be served (a file that is
    not data and not in `allowed_files`: the version is `failed` from then on),
    Unavailable when the store is needed and does not answer, NotFound when it is needed and the version was
    deleted there.
    """
    version = _load(version_id)
    if version.manifest is None:
        version = register_manifest(
            version_id=version_id,
            store=store,
            models_dir=models_dir,
            now=now,
            allowed_files=allowed_files,
        )
    manifest = version.manifest_value
    if manifest is None:
        raise _cannot_serve(version)
    folder = folder_of(models_dir, manifest)
    try:
        classes = _verify_local(folder, manifest) if folder.is_dir() else ()
        if classes and version.manifest_state != ManifestState.CHANGED:
            _check_classes(version, classes, allowed_files, now)
        else:
            with _fetched(version, store, models_dir) as incoming:
                verify_folder(incoming, manifest, where=IN_STORE)
                _check_classes(version, classify_folder(incoming, manifest), allowed_files, now)
                _land(incoming, models_dir, manifest)
    except TamperedFile as error:
        _mark_changed(version, error, now)
        raise
    _mark(version, ManifestState.VERIFIED, "", now)
    return folder, manifest


def folder_of(models_dir: Path, manifest: Manifest) -> Path:
    """Where the files of a manifest lie on this machine, whether or not they are there."""
    return models_dir / manifest.digest.removeprefix("sha256:")


def _take(
    version: Version, store: ModelStore, models_dir: Path, now: datetime, allowed: frozenset[str]
) -> None:
    try:
        stored = store.version(version.model.name, version.number)
        if stored.status == "PENDING":
            _mark(version, ManifestState.PENDING, "MLflow says that the files are still being written.", now)
            return
        if stored.status == "FAILED":
            raise InvalidInput("MLflow says that writing the files failed.", fix="Log and register it again.")
        with _fetched(version, store, models_dir, stored) as incoming:
            manifest = take_manifest(incoming)
            classes = classify_folder(incoming, manifest)
            refusal = refusal_of(refused_files(classes, allowed=allowed))
            if not refusal:
                _land(incoming, models_dir, manifest)
    except (NotFound, InvalidInput, Rejected) as error:
        if not _says_it_of_the_version(error):
            raise
        _mark(version, ManifestState.FAILED, str(error), now)
        return
    with transaction.atomic():
        # Once for good: should another process have been faster, its manifest stands.
        Version.objects.filter(id=version.id, manifest__isnull=True).update(
            manifest=manifest.to_json(),
            manifest_digest=manifest.digest,
            manifest_bytes=manifest.total_bytes,
            file_classes=[file.to_json() for file in classes],
            manifest_state=ManifestState.FAILED if refusal else ManifestState.VERIFIED,
            manifest_problem=refusal,
            manifest_checked_at=now,
        )
        publish(TOPIC, now=now)


def _says_it_of_the_version(error: NotFound | InvalidInput | Rejected) -> bool:
    """Whether the answer is about the version's files for good, and not about the store of this hour (a refusal of
    its proxy, an answer that cannot be understood), which is worth asking again."""
    if isinstance(error, Rejected):
        return error.code in (NOT_SERVED, LEAVES_FOLDER)
    return error.code != ODD_ANSWER


def _cannot_serve(version: Version) -> Unavailable | Refused:
    if version.manifest_state == ManifestState.PENDING:
        return Unavailable(
            f"The files of {version} are not here yet. {version.manifest_problem}".strip(),
            fix="Try again in a moment.",
        )
    return Refused(f"{version} cannot be served: {version.manifest_problem}", code="no-files")


def _verify_local(folder: Path, manifest: Manifest) -> tuple[FileClass, ...]:
    """Returns the class of every file. Raises TamperedFile, and Unavailable when they cannot be read."""
    fix = f"Delete the folder {folder}, so that the files are fetched again, or register a new version."
    try:
        verify_folder(folder, manifest, where=ON_THIS_MACHINE, fix=fix)
        return classify_folder(folder, manifest)
    except OSError as error:
        raise Unavailable(
            f"The files in {folder} cannot be read: {error}.", fix="Mend the folder's permissions."
        ) from error


def _refused(
    version: Version, classes: Collection[FileClass], allowed: Collection[str]
) -> tuple[FileClass, ...]:
    """The files that may not be served; keeps the classes for pages and API.

    They are found anew each time: a version may have been verified before there were classes, or under older rules.
    """
    found = [file.to_json() for file in classes]
    if found != version.file_classes:
        Version.objects.filter(id=version.id).update(file_classes=found)
    return refused_files(classes, allowed=allowed)


def _check_classes(
    version: Version, classes: Collection[FileClass], allowed: Collection[str], now: datetime
) -> None:
    refused = _refused(version, classes, allowed)
    if refused:
        _mark(version, ManifestState.FAILED, refusal_of(refused), now)
        raise Refused(
            refusal_of(refused), code="unsafe-file", extra={"paths": [file.path for file in refused]}
        )


@contextmanager
def _fetched(
    version: Version, store: ModelStore, models_dir: Path, stored: StoredVersion | None = None
) -> Iterator[Path]:
    """A hidden folder with the store's files; it is removed at the end unless it was moved away."""
    found = stored or store.version(version.model.name, version.number)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        _sweep(models_dir)
        incoming = Path(tempfile.mkdtemp(prefix=INCOMING_PREFIX, dir=models_dir))
        try:
            store.download(found, incoming)
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


def _land(incoming: Path, models_dir: Path, manifest: Manifest) -> Path:
    """Gives verified files their name. A copy that is there and right stays; a spoilt one is replaced."""
    target = folder_of(models_dir, manifest)
    for entry in manifest.entries:
        (incoming / entry.path).chmod(0o444)
    incoming.chmod(0o755)
    if target.is_dir():
        try:
            verify_folder(target, manifest)
        except TamperedFile:
            shutil.rmtree(target)
        else:
            return target
    incoming.rename(target)
    return target


def _claim(version: Version, now: datetime) -> bool:
    """Takes the right to fetch this version, for a while; False when another process has it."""
    rows = Version.objects.filter(
        free("manifest_claimed_until", now=now, lifetime=CLAIM_LIFETIME),
        id=version.id,
        manifest__isnull=True,
    )
    return rows.update(manifest_claimed_until=now + CLAIM_LIFETIME) == 1


def _mark(version: Version, state: ManifestState, problem: str, now: datetime) -> None:
    with transaction.atomic():
        Version.objects.filter(id=version.id).update(
            manifest_state=state, manifest_problem=problem, manifest_checked_at=now
        )
        if (version.manifest_state, version.manifest_problem) != (state, problem):
            publish(TOPIC, now=now)


@transaction.atomic
def _mark_changed(version: Version, error: TamperedFile, now: datetime) -> None:
    _mark(version, ManifestState.CHANGED, str(error), now)
    if version.manifest_state != ManifestState.CHANGED:
        log.error("version.changed %s %s", version, error)
        record(
            at=now,
            actor="headgate",
            actor_kind="headgate",
            action="version.changed",
            object_kind="version",
            object_id=str(version),
            before={"manifest_state": version.manifest_state},
            after={"manifest_state": ManifestState.CHANGED.value, "path": error.path},
            why=error.message,
        )


def _load(version_id: int) -> Version:
    found = Version.objects.select_related("model").filter(id=version_id).first()
    if found is None:
        raise NotFound(f"There is no version with the id {version_id}.")
    return found
