"""Writes to the model store what a rollout decided: aliases and tags. MLflow stays the source of truth.

Every call is idempotent and read back, so that an effect may be tried again until it is seen. No transaction
is open while the store is asked. The order is: write down that we ask, ask, read back (the adapter does),
write down that it happened. The first step lets the mirror know the move for ours should it see it before us.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction
from django.db.models import F

from controlplane.kernel.errors import NotFound, Rejected
from registry.models import AliasMove, Model, Version
from registry.ports import ModelStore
from registry.services.aliases import record_move, waiting_moves

TAG_ROLLOUT = "headgate.rollout"
TAG_DECISION = "headgate.decision"
TAG_APPROVED_BY = "headgate.approved_by"
TAG_DIGEST = "headgate.digest"


def decision_tags(*, rollout: str, decision: str, approved_by: str = "", digest: str = "") -> dict[str, str]:
    """The tags that a decided rollout leaves on a version; what is empty is left out.

    `decision` is a word such as `promoted` or `rolled back`; `digest` is the manifest's.
    """
    tags = {
        TAG_ROLLOUT: rollout,
        TAG_DECISION: decision,
        TAG_APPROVED_BY: approved_by,
        TAG_DIGEST: digest,
    }
    return {name: value for name, value in tags.items() if value}


def write_back_promotion(
    *,
    store: ModelStore,
    model: str,
    version_number: int,
    alias: str,
    tags: Mapping[str, str],
    by: str,
    why: str,
    now: datetime,
) -> AliasMove | None:
    """Tags the promoted version and points `alias` to it; returns the move, None when it pointed there
    before.

    Raises NotFound when the registry or the store does not have them, Unavailable or Rejected from the store;
    whatever was done before it raised is done again by the next call.
    """
    row, version = _version(model, version_number)
    store.set_version_tags(model, version_number, tags)
    _remember_tags(version, tags)
    return _move_alias(store=store, model=row, alias=alias, version=version, by=by, why=why, now=now)


def write_back_rollback(
    *,
    store: ModelStore,
    model: str,
    alias: str,
    back_to: int | None,
    rejected_number: int | None,
    tags: Mapping[str, str],
    by: str,
    why: str,
    now: datetime,
) -> AliasMove | None:
    """Points `alias` back to version `back_to` (None: removes it) and tags the version that was rejected.

    The alias goes first: it is what others read. An alias that never left `back_to` stays where it is, and a
    rejected version that was deleted meanwhile is no error. Raises as `write_back_promotion` does.
    """
    if back_to is None:
        move = clear_alias(store=store, model=model, alias=alias, by=by, why=why, now=now)
    else:
        row, version = _version(model, back_to)
        move = _move_alias(store=store, model=row, alias=alias, version=version, by=by, why=why, now=now)
    if rejected_number is not None:
        tag_version(store=store, model=model, version_number=rejected_number, tags=tags)
    return move


def clear_alias(
    *, store: ModelStore, model: str, alias: str, by: str, why: str, now: datetime
) -> AliasMove | None:
    """Removes `alias`; returns the move, None when there was none. Raises as `write_back_promotion` does."""
    row = _model(model)
    return _move_alias(store=store, model=row, alias=alias, version=None, by=by, why=why, now=now)


def tag_version(*, store: ModelStore, model: str, version_number: int, tags: Mapping[str, str]) -> bool:
    """Sets tags on a version and moves nothing. False when the store has deleted the version."""
    _, version = _version(model, version_number)
    try:
        store.set_version_tags(model, version_number, tags)
    except NotFound:
        return False
    _remember_tags(version, tags)
    return True


def _move_alias(
    *,
    store: ModelStore,
    model: Model,
    alias: str,
    version: Version | None,
    by: str,
    why: str,
    now: datetime,
) -> AliasMove | None:
    intent = _write_intent(model, alias, version, by, why, now)
    try:
        # Asked even when our row already says so: only the store knows, and the same answer costs nothing.
        if version is None:
            store.delete_alias(model.name, alias)
        else:
            store.set_alias(model.name, alias, version.number)
    except (NotFound, Rejected):
        # A plain no: nothing moved. (After Unavailable nobody knows, and the intent stays.)
        AliasMove.objects.filter(id=intent.id, moved_at=None).delete()
        raise
    return _confirm(model, alias, version, intent, now)


@transaction.atomic
def _write_intent(
    model: Model, alias: str, version: Version | None, by: str, why: str, now: datetime
) -> AliasMove:
    locked = Model.objects.select_for_update().get(id=model.id)
    waiting = waiting_moves(model=locked, alias=alias, now=now).filter(version=version, by=by).first()
    if waiting is not None:
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


@transaction.atomic
def _confirm(
    model: Model, alias: str, version: Version | None, intent: AliasMove, now: datetime
) -> AliasMove | None:
    locked = Model.objects.select_for_update().get(id=model.id)
    intent.refresh_from_db()
    if intent.moved_at is not None:
        return intent  # The mirror saw it first, and knew it for ours.
    current = locked.aliases.select_related("version").filter(name=alias).first()
    previous = current.version if current else None
    if previous == version:
        intent.delete()  # It pointed there before: no move to tell of.
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
