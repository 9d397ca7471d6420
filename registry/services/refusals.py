"""Versions that were refused for a file, looked at again when the operator allows files."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from controlplane.audit.services import record
from controlplane.web.live import publish
from registry.domain.formats import refused_files
from registry.models import ManifestState, Version
from registry.services.aliases import TOPIC

MOST_A_PASS = 200


def accept_allowed(*, allowed_files: Collection[str], now: datetime) -> int:
    """Lifts the refusal of versions whose files are all data or allowed by now; returns how many, at most MOST_A_PASS.

    Decides by what the files were found to be; nothing is read, because each launch reads and compares them again.
    """
    if not allowed_files:
        return 0
    refused = Version.objects.filter(
        manifest_state=ManifestState.FAILED, manifest__isnull=False, file_classes__isnull=False, gone_at=None
    )
    lifted = 0
    for version in refused.select_related("model").defer("manifest").order_by("-id")[:MOST_A_PASS]:
        if refused_files(version.classes, allowed=allowed_files):
            continue
        with transaction.atomic():
            mine = Version.objects.filter(id=version.id, manifest_state=ManifestState.FAILED).update(
                manifest_state=ManifestState.VERIFIED, manifest_problem=""
            )
            if mine:
                lifted += 1
                _tell(version, now)
    return lifted


def _tell(version: Version, now: datetime) -> None:
    files = ", ".join(sorted(file.path for file in refused_files(version.classes)))
    record(
        at=now,
        actor="headgate",
        actor_kind="headgate",
        action="version.allowed",
        object_kind="version",
        object_id=str(version),
        before={"manifest_state": ManifestState.FAILED.value},
        after={"manifest_state": ManifestState.VERIFIED.value},
        why=f"The operator allowed its files that are not data: {files}.",
    )
    publish(TOPIC, now=now)
