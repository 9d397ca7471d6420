"""Maps the tree of errors to pages. The one place for the web; what is asked of the API, or delivered by a machine, is
answered with the API's own problem+json, whoever found the error.
"""

from __future__ import annotations

import logging
import sys

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers

from controlplane.api.problems import MEDIA_TYPE, Problem, problem_of
from controlplane.kernel import errors
from controlplane.web.database_errors import RETRY_AFTER_SECONDS, error_of

log = logging.getLogger(__name__)

FOR_MACHINES = ("/api/", "/hooks/")

STATUS_AND_TITLE: tuple[tuple[type[errors.HeadgateError], int, str], ...] = (
    (errors.InvalidInput, 400, "That cannot be right"),
    (errors.NotFound, 404, "Not found"),
    (errors.Forbidden, 403, "Not yours to decide"),
    (errors.Conflict, 409, "It changed meanwhile"),
    (errors.Refused, 422, "Refused"),
    (errors.TooMany, 429, "Too many at once"),
    (errors.Rejected, 502, "The other side said no"),
    (errors.Unavailable, 503, "No answer right now"),
)


def status_and_title(error: errors.HeadgateError) -> tuple[int, str]:
    """The HTTP status and the heading of an error."""
    for kind, status, title in STATUS_AND_TITLE:
        if isinstance(error, kind):
            return status, title
    return 500, "Something broke"


def status_and_wait(error: errors.HeadgateError) -> tuple[int, str]:
    """(status, seconds for Retry-After) of a refused password: 400, or 429 and 503 with the time to wait; else ""."""
    wait = getattr(error, "wait_seconds", 0)
    status, _ = status_and_title(error)
    return (429 if wait and isinstance(error, errors.InvalidInput) else status), str(wait or "")


def problem_page(request: HttpRequest, error: errors.HeadgateError, *, bare: bool = False) -> HttpResponse:
    """The error as a page, as a panel when htmx asked, or as a problem where machines ask.

    bare    without the frame around pages, which asks the database
    """
    if request.path.startswith(FOR_MACHINES):
        return _problem(request, problem_of(error))
    status, title = status_and_title(error)
    response = _answer(
        request, status=status, title=title, message=error.message, fix=error.fix, code=error.code, bare=bare
    )
    if status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif isinstance(error, errors.TooMany):
        response.headers["Retry-After"] = str(error.wait_seconds)
    return response


def database_page(request: HttpRequest, error: BaseException | None) -> HttpResponse | None:
    """The answer to an error of the database, None when it is none that is known."""
    known = error_of(error, tell_path=is_known(request))
    if known is None:
        return None
    log.error("web.database_failed %s %s: %s", request.method, request.path, known.code, exc_info=error)
    return problem_page(request, known, bare=True)


def is_known(request: HttpRequest) -> bool:
    """Whether somebody signed in is known to ask, as far as was looked already: this asks no database."""
    return bool(getattr(getattr(request, "_cached_user", None), "is_authenticated", False))


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Django's handler400."""
    if isinstance(exception, RequestDataTooBig):
        return _answer(
            request,
            status=413,
            title="Too large",
            message="The form is larger than this server takes.",
            fix="Send less at once.",
            code="body-too-large",
        )
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
    """Django's handler500. Touches no database: it may be what broke, outside every view (a session to be kept)."""
    answer = database_page(request, sys.exception())
    if answer is not None:
        return answer
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
    if request.path.startswith(FOR_MACHINES):
        return _problem(request, Problem(status=status, code=code, title=title, detail=message, fix=fix))
    request_id = getattr(request, "request_id", "")
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


def _problem(request: HttpRequest, problem: Problem) -> HttpResponse:
    body = problem.body(instance=request.path, request_id=getattr(request, "request_id", ""))
    return JsonResponse(
        body, status=int(problem.status), content_type=MEDIA_TYPE, headers=dict(problem.headers)
    )
