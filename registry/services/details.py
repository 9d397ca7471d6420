"""Reads what a version's run and LoggedModel say: parameters, metrics, data sets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import NotFound
from controlplane.passes.services import Pauses, run_each
from controlplane.timekeeping.claims import TOLERANCE
from controlplane.web.live import publish
from registry.domain.foreign import check_version
from registry.models import Version
from registry.ports import ModelStore, StoredVersion
from registry.selectors import DETAILS
from registry.services.aliases import TOPIC

DETAILS_MAX_AGE = timedelta(minutes=5)
NEW_A_PASS = 100
OLD_A_PASS = 20
PASS_SECONDS = 30.0
PAUSES = Pauses(first=10, longest=600)
_DETAILS = ["status", "run_name", "params", "metrics", "datasets", "tags", "description"]


def read_details(*, store: ModelStore, clock: Clock) -> tuple[int, str]:
    """Reads those never read, newest first, then the oldest reads; returns how many it read, and the words of a store
    that went away meanwhile.

    What was read before that is kept. No version is begun after PASS_SECONDS.
    """
    now = clock.now()
    named = Version.objects.filter(gone_at=None).values_list("pk", "model__name", "number")
    new = list(named.filter(details_at=None).order_by("-id"))
    aged = Q(details_at__lte=now - DETAILS_MAX_AGE) | Q(details_at__gt=now + TOLERANCE)
    old = list(named.filter(aged).order_by("details_at"))
    found: dict[int, StoredVersion] = {}

    def look_at(version: tuple[int, str, int]) -> None:
        pk, model, number = version
        with suppress(NotFound):  # Deleted since; the next pass over its model says so.
            found[pk] = check_version(store.version(model, number))

    report = run_each(
        name=DETAILS,
        # Neither many new ones nor many old ones keep the others waiting.
        items=[*new[:NEW_A_PASS], *old[:OLD_A_PASS], *new[NEW_A_PASS:], *old[OLD_A_PASS:]],
        key=lambda version: version[0],
        label=lambda version: f"{version[1]} v{version[2]}",
        work=look_at,
        clock=clock,
        source=store.ping,
        pauses=PAUSES,
        most=NEW_A_PASS + OLD_A_PASS,
        seconds=PASS_SECONDS,
    )
    if found:
        _keep(found, now)
    return len(found), report.source


@transaction.atomic
def _keep(found: Mapping[int, StoredVersion], now: datetime) -> None:
    """Two queries for each fifty versions."""
    read = list(Version.objects.filter(pk__in=found).defer("manifest"))
    news = False
    for version in read:
        news |= _take(version, found[version.pk])
        version.details_at = now
    Version.objects.bulk_update(read, [*_DETAILS, "details_at"], batch_size=50)
    if news:
        publish(TOPIC, now=now)


def _take(version: Version, found: StoredVersion) -> bool:
    """Sets what the run and the LoggedModel say, unsaved; returns whether anything differs."""
    before = [getattr(version, name) for name in _DETAILS]
    version.status = found.status
    version.run_name = found.run_name
    version.params = dict(found.params)
    version.metrics = dict(found.metrics)
    version.datasets = [
        {"name": data.name, "digest": data.digest, "context": data.context} for data in found.datasets
    ]
    version.tags = dict(found.tags)
    version.description = found.description
    return before != [getattr(version, name) for name in _DETAILS]
