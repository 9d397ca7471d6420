"""The one place that turns an error into an answer of the API: problem details, RFC 9457.

A problem is a JSON object of media type `application/problem+json`:

    type        urn:headgate:problem:<code>
    title       what kind of problem, the same for every problem of that type
    status      the HTTP status
    detail      what happened here, for people
    instance    the path that was asked for
    request_id  the id under which the server's log has it
    code        stable and machine-readable, kebab-case
    fix         what to do about it (left out when nothing is known)
    errors      wrong values: [{"field": "steps[0].share", "detail": ..., "code": ...}]
    extra       plain JSON values that help a client (for example the two neighbouring bucket edges)

Our own errors (controlplane.kernel.errors) map by their class, the framework's by theirs; all else is a 500
that tells nothing of the inside. It is logged with its traceback, and so is every error of the database.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import DatabaseError, InterfaceError
from django.http import Http404, HttpRequest
from rest_framework import exceptions as drf
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import set_rollback

from controlplane.kernel import errors
from controlplane.web.database_errors import RETRY_AFTER_SECONDS, error_of

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

STATUS_OF: tuple[tuple[type[errors.HeadgateError], HTTPStatus, str], ...] = (
    # Most specific first: the first class that matches decides.
    (errors.Unreadable, HTTPStatus.BAD_REQUEST, "Unreadable input"),
    (errors.InvalidInput, HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid input"),
    (errors.NotFound, HTTPStatus.NOT_FOUND, "Not found"),
    (errors.Forbidden, HTTPStatus.FORBIDDEN, "Forbidden"),
    (errors.Conflict, HTTPStatus.CONFLICT, "Conflict"),
    (errors.Refused, HTTPStatus.UNPROCESSABLE_ENTITY, "Refused"),
    (errors.TooMany, HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    (errors.Rejected, HTTPStatus.BAD_GATEWAY, "Rejected by another part"),
    (errors.Unavailable, HTTPStatus.SERVICE_UNAVAILABLE, "Unavailable"),
)

HOW_TO_SIGN_IN = (
    "Send a token as: Authorization: Bearer hg_... An administrator makes one on the server: "
    "manage.py create_token PERSON NAME --scopes read,rollouts:write"
)

_FRAMEWORK: tuple[tuple[type[Exception], str, str, str], ...] = (
    (drf.ParseError, "malformed-body", "Malformed body", "Send one JSON object, UTF-8."),
    (
        drf.AuthenticationFailed,
        "token-not-valid",
        "Not authenticated",
        HOW_TO_SIGN_IN,
    ),
    (
        drf.NotAuthenticated,
        "not-authenticated",
        "Not authenticated",
        HOW_TO_SIGN_IN,
    ),
    (drf.PermissionDenied, "forbidden", "Forbidden", ""),
    (drf.NotFound, "not-found", "Not found", ""),
    (drf.MethodNotAllowed, "method-not-allowed", "Method not allowed", "The Allow header names the methods."),
    (drf.NotAcceptable, "not-acceptable", "Not acceptable", "Accept application/json."),
    (drf.UnsupportedMediaType, "unsupported-media-type", "Unsupported media type", "Send application/json."),
    (drf.Throttled, "rate-limited", "Too many requests", "Wait as long as the Retry-After header says."),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem before it is bound to a request. `errors` holds what is wrong with single values."""

    status: int
    code: str
    title: str
    detail: str
    fix: str = ""
    errors: tuple[Mapping[str, str], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, *, instance: str, request_id: str) -> dict[str, Any]:
        """The JSON object. Empty optional members are left out."""
        members: dict[str, Any] = {
            "type": f"urn:headgate:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
            "code": self.code,
        }
        optional = {"fix": self.fix, "errors": list(self.errors), "extra": dict(self.extra)}
        return members | {name: value for name, value in optional.items() if value}


def problem_of(error: Exception, *, tell_path: bool = False) -> Problem:
    """The problem that says what `error` means to a client. What is not known is a 500 without details.

    tell_path   whether the client may learn where the database lies, when that is what failed
    """
    error = error_of(error, tell_path=tell_path) or error
    if isinstance(error, errors.HeadgateError):
        return _of_ours(error)
    if isinstance(error, drf.ValidationError):
        return Problem(
            status=HTTPStatus.BAD_REQUEST,
            code="invalid-input",
            title="Invalid input",
            detail="The request does not have the form that this call expects.",
            fix="Mend the values named in errors.",
            errors=tuple(_flatten(error.detail)),
        )
    if isinstance(error, RequestDataTooBig):
        return Problem(
            status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            code="body-too-large",
            title="Body too large",
            detail="The body of the request is larger than this server takes.",
            fix="Send less at once.",
        )
    if isinstance(error, Http404):
        error = drf.NotFound()
    elif isinstance(error, PermissionDenied):
        error = drf.PermissionDenied()
    if isinstance(error, drf.APIException):
        return _of_framework(error)
    return Problem(
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal-error",
        title="Internal error",
        detail="Something went wrong inside Headgate.",
        fix="Search the server's log for the request id.",
    )


def problem_response(error: Exception, context: Mapping[str, Any]) -> Response:
    """REST framework's exception handler: every error of a view ends here."""
    set_rollback()  # a view inside ATOMIC_REQUESTS must not commit half of its work
    request: Request = context["request"]
    http_request = request._request
    # Whoever was let into a view is known; who is refused before is nobody, and `user` then asks the database again.
    problem = problem_of(error, tell_path=getattr(request, "_user", None) is not None)
    is_ours = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(
        error, errors.HeadgateError
    )
    if is_ours or isinstance(error, DatabaseError | InterfaceError):
        log.error(
            "api.failed %s %s request_id=%s",
            request.method,
            http_request.path,
            request_id_of(http_request),
            exc_info=error,
        )
    return response_of(problem, http_request)


def response_of(problem: Problem, request: HttpRequest) -> Response:
    """The problem as a response of a REST view."""
    body = problem.body(instance=request.path, request_id=request_id_of(request))
    response = Response(body, status=int(problem.status), content_type=MEDIA_TYPE)
    for name, value in problem.headers.items():
        response[name] = value
    return response


def request_id_of(request: HttpRequest) -> str:
    """The id of the request, as the log and the X-Request-ID header of the answer have it."""
    return str(getattr(request, "request_id", ""))


def _of_ours(error: errors.HeadgateError) -> Problem:
    status, title = HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error"
    for kind, kind_status, kind_title in STATUS_OF:
        if isinstance(error, kind):
            status, title = kind_status, kind_title
            break
    wrong: tuple[Mapping[str, str], ...] = ()
    extra = dict(error.extra)
    if isinstance(error, errors.InvalidInput) and error.field:
        # A document with several mistakes names them all at once (`problems`: field, detail, fix).
        listed = extra.pop("problems", None) or [{"field": error.field, "detail": error.message}]
        wrong = tuple({"field": one["field"], "detail": one["detail"], "code": error.code} for one in listed)
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    if isinstance(error, errors.TooMany):
        headers = {"Retry-After": str(error.wait_seconds)}
    return Problem(
        status=status,
        code=error.code,
        title=title,
        detail=error.message,
        fix=error.fix,
        errors=wrong,
        extra=extra,
        headers=headers,
    )


def _of_framework(error: drf.APIException) -> Problem:
    code, title, fix = str(error.default_code).replace("_", "-"), "Request failed", ""
    for kind, kind_code, kind_title, kind_fix in _FRAMEWORK:
        if isinstance(error, kind):
            code, title, fix = kind_code, kind_title, kind_fix
            break
    headers: dict[str, str] = {}
    challenge = getattr(error, "auth_header", "")
    if challenge:
        headers["WWW-Authenticate"] = str(challenge)
    wait = getattr(error, "wait", None)
    if wait is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    return Problem(
        status=error.status_code, code=code, title=title, detail=_sentence(error), fix=fix, headers=headers
    )


def _sentence(error: drf.APIException) -> str:
    detail = error.detail
    return str(detail) if isinstance(detail, str) else "; ".join(item["detail"] for item in _flatten(detail))


def _flatten(detail: Any, field_name: str = "") -> list[Mapping[str, str]]:
    """REST framework's nested error details as a flat list with names such as `plan.steps[1].share_bp`."""
    if isinstance(detail, Mapping):
        return [item for name, inner in detail.items() for item in _flatten(inner, _inside(field_name, name))]
    if isinstance(detail, Sequence) and not isinstance(detail, str):
        found: list[Mapping[str, str]] = []
        for position, inner in enumerate(detail):
            # A list of messages belongs to the field itself; a list of objects is one entry per element.
            found += _flatten(inner, field_name if isinstance(inner, str) else _inside(field_name, position))
        return found
    return [{"field": field_name, "detail": str(detail), "code": str(getattr(detail, "code", "invalid"))}]


def _inside(outer: str, inner: str | int) -> str:
    if isinstance(inner, int):
        return f"{outer}[{inner}]"
    return ".".join(part for part in (outer, "" if inner == "non_field_errors" else inner) if part)
