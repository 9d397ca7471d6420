"""Keeps the read model true to the model store.

The store is asked first, with no transaction open; what it said is then written one model at a time, each in
one short transaction. So a store that dies in the middle leaves whole models behind, and writers never wait
for the network. One model that cannot be read or written keeps its error; all the others are read (`run_each`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import HeadgateError, InvalidInput, NotFound
from controlplane.passes.services import Pauses, run_each
from controlplane.passes.words import error_words, traceback_words
from controlplane.timekeeping.claims import has_run_out
from controlplane.web.live import publish
from registry.domain.foreign import check_model, check_version
from registry.models import Alias, ManifestState, MirrorState, Model, Version
from registry.ports import ModelStore, StoredModel, StoredVersion, UnreadableEntry
from registry.selectors import MODELS
from registry.services.aliases import TOPIC, sync_aliases
from registry.services.details import read_details
from registry.services.renames import Renames

log = logging.getLogger(__name__)

# MLflow moves no timestamp for a version's tags and description, so versions are read again now and then.
VERSIONS_MAX_AGE = timedelta(minutes=5)
# A model with one odd version is read again this often: its other versions wait no longer.
PAUSES = Pauses(first=10, longest=60)
PASS_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """What one pass did. `error` is empty when the store answered to the end; `failed` models keep their own."""

    models: int = 0
    new_versions: int = 0
    gone_versions: int = 0
    alias_moves: int = 0
    details: int = 0
    failed: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Look:
    """One thing of a pass: a model that the store lists, an entry that cannot be understood, a model that is missing
    from the list. `model` is our row as it was before the store was asked."""

    name: str
    stored: StoredModel | None = None
    unreadable: UnreadableEntry | None = None
    model: Model | None = None


@dataclass(frozen=True, slots=True)
class _Read:
    """One model as read from the store; `versions` is None when they had no reason to change."""

    stored: StoredModel
    versions: tuple[StoredVersion, ...] | None
    gone_numbers: frozenset[int]
    epoch: int


def mirror_models(*, store: ModelStore, clock: Clock, only: Collection[str] = ()) -> MirrorReport:
    """Reads the store and writes what changed: models, versions, deletions, renames, moves of aliases, details.

    Models named in `only` have their versions read even if nothing says that they changed (a webhook's hint);
    all the others are looked at too. When the store does not answer, the reason is kept in MirrorState and
    returned, what was not read yet stays as it was, and nothing is raised. No model is begun after PASS_SECONDS; the
    next pass goes on there.
    """
    now = clock.now()
    counts = dict.fromkeys(("models", "new_versions", "gone_versions", "alias_moves", "details", "failed"), 0)
    try:
        error = _mirror(store, clock, frozenset(only), counts)
    except (
        Exception
    ) as raised:  # the list of models itself cannot be read: every model waits, and the page says why
        error = error_words(raised)
        if not isinstance(raised, HeadgateError):
            log.error("registry.mirror_broken %s", traceback_words(raised))
    if error:
        _note_state(last_error=error, last_error_at=now)
        log.warning("registry.mirror_failed %s", error)
    else:
        _note_state(last_success_at=now, last_error="")
    return MirrorReport(**counts, error=error)


def _note_state(**fields: Any) -> None:
    """One query, but for the first time."""
    if not MirrorState.objects.filter(id=1).update(**fields):
        MirrorState.objects.update_or_create(id=1, defaults=fields)


def ask_again(*, models: Collection[str]) -> None:
    """Has the versions of these models read by the next pass, even if nothing says that they changed (a webhook's
    hint). Names that nobody knows are new: they are read anyway."""
    if models:
        Model.objects.filter(name__in=models).update(versions_read_at=None)


def _mirror(store: ModelStore, clock: Clock, only: frozenset[str], counts: dict[str, int]) -> str:
    """Does it; returns the words of a store that went away meanwhile, else nothing."""
    now = clock.now()
    # The epochs are read before the store is: an alias that we move meanwhile makes this read too old to
    # apply.
    known: dict[str, Model] = {model.name: model for model in Model.objects.all()}
    aliases = _known_aliases()
    looks = {look.name: look for look in _listed(store)}
    counts["models"] = len(looks)
    stored = {look.name: look.stored for look in looks.values() if look.stored is not None}
    renames = Renames(known, stored, store, now)
    seen: set[int] = set()

    def look_at(look: _Look) -> None:
        if look.unreadable is not None:
            raise InvalidInput(look.unreadable.problem)
        renames.follow(known)
        if look.stored is None:
            _look_for_missing(look.model)
            return
        stored_model = check_model(look.stored)
        renames.raise_problem_of(look.name)
        model = known.get(look.name)
        if model is not None and renames.is_unsure_of(model):
            return  # it may be the one whose new name cannot be read yet
        read, odd = _read_model(store, stored_model, model, now, only)
        # Most models have nothing new most of the time: they cost no query and no lock.
        if read is not None and (
            model is None or _differs(model, read) or aliases.get(model.pk, {}) != read.stored.aliases
        ):
            _write_model(read, now, counts)
        if odd:
            raise InvalidInput(odd)  # its other versions are written: only now it is said
        if model is not None:
            seen.add(model.pk)

    def _look_for_missing(model: Model | None) -> None:
        if model is None or renames.is_renamed(model) or renames.is_unsure_of(model):
            return
        if _is_gone(store, model.name):
            _write_gone_model(model, now, counts)

    missing = [
        _Look(name, model=model)
        for name, model in known.items()
        if name not in looks and model.gone_at is None
    ]
    report = run_each(
        name=MODELS,
        items=[*looks.values(), *missing],
        key=lambda look: look.name,
        label=lambda look: look.name,
        work=look_at,
        clock=clock,
        source=store.ping,
        pauses=PAUSES,
        seconds=PASS_SECONDS,
    )
    counts["failed"] = report.failed
    _note_seen(known, seen, now)
    if report.news:
        publish(TOPIC, "overview", now=now)
    if report.source:
        return report.source
    counts["details"], error = read_details(store=store, clock=clock)
    return error


def _listed(store: ModelStore) -> Iterable[_Look]:
    for number, entry in enumerate(store.models(), start=1):
        if isinstance(entry, UnreadableEntry):
            yield _Look(f"entry {number} ({entry.name})", unreadable=entry)
        else:
            yield _Look(entry.name, stored=entry)


def _note_seen(known: Mapping[str, Model], seen: Collection[int], now: datetime) -> None:
    """When our rows were last as the store has them: one row for all models, and one for each that began or ceased to
    lag behind. The row for all comes last: what breaks off before it leaves times that are too old, never too new."""
    lagging = [
        model.pk
        for model in known.values()
        if model.gone_at is None and model.last_read_at is None and model.pk not in seen
    ]
    if lagging:
        before = MirrorState.objects.filter(id=1).values_list("models_read_at", flat=True).first()
        Model.objects.filter(pk__in=lagging).update(last_read_at=before or now)
    again = [model.pk for model in known.values() if model.last_read_at is not None and model.pk in seen]
    if again:
        Model.objects.filter(pk__in=again).update(last_read_at=None)
    _note_state(models_read_at=now)


def _known_aliases() -> dict[int, dict[str, int]]:
    """Version numbers by alias by model id. One query."""
    found: dict[int, dict[str, int]] = {}
    rows = Alias.objects.values_list("model_id", "name", "version__number")
    for model_id, name, number in rows.iterator():
        found.setdefault(model_id, {})[name] = number
    return found


def _read_model(
    store: ModelStore, stored: StoredModel, model: Model | None, now: datetime, only: frozenset[str]
) -> tuple[_Read | None, str]:
    """Asks for the versions where there is a reason to; None when the model was deleted meanwhile. And what is wrong
    with versions that cannot be understood, which are left out."""
    if model is not None and not _needs_versions(model, stored, now, only):
        return _Read(stored, None, frozenset(), model.alias_epoch), ""
    numbers = (
        set(model.versions.filter(gone_at=None).values_list("number", flat=True))
        if model is not None
        else set()
    )
    try:
        found = store.versions(stored.name)
    except NotFound:
        return None, ""
    versions, odd = _understood(found)
    # A page that shifts while it is read may hide a row: only the store's own "not found" means gone.
    missing = numbers - {version.number for version in versions}
    gone = frozenset(number for number in missing if _is_gone(store, stored.name, number))
    return _Read(stored, versions, gone, model.alias_epoch if model is not None else 0), odd


def _understood(
    found: Iterable[StoredVersion | UnreadableEntry],
) -> tuple[tuple[StoredVersion, ...], str]:
    versions: list[StoredVersion] = []
    problems: list[str] = []
    for entry in found:
        if isinstance(entry, UnreadableEntry):
            problems.append(f"Version {entry.name}: {entry.problem}")
            continue
        try:
            versions.append(check_version(entry))
        except InvalidInput as error:
            problems.append(f"Version {entry.number!r}: {error}")
    return tuple(versions), " ".join(problems)


def _needs_versions(model: Model, stored: StoredModel, now: datetime, only: frozenset[str]) -> bool:
    return (
        model.name in only
        or model.gone_at is not None
        or model.stored_updated_at != _time(stored.updated_at)
        or model.versions_read_at is None
        or has_run_out(model.versions_read_at, now=now, lifetime=VERSIONS_MAX_AGE)
    )


def _is_gone(store: ModelStore, name: str, number: int | None = None) -> bool:
    try:
        if number is None:
            store.versions(name)
        else:
            store.version(name, number)
    except NotFound:
        return True
    except InvalidInput:
        return False  # it is there, and odd
    return False


@transaction.atomic
def _write_model(read: _Read, now: datetime, counts: dict[str, int]) -> None:
    stored = read.stored
    model, made = Model.objects.select_for_update().get_or_create(
        name=stored.name, defaults={"stored_updated_at": _time(stored.updated_at)}
    )
    if made or _differs(model, read):
        model.description = stored.description
        model.tags = dict(stored.tags)
        model.gone_at, model.gone_why = None, ""
        if stored.created_at:
            model.stored_created_at = _time(stored.created_at)
        if read.versions is not None:
            model.stored_updated_at = _time(stored.updated_at)
            model.versions_read_at = now
        model.save(
            update_fields=[
                "description",
                "tags",
                "gone_at",
                "gone_why",
                "stored_created_at",
                "stored_updated_at",
                "versions_read_at",
            ]
        )
    if read.versions is not None:
        counts["new_versions"] += _write_versions(model, read.versions)
        counts["gone_versions"] += _mark_gone(model, read.gone_numbers, now)
    if model.alias_epoch == read.epoch:
        why = "Found when the model was first read." if made else ""
        counts["alias_moves"] += sync_aliases(model=model, aliases=stored.aliases, now=now, why=why)
    publish(TOPIC, now=now)


def _differs(model: Model, read: _Read) -> bool:
    stored = read.stored
    made_at = _time(stored.created_at) if stored.created_at else model.stored_created_at
    return (
        read.versions is not None
        or model.gone_at is not None
        or model.description != stored.description
        or model.tags != dict(stored.tags)
        or model.stored_created_at != made_at
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


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
