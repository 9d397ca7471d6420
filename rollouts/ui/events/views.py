"""The events of a rollout or an endpoint, a page at a time."""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from controlplane.web.pages import asker, render_page
from controlplane.web.readers import whole_number_or_none
from rollouts.models import HistoryEvent
from rollouts.ui.events.page import events_page


def show_events(request: HttpRequest, history: QuerySet[HistoryEvent], **context: object) -> HttpResponse:
    """The page, or what is fresh of it. `history`: newest first; `context`: whose events they are."""
    before = whole_number_or_none(request.GET, "before")
    listed = events_page(history, before=before, now=asker(request).now)
    return render_page(
        request,
        page="rollouts/events.html",
        fragment="rollouts/_events_fresh.html",
        context={"list": listed, **context},
    )
