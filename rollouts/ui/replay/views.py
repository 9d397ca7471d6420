"""Replays of a rollout, and a policy tried on past rollouts."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from controlplane.access.actors import Actor
from controlplane.kernel.errors import HeadgateError, InvalidInput
from controlplane.web.pages import asker, page, render_page
from controlplane.web.problems import status_and_title
from controlplane.web.readers import whole_number_or_none
from rollouts import selectors
from rollouts.services.evidence.replay import replay_part
from rollouts.ui.replay import page as replay_page


@require_GET
@page()
def replay(request: HttpRequest, rollout_id: int) -> HttpResponse:
    """The next part of a replay, and its result when it is done: `policy` for another one, `run` to go on,
    `row` for the short form in a table."""
    who, found = asker(request), selectors.find_rollout(rollout_id)
    reference, part, problem = request.GET.get("policy", "").strip(), None, None
    try:
        part = replay_part(
            rollout=found,
            policy=selectors.find_gate_policy(reference, field="policy") if reference else None,
            key=_key(request.GET.get("run", "")),
            actor=Actor.person(who.user, request_id=who.request_id),
            now=who.now,
        )
    except HeadgateError as error:
        problem = error
    context = {
        "replay": replay_page.view(rollout=found, policy=reference, part=part, problem=problem),
        "nav": "rollouts",
    }
    return render_page(
        request,
        page="rollouts/replay/page.html",
        fragment="rollouts/replay/_row.html" if request.GET.get("row") else "rollouts/replay/_result.html",
        context=context,
        status=200 if problem is None else status_and_title(problem)[0],
    )


@require_GET
@page()
def try_policy(request: HttpRequest, name: str, version: int) -> HttpResponse:
    """Past rollouts, each with what this version of the policy would have done, when asked."""
    found = replay_page.past_rollouts(
        reference=f"{name}@{version}",
        before=whole_number_or_none(request.GET, "before"),
        now=asker(request).now,
    )
    return render_page(
        request,
        page="rollouts/replay/try.html",
        fragment="rollouts/replay/_try.html",
        context={"past": found, "nav": "policies"},
    )


def _key(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise InvalidInput("run is not the name of a replay.", field="run", fix="Begin a new one.") from None
