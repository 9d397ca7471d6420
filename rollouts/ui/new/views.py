"""A new rollout: the form, its live plan, and the start."""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from controlplane.access.actors import Actor
from controlplane.access.roles import require
from controlplane.access.rules import action_of
from controlplane.kernel.errors import HeadgateError, NotFound
from controlplane.web.pages import Asker, asker, go_to, is_fragment, page, render_page
from controlplane.web.problems import status_and_title
from rollouts import wiring
from rollouts.models import Endpoint, Rollout
from rollouts.services.commands.start import start_rollout
from rollouts.ui.new import form as new_form
from rollouts.ui.new import page as new_page
from rollouts.wake import wake


@require_http_methods(["GET", "POST"])
@page()
def new_rollout(request: HttpRequest) -> HttpResponse:
    """The form with its plan; a POST starts it. Another endpoint, one more step: the same address again."""
    who = asker(request)
    if request.method == "POST":
        return _start(request, who)
    return _show(request, who, request.GET)


@require_GET
@page()
def plan(request: HttpRequest) -> HttpResponse:
    """Only the plan, for what is typed so far."""
    who = asker(request)
    context = _context(request, who, request.GET)
    return render_page(request, page="rollouts/new.html", fragment="rollouts/new/_live.html", context=context)


def _show(
    request: HttpRequest, who: Asker, sent: Mapping[str, str], *, problem: HeadgateError | None = None
) -> HttpResponse:
    context = _context(request, who, sent)
    context["problem"] = problem
    # A form that was sent without script has no live plan that could free the button again.
    context["without_script"] = request.method == "POST" and not is_fragment(request)
    status = 200 if problem is None else status_and_title(problem)[0]
    return render_page(
        request, page="rollouts/new.html", fragment="rollouts/new/_form.html", context=context, status=status
    )


def _context(request: HttpRequest, who: Asker, sent: Mapping[str, str]) -> dict[str, object]:
    choices = new_page.endpoints_to_choose()
    context: dict[str, object] = {"nav": "rollouts", "topics": ["global-stop"], "page": None}
    if not choices:
        return context
    endpoint = _chosen(choices, sent.get("endpoint", ""))
    form = _form(endpoint, sent)
    context["page"] = new_page.build(
        endpoint=endpoint,
        choices=choices,
        form=form,
        draft=new_form.understand(form, endpoint=endpoint),
        worlds=wiring.worlds(),
        user=who.user,
        address=f"{request.scheme}://{request.get_host()}",
        now=who.now,
    )
    return context


def _chosen(choices: list[Endpoint], name: str) -> Endpoint:
    if not name:
        return choices[0]
    found = next((endpoint for endpoint in choices if endpoint.name == name), None)
    if found is None:
        raise NotFound(f"There is no endpoint {name!r}.", code="endpoint-not-found")
    return found


def _form(endpoint: Endpoint, sent: Mapping[str, str]) -> new_form.NewRolloutForm:
    """As typed; a first visit, or another endpoint, begins anew."""
    if sent.get("form_of") == endpoint.name:
        return new_form.read_form(sent, endpoint=endpoint)
    version = sent.get("version", "") or new_page.newest_launchable(endpoint)
    return new_form.blank_form(
        endpoint=endpoint,
        version=version,
        like=new_page.newest_rollout(endpoint),
        strategy=sent.get("strategy", ""),
    )


def _start(request: HttpRequest, who: Asker) -> HttpResponse:
    require(who.user.role, action_of(start_rollout))  # before the form says what is wrong in it
    endpoint = _chosen(new_page.endpoints_to_choose(), request.POST.get("endpoint", ""))
    form = new_form.read_form(request.POST, endpoint=endpoint)
    if request.POST.get("strategy_shown", form.strategy) != form.strategy:
        return _show(
            request, who, request.POST
        )  # Without script: the settings of the strategy just chosen come first.
    draft = new_form.understand(form, endpoint=endpoint)
    if draft.problems or draft.plan is None or not draft.versions:
        first = next(iter(draft.problems.values()), None)
        return _show(request, who, request.POST, problem=first)
    try:
        started = _started(endpoint, form, draft, who)
    except HeadgateError as problem:
        return _show(request, who, request.POST, problem=problem)
    wake(started.endpoint_id)
    return go_to(request, reverse("rollout", args=[started.pk]))


def _started(endpoint: Endpoint, form: new_form.NewRolloutForm, draft: new_form.Draft, who: Asker) -> Rollout:
    assert draft.plan is not None
    first, *others = draft.versions
    return start_rollout(
        endpoint=endpoint,
        version_number=first,
        other_versions=others,
        plan=draft.plan,
        actor=Actor.person(who.user, request_id=who.request_id),
        worlds=wiring.worlds(),
        serving=draft.serving,
        own_policy=draft.own_policy,
        note=form.note,
        now=who.now,
    )
