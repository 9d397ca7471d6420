"""The first rows of many, with how many there are: a list that is cut says so, and is sorted before."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Case, Count, Model, QuerySet, When, Window

Row = TypeVar("Row", bound=Model)


def best_named(rows: QuerySet[Row], words: str, *, limit: int) -> tuple[list[Row], int]:
    """The best `limit` of the rows whose `name` contains the words, and how many there are in all. One query.

    Best is what is called exactly so, then what begins so, then by name: what is cut off is never what was asked for.
    """
    exactness = Case(When(name__iexact=words, then=0), When(name__istartswith=words, then=1), default=2)
    return first_and_count(rows.filter(name__icontains=words).order_by(exactness, "name"), limit=limit)


def first_and_count(rows: QuerySet[Row], *, limit: int) -> tuple[list[Row], int]:
    """The first `limit` rows, and how many there are in all. One query."""
    first = list(rows.annotate(in_all=Window(Count("pk")))[:limit])
    return first, getattr(first[0], "in_all") if first else 0  # noqa: B009
