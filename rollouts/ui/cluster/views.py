"""One cluster: its engines and what a serving spec may set of them."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from controlplane.timekeeping.database_clock import CLOCK
from controlplane.web.pages import page, render_page
from rollouts import wiring
from rollouts.ui.cluster import page as cluster_page


@require_GET
@page()
def cluster(request: HttpRequest, name: str) -> HttpResponse:
    """The engines of a cluster, and a warning for each that the operator widened."""
    found = cluster_page.build(name=name, worlds=wiring.worlds(), now=CLOCK.now())
    context = {"page": found, "nav": "endpoints"}
    return render_page(
        request, page="rollouts/cluster.html", fragment="rollouts/_cluster.html", context=context
    )
