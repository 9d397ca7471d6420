"""Every request gets an id, a time and, when something was raised on purpose, a page that says what to do."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from controlplane.kernel.errors import HeadgateError
from controlplane.timekeeping.database_clock import CLOCK
from controlplane.web import metrics
from controlplane.web.problems import problem_page

Handler = Callable[[HttpRequest], HttpResponseBase]

ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


class RequestIdMiddleware:
    """Takes `X-Request-ID` when it is plain, makes one otherwise, and sends it back.

    Sets `request.request_id` and `request.received_at` (aware, UTC: the one "now" of the request, by the database's
    clock).
    """

    def __init__(self, get_response: Handler) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        sent = request.headers.get("X-Request-ID", "")
        request_id = sent if ACCEPTED_ID.fullmatch(sent) else uuid.uuid4().hex
        request.request_id = request_id  # type: ignore[attr-defined]
        request.received_at = CLOCK.now()  # type: ignore[attr-defined]
        began = time.monotonic()
        mark = current_request_id.set(request_id)
        try:
            response = self._get_response(request)
        finally:
            current_request_id.reset(mark)
        response.headers["X-Request-ID"] = request_id
        match = request.resolver_match
        seconds = time.monotonic() - began
        metrics.count_request(
            view=(match.view_name if match else "") or "unknown",
            method=request.method or "",
            status=response.status_code,
            seconds=seconds,
        )
        return response


class ErrorPageMiddleware:
    """Turns an error of our tree that a view let through into its page."""

    def __init__(self, get_response: Handler) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, HeadgateError):
            return problem_page(request, exception)
        return None
