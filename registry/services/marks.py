"""What is written on a version once its files were looked at."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from controlplane.audit.services import record
from controlplane.kernel.errors import NotFound, TamperedFile
from controlplane.web.live import publish
from registry.domain.formats import FileClass, refused_files
from registry.models import ManifestState, Version
from registry.services.aliases import TOPIC

log = logging.getLogger(__name__)


def refused_of(
    version: Version, classes: Collection[FileClass], allowed: Collection[str]
) -> tuple[FileClass, ...]:
    """The files that may not be served; keeps the classes for pages and API.

    They are found anew each time: a version may have been verified before there were classes, or under older rules.
    """
    found = [file.to_json() for file in classes]
    if found != version.file_classes:
        Version.objects.filter(id=version.id).update(file_classes=found)
    return refused_files(classes, allowed=allowed)


def mark_version(version: Version, state: ManifestState, problem: str, now: datetime) -> None:
    with transaction.atomic():
        Version.objects.filter(id=version.id).update(
            manifest_state=state, manifest_problem=problem, manifest_checked_at=now
        )
        if (version.manifest_state, version.manifest_problem) != (state, problem):
            publish(TOPIC, now=now)


@transaction.atomic
def mark_changed(version: Version, error: TamperedFile, now: datetime) -> None:
    mark_version(version, ManifestState.CHANGED, str(error), now)
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


def load_version(version_id: int) -> Version:
    found = Version.objects.select_related("model").filter(id=version_id).first()
    if found is None:
        raise NotFound(f"There is no version with the id {version_id}.")
    return found
