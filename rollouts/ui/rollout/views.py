"""One rollout: its page, its charts, and what people tell it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from controlplane.access.actors import Actor
from controlplane.access.roles import refusal, require
from controlplane.access.rules import action_of
from controlplane.kernel.errors import Conflict, IllegalTransition, InvalidInput, NotFound
from controlplane.web.pages import (
    Asker,
    asker,
    go_to,
    is_fragment,
    page,
    render_page,
)
from controlplane.web.readers import moment_or_none, text, whole_number
from rollouts import selectors
from rollouts.evidence import require_readable
from rollouts.models import Rollout
from rollouts.services.commands.rollouts import promote_rollout
from rollouts.ui import strategies
from rollouts.ui.actions import confirm
from rollouts.ui.actions.confirm_parts import LONGEST_WHY, Confirmation
from rollouts.ui.events.views import show_events
from rollouts.ui.strategies import ShownPage, presentation_of
from rollouts.wake import wake


@require_GET
@page()
def rollout(request: HttpRequest, rollout_id: int) -> HttpResponse:
    """The page; for htmx only its parts, or 204 when none changed."""
    who = asker(request)
    found = selectors.find_rollout(rollout_id)
    context = {
        "page": _build(found, who),
        "nav": "rollouts",
        "topics": [f"rollout:{found.pk}", f"endpoint:{found.endpoint_id}", "global-stop"],
    }
    name = presentation_of(found).template
    return render_page(
        request, page=f"rollouts/{name}.html", fragment=f"rollouts/{name}/_fresh.html", context=context
    )


def _build(found: Rollout, who: Asker) -> ShownPage:
    shown = presentation_of(found)
    require_readable(found)
    stop_on = selectors.global_stop().on
    return shown.build(rollout=found, user=who.user, now=who.now, stop_on=stop_on)


@require_GET
@page()
def events(request: HttpRequest, rollout_id: int) -> HttpResponse:
    """Everything that happened to it, newest first, a page at a time."""
    found = selectors.find_rollout(rollout_id)
    return show_events(
        request,
        selectors.history(rollout=found),
        of=f"rollout #{found.pk}",
        endpoint_name=found.endpoint.name,
        rollout_id=found.pk,
        nav="rollouts",
        topics=[f"rollout:{found.pk}", "global-stop"],
    )


@require_GET
@page()
def chart(request: HttpRequest, rollout_id: int, name: str) -> JsonResponse:
    """A series for a chart; `since` (seconds since the epoch) asks for what came after."""
    since = moment_or_none(request.GET, "since")
    found = selectors.find_rollout(rollout_id)
    series = presentation_of(found).chart(rollout=found, name=name, since=since, now=asker(request).now)
    return JsonResponse(series)


@require_GET
@page()
def confirmation(request: HttpRequest, rollout_id: int, action: str) -> HttpResponse:
    """What an action would do, in numbers, with the button that does it. A page of its own without script."""
    who = asker(request)
    found = selectors.find_rollout(rollout_id)
    asked = strategies.confirmation(found, action, now=who.now, arm=request.GET.get("arm", ""))
    require(who.user.role, action_of(confirm.COMMANDS[action]))
    return _dialog(request, found, asked)


@require_GET
@page(needs=action_of(promote_rollout))
def choose(request: HttpRequest, rollout_id: int) -> HttpResponse:
    """The candidates in the race, where there are several: which one to promote. Each leads to its confirmation."""
    found = selectors.find_rollout(rollout_id)
    choices = presentation_of(found).choices
    if choices is None:
        raise NotFound(f"Rollout #{found.pk} has one candidate: there is nothing to choose.")
    require_readable(found)
    context = {"rollout": found, "choices": choices(found), "nav": "rollouts"}
    return render_page(
        request,
        page="rollouts/choose.html",
        fragment="rollouts/_choose.html",
        context=context,
    )


@require_POST
@page()
def act(request: HttpRequest, rollout_id: int, action: str) -> HttpResponse:
    """Does what was confirmed, unless the rollout changed since the person looked (409 with the fresh
    state).
    """
    who = asker(request)
    found = selectors.find_rollout(rollout_id)
    asked = strategies.confirmation(found, action, now=who.now, arm=request.POST.get("arm", ""))
    if asked.typed and request.POST.get("typed", "").strip() != asked.typed:
        raise InvalidInput(f"Type {asked.typed} to confirm.", field="typed", fix="Nothing was done.")
    try:
        confirm.COMMANDS[action](
            rollout_id=rollout_id,
            actor=Actor.person(who.user, request_id=who.request_id),
            expected_revision=whole_number(request.POST, "expected_revision"),
            why=text(request.POST, "why", longest=LONGEST_WHY),
            now=who.now,
            **({"arm": asked.arm} if asked.arm else {}),
        )
    except Conflict as conflict:
        return _conflict(request, rollout_id, action, conflict)
    wake(found.endpoint_id)
    if is_fragment(request):
        response = HttpResponse(status=204)
        response.headers["HX-Trigger"] = "done"
        return response
    return go_to(request, reverse("rollout", args=[rollout_id]))


def _dialog(request: HttpRequest, found: Rollout, asked: Confirmation, *, status: int = 200) -> HttpResponse:
    context = {
        "rollout": found,
        "asked": asked,
        "share": presentation_of(found).share_now(found),
        "nav": "rollouts",
    }
    return render_page(
        request,
        page="rollouts/confirm.html",
        fragment="rollouts/_confirm.html",
        context=context,
        status=status,
    )


def _conflict(request: HttpRequest, rollout_id: int, action: str, conflict: Conflict) -> HttpResponse:
    """Nothing was done: the state as it is now, and the same action again if it still makes sense."""
    who = asker(request)
    found = selectors.find_rollout(rollout_id)
    built = _build(found, who)
    again = None
    offered = {button.name for button in built.actions if not button.refused}
    if not isinstance(conflict, IllegalTransition):
        arm = request.POST.get("arm", "")
        again = presentation_of(found).again(found, action, offered=offered, now=who.now, arm=arm)
    context = {
        "page": built,
        "rollout": found,
        "conflict": conflict,
        "asked": again,
        "action": action,
        "saw_share": request.POST.get("saw_share", "")[:200],
        "share": presentation_of(found).share_now(found),
        "refused": refusal(who.user.role, action_of(confirm.COMMANDS[again.action])) if again else "",
        "nav": "rollouts",
    }
    return render_page(
        request,
        page="rollouts/conflict.html",
        fragment="rollouts/_conflict.html",
        context=context,
        status=409,
    )
