"""Where the requests of an endpoint's stable variant went, over the last hour and the last day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Sum

from controlplane.kernel.words import count_text, duration_of_seconds
from rollouts.domain.record.intervals import Completions, Outcomes
from rollouts.models import Endpoint, MinuteSample, OtherCalls
from rollouts.ui.parts.findings import findings
from rollouts.ui.parts.outcomes_table import NOTHING_YET, Column, OutcomesTable, outcomes_table

HOUR, DAY = timedelta(hours=1), timedelta(hours=24)

Minute = tuple[datetime, dict[str, Any], dict[str, Any]]


def stable_outcomes(endpoint: Endpoint, now: datetime) -> OutcomesTable:
    """How the stable variant's requests ended. One query."""
    minutes: list[Minute] = list(
        MinuteSample.objects.filter(endpoint=endpoint, variant=endpoint.stable_id, minute__gte=now - DAY)
        .order_by("minute")
        .values_list("minute", "outcomes", "completions")
    )
    counted = [row for row in minutes if row[1]]
    hour = _column("Last hour", [row for row in counted if row[0] >= now - HOUR])
    day = _column("Last 24 h", counted)
    label = endpoint.stable.version.label if endpoint.stable is not None else ""
    return outcomes_table(
        [hour, day] if counted else [],
        heading=f"Where the requests of {label} went" if label else "Where the requests went",
        meta="the stable variant",
        nothing="" if counted else NOTHING_YET,
        findings=findings([hour], {}),
    )


def beside_words(endpoint: Endpoint, now: datetime) -> str:
    """What else the endpoint was asked in the last day, and what was not counted; empty when it was nothing. One
    query."""
    kept = OtherCalls.objects.filter(endpoint=endpoint, minute__gte=now - DAY).order_by()
    found = kept.aggregate(other=Sum("no_inference"), away=Sum("turned_away"), unseen=Sum("unseen_seconds"))
    other, away, unseen = found["other"] or 0, found["away"] or 0, found["unseen"] or 0.0
    told = []
    if other or away:
        told.append(
            f"Also in the last 24 h: {count_text(other, 'call')} that asked for no inference (model lists, token "
            f"counts), and {away:,} that the gateway refused before it assigned a variant."
        )
    if unseen >= 0.5:
        told.append(
            f"About {duration_of_seconds(unseen)} of the last 24 hours' traffic were not counted, because the gateway "
            "or a part of it restarted or did not answer."
        )
    return " ".join(told)


def _column(label: str, minutes: Sequence[Minute]) -> Column:
    outcomes, completions = Outcomes(), None
    for _, ended, said in minutes:
        outcomes = outcomes.plus(Outcomes.from_json(ended))
        if said:
            completions = (completions or Completions(0)).plus(Completions.from_json(said))
    return Column(0, label, "", outcomes, completions)
