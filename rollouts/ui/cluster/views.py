"""One cluster: its engines, what a serving spec may set of them, and what lies there that can be adopted."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from controlplane.access.actors import Actor
from controlplane.access.roles import allows
from controlplane.access.rules import action_of
from controlplane.kernel.errors import HeadgateError
from controlplane.timekeeping.database_clock import CLOCK
from controlplane.web.pages import asker, go_to, page, render_page
from controlplane.web.problems import status_and_title
from registry.selectors import get_golden_set, get_version
from rollouts import selectors, wiring
from rollouts.domain.variants import ServingSpec
from rollouts.services.commands.endpoints import create_endpoint
from rollouts.ui.cluster import adopt as cluster_adopt
from rollouts.ui.cluster import page as cluster_page
from rollouts.ui.cluster.adopt import AdoptForm
from rollouts.wake import wake


@require_GET
@page()
def cluster(request: HttpRequest, name: str) -> HttpResponse:
    """The engines of a cluster, and a warning for each that the operator widened."""
    found = cluster_page.build(name=name, worlds=wiring.worlds(), now=CLOCK.now())
    may_adopt = allows(asker(request).user.role, action_of(create_endpoint))
    context = {"page": found, "may_adopt": may_adopt, "nav": "endpoints"}
    return render_page(
        request, page="rollouts/cluster.html", fragment="rollouts/_cluster.html", context=context
    )


@require_http_methods(["GET", "POST"])
@page(needs=action_of(create_endpoint))
def adopt(request: HttpRequest, name: str, server: str) -> HttpResponse:
    """Makes a server that runs there the baseline of a new endpoint; a GET asks for what is not known of it."""
    form, problem = cluster_adopt.read_form(request.POST), None
    if request.method == "POST":
        try:
            made = _adopt(request, name, server, form)
        except HeadgateError as error:
            problem = error
        else:
            return go_to(request, reverse("endpoint", args=[made]))
    built = cluster_adopt.build(cluster=name, server=server, form=form, problem=problem)
    context = {"page": built, "problem": problem, "nav": "endpoints"}
    return render_page(
        request,
        page="rollouts/adopt.html",
        fragment="rollouts/_adopt.html",
        context=context,
        status=200 if problem is None else status_and_title(problem)[0],
    )


def _adopt(request: HttpRequest, cluster: str, server: str, form: AdoptForm) -> str:
    """The name of the endpoint that was made."""
    who = asker(request)
    model, number = form.chosen_version
    version = get_version(model=model, number=number)
    endpoint = create_endpoint(
        name=form.endpoint,
        model=version.model,
        version=version,
        serving=ServingSpec.from_json({"adopts": server}),
        gate_policy=selectors.find_gate_policy(form.gate_policy),
        golden_set=get_golden_set(name=form.golden_set) if form.golden_set else None,
        cluster=selectors.find_cluster(cluster),
        worlds=wiring.worlds(),
        actor=Actor.person(who.user, request_id=who.request_id),
        now=who.now,
    )
    wake(endpoint.pk)
    return endpoint.name
