"""Gate policies: the list, one with its versions, the next version, and which endpoint uses which."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from controlplane.access.actors import Actor
from controlplane.access.rules import action_of
from controlplane.kernel.errors import Conflict, HeadgateError
from controlplane.web.pages import Asker, asker, go_to, page, render_page
from controlplane.web.problems import status_and_title
from controlplane.web.readers import whole_number, whole_number_or_none
from rollouts import wiring
from rollouts.selectors import find_gate_policy
from rollouts.services.policies.text import PolicyDocument
from rollouts.services.policies.versions import define_from_document, find_policy, set_endpoint_policy
from rollouts.ui.parts import gate_words
from rollouts.ui.policies import edit as policy_edit
from rollouts.ui.policies import form as policy_form
from rollouts.ui.policies import list as policy_list
from rollouts.ui.policies import page as policy_page
from rollouts.ui.policies.form import PolicyForm


@require_GET
@page()
def policies(request: HttpRequest) -> HttpResponse:
    """Every policy by its newest version, a page at a time."""
    who = asker(request)
    found = policy_list.policy_list(user=who.user, after=request.GET.get("after", ""), now=who.now)
    context = {"list": found, "nav": "policies"}
    return render_page(
        request, page="rollouts/policies.html", fragment="rollouts/policies/_list.html", context=context
    )


@require_GET
@page()
def policy(request: HttpRequest, name: str) -> HttpResponse:
    """One policy; `version`, `against` and `numbers` choose what is shown."""
    return _show(request, name)


@require_POST
@page()
def use(request: HttpRequest, name: str) -> HttpResponse:
    """Makes a version of the policy the one of an endpoint's next rollouts."""
    who = asker(request)
    version = whole_number(request.POST, "version")
    endpoint = request.POST.get("endpoint", "")
    try:
        set_endpoint_policy(
            endpoint_name=endpoint,
            reference=f"{name}@{version}",
            expected=request.POST.get("expected", ""),
            actor=_actor(who),
            worlds=wiring.worlds(),
            now=who.now,
        )
    except HeadgateError as problem:
        return _show(request, name, problem=problem)
    query = urlencode({"version": version, "used": endpoint})
    return go_to(request, f"{reverse('policy', args=[name])}?{query}#used")


@require_http_methods(["GET", "POST"])
@page(needs=action_of(define_from_document))
def new_policy(request: HttpRequest) -> HttpResponse:
    """A policy under a new name, from nothing or from a copy (`?copy=NAME`); a POST stores it."""
    if request.method == "POST":
        return _draft(request, name="")
    copied = request.GET.get("copy", "")
    start = find_gate_policy(copied).policy if copied else policy_edit.starter()
    return _edit(request, policy_form.form_of(start, name="", based_on=0), is_new=True)


@require_http_methods(["GET", "POST"])
@page(needs=action_of(define_from_document))
def edit_policy(request: HttpRequest, name: str) -> HttpResponse:
    """The next version, from the newest or `?version=N`; a POST stores it, or only says what it would do."""
    if request.method == "POST":
        return _draft(request, name=name)
    number = whole_number_or_none(request.GET, "version")
    newest = find_policy(name)
    start = newest if number is None else find_policy(name, number)
    view = "yaml" if request.GET.get("view") == "yaml" else "form"
    form = policy_form.form_of(start.policy, name=name, based_on=newest.version, view=view)
    form = replace(form, numbers_of=policy_edit.first_user_of(name, asker(request).now))
    return _edit(request, form, is_new=False)


def _show(request: HttpRequest, name: str, *, problem: HeadgateError | None = None) -> HttpResponse:
    who = asker(request)
    asked = request.GET if request.method == "GET" else request.POST
    built = policy_page.build(
        name=name,
        user=who.user,
        now=who.now,
        version=whole_number_or_none(asked, "version"),
        against=whole_number_or_none(asked, "against"),
        before=whole_number_or_none(asked, "before"),
        numbers_of=asked.get("numbers", ""),
    )
    context = {
        "page": built,
        "problem": problem,
        "stored": asked.get("stored", "") == str(built.shown.version),
        "just_used": asked.get("used", ""),
        "nav": "policies",
    }
    status = 200 if problem is None else status_and_title(problem)[0]
    return render_page(
        request,
        page="rollouts/policies/policy.html",
        fragment="rollouts/policies/_policy.html",
        context=context,
        status=status,
    )


def _draft(request: HttpRequest, *, name: str) -> HttpResponse:
    form = policy_form.read_form(request.POST, name=name)
    is_new = not name
    if request.POST.get("do") == "save":
        return _save(request, form, is_new=is_new)
    return _edit(request, form, is_new=is_new, wanted_view=request.POST.get("show", ""))


def _save(request: HttpRequest, form: PolicyForm, *, is_new: bool) -> HttpResponse:
    who = asker(request)
    meaning = policy_form.meaning_of(form)
    problem = meaning.problem or policy_form.note_problem(form)
    if problem is not None:
        return _edit(request, form, is_new=is_new, problem=problem)
    try:
        made = define_from_document(
            name=form.name,
            document=meaning.document or PolicyDocument(meaning.body),
            actor=_actor(who),
            expected_version=form.based_on,
            edges=wiring.worlds().edges(),
            note=form.note,
            now=who.now,
        )
    except HeadgateError as problem:
        return _edit(request, form, is_new=is_new, problem=problem)
    return go_to(
        request, f"{reverse('policy', args=[made.name])}?version={made.version}&stored={made.version}"
    )


def _edit(
    request: HttpRequest,
    form: PolicyForm,
    *,
    is_new: bool,
    problem: HeadgateError | None = None,
    wanted_view: str = "",
) -> HttpResponse:
    since = 0 if is_new else whole_number_or_none(request.POST, "since") or 0
    if isinstance(problem, Conflict) and not is_new:
        # Saving again is then an edit of what is newest now, on purpose: the page goes on saying so.
        since, form = form.based_on, replace(form, based_on=int(problem.extra["newest"]))
    stored_by, between = policy_edit.between(form.name, since, form.based_on) if since else ("", ())
    built, switched = policy_edit.build(
        form=form,
        is_new=is_new,
        edges=wiring.worlds().edges(),
        now=asker(request).now,
        wanted_view=wanted_view,
    )
    context = {
        "page": built,
        "problem": problem,
        "since": since,
        "stored_by": stored_by,
        "between": between,
        "stays": not switched,
        "new_gates": list(gate_words.NAMES.items()),
        "signals": policy_edit.SIGNALS,
        "nav": "policies",
    }
    status = 200 if problem is None else status_and_title(problem)[0]
    return render_page(
        request,
        page="rollouts/policies/edit.html",
        fragment="rollouts/policies/_form.html",
        context=context,
        status=status,
    )


def _actor(who: Asker) -> Actor:
    return Actor.person(who.user, request_id=who.request_id)
