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

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from django.db import transaction

from controlplane.audit.services import record
from controlplane.kernel.errors import InvalidInput
from controlplane.web.live import publish
from registry.domain.foreign import check_model, check_version
from registry.models import Model, Version
from registry.ports import ModelStore, StoredModel, StoredVersion
from registry.services.aliases import TOPIC

Identity = Mapping[int, tuple[datetime, str, str]]
NAME_LENGTH = 256


class Renames:
    """The renames of one pass: followed once, before any model is written, for names may be swapped or taken again.

    rows    ours by name, as they were before the store was asked
    stored  what the store lists by name
    """

    def __init__(
        self, rows: Mapping[str, Model], stored: Mapping[str, StoredModel], store: ModelStore, now: datetime
    ) -> None:
        self._displaced = [
            row
            for name, row in rows.items()
            if name not in stored or not _same_time(row.stored_created_at, stored[name].created_at)
        ]
        self._unknown = [
            model
            for name, model in stored.items()
            if name not in rows or not _same_time(rows[name].stored_created_at, model.created_at)
            if _is_sound(model)
        ]
        self._store, self._now = store, now
        self._followed = False
        self._renamed: set[int] = set()
        self._problems: dict[str, Exception] = {}

    def follow(self, rows: dict[str, Model]) -> None:
        """Renames our rows, and puts them into `rows` under their new names. What cannot be read keeps its error for
        its own turn (`raise_problem_of`). No query, and nothing asked, where no name is missing or new."""
        if self._followed or not self._displaced:
            return
        self._followed = True
        for new in self._unknown:
            try:
                row = self._adopt(new)
            except Exception as error:  # raised again in this model's own turn
                self._problems[new.name] = error
                continue
            if row is not None:
                for name in [name for name, old in rows.items() if old.pk == row.pk]:
                    del rows[name]
                rows[new.name] = row
                self._renamed.add(row.pk)

    def raise_problem_of(self, name: str) -> None:
        """Raises what went wrong when this model was compared with ours."""
        if name in self._problems:
            raise self._problems[name]

    def is_renamed(self, row: Model) -> bool:
        """Whether the row got another name in this pass."""
        return row.pk in self._renamed

    def is_unsure_of(self, row: Model) -> bool:
        """Whether the row may be a model that could not be read: then it is neither known again nor deleted."""
        if row.pk in self._renamed or not any(row.pk == other.pk for other in self._displaced):
            return False
        return any(_may_be(row, new) for new in self._unknown if new.name in self._problems)

    def _adopt(self, new: StoredModel) -> Model | None:
        """The row that lived under another name, renamed; None when there is none, or more than one way to read it.

        Then each row that could be meant says so in `gone_why`. Raises what the store raises.
        """
        rows = [row for row in self._displaced if row.pk not in self._renamed and _may_be(row, new)]
        if not rows:
            return None
        there = _identity_of_stored(self._store, new.name)
        fits = [row for row in rows if _same_identity(_identity_of_row(row), there)]
        if not fits:
            return None
        known = _identity_of_row(fits[0])
        rivals = [
            other.name
            for other in self._unknown
            if other.name != new.name
            and _may_be(fits[0], other)
            and _same_identity(known, _identity_of_stored(self._store, other.name))
        ]
        if len(fits) > 1 or rivals:
            _refuse_to_guess(fits, sorted([new.name, *rivals]), self._now)
            return None
        return _rename(fits[0], new, self._now)


def _is_sound(stored: StoredModel) -> bool:
    """An odd entry is nobody's new name; its own turn says what is wrong with it."""
    try:
        check_model(stored)
    except InvalidInput:
        return False
    return True


def _may_be(row: Model, stored: StoredModel) -> bool:
    return row.stored_created_at is None or row.stored_created_at == _time(stored.created_at)


def _same_time(known: datetime | None, seconds: float) -> bool:
    """False only when both are known and differ."""
    if known is None or not seconds:
        return True
    try:
        return known == _time(seconds)
    except (ValueError, OverflowError, OSError, TypeError):
        return True  # an odd time says nothing


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
