"""One endpoint, and the list of them."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from controlplane.access.actors import Actor
from controlplane.kernel.errors import Conflict, HeadgateError, InvalidInput, Refused
from controlplane.web.pages import asker, go_to, page, render_page
from controlplane.web.problems import status_and_title
from controlplane.web.readers import moment_or_none, text
from rollouts import selectors
from rollouts.services.commands.restored_choice import choose_after_restore
from rollouts.ui.actions.confirm_parts import LONGEST_WHY
from rollouts.ui.endpoint import page as endpoint_page
from rollouts.ui.endpoint.charts import endpoint_chart
from rollouts.ui.endpoint.deployed import deployed as deployed_rows
from rollouts.ui.events.views import show_events
from rollouts.ui.overview import page as overview_page
from rollouts.wake import wake
from rollouts.wiring import worlds


@require_GET
@page()
def endpoints(request: HttpRequest) -> HttpResponse:
    """All endpoints, those first that need a person, a page at a time."""
    context = {
        "page": overview_page.build(
            worlds=worlds(), now=asker(request).now, behind=overview_page.place_in(request.GET)
        ),
        "nav": "endpoints",
        "topics": ["overview", "global-stop"],
    }
    return render_page(
        request, page="rollouts/endpoints.html", fragment="rollouts/_endpoints_fresh.html", context=context
    )


@require_GET
@page()
def endpoint(request: HttpRequest, name: str) -> HttpResponse:
    """What answers now, the last 24 hours, history, the way back."""
    return _show(request, name)


@require_GET
@page()
def events(request: HttpRequest, name: str) -> HttpResponse:
    """Everything that happened to it and its rollouts, newest first, a page at a time."""
    found = selectors.find_endpoint(name)
    return show_events(
        request,
        selectors.history(endpoint=found),
        of=found.name,
        endpoint_name=found.name,
        nav="endpoints",
        topics=[f"endpoint:{found.pk}", "global-stop"],
    )


@require_POST
@page()
def restored(request: HttpRequest, name: str) -> HttpResponse:
    """What a release manager chooses after the database was restored from an older copy."""
    who = asker(request)
    choice = request.POST.get("choice", "")
    try:
        chosen = choose_after_restore(
            endpoint_name=name,
            choice=choice,
            variant=request.POST.get("variant", "") if choice == "keep" else "",
            why=text(request.POST, "why", longest=LONGEST_WHY),
            actor=Actor.person(who.user, request_id=who.request_id),
            now=who.now,
        )
    except (InvalidInput, Conflict, Refused) as problem:
        return _show(request, name, problem=problem)
    wake(chosen.pk)
    return go_to(request, reverse("endpoint", args=[name]))


def _show(request: HttpRequest, name: str, *, problem: HeadgateError | None = None) -> HttpResponse:
    who = asker(request)
    built = endpoint_page.build(name=name, user=who.user, worlds=worlds(), now=who.now)
    context = {
        "page": built,
        "problem": problem,
        "nav": "endpoints",
        "topics": [f"endpoint:{built.endpoint.pk}", "global-stop"],
    }
    return render_page(
        request,
        page="rollouts/endpoint.html",
        fragment="rollouts/endpoint/_fresh.html",
        context=context,
        status=200 if problem is None else status_and_title(problem)[0],
    )


@require_GET
@page()
def chart(request: HttpRequest, name: str, chart_name: str) -> JsonResponse:
    """A series of the last 24 hours; `since` asks for what came after."""
    found = selectors.find_endpoint(name)
    data = endpoint_chart(
        endpoint=found,
        candidates=endpoint_page.candidates_of(found),
        name=chart_name,
        since=moment_or_none(request.GET, "since"),
        now=asker(request).now,
    )
    return JsonResponse(data)


@require_GET
@page()
def deployed(request: HttpRequest, name: str) -> HttpResponse:
    """Where a model runs: a fragment that the registry's page loads."""
    context = {"rows": deployed_rows(model=name), "now": asker(request).now}
    return render(request, "rollouts/_deployed.html", context)
