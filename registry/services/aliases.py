"""Where aliases point and how they moved: the writing that the mirror and our own moves share. No store is asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from django.db.models import F, QuerySet

from controlplane.web.live import publish
from registry.models import Alias, AliasMove, Model, Version

BY_HAND = "by hand in MLflow"
TOPIC = "models"  # what open pages listen to
# How long a move that we asked for is still taken for ours when it appears in the store.
INTENT_LIFETIME = timedelta(minutes=15)


def sync_aliases(*, model: Model, aliases: Mapping[str, int], now: datetime, why: str = "") -> int:
    """Makes the aliases of a locked model what the store says, with a history row a move; returns how many.

    A move that we asked for and had not seen yet becomes ours; any other one is BY_HAND. An alias to a
    version that is not mirrored yet is left for the next pass. Call it inside a transaction that holds the
    model's row.
    """
    current = {alias.name: alias for alias in model.aliases.select_related("version")}
    wanted = {version.number: version for version in model.versions.filter(number__in=set(aliases.values()))}
    moves = 0
    for name in sorted(set(current) | set(aliases)):
        old = current[name].version if name in current else None
        number = aliases.get(name)
        new = wanted.get(number) if number is not None else None
        if (number is not None and new is None) or old == new:
            continue
        record_move(model=model, alias=name, version=new, previous=old, now=now, by=BY_HAND, why=why)
        moves += 1
    return moves


def record_move(
    *,
    model: Model,
    alias: str,
    version: Version | None,
    previous: Version | None,
    now: datetime,
    by: str,
    why: str,
) -> AliasMove:
    """Writes where an alias points now, and the move. A waiting move of ours to the same place is the one
    meant.

    Call it inside a transaction that holds the model's row.
    """
    if version is None:
        model.aliases.filter(name=alias).delete()
    else:
        Alias.objects.update_or_create(model=model, name=alias, defaults={"version": version})
    Model.objects.filter(id=model.id).update(alias_epoch=F("alias_epoch") + 1)
    publish(TOPIC, now=now)
    ours = waiting_moves(model=model, alias=alias, now=now).filter(version=version).first()
    if ours is None:
        return AliasMove.objects.create(
            model=model,
            alias=alias,
            version=version,
            previous=previous,
            asked_at=now,
            moved_at=now,
            by=by,
            why=why,
        )
    ours.moved_at, ours.previous = now, previous
    ours.save(update_fields=["moved_at", "previous"])
    return ours


def waiting_moves(*, model: Model, alias: str, now: datetime) -> QuerySet[AliasMove]:
    """Moves of this alias that were asked for and not seen yet, newest first."""
    return AliasMove.objects.filter(
        model=model, alias=alias, moved_at=None, asked_at__gt=now - INTENT_LIFETIME
    )
