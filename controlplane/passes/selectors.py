"""Reads of what passes could not do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Max, Min

from controlplane.passes.models import ItemTrouble


@dataclass(frozen=True, slots=True)
class PassTroubles:
    """The items that one pass could not do: how many, since when, last tried when, and the one that fails longest."""

    pass_name: str
    count: int
    since: datetime
    tried_at: datetime
    label: str
    error: str

    @property
    def sentence(self) -> str:
        """`2 items fail; longest triage v3: MLflow failed (500).`"""
        if self.count == 1:
            return f"{self.label}: {self.error}"
        return f"{self.count} items fail; longest {self.label}: {self.error}"


def troubles_by_pass() -> tuple[PassTroubles, ...]:
    """Every pass with open troubles, by name. One query when all is well, else two."""
    groups = list(
        ItemTrouble.objects.order_by("pass_name")
        .values("pass_name")
        .annotate(count=Count("id"), since=Min("first_failed_at"), tried_at=Max("last_attempt_at"))
    )
    if not groups:
        return ()
    since = {group["pass_name"]: group["since"] for group in groups}
    longest: dict[str, ItemTrouble] = {}
    rows = ItemTrouble.objects.filter(first_failed_at__in=set(since.values())).order_by("id")
    for row in rows:
        if row.first_failed_at == since[row.pass_name]:
            longest.setdefault(row.pass_name, row)
    return tuple(
        PassTroubles(
            pass_name=group["pass_name"],
            count=group["count"],
            since=group["since"],
            tried_at=group["tried_at"],
            label=longest[group["pass_name"]].label,
            error=longest[group["pass_name"]].error,
        )
        for group in groups
        if group["pass_name"] in longest
    )
