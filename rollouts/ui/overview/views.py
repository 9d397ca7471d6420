"""What needs a person, the list of rollouts, and the global stop."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from controlplane.access.actors import Actor
from controlplane.access.rules import action_of
from controlplane.web.pages import asker, go_to, page, render_page
from controlplane.web.readers import text, whole_number_or_none
from rollouts import selectors
from rollouts.models import Rollout
from rollouts.services.commands.rollouts import set_global_stop
from rollouts.ui.actions import confirm
from rollouts.ui.actions.confirm_parts import LONGEST_WHY
from rollouts.ui.overview import page as overview_page
from rollouts.ui.parts import lists
from rollouts.wiring import worlds


@require_GET
@page()
def overview(request: HttpRequest) -> HttpResponse:
    """Needs you, endpoints, what finished, the parts of the installation."""
    context = {
        "page": overview_page.build(
            worlds=worlds(), now=asker(request).now, behind=overview_page.place_in(request.GET)
        ),
        "nav": "overview",
        "topics": ["overview", "global-stop"],
    }
    return render_page(
        request, page="rollouts/overview.html", fragment="rollouts/overview/_fresh.html", context=context
    )


@require_GET
@page()
def rollouts(request: HttpRequest) -> HttpResponse:
    """Every rollout, or those of an `endpoint` or under a `policy`, newest first, a page at a time."""
    found = lists.rollout_list(
        chosen=request.GET.get("show", "all"),
        before=whole_number_or_none(request.GET, "before"),
        endpoint=request.GET.get("endpoint", ""),
        policy=request.GET.get("policy", ""),
        now=asker(request).now,
    )
    context = {"list": found, "nav": "rollouts", "topics": ["overview", "global-stop"]}
    return render_page(
        request, page="rollouts/rollouts.html", fragment="rollouts/_rollouts_fresh.html", context=context
    )


@require_http_methods(["GET", "POST"])
@page(needs=action_of(set_global_stop))
def global_stop(request: HttpRequest) -> HttpResponse:
    """What setting or lifting the stop would do; a POST does it."""
    who = asker(request)
    stop = selectors.global_stop()
    if request.method == "GET":
        active = Rollout.objects.filter(phase__in=selectors.ACTIVE_PHASES).count()
        context = {"stop": stop, "asked": confirm.stop_confirmation(stop, active=active), "nav": "overview"}
        return render_page(
            request, page="rollouts/stop.html", fragment="rollouts/_stop.html", context=context
        )
    set_global_stop(
        on=request.POST.get("on") == "yes",
        why=text(request.POST, "why", longest=LONGEST_WHY),
        actor=Actor.person(who.user, request_id=who.request_id),
        now=who.now,
    )
    return go_to(request, reverse("overview"))
