"""Maps the tree of errors to pages. The one place for the web; the API has its own for problem+json."""

from __future__ import annotations

import logging

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

from controlplane.kernel import errors

log = logging.getLogger(__name__)

STATUS_AND_TITLE: tuple[tuple[type[errors.HeadgateError], int, str], ...] = (
    (errors.InvalidInput, 400, "That cannot be right"),
    (errors.NotFound, 404, "Not found"),
    (errors.Forbidden, 403, "Not yours to decide"),
    (errors.Conflict, 409, "It changed meanwhile"),
    (errors.Refused, 422, "Refused"),
    (errors.Rejected, 502, "The other side said no"),
    (errors.Unavailable, 503, "No answer right now"),
)


def status_and_title(error: errors.HeadgateError) -> tuple[int, str]:
    """The HTTP status and the heading of an error."""
    for kind, status, title in STATUS_AND_TITLE:
        if isinstance(error, kind):
            return status, title
    return 500, "Something broke"


def problem_page(request: HttpRequest, error: errors.HeadgateError) -> HttpResponse:
    """The error as a page, or as a panel when htmx asked."""
    status, title = status_and_title(error)
    return _answer(request, status=status, title=title, message=error.message, fix=error.fix, code=error.code)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler400."""
    return _answer(
        request,
        status=400,
        title="That cannot be right",
        message="The request could not be understood.",
        fix="Go back, reload the page and try again.",
        code="bad-request",
    )


def forbidden(request: HttpRequest, exception: Exception | None = None, reason: str = "") -> HttpResponse:
    """Django's handler403, and its view for a failed CSRF check (which passes `reason`)."""
    if reason:
        return _answer(
            request,
            status=403,
            title="This form is too old",
            code="csrf",
            message="The page was open for too long, or cookies are switched off, so nothing was done.",
            fix="Reload the page and try again.",
        )
    return _answer(
        request,
        status=403,
        title="Not yours to decide",
        message="You may not do this.",
        fix="Ask somebody whose role allows it.",
        code="forbidden",
    )


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler404."""
    return _answer(
        request,
        status=404,
        title="Not found",
        message=f"There is nothing at {request.path}.",
        fix="Check the address, or search for it.",
        code="not-found",
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500. Touches no database: it may be what broke."""
    return _answer(
        request,
        status=500,
        title="Something broke",
        code="internal",
        message="This is Headgate's fault and is in its log. Traffic does not change because of it.",
        fix="Try again; if it stays, tell an administrator the request id below.",
        bare=True,
    )


def _answer(
    request: HttpRequest, *, status: int, title: str, message: str, fix: str, code: str, bare: bool = False
) -> HttpResponse:
    request_id = getattr(request, "request_id", "")
    if request.path.startswith("/api/"):
        problem = {
            "type": f"urn:headgate:problem:{code}",
            "title": title,
            "status": status,
            "detail": message,
            "instance": request.path,
            "code": code,
            "fix": fix,
            "request_id": request_id,
        }
        return JsonResponse(problem, status=status, content_type="application/problem+json")
    is_fragment = request.headers.get("HX-Request") == "true"
    context = {
        "status": status,
        "title": title,
        "message": message,
        "fix": fix,
        "code": code,
        "request_id": request_id,
        "bare": bare,
    }
    template = (
        "errors/_problem.html" if is_fragment else "errors/bare.html" if bare else "errors/problem.html"
    )
    # Without the request no context processor runs, and none of them can fail.
    response = render(None if bare else request, template, context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response
