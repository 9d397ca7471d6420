"""Versions that were refused for a file, looked at again when the operator allows files."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from controlplane.audit.services import record
from controlplane.kernel.clock import Clock
from controlplane.passes.services import run_each
from controlplane.web.live import publish
from registry.domain.formats import refused_files
from registry.models import ManifestState, Version
from registry.selectors import REFUSED
from registry.services.aliases import TOPIC

PASS_SECONDS = 10.0


def accept_allowed(*, allowed_files: Collection[str], clock: Clock) -> int:
    """Lifts the refusal of versions whose files are all data or allowed by now; returns how many.

    Decides by what the files were found to be; nothing is read, because each launch reads and compares them again.
    No version is begun after PASS_SECONDS; the next call goes on from there.
    """
    lifted: list[Version] = []

    def lift(version: Version) -> None:
        if not refused_files(version.classes, allowed=allowed_files) and _lift(version, clock.now()):
            lifted.append(version)

    report = run_each(
        name=REFUSED,
        items=_refused() if allowed_files else (),
        key=lambda version: version.pk,
        label=str,
        work=lift,
        clock=clock,
        seconds=PASS_SECONDS,
    )
    if report.news:
        publish(TOPIC, "overview", now=clock.now())
    return len(lifted)


def _refused() -> Collection[Version]:
    """Those refused for what their files are, newest first. One query."""
    refused = Version.objects.filter(
        manifest_state=ManifestState.FAILED, manifest__isnull=False, file_classes__isnull=False, gone_at=None
    )
    return list(refused.select_related("model").defer("manifest").order_by("-id"))


@transaction.atomic
def _lift(version: Version, now: datetime) -> bool:
    """Whether it was still refused, and is verified now."""
    mine = Version.objects.filter(id=version.id, manifest_state=ManifestState.FAILED).update(
        manifest_state=ManifestState.VERIFIED, manifest_problem=""
    )
    if mine:
        _tell(version, now)
    return bool(mine)


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
