"""Every request gets an id, a time and, when something was raised on purpose, a page that says what to do."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from controlplane.kernel.errors import HeadgateError
from controlplane.kernel.networks import Network, client_address, is_within
from controlplane.timekeeping.database_clock import CLOCK
from controlplane.web import metrics
from controlplane.web.problems import database_page, problem_page

Handler = Callable[[HttpRequest], HttpResponseBase]

FORWARDED = ("HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PORT", "HTTP_FORWARDED")
ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
current_request_id: ContextVar[str] = ContextVar("current_request_id", default="")


class ClientAddressMiddleware:
    """Makes REMOTE_ADDR the address of the client, by the word of trusted proxies alone (HEADGATE_TRUSTED_PROXIES).

    What anybody else says of addresses and of TLS is taken off the request, so that nothing behind can believe it.
    The server must hand on the address of its own peer: uvicorn runs with --no-proxy-headers.
    """

    def __init__(self, get_response: Handler) -> None:
        self._get_response = get_response
        self._proxies: tuple[Network, ...] = settings.HEADGATE.proxy_networks

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        peer = request.META.get("REMOTE_ADDR", "") or ""
        forwarded_for = request.META.pop("HTTP_X_FORWARDED_FOR", "")
        if not is_within(peer, self._proxies):
            for name in FORWARDED:
                request.META.pop(name, None)
        request.META["REMOTE_ADDR"] = client_address(
            peer=peer, forwarded_for=forwarded_for, proxies=self._proxies
        )
        return self._get_response(request)


class RequestIdMiddleware:
    """Takes `X-Request-ID` when it is plain, makes one otherwise, and sends it back. Sets `request.request_id`. Asks
    nobody: the probes stand behind it."""

    def __init__(self, get_response: Handler) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        sent = request.headers.get("X-Request-ID", "")
        request_id = sent if ACCEPTED_ID.fullmatch(sent) else uuid.uuid4().hex
        request.request_id = request_id  # type: ignore[attr-defined]
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


class ReceivedAtMiddleware:
    """Sets `request.received_at`: aware, UTC, the one "now" of the request, by the database's clock.

    Stands behind the probes, which must not wait for a database that does not answer.
    """

    def __init__(self, get_response: Handler) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.received_at = CLOCK.now()  # type: ignore[attr-defined]
        return self._get_response(request)


class ErrorPageMiddleware:
    """Turns an error of our tree, or of the database, that a view let through into its page."""

    def __init__(self, get_response: Handler) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, HeadgateError):
            return problem_page(request, exception)
        return database_page(request, exception)
