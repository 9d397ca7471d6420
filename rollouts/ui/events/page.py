"""What happened to a rollout or an endpoint: the newest on its own page, all of it in pages of their own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from controlplane.kernel.words import count_text
from rollouts.models import HistoryEvent
from rollouts.ui.parts.page_parts import EventRow, event_rows

EVENTS_SHOWN = 12
EVENTS_A_PAGE = 50


@dataclass(frozen=True, slots=True)
class Events:
    """The newest events, and how many there are in all."""

    rows: tuple[EventRow, ...]
    in_all: int


@dataclass(frozen=True, slots=True)
class EventsPage:
    """One page. `older` is the number to go on below, None at the end."""

    rows: tuple[EventRow, ...]
    older: int | None
    count: str
    now: datetime


def newest_events(history: QuerySet[HistoryEvent], *, shown: int = EVENTS_SHOWN) -> Events:
    """The newest of `history` (newest first, as `selectors.history` gives it). Two queries."""
    # One more than is shown: whether the last detail repeats is seen by the event before it.
    read = list(history[: shown + 1])
    return Events(event_rows(read)[:shown], history.count())


def events_page(history: QuerySet[HistoryEvent], *, before: int | None, now: datetime) -> EventsPage:
    """The events of `history` (newest first) with a number below `before`. Two queries."""
    found = list((history.filter(pk__lt=before) if before is not None else history)[: EVENTS_A_PAGE + 1])
    return EventsPage(
        rows=event_rows(found)[:EVENTS_A_PAGE],
        older=found[EVENTS_A_PAGE - 1].pk if len(found) > EVENTS_A_PAGE else None,
        count=count_text(history.count(), "event"),
        now=now,
    )
