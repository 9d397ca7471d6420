"""Pages of models and golden sets."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods

from controlplane.access.actors import Actor
from controlplane.access.roles import refusal, require
from controlplane.access.rules import action_of
from controlplane.kernel.errors import HeadgateError, InvalidInput
from controlplane.web.pages import asker, go_to, page, render_page
from controlplane.web.problems import status_and_title
from controlplane.web.readers import whole_number_or_none
from registry import selectors
from registry.services.golden import upload_golden_set
from registry.ui import model_page

MODELS_A_PAGE = 50
SETS_A_PAGE = 50
REVISIONS_A_PAGE = 20
EXAMPLES_A_PAGE = 50
LARGEST_UPLOAD = 5 * 1024 * 1024


@require_GET
@page()
def models(request: HttpRequest) -> HttpResponse:
    """Every registered model, by name."""
    now = asker(request).now
    rows = selectors.list_models(after=request.GET.get("after", ""), limit=MODELS_A_PAGE + 1)
    context = {
        "rows": rows[:MODELS_A_PAGE],
        "next_after": rows[MODELS_A_PAGE - 1].name if len(rows) > MODELS_A_PAGE else "",
        "mirror": selectors.mirror_health(now=now),
        "now": now,
        "nav": "models",
        "topics": ["models", "global-stop"],
    }
    return render_page(
        request, page="registry/models.html", fragment="registry/_models_fresh.html", context=context
    )


@require_GET
@page()
def model(request: HttpRequest, name: str) -> HttpResponse:
    """One model; `version` chooses whose lineage is shown, `before` pages through the versions."""
    who = asker(request)
    built = model_page.build(
        name=name,
        version=whole_number_or_none(request.GET, "version"),
        before=whole_number_or_none(request.GET, "before"),
        user=who.user,
        now=who.now,
    )
    context = {"page": built, "nav": "models", "topics": ["models", "overview", "global-stop"]}
    return render_page(
        request, page="registry/model.html", fragment="registry/model/_fresh.html", context=context
    )


@require_http_methods(["GET", "POST"])
@page()
def golden_sets(request: HttpRequest) -> HttpResponse:
    """The newest revision of every golden set, those behind `after` by name; a POST uploads the next one."""
    if request.method == "POST":
        return _upload(request)
    return _golden_sets(request)


@require_GET
@page()
def golden_set(request: HttpRequest, name: str) -> HttpResponse:
    """One golden set: its revisions, those below `before`, and the prompts of the chosen one, those behind `after`."""
    chosen = selectors.get_golden_set(name=name, revision=whole_number_or_none(request.GET, "revision"))
    before = whole_number_or_none(request.GET, "before")
    after = whole_number_or_none(request.GET, "after")
    revisions, prompts = selectors.golden_revisions(name=name), selectors.examples_of(golden_set_id=chosen.pk)
    listed = list((revisions.filter(revision__lt=before) if before else revisions)[: REVISIONS_A_PAGE + 1])
    left = prompts if after is None else prompts.filter(position__gt=after)
    examples = list(left[: EXAMPLES_A_PAGE + 1])
    context = {
        "chosen": chosen,
        "revisions": listed[:REVISIONS_A_PAGE],
        "before": before,
        "older": listed[REVISIONS_A_PAGE - 1].revision if len(listed) > REVISIONS_A_PAGE else None,
        "examples": [(example.position + 1, example) for example in examples[:EXAMPLES_A_PAGE]],
        "next_after": examples[EXAMPLES_A_PAGE - 1].position if len(examples) > EXAMPLES_A_PAGE else None,
        "now": asker(request).now,
        "nav": "golden-sets",
        "topics": ["global-stop"],
    }
    return render_page(
        request, page="registry/golden_set.html", fragment="registry/_golden_set.html", context=context
    )


def _golden_sets(
    request: HttpRequest, *, problem: HeadgateError | None = None, name: str = "", text: str = ""
) -> HttpResponse:
    who = asker(request)
    sets = list(
        selectors.newest_golden_sets().filter(name__gt=request.GET.get("after", ""))[: SETS_A_PAGE + 1]
    )
    context = {
        "sets": sets[:SETS_A_PAGE],
        "next_after": sets[SETS_A_PAGE - 1].name if len(sets) > SETS_A_PAGE else "",
        "upload_refused": refusal(who.user.role, action_of(upload_golden_set)),
        "problem": problem,
        "name": name,
        "text": text,
        "now": who.now,
        "nav": "golden-sets",
        "topics": ["global-stop"],
    }
    status = 200 if problem is None else status_and_title(problem)[0]
    return render_page(
        request,
        page="registry/golden_sets.html",
        fragment="registry/_golden_sets.html",
        context=context,
        status=status,
    )


def _upload(request: HttpRequest) -> HttpResponse:
    who = asker(request)
    require(who.user.role, action_of(upload_golden_set))  # before a file is read
    name, text = request.POST.get("name", "").strip(), request.POST.get("text", "")
    try:
        sent = request.FILES.get("file")
        if isinstance(sent, UploadedFile):
            text = _read(sent)
        made, _ = upload_golden_set(
            name=name, text=text, actor=Actor.person(who.user, request_id=who.request_id), now=who.now
        )
    except HeadgateError as problem:
        return _golden_sets(request, problem=problem, name=name, text=text[:20_000])
    return go_to(request, reverse("golden-set", args=[made.name]))


def _read(sent: UploadedFile[Any]) -> str:
    if (sent.size or 0) > LARGEST_UPLOAD:
        raise InvalidInput(
            f"{sent.name} is larger than 5 MiB.", field="file", fix="Use fewer or shorter prompts."
        )
    try:
        return str(sent.read().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{sent.name} is not UTF-8 (byte {error.start}).", field="file") from None
