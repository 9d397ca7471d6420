"""Writes to the model store what a rollout decided: aliases and tags. MLflow stays the source of truth.

Every call is idempotent and read back, so that it may be tried again until it is seen. No transaction
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
from registry.services.aliases import INTENT_LIFETIME, record_move, waiting_moves

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


def point_alias(
    *, store: ModelStore, model: str, alias: str, version_number: int, by: str, why: str, now: datetime
) -> AliasMove | None:
    """Points `alias` to a version; returns the move, None when it pointed there before.

    Raises NotFound when the registry or the store does not have them, Unavailable or Rejected from the store;
    the next call does what was left undone.
    """
    row, version = _version(model, version_number)
    return _move_alias(store=store, model=row, alias=alias, version=version, by=by, why=why, now=now)


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
    *, store: ModelStore, model: Model, alias: str, version: Version, by: str, why: str, now: datetime
) -> AliasMove | None:
    intent = _write_intent(model, alias, version, by, why, now)
    try:
        # Asked even when our row already says so: only the store knows, and the same answer costs nothing.
        store.set_alias(model.name, alias, version.number)
    except (NotFound, Rejected):
        # A plain no: nothing moved. (After Unavailable nobody knows, and the intent stays.)
        AliasMove.objects.filter(id=intent.id, moved_at=None).delete()
        raise
    return _confirm(model, alias, version, intent, now)


@transaction.atomic
def _write_intent(model: Model, alias: str, version: Version, by: str, why: str, now: datetime) -> AliasMove:
    locked = Model.objects.select_for_update().get(id=model.id)
    # What was asked for long ago and never seen is no move: a store that is down for days leaves one row, not many.
    AliasMove.objects.filter(
        model=locked, alias=alias, moved_at=None, asked_at__lte=now - INTENT_LIFETIME
    ).delete()
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
    model: Model, alias: str, version: Version, intent: AliasMove, now: datetime
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
