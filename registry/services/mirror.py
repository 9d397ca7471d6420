"""Keeps the read model true to the model store.

The store is asked first, with no transaction open; what it said is then written one model at a time, each in
one short transaction. So a store that dies in the middle leaves whole models behind, and writers never wait
for the network.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Q

from controlplane.kernel.errors import HeadgateError, NotFound
from controlplane.web.live import publish
from registry.models import Alias, ManifestState, MirrorState, Model, Version
from registry.ports import ModelStore, StoredModel, StoredVersion
from registry.services.aliases import TOPIC, sync_aliases

log = logging.getLogger(__name__)

# MLflow moves no timestamp for a version's tags and description, so versions are read again now and then.
VERSIONS_MAX_AGE = timedelta(minutes=5)
DETAILS_MAX_AGE = timedelta(minutes=5)
NEW_DETAILS_A_PASS = 100
OLD_DETAILS_A_PASS = 20


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """What one pass did. `error` is empty when the store was read to the end."""

    models: int = 0
    new_versions: int = 0
    gone_versions: int = 0
    alias_moves: int = 0
    details: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Read:
    """One model as read from the store; `versions` is None when they had no reason to change."""

    stored: StoredModel
    versions: tuple[StoredVersion, ...] | None
    gone_numbers: frozenset[int]
    epoch: int


def mirror_models(*, store: ModelStore, now: datetime, only: Collection[str] = ()) -> MirrorReport:
    """Reads the store and writes what changed: models, versions, deletions, moves of aliases, details.

    Models named in `only` have their versions read even if nothing says that they changed (a webhook's hint);
    all the others are looked at too. When the store does not answer, the reason is kept in MirrorState and
    returned, what was not read yet stays as it was, and nothing is raised.
    """
    counts = dict.fromkeys(("models", "new_versions", "gone_versions", "alias_moves", "details"), 0)
    try:
        _mirror(store, now, frozenset(only), counts)
    except HeadgateError as error:
        MirrorState.objects.update_or_create(id=1, defaults={"last_error": str(error), "last_error_at": now})
        log.warning("registry.mirror_failed %s", error)
        return _report(counts, error=str(error))
    MirrorState.objects.update_or_create(id=1, defaults={"last_success_at": now, "last_error": ""})
    return _report(counts)


def _report(counts: Mapping[str, int], error: str = "") -> MirrorReport:
    return MirrorReport(
        models=counts["models"],
        new_versions=counts["new_versions"],
        gone_versions=counts["gone_versions"],
        alias_moves=counts["alias_moves"],
        details=counts["details"],
        error=error,
    )


def _mirror(store: ModelStore, now: datetime, only: frozenset[str], counts: dict[str, int]) -> None:
    # The epochs are read before the store is: an alias that we move meanwhile makes this read too old to
    # apply.
    known = {model.name: model for model in Model.objects.all()}
    aliases = _known_aliases()
    stored_models = {stored.name: stored for stored in store.models()}
    for stored in stored_models.values():
        model = known.get(stored.name)
        read = _read_model(store, stored, model, now, only)
        if read is None:
            continue
        # Most models have nothing new most of the time: they cost no query and no lock.
        if model is None or _differs(model, stored, read) or aliases.get(model.pk, {}) != stored.aliases:
            _write_model(read, now, counts)
    for name, model in known.items():
        if name not in stored_models and model.gone_at is None and _is_gone(store, name):
            _write_gone_model(model, now, counts)
    counts["models"] = len(stored_models)
    Model.objects.filter(gone_at=None).update(synced_at=now)
    counts["details"] = _read_details(store, now)


def _known_aliases() -> dict[int, dict[str, int]]:
    """Version numbers by alias by model id. One query."""
    found: dict[int, dict[str, int]] = {}
    rows = Alias.objects.values_list("model_id", "name", "version__number")
    for model_id, name, number in rows.iterator():
        found.setdefault(model_id, {})[name] = number
    return found


def _read_model(
    store: ModelStore, stored: StoredModel, model: Model | None, now: datetime, only: frozenset[str]
) -> _Read | None:
    """Asks for the versions where there is a reason to; None when the model was deleted meanwhile."""
    if model is None:
        versions, numbers = _versions_of(store, stored.name), set[int]()
        return None if versions is None else _Read(stored, versions, frozenset(), 0)
    if not _needs_versions(model, stored, now, only):
        return _Read(stored, None, frozenset(), model.alias_epoch)
    numbers = set(model.versions.filter(gone_at=None).values_list("number", flat=True))
    versions = _versions_of(store, stored.name)
    if versions is None:
        return None
    # A page that shifts while it is read may hide a row: only the store's own "not found" means gone.
    missing = numbers - {version.number for version in versions}
    gone = frozenset(number for number in missing if _is_gone(store, stored.name, number))
    return _Read(stored, versions, gone, model.alias_epoch)


def _needs_versions(model: Model, stored: StoredModel, now: datetime, only: frozenset[str]) -> bool:
    return (
        model.name in only
        or model.gone_at is not None
        or model.stored_updated_at != _time(stored.updated_at)
        or model.versions_read_at is None
        or now - model.versions_read_at >= VERSIONS_MAX_AGE
    )


def _versions_of(store: ModelStore, name: str) -> tuple[StoredVersion, ...] | None:
    try:
        return store.versions(name)
    except NotFound:
        return None


def _is_gone(store: ModelStore, name: str, number: int | None = None) -> bool:
    try:
        if number is None:
            store.versions(name)
        else:
            store.version(name, number)
    except NotFound:
        return True
    return False


@transaction.atomic
def _write_model(read: _Read, now: datetime, counts: dict[str, int]) -> None:
    stored = read.stored
    model, made = Model.objects.select_for_update().get_or_create(
        name=stored.name, defaults={"stored_updated_at": _time(stored.updated_at), "synced_at": now}
    )
    if made or _differs(model, stored, read):
        model.description = stored.description
        model.tags = dict(stored.tags)
        model.gone_at = None
        if read.versions is not None:
            model.stored_updated_at = _time(stored.updated_at)
            model.versions_read_at = now
        model.save(update_fields=["description", "tags", "gone_at", "stored_updated_at", "versions_read_at"])
    if read.versions is not None:
        counts["new_versions"] += _write_versions(model, read.versions)
        counts["gone_versions"] += _mark_gone(model, read.gone_numbers, now)
    if model.alias_epoch == read.epoch:
        why = "Found when the model was first read." if made else ""
        counts["alias_moves"] += sync_aliases(model=model, aliases=stored.aliases, now=now, why=why)
    publish(TOPIC, now=now)


def _differs(model: Model, stored: StoredModel, read: _Read) -> bool:
    return (
        read.versions is not None
        or model.gone_at is not None
        or model.description != stored.description
        or model.tags != dict(stored.tags)
    )


def _write_versions(model: Model, versions: Iterable[StoredVersion]) -> int:
    known = {version.number: version for version in model.versions.all()}
    new: list[Version] = []
    changed: list[Version] = []
    for stored in versions:
        version = known.get(stored.number)
        if version is None:
            new.append(_new_version(model, stored))
        elif _update_version(version, stored):
            changed.append(version)
    # Oldest first, so that ids grow with the numbers and "newest" is the same by both.
    Version.objects.bulk_create(sorted(new, key=lambda version: version.number), batch_size=500)
    Version.objects.bulk_update(changed, _MIRRORED, batch_size=200)
    return len(new)


_MIRRORED = [
    "status",
    "source",
    "run_id",
    "logged_model_id",
    "description",
    "created_at",
    "tags",
    "details_at",
    "gone_at",
    "manifest_state",
    "manifest_problem",
]


def _new_version(model: Model, stored: StoredVersion) -> Version:
    return Version(
        model=model,
        number=stored.number,
        status=stored.status,
        source=stored.source,
        run_id=stored.run_id,
        run_name=stored.run_name,
        logged_model_id=stored.logged_model_id,
        description=stored.description,
        created_at=_time(stored.created_at),
        tags=dict(stored.tags),
    )


def _update_version(version: Version, stored: StoredVersion) -> bool:
    """Takes over what the store says now; returns whether anything differs."""
    before = [getattr(version, name) for name in _MIRRORED]
    if version.created_at != _time(stored.created_at):
        # The model was deleted and made again: this is another version under a known number.
        version.details_at = None
        if version.manifest is not None:
            version.manifest_state = ManifestState.CHANGED
            since = f"{_time(stored.created_at):%Y-%m-%d %H:%M} UTC"
            version.manifest_problem = (
                f"MLflow has another version under this number since {since}; the manifest is the first "
                "one's. Register the files as a new version."
            )
    if version.details_at is None or stored.status != "READY":
        # The search knows nothing of the LoggedModel: where details were read, they know the status better.
        version.status = stored.status
    version.source = stored.source
    version.run_id = stored.run_id
    version.logged_model_id = stored.logged_model_id
    version.description = stored.description
    version.created_at = _time(stored.created_at)
    version.tags = dict(stored.tags)
    version.gone_at = None
    return before != [getattr(version, name) for name in _MIRRORED]


def _mark_gone(model: Model, numbers: Collection[int], now: datetime) -> int:
    if not numbers:
        return 0
    return model.versions.filter(number__in=numbers, gone_at=None).update(gone_at=now)


@transaction.atomic
def _write_gone_model(model: Model, now: datetime, counts: dict[str, int]) -> None:
    locked = Model.objects.select_for_update().get(id=model.id)
    counts["gone_versions"] += locked.versions.filter(gone_at=None).update(gone_at=now)
    counts["alias_moves"] += sync_aliases(
        model=locked, aliases={}, now=now, why="The model was deleted in MLflow."
    )
    Model.objects.filter(id=locked.id).update(gone_at=now)
    publish(TOPIC, now=now)


def _read_details(store: ModelStore, now: datetime) -> int:
    """Reads runs and LoggedModels: those never read, newest first, then the oldest reads."""
    there = Version.objects.filter(gone_at=None).select_related("model")
    due = list(there.filter(details_at=None).order_by("-id")[:NEW_DETAILS_A_PASS])
    old = there.filter(Q(details_at__lte=now - DETAILS_MAX_AGE)).order_by("details_at")
    due += list(old[:OLD_DETAILS_A_PASS])
    read: list[Version] = []
    news = False
    try:
        for version in due:
            try:
                found = store.version(version.model.name, version.number)
            except NotFound:
                continue  # Deleted since; the next pass over its model says so.
            news |= _take_details(version, found, now)
            read.append(version)
    finally:
        # What was read before the store went away is worth keeping.
        if read:
            _keep_details(read, news, now)
    return len(read)


@transaction.atomic
def _keep_details(read: list[Version], news: bool, now: datetime) -> None:
    Version.objects.bulk_update(read, [*_DETAILS, "details_at"], batch_size=50)
    if news:
        publish(TOPIC, now=now)


_DETAILS = ["status", "run_name", "params", "metrics", "datasets", "tags", "description"]


def _take_details(version: Version, found: StoredVersion, now: datetime) -> bool:
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
    version.details_at = now
    return before != [getattr(version, name) for name in _DETAILS]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
