"""Writes to the model store what a rollout decided: aliases and tags. MLflow stays the source of truth.

Every call is idempotent and read back, so that it may be tried again until it is seen. No transaction
is open while the store is asked. The order is: write down that we ask, check that it is still ours to ask, ask, read
back, write down what was found. The first step lets the mirror know the move for ours should it see it before us, and
pages that another move may be under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from django.db import transaction
from django.db.models import F

from controlplane.kernel.errors import NotFound, Rejected, StaleWriter, Unavailable
from registry.models import AliasMove, Model, Version
from registry.ports import ModelStore
from registry.services.aliases import BY_HAND, INTENT_LIFETIME, record_move, waiting_moves

TAG_ROLLOUT = "headgate.rollout"
TAG_DECISION = "headgate.decision"
TAG_DIGEST = "headgate.digest"
READS = 3  # of an alias that others move while it is read

StillTrue = Callable[[], None]


class Overwritten(Unavailable):
    """The alias was written, and read back it points elsewhere: somebody else wrote at the same moment."""

    code = "alias-overwritten"


def unchecked() -> None:
    """For a caller that nobody else can overtake."""


def decision_tags(*, rollout: str, decision: str, digest: str = "") -> dict[str, str]:
    """The tags that a decided rollout leaves on a version; what is empty is left out.

    `decision` is a word such as `promoted` or `rolled back`; `digest` is the manifest's.
    """
    tags = {
        TAG_ROLLOUT: rollout,
        TAG_DECISION: decision,
        TAG_DIGEST: digest,
    }
    return {name: value for name, value in tags.items() if value}


def point_alias(
    *,
    store: ModelStore,
    model: str,
    alias: str,
    version_number: int,
    by: str,
    why: str,
    now: datetime,
    check: StillTrue = unchecked,
) -> AliasMove | None:
    """Points `alias` to a version; returns the move, None when it pointed there before.

    `check` is called right before the store is asked; when it raises StaleWriter nothing was written.
    Raises NotFound when the registry or the store does not have them, Unavailable or Rejected from the store,
    Overwritten when it points elsewhere once read back; the next call does what was left undone.
    """
    row, version = _version(model, version_number)
    intent = _write_intent(row, alias, version, by, why, now)
    try:
        check()
        # Asked even when our row already says so: only the store knows, and the same answer costs nothing.
        store.set_alias(row.name, alias, version.number)
    except (NotFound, Rejected, StaleWriter):
        # A plain no: nothing moved. (After Unavailable nobody knows, and the intent stays.)
        _withdraw(intent)
        raise
    return _read_back(store, row, alias, version, intent, now)


def tag_version(
    *,
    store: ModelStore,
    model: str,
    version_number: int,
    tags: Mapping[str, str],
    check: StillTrue = unchecked,
) -> bool:
    """Sets tags on a version and moves nothing. False when the store has deleted the version. `check` as above."""
    _, version = _version(model, version_number)
    check()
    try:
        store.set_version_tags(model, version_number, tags)
    except NotFound:
        return False
    _remember_tags(version, tags)
    return True


@transaction.atomic
def _write_intent(model: Model, alias: str, version: Version, by: str, why: str, now: datetime) -> AliasMove:
    locked = Model.objects.select_for_update().get(id=model.id)
    # What was asked for long ago and never seen is no move: a store that is down for days leaves one row, not many.
    AliasMove.objects.filter(
        model=locked, alias=alias, moved_at=None, asked_at__lte=now - INTENT_LIFETIME
    ).delete()
    waiting = waiting_moves(model=locked, alias=alias, now=now).filter(version=version, by=by).first()
    if waiting is not None:
        # Asked once more: it is now this writer's, and whoever asked before no longer withdraws it.
        waiting.asked_at = now
        waiting.save(update_fields=["asked_at"])
        return waiting
    Model.objects.filter(id=locked.id).update(alias_epoch=F("alias_epoch") + 1)
    current = locked.aliases.select_related("version").filter(name=alias).first()
    return AliasMove.objects.create(
        model=locked,
        alias=alias,
        version=version,
        previous=current.version if current else None,
        asked_at=now,
        by=by,
        why=why,
    )


def _withdraw(intent: AliasMove) -> None:
    AliasMove.objects.filter(id=intent.id, moved_at=None, asked_at=intent.asked_at).delete()


def _read_back(
    store: ModelStore, model: Model, alias: str, version: Version, intent: AliasMove, now: datetime
) -> AliasMove | None:
    """Writes down where the alias points now, whoever set it. A read during which our rows changed is made anew: it may
    be older than what they say."""
    for _ in range(READS):
        epoch = Model.objects.values_list("alias_epoch", flat=True).get(id=model.id)
        at = store.alias_at(model.name, alias)
        with transaction.atomic():
            locked = Model.objects.select_for_update().get(id=model.id)
            if locked.alias_epoch != epoch:
                continue
            if at == version.number:
                return _confirm(locked, alias, version, intent, now)
            _withdraw(intent)
            _note_other(locked, alias, at, now)
            break
    else:
        at = None
    where = f"to version {at}" if at is not None else "elsewhere"
    raise Overwritten(
        f"The alias {alias} of {model.name} points {where} after it was set to {version.number}.",
        fix="Somebody else moves this alias at the same time; it will be tried again.",
    )


def _confirm(
    locked: Model, alias: str, version: Version, intent: AliasMove, now: datetime
) -> AliasMove | None:
    current = locked.aliases.select_related("version").filter(name=alias).first()
    previous = current.version if current else None
    if previous == version:
        kept = AliasMove.objects.filter(id=intent.id).first()
        if kept is not None and kept.moved_at is not None:
            return kept  # The mirror saw it first, and knew it for ours.
        _withdraw(intent)  # It pointed there before: no move to tell of.
        return None
    return record_move(
        model=locked,
        alias=alias,
        version=version,
        previous=previous,
        now=now,
        by=intent.by,
        why=intent.why,
    )


def _note_other(locked: Model, alias: str, at: int | None, now: datetime) -> None:
    """Somebody else's move, so that pages say at once what the store has. A version that is not mirrored yet is left
    to the mirror."""
    there = locked.versions.filter(number=at).first() if at is not None else None
    current = locked.aliases.select_related("version").filter(name=alias).first()
    previous = current.version if current else None
    if there != previous and (at is None or there is not None):
        record_move(model=locked, alias=alias, version=there, previous=previous, now=now, by=BY_HAND, why="")


def _remember_tags(version: Version, tags: Mapping[str, str]) -> None:
    """Shows the tags at once instead of at the next read of the store."""
    Version.objects.filter(id=version.id).update(tags={**version.tags, **tags})


def _model(name: str) -> Model:
    found = Model.objects.filter(name=name).first()
    if found is None:
        raise NotFound(
            f"There is no model {name!r}.", fix="Register it in MLflow; it is read within seconds."
        )
    return found


def _version(model: str, number: int) -> tuple[Model, Version]:
    row = _model(model)
    version = row.versions.filter(number=number).first()
    if version is None:
        raise NotFound(f"The model {model} has no version {number}.", fix="Choose one of its versions.")
    return row, version
