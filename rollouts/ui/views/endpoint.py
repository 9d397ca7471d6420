"""One endpoint, and the list of them."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from controlplane.web.pages import asker, page, render_page
from controlplane.web.readers import moment_or_none
from rollouts import selectors
from rollouts.ui import endpoint_page, overview_page
from rollouts.ui.deployed import deployed as deployed_rows
from rollouts.ui.endpoint_charts import endpoint_chart
from rollouts.wiring import gateway_url


@require_GET
@page()
def endpoints(request: HttpRequest) -> HttpResponse:
    """All endpoints, those first that need somebody."""
    context = {
        "page": overview_page.build(now=asker(request).now),
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
    who = asker(request)
    built = endpoint_page.build(name=name, user=who.user, gateway=gateway_url(), now=who.now)
    context = {
        "page": built,
        "nav": "endpoints",
        "topics": [f"endpoint:{built.endpoint.pk}", "global-stop"],
    }
    return render_page(
        request, page="rollouts/endpoint.html", fragment="rollouts/endpoint/_fresh.html", context=context
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
