"""What turns want written, kept until it is written together: a batch of endpoints then costs as many statements as
one endpoint."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from django.db.models import Model

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
            kind._default_manager.bulk_update(rows, names, batch_size=ROWS_AT_ONCE)
        for kind, rows in self._new.items():
            kind._default_manager.bulk_create(rows, batch_size=ROWS_AT_ONCE)
        if self._topics:
            publish(*self._topics, now=now)
        self._changed, self._new, self._topics = {}, defaultdict(list), {}
