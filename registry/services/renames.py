"""A model that was renamed in the store is the same model: endpoints, rollouts and history stay attached to its row.

MLflow tells nobody of a rename, and a name is all that it identifies a model by. But it keeps when the model was
made, and of each version the number, when it was made, its source and its run. The rule:

    A row whose name the store no longer has (or has for a model made at another time) is the model under a new name
    when the store says that both were made at the same millisecond, they have at least one version in common, and no
    version under a number that both have differs in time of creation, source or run.

It is a guess when two models fit one row, or one model two rows (a database that was restored beside itself). Then
nothing is renamed: the row ends as deleted, says why, and the others are taken for new models. A row from before the
time of creation was kept is judged by its versions alone. A model without versions is not looked for: nothing hangs
on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from django.db import transaction

from controlplane.audit.services import record
from controlplane.web.live import publish
from registry.domain.foreign import check_version
from registry.models import Model, Version
from registry.ports import ModelStore, StoredModel, StoredVersion
from registry.services.aliases import TOPIC

Identity = Mapping[int, tuple[datetime, str, str]]
NAME_LENGTH = 256


def displaced_models(rows: Mapping[str, Model], stored: Mapping[str, StoredModel]) -> list[Model]:
    """Rows whose name the store does not have, or has for a model that was made at another time. No query."""
    return [
        row
        for name, row in rows.items()
        if name not in stored or not _same_time(row.stored_created_at, stored[name].created_at)
    ]


def unknown_models(rows: Mapping[str, Model], stored: Mapping[str, StoredModel]) -> list[StoredModel]:
    """What the store has under a name that we do not know, or know for a model made at another time. No query."""
    return [
        model
        for name, model in stored.items()
        if name not in rows or not _same_time(rows[name].stored_created_at, model.created_at)
    ]


def adopt_renamed(
    *,
    new: StoredModel,
    displaced: Sequence[Model],
    unknown: Iterable[StoredModel],
    store: ModelStore,
    now: datetime,
) -> Model | None:
    """The row that lived under another name, renamed; None when there is none, or more than one way to read it.

    Then each row that could be meant says so in `gone_why`. Raises what the store raises.
    """
    rows = [row for row in displaced if _may_be(row, new)]
    if not rows:
        return None
    there = _identity_of_stored(store, new.name)
    fits = [row for row in rows if _same_identity(_identity_of_row(row), there)]
    if not fits:
        return None
    rivals = [
        other.name
        for other in unknown
        if other.name != new.name
        and _may_be(fits[0], other)
        and _same_identity(_identity_of_row(fits[0]), _identity_of_stored(store, other.name))
    ]
    if len(fits) > 1 or rivals:
        _refuse_to_guess(fits, sorted([new.name, *rivals]), now)
        return None
    return _rename(fits[0], new, now)


def may_be_one_of(row: Model, unknown: Iterable[StoredModel]) -> bool:
    """Whether one of these was made when the row's model was: then the row is not known to be deleted. No query."""
    return row.stored_created_at is not None and any(_may_be(row, stored) for stored in unknown)


def _may_be(row: Model, stored: StoredModel) -> bool:
    return row.stored_created_at is None or row.stored_created_at == _time(stored.created_at)


def _same_time(known: datetime | None, seconds: float) -> bool:
    """False only when both are known and differ."""
    return known is None or not seconds or known == _time(seconds)


def _identity_of_row(row: Model) -> Identity:
    versions = Version.objects.filter(model=row).values_list("number", "created_at", "source", "run_id")
    return {number: (created_at, source, run_id) for number, created_at, source, run_id in versions}


def _identity_of_stored(store: ModelStore, name: str) -> Identity:
    found = (check_version(v) for v in store.versions(name) if isinstance(v, StoredVersion))
    return {v.number: (_time(v.created_at), v.source, v.run_id) for v in found}


def _same_identity(known: Identity, there: Identity) -> bool:
    common = set(known) & set(there)
    return bool(common) and all(known[number] == there[number] for number in common)


@transaction.atomic
def _rename(row: Model, new: StoredModel, now: datetime) -> Model:
    holder = Model.objects.select_for_update().filter(name=new.name).exclude(pk=row.pk).first()
    if holder is not None:
        # It lost its name to this one: it may be known again under another, or was deleted.
        ending = f" (until {now:%Y-%m-%d %H:%M:%S})"
        Model.objects.filter(pk=holder.pk).update(
            name=new.name[: NAME_LENGTH - len(ending)] + ending, former_name=new.name
        )
    locked = Model.objects.select_for_update().get(pk=row.pk)
    before = locked.former_name if " (until " in locked.name else locked.name
    locked.name, locked.former_name, locked.renamed_at = new.name, before, now
    locked.stored_created_at = _time(new.created_at) if new.created_at else locked.stored_created_at
    locked.gone_at, locked.gone_why, locked.versions_read_at = None, "", None
    locked.save()
    record(
        at=now,
        actor="headgate",
        actor_kind="headgate",
        action="model.renamed",
        object_kind="model",
        object_id=new.name[:120],
        before={"name": before},
        after={"name": new.name},
        why="It was renamed in MLflow: made at the same time, with the same versions.",
    )
    publish(TOPIC, "overview", now=now)
    locked.alias_epoch = row.alias_epoch  # as it was before the store was asked
    return locked


def _refuse_to_guess(rows: Sequence[Model], names: Sequence[str], now: datetime) -> None:
    said = " and ".join(repr(name) for name in names)
    ours = " and ".join(repr(row.name) for row in rows)
    words = (
        f"It may have been renamed: MLflow's {said} fit {ours}, and nothing tells which is which. "
        "So it ends here, and what MLflow has is read as new."
    )
    for row in rows:
        if row.gone_why != words:
            row.gone_why = words
            Model.objects.filter(pk=row.pk).update(gone_why=words)
            publish(TOPIC, now=now)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
