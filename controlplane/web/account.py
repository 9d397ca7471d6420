"""Pages about access: one's own password, sessions and tokens; and, for administrators, everybody's."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib.auth import logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from controlplane.access.account import change_password, end_access, end_token, find_token_to_end
from controlplane.access.actors import Actor
from controlplane.access.hashing import TooBusy
from controlplane.access.roles import Action
from controlplane.access.selectors import find_person, first_tokens_of, people
from controlplane.kernel.errors import HeadgateError, InvalidInput
from controlplane.web.pages import Asker, asker, go_to, page, render_page
from controlplane.web.problems import status_and_title, status_and_wait

PEOPLE_A_PAGE = 50
TOKENS_SHOWN = 100


@require_GET
@page()
def account(request: HttpRequest) -> HttpResponse:
    """One's own name and role, password, sessions and tokens."""
    return _account(request)


@sensitive_post_parameters("current", "new", "again")
@require_POST
@page()
def new_password(request: HttpRequest) -> HttpResponse:
    """Changes one's own password; this session goes on, all others end."""
    who = asker(request)
    sent = request.POST
    try:
        if sent.get("new", "") != sent.get("again", ""):
            raise InvalidInput(
                "The two new passwords differ.", field="again", fix="Write the same one twice."
            )
        person = change_password(
            actor=_actor(who),
            current=sent.get("current", ""),
            new=sent.get("new", ""),
            end_tokens="end_tokens" in sent,
            address=request.META.get("REMOTE_ADDR", ""),
            now=who.now,
        )
    except (InvalidInput, TooBusy) as problem:
        return _account(request, problem=problem, end_tokens="end_tokens" in sent)
    update_session_auth_hash(request, person)
    return go_to(request, f"{reverse('account')}?done=password")


@require_http_methods(["GET", "POST"])
@page()
def sign_out_everywhere(request: HttpRequest) -> HttpResponse:
    """What signing out everywhere ends; a POST does it, this session too."""
    who = asker(request)
    if request.method == "GET":
        return _confirm(request, username=who.user.username, own=True)
    end_access(
        username=who.user.username,
        sessions=True,
        tokens="tokens" in request.POST,
        actor=_actor(who),
        now=who.now,
    )
    logout(request)
    return go_to(request, reverse("sign-in"))


@require_http_methods(["GET", "POST"])
@page()
def end_own_token(request: HttpRequest, token_id: int) -> HttpResponse:
    """What ending a token means; a POST does it: one's own, or an administrator anybody's."""
    who = asker(request)
    if request.method == "GET":
        token = find_token_to_end(token_id=token_id, actor=_actor(who))
        return render_page(
            request,
            page="web/end_token.html",
            fragment="web/_end_token.html",
            context={"token": token, "now": who.now, "nav": "account"},
        )
    end_token(token_id=token_id, actor=_actor(who), now=who.now)
    return go_to(request, f"{reverse('account')}?done=token")


@require_GET
@page(needs=Action.MANAGE_ACCESS)
def everybody(request: HttpRequest) -> HttpResponse:
    """Who may sign in, by name, with the tokens that work."""
    now = asker(request).now
    rows = people(after=request.GET.get("after", ""), limit=PEOPLE_A_PAGE + 1, now=now)
    context = {
        "rows": rows[:PEOPLE_A_PAGE],
        "next_after": rows[PEOPLE_A_PAGE - 1].username if len(rows) > PEOPLE_A_PAGE else "",
        "done": request.GET.get("done", "")[:150],
        "now": now,
        "nav": "people",
    }
    return render_page(request, page="web/people.html", fragment="web/_people.html", context=context)


@require_http_methods(["GET", "POST"])
@page(needs=Action.MANAGE_ACCESS)
def end_access_of(request: HttpRequest, username: str) -> HttpResponse:
    """What ending somebody's access ends; a POST does it."""
    who = asker(request)
    if request.method == "GET":
        return _confirm(request, username=username, own=False)
    try:
        end_access(
            username=username,
            sessions="sessions" in request.POST,
            tokens="tokens" in request.POST,
            actor=_actor(who),
            now=who.now,
        )
    except InvalidInput as problem:
        return _confirm(request, username=username, own=False, problem=problem)
    return go_to(request, f"{reverse('people')}?{urlencode({'done': username})}")


def _account(
    request: HttpRequest, *, problem: HeadgateError | None = None, end_tokens: bool = True
) -> HttpResponse:
    who = asker(request)
    tokens, in_all = first_tokens_of(who.user, limit=TOKENS_SHOWN, now=who.now)
    status, wait = (200, "") if problem is None else status_and_wait(problem)
    context = {
        "tokens": [(token, token.is_live(who.now)) for token in tokens],
        "more": in_all - len(tokens),
        "problem": problem,
        "field": getattr(problem, "field", ""),
        "end_tokens": end_tokens,
        "done": request.GET.get("done", ""),
        "now": who.now,
        "nav": "account",
    }
    response = render_page(
        request, page="web/account.html", fragment="web/_account.html", context=context, status=status
    )
    if wait:
        response.headers["Retry-After"] = wait
    return response


def _confirm(
    request: HttpRequest, *, username: str, own: bool, problem: HeadgateError | None = None
) -> HttpResponse:
    person = find_person(username, now=asker(request).now)
    context = {
        "person": person,
        "own": own,
        "problem": problem,
        "goes_to": reverse("sign-out-everywhere") if own else reverse("end-access", args=[username]),
        "back": reverse("account") if own else reverse("people"),
        "nav": "account" if own else "people",
    }
    status = 200 if problem is None else status_and_title(problem)[0]
    return render_page(
        request, page="web/end_access.html", fragment="web/_end_access.html", context=context, status=status
    )


def _actor(who: Asker) -> Actor:
    return Actor.person(who.user, request_id=who.request_id)
