"""What turns want written, kept until it is written together: a batch of endpoints then costs as many statements as
one endpoint."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Field, Model

from controlplane.web.live import publish

ROWS_AT_ONCE = 200  # in one statement


class Writes:
    """Rows to be changed or added, and topics of pages that show them. Nothing is written before `flush`.

    Whoever changes a row names the columns: others, which somebody else may change meanwhile, are never written.
    """

    def __init__(self) -> None:
        self._changed: dict[tuple[type[Model], object], tuple[Model, set[str]]] = {}
        self._new: dict[type[Model], list[Model]] = defaultdict(list)
        self._topics: dict[str, None] = {}

    def save(self, row: Model, *fields: str) -> None:
        """These columns of the row, with the values that it has when all is written."""
        _, known = self._changed.setdefault((type(row), row.pk), (row, set()))
        known.update(fields)

    def create(self, row: Model) -> None:
        """A new row."""
        self._new[type(row)].append(row)

    def publish(self, *topics: str) -> None:
        """Open pages that show one of these topics are told."""
        self._topics.update(dict.fromkeys(topics))

    def include(self, other: Writes) -> None:
        """Takes over all that the other one wants written."""
        for (kind, key), (row, fields) in other._changed.items():
            _, known = self._changed.setdefault((kind, key), (row, set()))
            known.update(fields)
        for kind, rows in other._new.items():
            self._new[kind] += rows
        self._topics.update(other._topics)

    def flush(self, *, now: datetime) -> None:
        """Writes it all, and forgets it. Call it inside a transaction, whose fences hold for every row."""
        groups: dict[tuple[type[Model], tuple[str, ...]], list[Model]] = defaultdict(list)
        for (kind, _), (row, fields) in self._changed.items():
            groups[kind, tuple(sorted(fields))].append(row)
        for (kind, names), rows in groups.items():
            for first in range(0, len(rows), ROWS_AT_ONCE):
                _update(kind, names, rows[first : first + ROWS_AT_ONCE])
        for kind, rows in self._new.items():
            for first in range(0, len(rows), ROWS_AT_ONCE):
                _insert(kind, rows[first : first + ROWS_AT_ONCE])
        if self._topics:
            publish(*self._topics, now=now)
        self._changed, self._new, self._topics = {}, defaultdict(list), {}


def _update(kind: type[Model], names: Sequence[str], rows: Sequence[Model]) -> None:
    """Writes the columns of all rows in one statement, each row its own values.

    Django's `bulk_update` does the same by one CASE a column, and building those takes longer than all the rest of a
    turn (measured: two thirds of it).
    """
    meta, quoted = kind._meta, connection.ops.quote_name
    fields: list[Any] = [meta.pk, *(meta.get_field(name) for name in names)]
    table = quoted(meta.db_table)
    new = [_typed(f"new.column{place}", field) for place, field in enumerate(fields, start=1)]
    columns = [quoted(field.column) for field in fields]
    changes = ", ".join(f"{column} = {value}" for column, value in zip(columns[1:], new[1:], strict=True))
    places = f"({', '.join(['%s'] * len(fields))})"
    values = ", ".join([places] * len(rows))
    found = f"(VALUES {values}) AS new WHERE {table}.{columns[0]} = {new[0]}"
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {table} SET {changes} FROM {found}",  # noqa: S608 - our models' names; the values are parameters
            [
                field.get_db_prep_save(getattr(row, field.attname), connection)
                for row in rows
                for field in fields
            ],
        )


def _insert(kind: type[Model], rows: Sequence[Model]) -> None:
    """Adds all rows in one statement; their numbers are the database's, and nobody here learns them.

    Django's `bulk_create` hands each column to PostgreSQL as one array, in which every quotation mark of every JSON
    text is escaped by hand: a tenth of what a turn costs (measured).
    """
    meta, quoted = kind._meta, connection.ops.quote_name
    fields: list[Any] = [field for field in meta.concrete_fields if field is not meta.auto_field]
    columns = ", ".join(quoted(field.column) for field in fields)
    places = f"({', '.join(['%s'] * len(fields))})"
    values = ", ".join([places] * len(rows))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {quoted(meta.db_table)} ({columns}) VALUES {values}",  # noqa: S608 - as above
            [
                field.get_db_prep_save(field.pre_save(row, add=True), connection)
                for row in rows
                for field in fields
            ],
        )


def _typed(value: str, field: Field[Any, Any]) -> str:
    """The value as the column's type. PostgreSQL takes what it does not know for text; without a length, because a cast
    to one would cut what is too long without a word."""
    if connection.vendor != "postgresql":
        return value
    kind = re.sub(r"[(].*[)]", "", field.db_type(connection) or "")
    return f"CAST({value} AS {kind})"
