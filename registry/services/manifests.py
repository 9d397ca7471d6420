"""Takes and checks manifests: what may be served is what was registered, whatever MLflow holds by now.

Files live in a store of this machine (`registry.services.files`). No transaction is open while files move.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import InvalidInput, NotFound, Rejected, TamperedFile
from controlplane.passes.services import Report, run_each
from controlplane.timekeeping.claims import has_run_out, is_free
from controlplane.web.live import publish
from registry.domain.contents import classify_folder
from registry.domain.formats import FileClass, refusal_of, refused_files
from registry.domain.manifest import Progress, nothing, take_manifest, verify_folder
from registry.models import Alias, ManifestState, Version
from registry.ports import LEAVES_FOLDER, NOT_SERVED, ODD_ANSWER, ModelStore
from registry.selectors import CHANGED, CHECKED_AGAIN, CLAIM_LIFETIME, MANIFESTS
from registry.services.aliases import TOPIC
from registry.services.claims import claimed
from registry.services.files import IN_STORE, fetched, folder_of, land, verify_local
from registry.services.marks import load_version, mark_changed, mark_version, refused_of

# Older versions without an alias are fetched when somebody wants them: a registry may hold ten thousand.
NEWEST_OF_A_MODEL = 20
MANIFESTS_A_PASS, MANIFESTS_AT_ONCE = 5, 2
CHANGED_A_PASS, CHANGED_AT_ONCE = 2, 1


def register_manifest(
    *,
    version_id: int,
    store: ModelStore,
    models_dir: Path,
    now: datetime,
    allowed_files: Collection[str] = (),
    progress: Progress = nothing,
) -> Version:
    """Downloads a version once, writes its manifest down for good, and keeps the files.

    Returns the version: `verified`; `failed` with the problem when there is nothing to serve (no files, a
    source that MLflow does not hand out, a file that is not data and not in `allowed_files`); still `pending`
    while MLflow says that the files are being written, or while another process reads them. A version that has its
    manifest is returned as it is. Raises Unavailable when the store does not answer or refuses to, InvalidInput when
    its answer cannot be understood; then nothing changed.
    """
    version = load_version(version_id)
    if version.manifest is not None:
        return version
    with claimed(version, now) as claim:
        if claim is None:
            return version
        told = claim.along(progress)
        _take(version, store, models_dir, now, frozenset(allowed_files), told)
    return load_version(version_id)


def register_pending_manifests(
    *, store: ModelStore, models_dir: Path, clock: Clock, allowed_files: Collection[str] = ()
) -> Report:
    """Takes the manifests that are due, aliased versions first, then the newest; returns what came of it.

    At most MANIFESTS_A_PASS a call. A version whose files cannot be read keeps its error and is tried again later; it
    takes one place of a pass at most, so that the others go on. How long one takes is bounded by how slowly its files
    may come (the store's adapter). A run that takes long does not keep the next one away; where MANIFESTS_AT_ONCE
    versions are read already, a run does nothing, so that threads are left for the files of launches.
    """

    def take(version_id: int) -> None:
        register_manifest(
            version_id=version_id,
            store=store,
            models_dir=models_dir,
            now=clock.now(),
            allowed_files=allowed_files,
        )

    return _run_pass(
        MANIFESTS,
        list(_wanted(ManifestState.PENDING)),
        take,
        most=MANIFESTS_A_PASS,
        at_once=MANIFESTS_AT_ONCE,
        store=store,
        clock=clock,
    )


def verify_changed(
    *, store: ModelStore, models_dir: Path, clock: Clock, allowed_files: Collection[str] = ()
) -> Report:
    """Checks versions that were found changed again, here and in the store: a file that was put back makes the version
    verified without anybody asking. Returns what came of it.

    Each is checked CHECKED_AGAIN after the last time, at most CHANGED_A_PASS a call: all of its files are read.
    """
    now = clock.now()
    rows = [
        row
        for row in _wanted(ManifestState.CHANGED)
        if row[4] is None or has_run_out(row[4], now=now, lifetime=CHECKED_AGAIN)
    ]

    def check(version_id: int) -> None:
        with claimed(load_version(version_id), clock.now()) as claim:
            if claim is not None:
                verify_version(
                    version_id=version_id,
                    models_dir=models_dir,
                    now=clock.now(),
                    store=store,
                    allowed_files=allowed_files,
                    progress=claim.push_on,
                )

    return _run_pass(
        CHANGED,
        rows,
        check,
        most=CHANGED_A_PASS,
        at_once=CHANGED_AT_ONCE,
        store=store,
        clock=clock,
    )


def verify_version(
    *,
    version_id: int,
    models_dir: Path,
    now: datetime,
    store: ModelStore | None = None,
    allowed_files: Collection[str] = (),
    progress: Progress = nothing,
) -> Version:
    """Compares the copy on this machine, and what `store` holds if it is given, with the manifest.

    Returns the version, `verified` or `changed` (the problem names the file and the place). What was found
    changed before is verified again only by a check that includes the store. A version without a manifest
    gets one when the store is given. Raises NotFound when there is nothing to compare, Unavailable when the
    store does not answer; then nothing changed.
    """
    version = load_version(version_id)
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
            classes = verify_local(folder, manifest, progress)
        if store is not None:
            with fetched(version, store, models_dir, progress=progress) as incoming:
                verify_folder(incoming, manifest, where=IN_STORE, progress=progress)
                classes = classes or classify_folder(incoming, manifest)
    except TamperedFile as error:
        mark_changed(version, error, now)
        return load_version(version_id)
    refusal = refusal_of(refused_of(version, classes, allowed_files))
    if store is None and version.manifest_state != ManifestState.VERIFIED:
        # A copy that is right says nothing about what was found in the store.
        Version.objects.filter(id=version.id).update(manifest_checked_at=now)
    else:
        mark_version(version, ManifestState.FAILED if refusal else ManifestState.VERIFIED, refusal, now)
    return load_version(version_id)


_Row = tuple[int, str, int, datetime | None, datetime | None]


def _wanted(state: ManifestState) -> QuerySet[Version, _Row]:
    """Versions in this state that people look at: with an alias, then the newest of each model. Those come first that
    were looked at longest ago. Id, model, number, claimed until, checked at."""
    newer = Version.objects.filter(model=OuterRef("model"), number__gte=OuterRef("number"), gone_at=None)
    return (
        Version.objects.filter(manifest_state=state, gone_at=None)
        .annotate(has_alias=Exists(Alias.objects.filter(version=OuterRef("pk"))))
        .filter(Q(has_alias=True) | ~Exists(newer[NEWEST_OF_A_MODEL:]))
        .order_by("-has_alias", "manifest_checked_at", "-id")
        .values_list("id", "model__name", "number", "manifest_claimed_until", "manifest_checked_at")
    )


def _run_pass(
    name: str,
    rows: Sequence[_Row],
    work: Callable[[int], None],
    *,
    most: int,
    at_once: int,
    store: ModelStore,
    clock: Clock,
) -> Report:
    """Does `work` for the ids of at most `most` rows of `_wanted`. What another process reads is left to it; where
    others read `at_once` of them already, all are."""
    now = clock.now()
    elsewhere = {row[0] for row in rows if not is_free(row[3], now=now, lifetime=CLAIM_LIFETIME)}
    if len(elsewhere) >= at_once:
        return Report(left=len(rows) - len(elsewhere))
    report = run_each(
        name=name,
        items=[row for row in rows if row[0] not in elsewhere],
        key=lambda row: row[0],
        label=lambda row: f"{row[1]} v{row[2]}",
        work=lambda row: work(row[0]),
        clock=clock,
        source=store.ping,
        most=most,
        elsewhere=elsewhere,
    )
    if report.news:
        publish(TOPIC, "overview", now=clock.now())
    return report


def _take(
    version: Version,
    store: ModelStore,
    models_dir: Path,
    now: datetime,
    allowed: frozenset[str],
    progress: Progress,
) -> None:
    try:
        stored = store.version(version.model.name, version.number)
        if stored.status == "PENDING":
            mark_version(
                version, ManifestState.PENDING, "MLflow says that the files are still being written.", now
            )
            return
        if stored.status == "FAILED":
            raise InvalidInput("MLflow says that writing the files failed.", fix="Log and register it again.")
        with fetched(version, store, models_dir, stored, progress) as incoming:
            manifest = take_manifest(incoming, progress)
            classes = classify_folder(incoming, manifest)
            refusal = refusal_of(refused_files(classes, allowed=allowed))
            if not refusal:
                land(incoming, models_dir, manifest, progress)
    except (NotFound, InvalidInput, Rejected) as error:
        if not _says_it_of_the_version(error):
            raise
        mark_version(version, ManifestState.FAILED, str(error), now)
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
